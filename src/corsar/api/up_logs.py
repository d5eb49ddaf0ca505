"""Logs of any columns as one table of events and one of items, and how they were read, for a person to check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from corsar.api.up_columns import Reading, clean_times, degrees, fits, is_prose, read_columns
from corsar.api.up_names import CATEGORIES, is_named, plain_name
from corsar.errors import DataError
from corsar.schema import Origin
from corsar.sources.columns import join_text, read_ids
from corsar.sources.files import scan_file
from corsar.sources.times import parse_times, read_times

COLUMNS = ("user_id", "item_id", "kind", "time_ms", "query", "session_id", "label", "split")


@dataclass(frozen=True)
class Logs:
    """Events and items as `prepare_given` takes them."""

    events: pl.DataFrame
    items: pl.DataFrame | None
    settings: dict[str, Any]  # as a column map says them
    readings: list[Reading]
    notes: list[str]


def read_logs(files: Sequence[Path], items: Path | None, told: Mapping[str, str], settings: Mapping[str, Any]) -> Logs:
    """The events of all files together, and the items: those of their own table, or what the events hold of them.

    Args:
        told: corsar's name of a column -> the file's; a file that has no such column is not asked for it.
        settings: keys of a column map that win over what is seen: time, kinds, split and so on.

    Raises:
        DataError: a file cannot be read, or nothing in it can be the users, the items or the times.
    """
    notes: list[str] = []
    table = None if items is None else _items_table(items, notes)
    known = {} if table is None else {"item_id": table["item_id"]}
    parts: list[pl.DataFrame] = []
    readings: list[Reading] = []
    for file in files:
        scan = scan_file(file)
        df = scan.read()
        if not df.height:
            raise DataError(f"{file.name} has no row; leave it out, or give a file with events")
        here = {role: column for role, column in told.items() if len(files) == 1 or not column or column in df.columns}
        reading = read_columns(file.name, df, here, known)
        reading.time |= dict(settings.get("time", {}))
        reading.kinds |= dict(settings.get("kinds", {}))
        parts.append(_events(df, reading, scan.is_text, notes))
        readings.append(reading)
    clocks = {part["clock"][0] for part in parts if part.height}
    if len(clocks) > 1:
        raise DataError("one of the files has times and another positions; give files of one clock, or each by itself")
    events = pl.concat([_ids(part, parts) for part in parts], how="diagonal_relaxed")
    if table is None:
        table = _of_events(events)
    elif events["item_id"].dtype != table["item_id"].dtype:
        events = events.with_columns(pl.col("item_id").cast(pl.String))
        table = table.with_columns(pl.col("item_id").cast(pl.String))
    if table is not None and "lat_deg" in events.columns and "lat_deg" not in table.columns:
        table = table.join(_places(events), on="item_id", how="left")
    if table is None or not table.get_column("text", default=pl.Series([""])).str.len_chars().sum():
        notes.append("the items have no text, so that no word of a query is found in one; a table of them (--items) would help")
    categories = [] if table is None else [name for name in table.columns if name.startswith("category_")]
    map_of_items: dict[str, Any] = {} if table is None else {"items": {"text": "text", "categories": categories}}
    kept = {"columns": map_of_items, "time": {"unit": "ordinal" if clocks == {"ordinal"} else "ms"}}
    others = {key: value for key, value in settings.items() if key not in ("columns", "time", "kinds", "time_unit")}
    columns = [name for name in COLUMNS if name in events.columns]
    return Logs(events.select(columns), table, kept | others, readings, notes)


def reading_lines(logs: Logs) -> list[str]:
    """What each column was taken for, and why, a line each."""
    lines = []
    for reading in logs.readings:
        lines.append(f"{reading.file} is read so:")
        for role, column in reading.columns.items():
            more = f" with '{reading.clock}'" if role == "time_ms" and reading.clock else ""
            form = ", ".join(reading.time.values()) if role == "time_ms" else ""
            lines.append(f"  {role} = '{column}'{more} ({reading.why[role]}{f'; {form}' if form else ''})")
        if reading.kinds:
            shown = [f"{value} = {kind}{' (shown only)' if value in reading.shown else ''}" for value, kind in
                     reading.kinds.items()]  # fmt: skip
            lines.append(f"  kinds: {', '.join(shown)}")
        if reading.categories:
            lines.append(f"  categories of items: {', '.join(reading.categories)}")
    return [*lines, *logs.notes, "to read it otherwise: --column query=NAME (or query= for none), or --config columns.toml"]


def _events(df: pl.DataFrame, reading: Reading, is_text: bool, notes: list[str]) -> pl.DataFrame:
    """The rows in corsar's columns, with text and categories of items; rows without a user or a time are left out."""
    columns, rows = reading.columns, df.height
    if reading.clock is not None:
        df = df.with_columns(pl.concat_str(columns["time_ms"], reading.clock, separator=" ").alias(columns["time_ms"]))
    df = df.with_row_index("row number of corsar")
    made = df.select(pl.col(source).alias(role) for role, source in columns.items())
    made = made.with_columns(df[name].cast(pl.String).alias(f"category_{plain_name(name)}") for name in reading.categories)
    if "time_ms" not in columns:
        made = made.with_columns(time_ms=df["row number of corsar"].cast(pl.Int64))
        reading.time, reading.why["time_ms"] = {"unit": "ordinal"}, "no column holds times"
        notes.append(f"{reading.file} has no times, so its rows are taken to stand in the order in which they happened")
    for name in ("user_id", "item_id", "session_id"):
        if name in made.columns:
            made = made.with_columns(read_ids(made[name], is_text))
    for name in ("lat_deg", "lon_deg"):
        if name in made.columns:
            made = made.with_columns(degrees(made[name]))
    made = made.with_columns(
        pl.col(name).cast(pl.String).str.strip_chars() for name in ("kind", "query") if name in made.columns
    )
    if "query" in made.columns:
        made = made.with_columns(query=pl.when(pl.col("query") != "").then("query"))
    made = _with_kind(made, reading)
    blank = pl.col("user_id").is_null() | pl.col("time_ms").cast(pl.String).fill_null("").str.strip_chars().eq("")
    made = made.filter(~blank & (pl.col("item_id").is_not_null() | (pl.col("kind") == "search")))
    if made.height < rows:
        notes.append(f"{reading.file}: {rows - made.height:,} of {rows:,} rows have no user, time or item and are left out")
    if not made.height:
        raise DataError(f"{reading.file}: no row has a user, an item and a time; say the columns as in --column item_id=NAME")
    return made.with_columns(
        _times(made["time_ms"], reading), clock=pl.lit("ordinal" if reading.time.get("unit") == "ordinal" else "utc")
    )


def _with_kind(made: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    has_query = pl.col("query").is_not_null() if "query" in made.columns else pl.lit(False)
    other = "checkin" if {"lat_deg", "lon_deg"} <= reading.columns.keys() else "feed"
    if "kind" not in made.columns:
        return made.with_columns(kind=pl.when(has_query).then(pl.lit("search")).otherwise(pl.lit(other)))
    if reading.shown:
        label = pl.when(pl.col("kind").is_in(reading.shown)).then(pl.lit("0"))
        told = pl.col("label").cast(pl.String) if "label" in made.columns else pl.lit("1")
        made = made.with_columns(label=label.otherwise(told))
    # the query of an event that is no search is what it came from, and not its own
    kind = pl.col("kind").replace_strict(reading.kinds, default=None)
    made = made.with_columns(kind=pl.coalesce(kind, pl.when(has_query).then(pl.lit("search")).otherwise(pl.lit(other))))
    if "query" in made.columns and not (made["kind"] == "search").any():
        made = made.with_columns(kind=pl.when(has_query).then(pl.lit("search")).otherwise("kind"))
    if "query" in made.columns:
        made = made.with_columns(query=pl.when(pl.col("kind") == "search").then("query"))
    return made


def _times(times: pl.Series, reading: Reading) -> pl.Series:
    origin = Origin(reading.file, {"time_ms": reading.columns.get("time_ms", "time_ms")})
    if times.dtype == pl.String:
        times = clean_times(times)
    if "format" in reading.time:
        times = parse_times(times, reading.time["format"], reading.time.get("zone", "UTC"), origin)
        return times.dt.epoch("ms").alias("time_ms")
    found, unit, _ = read_times(times, reading.time.get("unit"), origin)
    if unit != "ordinal":
        reading.time.setdefault("unit", unit)
    return found.alias("time_ms")


def _ids(part: pl.DataFrame, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The part with ids of the type that all parts have."""
    for name in ("user_id", "item_id", "session_id"):
        if name in part.columns and len({one[name].dtype for one in parts if name in one.columns}) > 1:
            part = part.with_columns(pl.col(name).cast(pl.String))
    return part.with_columns(pl.col("label").cast(pl.String) for _ in range("label" in part.columns))


def _items_table(file: Path, notes: list[str]) -> pl.DataFrame:
    """item_id, text and categories of a table of items, found by their names."""
    scan = scan_file(file)
    df = scan.read()
    keys = [name for name in df.columns if df[name].n_unique() == df.height and not df[name].dtype.is_float()]
    named = [name for name in keys if "id" in plain_name(name).split("_")] or keys
    if not named:
        raise DataError(f"{file.name}: no column has one value a row, as the ids of items have; give one row an item")
    item = named[0]
    free = [name for name in df.columns if name != item]
    categories = [
        name for name in free if any(part in plain_name(name) for part in CATEGORIES) and df[name].n_unique() < df.height
    ]
    texts = [name for name in free if name not in categories and is_named("text", name) and fits("text", df[name])]
    texts = texts or [name for name in free if name not in categories and is_prose(df[name])]
    table = df.select(read_ids(df[item], scan.is_text).alias("item_id"))
    table = table.with_columns(join_text(df, texts) if texts else pl.lit("").alias("text"))
    table = table.with_columns(df[name].cast(pl.String).alias(f"category_{plain_name(name)}") for name in categories)
    told = f"{file.name}: items are named by '{item}', their text is {', '.join(texts) or 'nowhere'}"
    notes.append(told + (f", their categories are {', '.join(categories)}" if categories else ""))
    return table


def _of_events(events: pl.DataFrame) -> pl.DataFrame | None:
    """What the events hold of their items: the first text and the first value of each category."""
    held = [name for name in events.columns if name in ("text", "lat_deg") or name.startswith("category_")]
    if not held:
        return None
    first = [pl.col(name).cast(pl.String).drop_nulls().first() for name in held if name != "lat_deg"]
    table = events.drop_nulls("item_id").group_by("item_id", maintain_order=True).agg(first)
    return table if "text" in table.columns else table.with_columns(text=pl.lit(""))


def _places(events: pl.DataFrame) -> pl.DataFrame:
    return events.drop_nulls("item_id").group_by("item_id").agg(pl.col("lat_deg").median(), pl.col("lon_deg").median())
