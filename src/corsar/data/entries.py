"""Events -> entries of the two histories. A search is one entry: all rows of its session, at their earliest time.

Legend: E entries (feed events and searches, sorted by user, time, place in the file), K clicks (one for each clicked item).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from corsar.errors import DataError
from corsar.vocab import Rows, Vocab

SPLIT_ROWS = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True)
class Entries:
    """What happened, in order: entries, and the clicks of each."""

    users: Vocab
    user_E: Rows
    time_E: Rows
    latest_E: Rows  # time of the last click of the entry: what lies before it must not see the entry
    is_search_E: np.ndarray[Any, np.dtype[np.bool_]]
    has_click_E: Rows
    given_split_E: Rows | None
    offset_E: pl.Series  # minutes from UTC of the local clock, null where unknown
    query_E: pl.Series  # String, null for feed events
    session_E: pl.Series
    entry_K: Rows  # the entry of each click; clicks of a search are in time order
    item_K: pl.Series  # external ids

    @staticmethod
    def of(users: Vocab, entries: pl.DataFrame, clicks: pl.DataFrame) -> Entries:
        """From the two frames of `make_entries`, of all users or of some that follow each other."""
        given = entries["split"]
        known = given.null_count() == 0 and len(given) > 0
        return Entries(
            users=users,
            user_E=users.rows(entries["user_id"]),
            time_E=entries["time_ms"].to_numpy(),
            latest_E=entries["latest"].to_numpy(),
            is_search_E=entries["is_search"].to_numpy(),
            has_click_E=entries["has_click"].cast(pl.Int64).to_numpy(),
            given_split_E=given.replace_strict(SPLIT_ROWS, return_dtype=pl.Int64).to_numpy() if known else None,
            offset_E=entries["utc_offset_min"],
            query_E=entries["query"],
            session_E=entries["session_id"],
            entry_K=clicks["entry"].to_numpy(),
            item_K=clicks["item_id"],
        )


def _search_rows(events: pl.DataFrame) -> pl.DataFrame:
    """Rows of searches with `search`, the first row of their session; a row without session_id is its own session."""
    rows = events.filter(pl.col("kind") == "search").sort("time_ms", "order")
    first = pl.col("order").min().over("user_id", "session_id")
    return rows.with_columns(search=pl.when(pl.col("session_id").is_null()).then("order").otherwise(first))


def _same(rows: pl.DataFrame, column: str, remedy: str) -> None:
    """Refuse sessions whose rows have different values in `column`."""
    several = rows.group_by("search").agg(pl.col(column).drop_nulls().n_unique() > 1, pl.col("session_id").first())
    wrong = several.filter(column)
    if len(wrong):
        raise DataError(f"{len(wrong)} search sessions (first: {wrong['session_id'].min()!r}) {remedy}")


def make_entries(
    events: pl.DataFrame,
    *,
    require_click: bool,
    counts: Counter[tuple[str, str]],
    kind: Literal["feed", "checkin"] = "feed",
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Entries and clicks of the canonical events, which `Entries.of` opens; rows that are neither are counted.

    Args:
        require_click: drop searches without a click.
        counts: rows of each (stage, reason) are added to it, also where there are none, so that their order is fixed.
        kind: of the entries that are no searches.
    """

    def reject(rows: int, reason: str, stage: str = "rejected") -> None:
        counts[stage, reason] += rows

    if "split" not in events.columns:
        events = events.with_columns(split=pl.lit(None, pl.String))
    events = events.with_row_index("order").with_columns(pl.col("order").cast(pl.Int64))
    clicked, has_item = pl.col("label") == 1, pl.col("item_id").is_not_null()
    feed = events.filter(pl.col("kind") == kind)
    reject(events.filter(~pl.col("kind").is_in([kind, "search"])).height, f"neither {kind} nor search")
    reject(feed.filter(~clicked).height, f"{kind} event shown only (label 0)")
    feed = feed.filter(clicked & has_item)

    rows = _search_rows(events)
    _same(rows, "query", "hold several queries; give each query its own session_id")
    _same(rows, "split", "stand in several splits; give all rows of a session the same split")
    reject(rows.filter(~clicked | ~has_item).height, "search result without click; its search stays", "note")
    clicks = rows.filter(clicked & has_item)
    num_clicks = len(clicks)
    clicks = clicks.unique(["search", "item_id"], keep="first", maintain_order=True)
    reject(num_clicks - len(clicks), "the same item clicked again in one search")
    ends = clicks.group_by("search").agg(pl.col("time_ms").max().alias("latest"))
    searches = (
        rows.group_by("search")
        .agg(
            pl.col("user_id").first(),
            pl.col("time_ms").min(),
            pl.col("order").first(),
            pl.col("query").drop_nulls().first(),
            pl.col("session_id").first(),
            pl.col("split").drop_nulls().first(),
            pl.col("utc_offset_min").first(),
        )
        .join(ends, on="search", how="left")
        .with_columns(has_click=pl.col("latest").is_not_null(), is_search=True, latest=pl.coalesce("latest", "time_ms"))
    )
    if require_click:
        reject(searches.filter(~pl.col("has_click")).height, "search without a click (require_click)")
        searches = searches.filter("has_click")

    columns = ["user_id", "time_ms", "latest", "order", "is_search", "has_click", "query", "session_id", "split"]
    columns.append("utc_offset_min")
    feed_entries = feed.with_columns(latest="time_ms", is_search=False, has_click=True, query=pl.lit(None, pl.String)).select(
        *columns, search=pl.lit(None, pl.Int64), item_id="item_id"
    )
    search_entries = searches.select(*columns, "search", item_id=pl.lit(None, feed.schema["item_id"]))
    entries = pl.concat([feed_entries, search_entries])
    entries = entries.sort("user_id", "time_ms", "order").with_columns(entry=pl.int_range(pl.len(), dtype=pl.Int64))

    feed_clicks = entries.filter(~pl.col("is_search")).select("entry", "item_id", time_ms="time_ms", order="order")
    places = entries.filter("is_search").select("entry", "search")
    search_clicks = clicks.join(places, on="search").select("entry", "item_id", "time_ms", "order")
    all_clicks = pl.concat([feed_clicks, search_clicks]).sort("entry", "time_ms", "order")

    given = entries["split"]
    if 0 < given.null_count() < len(given):
        raise DataError(f"{given.null_count()} events have no split; give every event one, or leave the column out")
    return entries.drop("order", "search", "item_id", "entry"), all_clicks.select("entry", "item_id")
