"""Canonical tables: what their columns are called and hold. Every source ends in `make_tables`, which checks them.

Ids are Int64 or String, as the source has them, and of one type in all tables. Times are UTC milliseconds, or positions
where the clock is `ordinal`. A search is all rows of one (user_id, session_id); a null session is a session of its own.
A search that got no click may be one row without an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from corsar.errors import DataError

KINDS = ("feed", "search", "checkin")
SPLITS = ("train", "valid", "test")

Clock = Literal["utc", "ordinal"]
Missing = Literal["error", "leave_out", "add"]


@dataclass(frozen=True)
class Column:
    """What one column holds: its type, whether a value may be missing, and what happens where the column is."""

    type: Literal["id", "ids", "text", "kind", "split", "time", "label", "minutes", "degrees"]
    missing: Missing = "error"
    nullable: bool = False
    fill: Any = None  # stands for a missing value


EVENTS: dict[str, Column] = {
    "user_id": Column("id"),
    "item_id": Column("id", nullable=True),  # null: a search without a click
    "kind": Column("kind"),
    "time_ms": Column("time"),
    "query": Column("text", missing="add", nullable=True),  # null unless kind is search
    "session_id": Column("id", missing="add", nullable=True),
    "label": Column("label", missing="add", fill=1),  # 1 clicked or consumed, 0 shown only
    "utc_offset_min": Column("minutes", missing="add", nullable=True),
    "split": Column("split", missing="leave_out"),
}
ITEMS: dict[str, Column] = {
    "item_id": Column("id"),
    "text": Column("text", missing="add", fill=""),
    "lat_deg": Column("degrees", missing="leave_out", nullable=True),
    "lon_deg": Column("degrees", missing="leave_out", nullable=True),
}
USERS: dict[str, Column] = {"user_id": Column("id")}
CANDIDATES: dict[str, Column] = {
    "user_id": Column("id"),
    "time_ms": Column("time"),
    "split": Column("split"),
    "negatives": Column("ids"),
    "item_id": Column("id", missing="leave_out"),
    "session_id": Column("id", missing="leave_out", nullable=True),
}

_DTYPES: dict[str, pl.DataType] = {
    "text": pl.String(),
    "kind": pl.Enum(KINDS),
    "split": pl.String(),
    "time": pl.Int64(),
    "label": pl.Int8(),
    "minutes": pl.Int16(),
    "degrees": pl.Float64(),
}
_HOLDS = {
    "id": "whole numbers or texts",
    "ids": "lists of ids",
    "text": "text",
    "kind": f"one of {', '.join(KINDS)}",
    "split": f"one of {', '.join(SPLITS)}",
    "time": "whole numbers",
    "label": "0 or 1",
    "minutes": "whole minutes",
    "degrees": "degrees",
}


@dataclass(frozen=True)
class Origin:
    """Where a table comes from, for messages: the file, and the source's name of each canonical column."""

    file: str
    names: Mapping[str, str] = field(default_factory=dict)
    is_text: bool = False  # a text file with a header line, whose rows are lines

    def column(self, name: str) -> str:
        """'FILE: column NAME', under the name that the person knows."""
        source = self.names.get(name, name)
        return f"{self.file}: column '{source}'" + (f" ({name})" if source != name else "")

    def place(self, row: int) -> str:
        """Where the row of this number, from 0, stands: its line in a text file as an editor counts them."""
        return f"line {row + 2}" if self.is_text else f"row {row + 1}"


@dataclass(frozen=True)
class Tables:
    """Checked canonical tables, and how they came about. Made by `make_tables`."""

    events: pl.DataFrame
    items: pl.DataFrame | None
    users: pl.DataFrame | None
    candidates: pl.DataFrame | None
    clock: Clock
    funnel: list[dict[str, Any]]  # {"table", "stage": "read" | "rejected" | "kept" | "note", "rows", "reason"}
    source: str
    derived: str | None  # a sentence where data is simulated or derived, shown beside each figure
    categories: tuple[str, ...]  # category columns of items
    attributes: tuple[str, ...]  # attribute columns of users


def make_tables(
    events: pl.DataFrame,
    items: pl.DataFrame | None = None,
    users: pl.DataFrame | None = None,
    candidates: pl.DataFrame | None = None,
    *,
    source: str,
    clock: Clock = "utc",
    funnel: list[dict[str, Any]] | None = None,
    derived: str | None = None,
    categories: tuple[str, ...] = (),
    attributes: tuple[str, ...] = (),
    origins: Mapping[str, Origin] | None = None,
) -> Tables:
    """Tables whose columns keep their contracts and whose ids are of one type in all of them.

    Raises:
        DataError: naming the file, the column and the remedy.
    """
    origins = origins or {}
    events = check_events(events, origins.get("events"))
    if items is not None:
        items = check_items(items, categories, origins.get("items"))
    if users is not None:
        users = check_users(users, attributes, origins.get("users"))
    if candidates is not None:
        candidates = check_candidates(candidates, origins.get("candidates"))
    checked = _one_type_of_ids({"events": events, "items": items, "users": users, "candidates": candidates})
    return Tables(
        checked["events"],
        checked.get("items"),
        checked.get("users"),
        checked.get("candidates"),
        clock,
        list(funnel or []),
        source,
        derived,
        categories,
        attributes,
    )


def check_events(df: pl.DataFrame, origin: Origin | None = None) -> pl.DataFrame:
    """The events with canonical dtypes and defaults; other columns are dropped."""
    origin = origin or Origin("events")
    if df.is_empty():
        raise DataError(f"{origin.file}: there are no events; give a file with at least one row.")
    df = _check(df, EVENTS, origin, ())
    is_search, no_item = pl.col("kind") == "search", pl.col("item_id").is_null()
    lost = df.filter(no_item & ~is_search).height
    if lost:
        raise DataError(f"{origin.column('item_id')} is empty in {lost} rows that are no search; fill or remove them.")
    return df.with_columns(
        query=pl.when(is_search).then("query"),
        label=pl.when(no_item).then(pl.lit(0, pl.Int8)).otherwise("label"),
    )


def check_items(df: pl.DataFrame, categories: tuple[str, ...] = (), origin: Origin | None = None) -> pl.DataFrame:
    """The items, one row an id, with the given category columns as Int64 or String."""
    origin = origin or Origin("items")
    return _once(_check(df, ITEMS, origin, categories), "item_id", origin)


def check_users(df: pl.DataFrame, attributes: tuple[str, ...] = (), origin: Origin | None = None) -> pl.DataFrame:
    """The users, one row an id, with the given attribute columns as Int64 or String."""
    origin = origin or Origin("users")
    return _once(_check(df, USERS, origin, attributes), "user_id", origin)


def check_candidates(df: pl.DataFrame, origin: Origin | None = None) -> pl.DataFrame:
    """The given candidates: for a case, its negatives as a list of ids."""
    return _check(df, CANDIDATES, origin or Origin("candidates"), ())


def _check(df: pl.DataFrame, contract: dict[str, Column], origin: Origin, extra: tuple[str, ...]) -> pl.DataFrame:
    done: list[pl.Series] = []
    for name, column in contract.items():
        if name in df.columns:
            done.append(_cast(df[name], column, origin))
        elif column.missing == "error":
            raise DataError(f"{origin.file}: no column for '{name}' among {', '.join(df.columns)}; add it or map it.")
        elif column.missing == "add":
            dtype = _DTYPES.get(column.type, pl.Int64())
            done.append(pl.repeat(column.fill, df.height, dtype=dtype, eager=True).alias(name))
    for name in extra:
        if name not in df.columns:
            raise DataError(f"{origin.file}: no column '{name}' among {', '.join(df.columns)}; correct its name.")
        done.append(_values(df[name]))
    return pl.DataFrame(done)


def _cast(series: pl.Series, column: Column, origin: Origin) -> pl.Series:
    where = origin.column(series.name)
    if series.dtype.is_float():
        series = series.fill_nan(None)
    if column.fill is not None and series.dtype == pl.Null:
        return pl.repeat(column.fill, len(series), dtype=_DTYPES[column.type], eager=True).alias(series.name)
    if not column.nullable and column.fill is None and series.null_count():
        first = series.is_null().arg_max()
        rows = "1 row" if series.null_count() == 1 else f"{series.null_count()} rows"
        raise DataError(f"{where} is empty in {rows}, first in {origin.place(first or 0)}; fill or remove them.")
    if column.type in ("id", "ids"):
        cast = _ids(series, column.type)
    else:
        cast = _typed(series, column)
    if cast is None or cast.null_count() > series.null_count() or (column.type == "label" and not _is_label(cast)):
        bad = series if cast is None else series.filter(cast.is_null() & series.is_not_null())
        if column.type == "label" and cast is not None and bad.is_empty():
            bad = series.filter(~cast.is_in([0, 1]))
        shown = f", but {bad[0]!r} is there" if len(bad) and not bad.dtype.is_nested() else ""
        raise DataError(f"{where} must hold {_HOLDS[column.type]}{shown} ({series.dtype}); correct or map it.")
    return cast if column.fill is None else cast.fill_null(column.fill)


def _is_label(series: pl.Series) -> bool:
    return bool(series.drop_nulls().is_in([0, 1]).all())


def _typed(series: pl.Series, column: Column) -> pl.Series | None:
    """`series` in the column's dtype, null where a value does not fit; None where no value can."""
    dtype = _DTYPES[column.type]
    if series.dtype.is_nested():
        return None
    if column.type == "split":
        return pl.select(pl.when(series.cast(pl.String).is_in(SPLITS)).then(series.cast(pl.String)))[series.name]
    if column.type in ("time", "label", "minutes"):
        if series.dtype == pl.String:
            series = series.str.strip_chars().cast(pl.Float64, strict=False)
        if series.dtype.is_float():  # a fraction is not rounded in silence
            series = pl.select(pl.when(series == series.floor()).then(series)).to_series().alias(series.name)
        if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
            return None
    return series.cast(dtype, strict=False)


def _ids(series: pl.Series, kind: str) -> pl.Series | None:
    inner: Any = series.dtype
    if kind == "ids":
        if not isinstance(inner, pl.List | pl.Array):
            return None
        inner = inner.inner
    if inner.is_integer() or inner in (pl.String, pl.Null):
        target: Any = pl.Int64 if inner != pl.String else pl.String
    elif isinstance(inner, pl.Categorical | pl.Enum):
        target = pl.String
    elif inner.is_float() and kind == "id" and series.drop_nulls().eq(series.drop_nulls().floor()).all():
        target = pl.Int64  # whole numbers that a missing value once turned into floats
    else:
        return None
    return series.cast(pl.List(target) if kind == "ids" else target, strict=False)


def _values(series: pl.Series) -> pl.Series:
    """A category or attribute column: whole numbers as Int64, anything else as String."""
    if series.dtype.is_integer():
        return series.cast(pl.Int64)
    return series.cast(pl.String)


def _once(df: pl.DataFrame, key: str, origin: Origin) -> pl.DataFrame:
    twice = df.filter(pl.col(key).is_duplicated())
    if twice.height:
        raise DataError(
            f"{origin.column(key)} holds {twice[key][0]!r} and {twice[key].n_unique() - 1} others more than once; "
            "keep one row an id."
        )
    return df


def _one_type_of_ids(tables: Mapping[str, pl.DataFrame | None]) -> dict[str, pl.DataFrame]:
    """The tables that there are; where one has numbers and another texts for the same ids, all have texts."""
    done = {table: df for table, df in tables.items() if df is not None}
    for names in (("user_id",), ("item_id", "negatives"), ("session_id",)):
        columns = [(table, df[name]) for table, df in done.items() for name in names if name in df.columns]
        inner = {column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype for _, column in columns}
        if len(inner) > 1:
            for table, column in columns:
                text = pl.List(pl.String()) if isinstance(column.dtype, pl.List) else pl.String()
                done[table] = done[table].with_columns(column.cast(text))
    return done
