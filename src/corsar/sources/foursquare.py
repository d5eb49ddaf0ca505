"""Foursquare check-ins: the TSMC2014 text files and CSV files in the style of TIST2015, one city a file.

TSMC2014 (Yang et al., IEEE Trans. Systems, Man, and Cybernetics: Systems 45, 2015) has no header and eight columns between
tabs: user, venue, category id, category, latitude, longitude, offset in minutes, UTC time as "Tue Apr 03 18:00:09 +0000 2012".
The CSV files have a header; of their five columns of time only two are to be trusted: UTC is the day of `time_sort` (d/m/Y or
ISO) with the clock of `Time`, and local time is UTC plus `TimeZone` minutes. `Local_Time` is UTC without its seconds.

Every line of a file is kept or counted under the first thing that is wrong with it.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import polars as pl

from corsar.errors import DataError
from corsar.schema import KINDS, Tables, make_tables

TSMC = ("user_id", "item_id", "category_id", "category", "lat", "lon", "offset", "time")
TIST = {
    "UserId": "user_id", "VenueId": "item_id", "TimeZone": "offset", "Latitude": "lat", "Longitude": "lon",
    "Category": "category", "L1_Category": "group", "Time": "clock", "time_sort": "day",
}  # fmt: skip
MOST_OFFSET_MIN = 14 * 60
HOUR_MS = 3_600_000
REASONS = (
    "not the columns of the file", "no user", "no place", "no coordinates", "coordinates out of range", "impossible time",
    "impossible time zone",
)  # fmt: skip

Funnel = list[dict[str, Any]]


def read_foursquare(path: str | Path, *, k_core: int | None = None, trajectory_hours: float | None = None) -> Tables:
    """Canonical tables of one file (.gz too): check-ins as events, places as items with their categories and coordinates.

    Args:
        k_core: keep users and places with this many check-ins among each other, and drop the rest.
        trajectory_hours: cut each user's check-ins where more hours than this pass between two, name the parts in
            `session_id`, and drop those of a single check-in.

    Raises:
        DataError: the file is missing, of another form, or holds no check-in that can be used.
    """
    path, funnel = Path(path), Funnel()
    raw, is_tsmc = _read(path, funnel)
    rows = raw.with_columns(**(_tsmc() if is_tsmc else _tist(raw.columns))).with_columns(wrong=_first_wrong())
    for reason, count in rows.drop_nulls("wrong").group_by("wrong", maintain_order=True).len().sort("wrong").iter_rows():
        funnel.append(_line("rejected", count, reason))
    sound = rows.filter(pl.col("wrong").is_null())
    rows = sound.unique(["user_id", "item_id", "time_ms"], keep="first", maintain_order=True)
    if rows.height < sound.height:
        funnel.append(_line("rejected", sound.height - rows.height, "the same user, place and time again"))
    if k_core:
        rows = _core(rows, k_core, funnel)
    if trajectory_hours:
        rows = _trajectories(rows, trajectory_hours, funnel)
    if rows.is_empty():
        told = "; ".join(f"{one['rows']} {one['reason']}" for one in funnel if one["stage"] == "rejected")
        raise DataError(f"{path.name}: no check-in is left ({told}); give a file of check-ins, or ask for less.")
    funnel.append(_line("kept", rows.height))
    return make_tables(
        rows.select(_id(rows["user_id"]), "item_id", "time_ms", "utc_offset_min", *_session(rows), kind=_kind()),
        _places(rows, funnel),
        source=f"foursquare: {path.name}",
        funnel=funnel,
        categories=("category", "group") if "group" in rows.columns else ("category",),
    )


def _line(stage: str, rows: int, reason: str = "", table: str = "check-ins") -> dict[str, Any]:
    return {"table": table, "stage": stage, "rows": rows, "reason": reason}


def _read(path: Path, funnel: Funnel) -> tuple[pl.DataFrame, bool]:
    """All lines as texts under the names of TSMC or of TIST's values, and whether it is the first form."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; name a text file of check-ins.")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name}: not readable ({str(error).splitlines()[0]}); give the whole file.") from error
    text = _decoded(data, funnel)
    header, _, body = text.partition("\n")
    is_tsmc = header.count("\t") == len(TSMC) - 1
    names = list(TSMC) if is_tsmc else [name.strip().removeprefix("\ufeff") for name in header.rstrip("\r").split(",")]
    if not is_tsmc:
        text = body
        for name in (name for name in TIST if name not in names and name != "L1_Category"):
            raise DataError(f"{path.name}: no column '{name}' in the header; give check-ins as TSMC2014 or TIST2015 have them.")
    lines = pl.Series(text.split("\n"), dtype=pl.String).str.strip_chars_end("\r")
    lines = lines.filter(lines != "")
    funnel.append(_line("read", len(lines)))
    fields = lines.str.split("\t" if is_tsmc else ",")
    has_quotes = lines.str.contains('"', literal=True)
    if not is_tsmc and has_quotes.any():
        unquoted = [_unquoted(line) if '"' in line else None for line in lines]
        fields = pl.select(pl.when(has_quotes).then(pl.Series(unquoted, dtype=fields.dtype)).otherwise(fields)).to_series()
    wanted = dict(zip(TSMC, TSMC, strict=True)) if is_tsmc else {name: to for name, to in TIST.items() if name in names}
    columns = {to: _text(fields.list.get(names.index(name), null_on_oob=True)) for name, to in wanted.items()}
    return pl.DataFrame({**columns, "ragged": fields.list.len() != len(names)}), is_tsmc


def _unquoted(line: str) -> list[str]:
    """The fields of a line with quotes; none at all where one is not closed."""
    try:
        return [] if line.count('"') % 2 else next(csv.reader([line]))
    except csv.Error:
        return []


def _decoded(data: bytes, funnel: Funnel) -> str:
    """The text in UTF-8; a line that is not is read as Latin-1, in which every byte is a character."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    lines, other = [], 0
    for line in data.split(b"\n"):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("latin-1"))
            other += 1
    funnel.append(_line("note", other, "lines that are not UTF-8, read as Latin-1"))
    return "\n".join(lines)


def _text(values: pl.Series) -> pl.Series:
    """Texts without blanks around them; null where nothing is left."""
    stripped = values.str.strip_chars()
    return pl.select(pl.when(stripped != "").then(stripped)).to_series()


def _tsmc() -> dict[str, pl.Expr]:
    time = pl.col("time").str.replace(r"^\w{3} ", "").str.to_datetime("%b %d %H:%M:%S %z %Y", time_unit="ms", strict=False)
    return {**_numbers(), "time_ms": time.dt.epoch("ms")}


def _tist(columns: list[str]) -> dict[str, pl.Expr]:
    day = pl.col("day").str.split(" ").list.first()
    date = pl.coalesce(day.str.to_date(form, strict=False) for form in ("%Y-%m-%d", "%d/%m/%Y"))
    clock = pl.col("clock").str.to_time("%H:%M:%S", strict=False)
    time = date.cast(pl.Datetime("ms")) + clock.cast(pl.Duration("ms"))
    return {**_numbers(), "time_ms": time.dt.epoch("ms")} | ({"group": pl.col("group")} if "group" in columns else {})


def _numbers() -> dict[str, pl.Expr]:
    degrees = {to: pl.col(name).cast(pl.Float64, strict=False) for name, to in (("lat", "lat_deg"), ("lon", "lon_deg"))}
    offset = pl.col("offset").cast(pl.Float64, strict=False)
    whole = pl.when(offset == offset.floor()).then(offset)
    return {**degrees, "utc_offset_min": pl.when(whole.abs() <= MOST_OFFSET_MIN).then(whole).cast(pl.Int16)}


def _first_wrong() -> pl.Expr:
    """The first of REASONS that holds for a row, or null."""
    lat, lon = pl.col("lat_deg"), pl.col("lon_deg")
    no_place = lat.is_null() | lon.is_null() | ~lat.is_finite() | ~lon.is_finite() | ((lat == 0) & (lon == 0))
    holds = (
        pl.col("ragged"),
        pl.col("user_id").is_null(),
        pl.col("item_id").is_null(),
        no_place,
        (lat.abs() > 90) | (lon.abs() > 180),
        pl.col("time_ms").is_null(),
        pl.col("utc_offset_min").is_null(),
    )
    found: Any = pl.lit(None, pl.Enum(REASONS))
    for reason, condition in reversed(list(zip(REASONS, holds, strict=True))):
        found = pl.when(condition).then(pl.lit(reason, pl.Enum(REASONS))).otherwise(found)
    return found  # type: ignore[no-any-return]


def _core(rows: pl.DataFrame, least: int, funnel: Funnel) -> pl.DataFrame:
    """The largest part in which every user and every place has `least` check-ins."""
    lost = dict.fromkeys(("user_id", "item_id"), 0)
    while True:
        before = rows.height
        for key in lost:
            kept = rows.filter(pl.len().over(key) >= least)
            lost[key] += rows.height - kept.height
            rows = kept
        if rows.height == before:
            break
    for key, what in (("user_id", "users"), ("item_id", "places")):
        if lost[key]:
            funnel.append(_line("rejected", lost[key], f"{what} with fewer than {least} check-ins (k-core)"))
    return rows


def _trajectories(rows: pl.DataFrame, hours: float, funnel: Funnel) -> pl.DataFrame:
    """The rows with `session_id`; those whose trajectory is nothing but themselves are dropped."""
    ordered = rows.with_row_index("line").sort("user_id", "time_ms", "line")
    begins = (pl.col("time_ms").diff().over("user_id").fill_null(0) > hours * HOUR_MS) | pl.col("user_id").ne(
        pl.col("user_id").shift()
    ).fill_null(True)
    named = ordered.with_columns(session_id=begins.cast(pl.Int64).cum_sum())
    kept = named.filter(pl.len().over("session_id") > 1).sort("line").drop("line")
    if kept.height < rows.height:
        funnel.append(_line("rejected", rows.height - kept.height, f"alone within {hours:g} hours"))
    return kept


def _session(rows: pl.DataFrame) -> list[str]:
    return ["session_id"] if "session_id" in rows.columns else []


def _kind() -> pl.Expr:
    return pl.lit("checkin", pl.Enum(KINDS))


def _id(ids: pl.Series) -> pl.Series:
    """Ids as whole numbers where all of them are such."""
    is_whole = ids.str.contains(r"^(0|-?[1-9]\d{0,17})$").all()
    return ids.cast(pl.Int64) if is_whole else ids


def _places(rows: pl.DataFrame, funnel: Funnel) -> pl.DataFrame:
    """One row a place: what its first check-in says. Its text is its category."""
    names = [name for name in ("category", "group", "lat_deg", "lon_deg") if name in rows.columns]
    groups = rows.group_by("item_id", maintain_order=True)
    places = groups.agg(pl.col(name).drop_nulls().first() for name in names)
    several = groups.agg(pl.any_horizontal(pl.col(name).drop_nulls().n_unique() > 1 for name in names))
    funnel.append(_line("kept", places.height, table="places"))
    for count, reason in (
        (int(several[:, 1].sum()), "places that their check-ins describe in several ways; the first is taken"),
        (places["category"].null_count(), "places without a category, kept"),
    ):
        if count:
            funnel.append(_line("note", count, reason, "places"))
    return places.with_columns(text=pl.col("category").fill_null(""))
