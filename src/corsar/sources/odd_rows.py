"""Events that may not be meant: rows with a blank, rows that repeat others, items that the items table does not have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from corsar.errors import DataError
from corsar.schema import EVENTS, Origin, Tables

NEEDED = tuple(name for name, column in EVENTS.items() if column.missing != "add" and not column.nullable)


def without_blank(df: pl.DataFrame, drop: bool, origin: Origin, notes: list[dict[str, Any]]) -> pl.DataFrame:
    """The events in which everything that is needed stands; the others are counted by what is blank in them.

    Args:
        drop: leave such rows out, in place of the error.

    Raises:
        DataError: there are some; the sentence names the first, and what to do.
    """
    is_search, df = pl.col("kind") == "search", df.with_row_index("_row")
    for name in (*(one for one in NEEDED if one in df.columns), "item_id"):
        blank = _is_blank(name, df.schema[name])
        if name == "item_id":  # a search need not have led to one
            blank &= ~is_search
        found = df.filter(blank)
        if found.is_empty():
            continue
        if not drop:
            rows, are = ("1 row", "is") if found.height == 1 else (f"{found.height} rows", "are")
            what = f" that {are} no search" if name == "item_id" else ""
            raise DataError(
                f"{origin.column(name)} is empty in {rows}{what}, first in {origin.place(found['_row'][0])}; fill or remove "
                "them, or leave such rows out by --drop-blank (drop_blank=True)."
            )
        reason = f"column '{origin.names.get(name, name)}' is blank ({name})"
        notes.append({"table": "events", "stage": "rejected", "rows": found.height, "reason": reason})
        df = df.filter(~blank)
    return df.drop("_row")


def _is_blank(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.String:
        return column.fill_null("").str.strip_chars() == ""
    return column.is_null() | column.is_nan() if dtype.is_float() else column.is_null()


def note_repeats(df: pl.DataFrame, notes: list[dict[str, Any]]) -> None:
    """Note how many events equal an earlier one in all columns that are read."""
    # hashes of 64 bits: six times as fast as the rows themselves, and wrong by one once in a million logs of ten million rows
    if rows := df.height - df.hash_rows().n_unique():
        reason = "repeat an earlier row in all columns that are read; kept"
        notes.append({"table": "events", "stage": "note", "rows": rows, "reason": reason})


def with_known_items(tables: Tables, drop: bool) -> Tables:
    """The tables with a note on events whose item the items table does not have, or without those events.

    Raises:
        DataError: there are no other events.
    """
    if tables.items is None:
        return tables
    strange = pl.col("item_id").is_not_null() & ~pl.col("item_id").is_in(tables.items["item_id"].implode())
    found = tables.events.filter(strange)["item_id"]
    if found.is_empty():
        return tables
    items = "1 item that is" if (num := found.n_unique()) == 1 else f"{num} items that are"
    reason = f"name {items} not in the items table, first {found[0]}"
    if not drop:
        reason += "; kept without text (--drop-unknown-items leaves them out)"
        tables.funnel.append({"table": "events", "stage": "note", "rows": len(found), "reason": reason})
        return tables
    tables.funnel.append({"table": "events", "stage": "rejected", "rows": len(found), "reason": reason})
    left = tables.events.filter(~strange)
    if left.is_empty():
        raise DataError(f"no event is left: {len(found)} {reason}; see that both files have the same item ids.")
    return replace(tables, events=left)
