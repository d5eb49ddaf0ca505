"""KuaiSAR as UniSAR's release stores it: eleven pickles, five of vocabularies and six of samples.

Users are numbered from 0 on, items, searches and words from 1 on. Tables of items and searches are seen with and without a
first row of zeros, and both are read. A user's `all_his` settles what came first where a feed event and a search share a
time. The texts of samples and the list of queries are not read: the searches hold the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corsar.errors import DataError
from corsar.schema import KINDS, Tables, make_tables
from corsar.sources.pickles import read_pickle
from corsar.sources.unisar_samples import Found, Samples, find_samples

ATTRIBUTES = ("onehot_feat1", "onehot_feat2", "search_active_level", "rec_active_level")
CATEGORIES = ("first_level_category_id", "second_level_category_id")
VOCABS = ("user_vocab", "user_vocab_np", "item_vocab_np", "src_session_vocab_np", "query_vocab")
PARTS = {"train": "train", "val": "valid", "test": "test"}
TASKS = {"rec": "recommend", "src": "search"}
MOST_WORDS, MOST_CLICKS = 50, 5
AT_ONCE = 50_000  # texts that are spelled out in memory

Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Release:
    """The release as canonical tables, whose events carry their split, and its samples by (split, task)."""

    tables: Tables
    samples: dict[tuple[str, str], Samples]


def release_files(folder: Path) -> dict[str, Path]:
    """The paths of the eleven files of a release by their names."""
    samples = {f"{kind}_{part}": folder / "dataset" / f"{kind}_{part}.pkl" for kind in TASKS for part in PARTS}
    return {name: folder / "vocab" / f"{name}.pkl" for name in VOCABS} | samples


def read_unisar_release(folder: str | Path) -> Release:
    """Tables and samples of the release in `folder`, which holds `vocab/` and `dataset/`.

    Raises:
        DataError: a file is missing, is no plain pickle, or does not hold what the release holds.
    """
    files = release_files(Path(folder))
    for file in files.values():
        if not file.is_file():
            raise DataError(f"{file}: there is no such file; give the folder with the eleven files of UniSAR's release.")
    read = {name: read_pickle(file) for name, file in files.items()}
    raw = {
        (split, task): _raw_samples(read[f"{kind}_{part}"], files[f"{kind}_{part}"])
        for kind, task in TASKS.items()
        for part, split in PARTS.items()
    }
    feed, search, unlike = _histories(read["user_vocab"], files["user_vocab"])
    seen = max(_highest(feed["entry"]), *(max(_highest(one.table["item_id"]), one.highest) for one in raw.values()))
    caption, *categories = (
        _table(read, files, "item_vocab_np", name, dims, seen) for name, dims in (("caption", 2), *((c, 1) for c in CATEGORIES))
    )
    keyword, clicked = (
        _table(read, files, "src_session_vocab_np", name, 2, _highest(search["entry"])) for name in ("keyword", "pos_items")
    )
    num_items = min(map(len, (caption, *categories))) - 1
    if clicked.max(initial=0) > num_items:
        raise DataError(f"{folder}: pos_items names items that item_vocab_np.pkl lacks; take all files of one release.")
    funnel: list[dict[str, Any]] = []
    if unlike:
        reason = "all_his does not fit the two histories; feed events go first among equal times"
        funnel.append({"table": "users", "stage": "note", "rows": unlike, "reason": reason})
    feed = feed.with_columns(task=pl.lit("recommend"), item_id=pl.concat_list("entry"))
    lists = pl.Series(clicked[search["entry"].to_numpy()], dtype=pl.Array(pl.Int64, clicked.shape[1])).cast(pl.List(pl.Int64))
    search = search.with_columns(task=pl.lit("search"), item_id=lists.list.filter(pl.element() > 0))
    found = find_samples(pl.concat([feed, search]), raw, funnel)
    items = pl.DataFrame({"item_id": np.arange(1, num_items + 1), "text": _texts(caption[1 : num_items + 1])}).with_columns(
        pl.Series(name, values[1 : num_items + 1]).replace(0, None) for name, values in zip(CATEGORIES, categories, strict=True)
    )
    tables = make_tables(
        _events(found, keyword),
        items,
        _users(read["user_vocab_np"], files["user_vocab_np"], _highest(feed["user_id"])),
        source="unisar-release",
        funnel=funnel,
        categories=CATEGORIES,
        attributes=ATTRIBUTES,
    )
    return Release(tables, found.samples)


def _highest(numbers: pl.Series) -> int:
    return int(np.max(numbers.to_numpy(), initial=0))


def _whole(values: Any, file: Path, what: str) -> Rows:
    """Whole numbers from 0 on, whatever holds them."""
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(array.shape, dtype=np.int64)
    if array.dtype.kind not in "iuf" or not (array >= 0).all() or not (array == np.floor(array)).all():
        raise DataError(f"{file}: {what} must hold whole numbers from 0 on; give the file as UniSAR publishes it.")
    return array.astype(np.int64)


def _histories(users: Any, file: Path) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Feed events and searches: user_id, at (place in the list), entry, time_ms, place (in the merged order).

    The number is how many users have an `all_his` that does not fit, so that the places are made up.
    """
    if not isinstance(users, Mapping) or not users:
        raise DataError(f"{file}: holds no dict of users; give the file as UniSAR publishes it.")
    names = ("rec_his", "src_session_his")
    parts: dict[str, list[Any]] = {name: [] for name in names}
    unlike = 0
    for user, told in users.items():
        try:
            lists = [_whole(told[name], file, f"{name} of user {user}") for name in names]
            times = [np.asarray(told[f"{name}_ts"], dtype=np.float64) for name in names]
            is_feed = np.asarray(told["all_his"]) != 0
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{file}: user {user} lacks {error}; give the file as UniSAR publishes it.") from error
        for name, entry, time in zip(names, lists, times, strict=True):
            if entry.ndim != 1 or entry.shape != time.shape or not np.isfinite(time).all():
                raise DataError(f"{file}: {name} and {name}_ts of user {user} are not one time an entry; get the file anew.")
        is_like = [int(is_feed.sum()), len(is_feed) - int(is_feed.sum())] == [len(one) for one in lists]
        unlike += not is_like
        places = [np.flatnonzero(is_feed), np.flatnonzero(~is_feed)] if is_like else [np.arange(len(one)) for one in lists]
        for name, entry, time, place in zip(names, lists, times, places, strict=True):
            behind = 0 if is_like or name == "rec_his" else len(lists[0])
            parts[name].append((np.full(len(entry), int(user)), np.arange(len(entry)), entry, np.rint(time), place + behind))
    columns = ("user_id", "at", "entry", "time_ms", "place")
    feed, search = (_stacked(columns, parts[name]) for name in names)
    return feed, search, unlike


def _stacked(columns: tuple[str, ...], parts: list[Any]) -> pl.DataFrame:
    arrays = (np.concatenate(values).astype(np.int64) for values in zip(*parts, strict=True))
    return pl.DataFrame(dict(zip(columns, arrays, strict=True)))


def _table(read: Mapping[str, Any], files: Mapping[str, Path], file: str, name: str, dims: int, highest: int) -> Rows:
    """A table whose row 0 is padding; some releases leave that row out."""
    held = read[file].get(name) if isinstance(read[file], Mapping) else None
    values = _whole([] if held is None else held, files[file], name)
    if values.ndim != dims:
        raise DataError(f"{files[file]}: lacks the table '{name}' of {dims} axes; give the file as UniSAR publishes it.")
    if len(values) < highest:
        raise DataError(
            f"{files[file]}: '{name}' has {len(values)} rows and other files name row {highest}; take all files of one release."
        )
    if len(values) == highest or values[0].any():
        values = np.concatenate([np.zeros_like(values[:1]), values])
    return values


def _raw_samples(frame: Any, file: Path) -> Samples:
    columns = {"user_id": "user_id", "item_id": "item_id", "feeds": "rec_his", "searches": "src_session_his"}
    for name in (*columns.values(), "neg_items"):
        if not isinstance(frame, Mapping) or not isinstance(frame.get(name), np.ndarray):
            raise DataError(f"{file}: holds no frame with a column '{name}'; give the file as UniSAR publishes it.")
    table = pl.DataFrame({name: _whole(frame[theirs], file, theirs) for name, theirs in columns.items()})
    try:
        negatives_NC = _whole(np.stack([np.asarray(row) for row in frame["neg_items"]]), file, "neg_items")
    except ValueError as error:
        if len(table):
            raise DataError(f"{file}: rows of neg_items differ in length; give each sample the same number.") from error
        negatives_NC = np.zeros((0, 0), dtype=np.int64)
    return Samples(table, negatives_NC)


def _texts(words: Rows) -> pl.Series:
    """The numbers of each row without its zeros, as a text; null where there is none."""
    parts = [pl.Series("text", [], dtype=pl.String)]
    for start in range(0, len(words), AT_ONCE):
        some = words[start : start + AT_ONCE]
        lists = pl.Series("text", some, dtype=pl.Array(pl.Int64, some.shape[1])).cast(pl.List(pl.Int64))
        parts.append(lists.list.filter(pl.element() > 0).cast(pl.List(pl.String)).list.join(" "))
    return pl.select(pl.when(pl.lit(pl.concat(parts)) != "").then(pl.lit(pl.concat(parts)))).to_series()


def _events(found: Found, keyword: Rows) -> pl.DataFrame:
    """One row a feed event, a click of a search, and a search without a click, in the order in which things happened."""
    entries = found.entries.sort("user_id", "place")
    queries = pl.DataFrame({"query": _texts(keyword)}).with_row_index("entry").cast({"entry": pl.Int64})
    is_search = pl.col("task") == "search"
    rows = entries.join(queries, on="entry", how="left", maintain_order="left").explode("item_id", empty_as_null=True)
    return rows.select(
        "user_id",
        "item_id",
        "time_ms",
        "split",
        kind=pl.when(is_search).then(pl.lit("search")).otherwise(pl.lit("feed")).cast(pl.Enum(KINDS)),
        query=pl.when(is_search).then("query"),
        session_id=pl.when(is_search).then("at"),  # the same row may stand in two histories, or twice in one
        label=pl.col("item_id").is_not_null().cast(pl.Int8),
    )


def _users(told: Any, file: Path, highest: int) -> pl.DataFrame:
    columns: dict[str, Rows] = {}
    for name in ATTRIBUTES:
        values = _whole(told.get(name, []) if isinstance(told, Mapping) else [], file, name)
        if values.ndim != 1 or len(values) <= highest:
            raise DataError(
                f"{file}: '{name}' must have a value for each of {highest + 1} users; take all files of one release."
            )
        columns[name] = values
    num = min(map(len, columns.values()))
    return pl.DataFrame({"user_id": np.arange(num)} | {name: values[:num] for name, values in columns.items()})
