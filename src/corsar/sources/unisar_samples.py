"""The samples of UniSAR's release, and the events that they are of.

A sample says how many entries of a user's two histories came before it. Its own event is the first entry of its kind from
there on that has its item, and no other sample's; a sample without one is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from corsar.errors import DataError
from corsar.schema import SPLITS

Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Samples:
    """The samples of one file; a row of `table` and one of `negatives_NC` each."""

    table: pl.DataFrame  # user_id, item_id, feeds, searches (how many came before); time_ms once the event is found
    negatives_NC: Rows

    @property
    def highest(self) -> int:
        """The highest item among the negatives."""
        return int(self.negatives_NC.max(initial=0))


@dataclass(frozen=True)
class Found:
    """The entries with the split that each belongs to, and the samples whose event was found, with its time."""

    entries: pl.DataFrame
    samples: dict[tuple[str, str], Samples]


def find_samples(entries: pl.DataFrame, samples: Mapping[tuple[str, str], Samples], funnel: list[dict[str, Any]]) -> Found:
    """Samples joined to their events, and the split of every entry.

    Args:
        entries: task, user_id, at (place in the user's list of that task), time_ms, place (in the merged order) and item_id,
            a list: the item of a feed event, 0 where it is padding, or what was clicked in a search.

    Raises:
        DataError: none of the samples of a file stands in a history.
    """
    pooled = pl.concat(
        one.table.select(
            "user_id", "item_id", "feeds", "searches", task=pl.lit(task), file_split=pl.lit(SPLITS.index(split)),
            row=np.arange(len(one.table)), count="feeds" if task == "recommend" else "searches",
        )
        for (split, task), one in samples.items()
    )  # fmt: skip
    pooled = _with_events(entries, pooled)
    for (split, task), lost in _parts(pooled.filter(pl.col("at").is_null()), samples):
        if len(lost) and len(lost) == len(samples[split, task].table):
            raise DataError(
                f"no {split} sample of {task} has its item in its user's history after the entries that it counts;"
                " take all files of one release."
            )
        _note(funnel, f"samples ({split}, {task})", len(lost), "its item is not in the history after what it counts")
    pooled = pooled.filter(pl.col("at").is_not_null())
    entries = _with_splits(entries, pooled)
    own = entries.select("task", "user_id", "at", entry_split="split")
    pooled = pooled.join(own, on=["task", "user_id", "at"], how="left", maintain_order="left")
    moved = pooled.filter(pl.col("entry_split") != pl.col("file_split"))
    for (split, task), lost in _parts(moved, samples):
        _note(funnel, f"samples ({split}, {task})", len(lost), "it comes after a sample of a later part of its user")
    pooled = pooled.filter(pl.col("entry_split") == pl.col("file_split"))
    entries, pooled = _without_padding(entries, pooled, funnel)
    kept = {}
    for key, part in _parts(pooled, samples):
        part = part.sort("row")
        table = part.select("user_id", "item_id", "time_ms", "feeds", "searches")
        kept[key] = replace(samples[key], table=table, negatives_NC=samples[key].negatives_NC[part["row"].to_numpy()])
    names = pl.Series("split", SPLITS)
    return Found(entries.with_columns(split=names.gather(entries["split"])), kept)


def _note(funnel: list[dict[str, Any]], table: str, rows: int, reason: str) -> None:
    if rows:
        funnel.append({"table": table, "stage": "rejected", "rows": rows, "reason": reason})


def _parts(pooled: pl.DataFrame, samples: Mapping[tuple[str, str], Samples]) -> list[tuple[tuple[str, str], pl.DataFrame]]:
    return [((split, task), pooled.filter(file_split=SPLITS.index(split), task=task)) for split, task in samples]


def _with_events(entries: pl.DataFrame, pooled: pl.DataFrame) -> pl.DataFrame:
    """The samples with `at` and `time_ms` of their event, null where there is none.

    Clicks of one (task, user, item) lie together in the order of their places, and its samples in the order of their counts;
    the k-th sample takes the first click that is neither before its count nor taken: k + max over j ≤ k of (first_j - j).
    """
    group = ["task", "user_id", "item_id"]
    clicks = entries.explode("item_id", empty_as_null=False, keep_nulls=False).sort(*group, "at", maintain_order=True)
    groups = clicks.group_by(group, maintain_order=True).len("clicks").with_row_index("group").cast({"group": pl.Int64})
    groups = groups.with_columns(end=pl.col("clicks").cum_sum().cast(pl.Int64))
    clicks = clicks.join(groups, on=group, how="left", maintain_order="left")
    pooled = pooled.join(groups, on=group, how="left", maintain_order="left").sort("group", "count", "file_split", "row")
    wide = 1 + max(int(np.max(clicks["at"].to_numpy(), initial=0)), int(np.max(pooled["count"].to_numpy(), initial=0)))
    key = (clicks["group"] * wide + clicks["at"]).to_numpy()
    asked = (pooled["group"].fill_null(len(groups)) * wide + pooled["count"]).to_numpy()
    pooled = pooled.with_columns(first=np.searchsorted(key, asked), k=pl.int_range(pl.len()).over("group"))
    pooled = pooled.with_columns(click=pl.col("k") + (pl.col("first") - pl.col("k")).cum_max().over("group"))
    found = pl.when(pl.col("click") < pl.col("end")).then("click")
    events = clicks.select("at", "time_ms").with_row_index("click").cast({"click": pl.Int64})
    return pooled.with_columns(click=found).join(events, on="click", how="left", maintain_order="left").drop("group", "end")


def _with_splits(entries: pl.DataFrame, pooled: pl.DataFrame) -> pl.DataFrame:
    """The entries with the number of their split, which never falls along a user's time.

    Entries that no sample is of go by the days of the parts where these do not overlap, else by what came before of the
    same user.
    """
    own = pooled.group_by("task", "user_id", "at").agg(pl.col("file_split").max().alias("own"))
    entries = entries.join(own, on=["task", "user_id", "at"], how="left", maintain_order="left")
    spans = pooled.group_by("file_split").agg(first=pl.col("time_ms").min(), last=pl.col("time_ms").max()).sort("file_split")
    apart = (spans["first"].slice(1) > spans["last"].head(max(0, len(spans) - 1))).all()
    moments = entries.group_by("user_id", "time_ms").agg(pl.col("own").max()).sort("user_id", "time_ms")
    before = pl.col("own").fill_null(0).cum_max().shift(1).over("user_id").fill_null(0)
    moments = moments.select("user_id", "time_ms", before=before)
    if apart:
        by_day = pl.lit(0)
        for number, first in spans.select("file_split", "first").iter_rows():
            by_day = pl.when(pl.col("time_ms") >= first).then(pl.lit(number)).otherwise(by_day) if number else by_day
        moments = moments.with_columns(before=pl.max_horizontal("before", by_day))
    entries = entries.join(moments, on=["user_id", "time_ms"], how="left", maintain_order="left")
    return entries.with_columns(split=pl.max_horizontal(pl.col("own").fill_null(0), "before")).drop("own", "before")


def _without_padding(
    entries: pl.DataFrame, pooled: pl.DataFrame, funnel: list[dict[str, Any]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Entries without feed events of item 0, which is padding, and samples that do not count them."""
    is_padding = (pl.col("task") == "recommend") & pl.col("item_id").list.contains(0)
    padding = entries.filter(is_padding).sort("user_id", "at")
    if padding.is_empty():
        return entries, pooled
    _note(funnel, "events", padding.height, "item 0 in rec_his, which is padding")
    wide = 1 + max(int(np.max(entries["at"].to_numpy(), initial=0)), int(np.max(pooled["feeds"].to_numpy(), initial=0)))
    keys = (padding["user_id"] * wide + padding["at"]).to_numpy()
    user = (pooled["user_id"] * wide).to_numpy()
    before = np.searchsorted(keys, user + pooled["feeds"].to_numpy()) - np.searchsorted(keys, user)
    return entries.filter(~is_padding), pooled.with_columns(feeds=pl.col("feeds") - before)
