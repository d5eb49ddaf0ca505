"""Your own logs: files (Parquet, CSV) or frames of events, and of items, users and given candidates where you have them.

Columns are found by their obvious names, or named in a column map that reads canonical = source:

    [columns.events]
    time_ms = "time"
    [columns.items]
    text = ["title", "description"]
    categories = ["brand"]
    [columns.users]
    attributes = ["age_group"]
    [time]
    unit = "s"                  # ms, s, us, iso, ordinal; `time_unit = "s"` at the top says the same
    # or: format = "%d.%m.%Y %H:%M:%S" and zone = "Europe/Berlin"
    [kinds]
    view = "feed"               # what the column `kind` holds = what it means

At the top, `drop_blank = true` leaves out events in which an id, a kind or a time is blank, and `drop_unknown_items = true`
those whose item is not in the items table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from corsar.errors import ConfigError, DataError
from corsar.schema import CANDIDATES, EVENTS, ITEMS, KINDS, USERS, Origin, Tables, make_tables
from corsar.sources.columns import choose, find_columns, join_text, must_have, read_ids, read_lists
from corsar.sources.files import Scan, open_table
from corsar.sources.odd_rows import note_repeats, with_known_items, without_blank
from corsar.sources.times import UNITS, parse_times, read_times

if TYPE_CHECKING:
    from corsar.sources.files import Frame

Note = dict[str, Any]
IDS = ("user_id", "item_id", "session_id")
SEARCH_WORDS = ("search", "such", "find", "query")  # what a person's word for a search may hold


def read_tables(
    events: str | Path | Frame,
    items: str | Path | Frame | None = None,
    users: str | Path | Frame | None = None,
    candidates: str | Path | Frame | None = None,
    config: Mapping[str, Any] | None = None,
) -> Tables:
    """Canonical tables from a person's own files, or from frames of polars or pandas.

    Args:
        config: the column map, as in this module's docstring; other keys of it are not looked at, apart from `derived`: a
            sentence that is shown beside each figure.

    Raises:
        DataError: a file or a column is not what it should be; the message names both and says what to do.
        ConfigError: the column map has an unknown key.
    """
    config = config or {}
    notes: list[Note] = []
    maps = _maps(config)
    frame, origin, unit = _events(open_table(events, "events"), maps["events"], config, notes)
    origins = {"events": origin}
    frames: dict[str, pl.DataFrame] = {}
    categories: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    if items is not None:
        frames["items"], origins["items"], categories = _items(open_table(items, "items"), maps["items"], notes)
    if users is not None:
        frames["users"], origins["users"], attributes = _users(open_table(users, "users"), maps["users"], notes)
    if candidates is not None:
        frames["candidates"], origins["candidates"] = _candidates(
            open_table(candidates, "candidates"), maps["candidates"], config, unit, notes
        )
    tables = make_tables(
        frame,
        frames.get("items"),
        frames.get("users"),
        frames.get("candidates"),
        source="tables: " + ", ".join(origin.file for origin in origins.values()),
        clock="ordinal" if unit == "ordinal" else "utc",
        derived=config.get("derived"),
        categories=categories,
        attributes=attributes,
        origins=origins,
    )
    tables.funnel.extend(notes)
    tables = with_known_items(tables, bool(config.get("drop_unknown_items")))
    silent = tables.events.filter((pl.col("kind") == "search") & pl.col("query").is_null()).height
    if silent:
        tables.funnel.append(_note("events", "note", silent, "searches without a query, kept"))
    kept = {"events": tables.events, "items": tables.items, "users": tables.users, "candidates": tables.candidates}
    tables.funnel.extend(_note(name, "kept", df.height) for name, df in kept.items() if df is not None)
    return tables


def _note(table: str, stage: str, rows: int, reason: str = "") -> Note:
    return {"table": table, "stage": stage, "rows": rows, "reason": reason}


def _maps(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The part of the column map for each table; a key that nothing reads is an error."""
    known = {
        "events": [*EVENTS],
        "items": [*ITEMS, "categories"],
        "users": [*USERS, "attributes"],
        "candidates": [*CANDIDATES],
    }
    maps = config.get("columns", {})
    for table, keys in maps.items():
        if table not in known:
            raise ConfigError(f"unknown table '{table}' in [columns]; use one of {', '.join(known)}.")
        for key in keys:
            if key not in known[table]:
                raise ConfigError(f"unknown key '{key}' in [columns.{table}]; use one of {', '.join(known[table])}.")
    return {table: maps.get(table, {}) for table in known}


def _unit(config: Mapping[str, Any]) -> str | None:
    for key in config.get("time", {}):
        if key not in ("unit", "format", "zone"):
            raise ConfigError(f"unknown key '{key}' in [time]; use unit, or format and zone.")
    if "zone" in config.get("time", {}) and "format" not in config["time"]:
        raise ConfigError("[time] has a zone but no format; zone tells what times written by `format` mean.")
    unit: str | None = config.get("time", {}).get("unit", config.get("time_unit"))
    if unit is not None and unit not in UNITS:
        raise ConfigError(f"unknown time unit {unit!r}; use one of {', '.join(UNITS)}.")
    return unit


def _events(
    scan: Scan, told: Mapping[str, Any], config: Mapping[str, Any], notes: list[Note]
) -> tuple[pl.DataFrame, Origin, str]:
    names = find_columns(scan, EVENTS, told, "events", optional=("kind",))
    origin = Origin(scan.file, names, scan.is_text)
    df = scan.read(scan.frame.select(pl.col(source).alias(name) for name, source in names.items()))
    notes.append(_note("events", "read", df.height))
    df = df.with_columns(read_ids(df[name], scan.is_text) for name in IDS if name in names)
    if "query" in names:
        query = pl.col("query").cast(pl.String)
        df = df.with_columns(query=pl.when(query.str.strip_chars() != "").then(query))
    df = without_blank(_with_kind(df, config.get("kinds", {}), origin), bool(config.get("drop_blank")), origin, notes)
    note_repeats(df, notes)
    told_unit = _unit(config)
    times, unit, note = read_times(_raw_times(df, config, origin), told_unit, origin)
    if unit == "iso" and told_unit not in (None, "iso"):
        raise DataError(
            f"{origin.column('time_ms')} is said to be in {told_unit}, but it holds dates; leave the time unit out, or say iso."
        )
    if note:
        notes.append(_note("events", "note", df.height, note))
    df = df.with_columns(times)
    if "label" in names and df.schema["label"] == pl.String:
        truth = {"true": "1", "false": "0"}
        df = df.with_columns(pl.col("label").str.strip_chars().str.to_lowercase().replace(truth))
    df = _with_kind(df, config.get("kinds", {}), origin)
    return _with_searches(df, notes), origin, unit


def _with_kind(df: pl.DataFrame, meanings: Mapping[str, str], origin: Origin) -> pl.DataFrame:
    """The events with canonical kinds; without a column for them, an event with a query is a search."""
    if "kind" not in df.columns:
        is_search = pl.col("query").is_not_null() if "query" in df.columns else pl.lit(False)
        return df.with_columns(kind=pl.when(is_search).then(pl.lit("search")).otherwise(pl.lit("feed")))
    kind = pl.col("kind").cast(pl.String).str.strip_chars()
    df = df.with_columns(pl.when(kind != "").then(kind).alias("kind"))
    known = pl.col("kind").replace(dict(meanings)).str.to_lowercase()
    unknown = df.filter(~known.is_in(KINDS))["kind"].unique(maintain_order=True).to_list()
    if unknown:
        shown = ", ".join(repr(kind) for kind in unknown[:5])
        raise DataError(f"{origin.column('kind')} holds {shown}; {_kinds_remedy(unknown)}")
    return df.with_columns(known)


def _kinds_remedy(unknown: list[str]) -> str:
    """What to write for kinds of one's own, as guessed from the first word that may mean a search, and the first other one."""
    of_search = [kind for kind in unknown if any(part in kind.lower() for part in SEARCH_WORDS)]
    others = [kind for kind in unknown if kind not in of_search]
    guesses = [(kind, "search") for kind in of_search[:1]] + [(kind, "feed") for kind in others[:1]]
    lines = [f'{kind if re.fullmatch("[A-Za-z0-9_-]+", kind) else json.dumps(kind)} = "{guess}"' for kind, guess in guesses]
    more = " or checkin" if any("check" in kind.lower() for kind in unknown) else ""
    return f"say under [kinds] whether each means feed or search{more}, as in {' and '.join(lines)}."


def _with_searches(df: pl.DataFrame, notes: list[Note]) -> pl.DataFrame:
    """The events with a session_id that tells searches apart, where the file's session is a whole visit of a user."""
    if "session_id" not in df.columns:
        return df
    is_search = pl.col("kind") == "search"
    visits = df.filter(~is_search & pl.col("session_id").is_not_null()).height
    df = df.with_columns(session_id=pl.when(is_search).then("session_id"))
    if visits:
        notes.append(_note("events", "note", visits, "sessions of feed events are not read; a session is one search"))
    if "query" not in df.columns:
        return df
    key = ("user_id", "session_id")
    queries = df.drop_nulls("session_id").group_by(key).agg(pl.col("query").n_unique())
    several = queries.filter(pl.col("query") > 1).height
    if several:
        one = pl.struct(*key, "query").rank("dense").cast(pl.Int64)
        df = df.with_columns(session_id=pl.when(pl.col("session_id").is_not_null()).then(one))
        reason = "sessions hold several queries; each query of a session is taken as one search"
        notes.append(_note("events", "note", several, reason))
    return df


def _items(scan: Scan, told: Mapping[str, Any], notes: list[Note]) -> tuple[pl.DataFrame, Origin, tuple[str, ...]]:
    texts = told.get("text", [])
    texts = [texts] if isinstance(texts, str) else list(texts)
    for text in texts:
        must_have(scan, text, "[columns.items] text")
    plain = {key: value for key, value in told.items() if key not in ("categories", "text")}
    names = find_columns(scan, ITEMS, plain | ({"text": texts[0]} if texts else {}), "items")
    texts = texts or ([names["text"]] if "text" in names else [])
    used = {*names.values(), *texts}
    categories = choose(scan, told.get("categories"), used, "items", "categories")
    df = scan.read(scan.frame.select(*dict.fromkeys([*names.values(), *texts, *categories])))
    notes.append(_note("items", "read", df.height))
    _note_unused(scan, used | {*categories}, "items", "categories", notes)
    columns = [read_ids(df[names["item_id"]], scan.is_text).alias("item_id")]
    if texts:
        columns.append(join_text(df, texts))
    columns += [df[names[name]].cast(pl.Float64, strict=False).alias(name) for name in ("lat_deg", "lon_deg") if name in names]
    columns += [read_ids(df[name], scan.is_text) for name in categories]
    return pl.DataFrame(columns), Origin(scan.file, names, scan.is_text), tuple(categories)


def _users(scan: Scan, told: Mapping[str, Any], notes: list[Note]) -> tuple[pl.DataFrame, Origin, tuple[str, ...]]:
    plain = {key: value for key, value in told.items() if key != "attributes"}
    names = find_columns(scan, USERS, plain, "users")
    used = {*names.values()}
    attributes = choose(scan, told.get("attributes"), used, "users", "attributes")
    df = scan.read(scan.frame.select(*names.values(), *attributes))
    notes.append(_note("users", "read", df.height))
    _note_unused(scan, used | {*attributes}, "users", "attributes", notes)
    columns = [
        read_ids(df[names["user_id"]], scan.is_text).alias("user_id"),
        *(read_ids(df[name], scan.is_text) for name in attributes),
    ]
    return pl.DataFrame(columns), Origin(scan.file, names, scan.is_text), tuple(attributes)


def _raw_times(df: pl.DataFrame, config: Mapping[str, Any], origin: Origin) -> pl.Series:
    time = config.get("time", {})
    return parse_times(df["time_ms"], time["format"], time.get("zone", "UTC"), origin) if "format" in time else df["time_ms"]


def _candidates(
    scan: Scan, told: Mapping[str, Any], config: Mapping[str, Any], unit: str, notes: list[Note]
) -> tuple[pl.DataFrame, Origin]:
    names = find_columns(scan, CANDIDATES, told, "candidates")
    origin = Origin(scan.file, names, scan.is_text)
    df = scan.read(scan.frame.select(pl.col(source).alias(name) for name, source in names.items()))
    notes.append(_note("candidates", "read", df.height))
    times, _, _ = read_times(_raw_times(df, config, origin), unit, origin)
    ids = [read_ids(df[name], scan.is_text) for name in IDS if name in names]
    return df.with_columns(times, read_lists(df["negatives"]), *ids), origin


def _note_unused(scan: Scan, used: set[str], table: str, key: str, notes: list[Note]) -> None:
    unused = [name for name in scan.columns if name not in used]
    if unused:
        reason = f"columns not used: {', '.join(unused)}; name them as {key} under [columns.{table}] to use them"
        notes.append(_note(table, "note", 0, reason))
