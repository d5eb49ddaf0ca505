"""Times of any stated unit as canonical Int64: UTC milliseconds, or positions."""

from __future__ import annotations

import re

import polars as pl

from corsar.errors import ConfigError, DataError
from corsar.schema import Origin

UNITS = ("ms", "s", "us", "iso", "ordinal")
_PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3}
# Between 1973 and 5138 only one of the units can have been meant.
_RANGES = {"s": (1e8, 1e11), "ms": (1e11, 1e14), "us": (1e14, 1e17)}
_ISO = r"^\d{4}-\d\d-\d\d"
_ZONED = r"([zZ]|[+-]\d\d:?\d\d)$"
_ASK = 'state it as `time_unit = "s"` (or ms, us, iso, ordinal) in the column map'


def read_times(series: pl.Series, unit: str | None, origin: Origin) -> tuple[pl.Series, str, str]:
    """The times as `time_ms`, the unit they had, and a sentence where the unit was not stated but seen.

    Raises:
        DataError: a time is missing or unreadable, or the unit is not stated and not plain to see.
    """
    where = origin.column("time_ms")
    raw = series
    if series.dtype.is_float():
        series = series.fill_nan(None)
    if series.dtype == pl.String:
        series = pl.select(pl.when(series.str.strip_chars() != "").then(series.str.strip_chars())).to_series()
    missing = series.null_count()
    if missing:
        rows = "1 row" if missing == 1 else f"{missing} rows"
        first = origin.place(series.is_null().arg_max() or 0)
        raise DataError(f"{where} is empty in {rows}, first in {first}; fill or remove them.")
    if isinstance(series.dtype, pl.Datetime | pl.Date):
        return series.cast(pl.Datetime("ms")).dt.epoch("ms").alias("time_ms"), "iso", ""
    if series.dtype == pl.String and unit != "iso":
        numbers = series.cast(pl.Float64, strict=False)
        if numbers.is_nan().any() or (numbers.null_count() and numbers.null_count() < len(numbers)):
            bad = raw.filter(numbers.is_null() | numbers.is_nan())[0]
            raise DataError(f"{where} holds {bad!r} beside numbers; correct those rows.")
        if numbers.null_count() == 0:
            whole = series.cast(pl.Int64, strict=False)  # floats are exact to 2^53 alone
            series = whole if whole.null_count() == 0 else numbers
    if unit is None and origin.names.get("time_ms", "time_ms").lower() in ("time_ms", "timestamp_ms"):
        unit = "ms"  # the name states it
    if series.dtype == pl.String:
        is_local = bool((series.str.contains(":") & ~series.str.contains(_ZONED)).any())
        return _dates(series, where), "iso", "times without a zone are read as UTC" if is_local else ""
    if not series.dtype.is_numeric() or unit == "iso":
        raise DataError(f"{where} must hold times, but is {raw.dtype}; {_ASK}.")
    return _numbers(series, unit, where)


def parse_times(series: pl.Series, form: str, zone: str, origin: Origin) -> pl.Series:
    """The instants of times written in a form of one's own (strftime codes) by the clocks of a zone, as UTC.

    An hour that a clock shows twice is its first; one that it skips cannot be read.

    Raises:
        DataError: a time has another form.
        ConfigError: there is no such zone.
    """
    texts = series.cast(pl.String).str.strip_chars()
    try:
        local = texts.str.to_datetime(form, time_unit="ms", strict=False)
        found = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    except pl.exceptions.ComputeError as error:
        if "time zone" in str(error):
            raise ConfigError(f'there is no time zone {zone!r}; write [time] zone as in "Europe/Berlin"') from None
        raise DataError(f"{origin.column('time_ms')} cannot be read as {form!r}; correct [time] format") from None
    wrong = found.is_null() & (texts.fill_null("") != "")
    if wrong.any():
        bad = series.filter(wrong)[0]
        like = "" if form_of(str(bad)) == form else f", as in {form_of(str(bad))!r}"
        raise DataError(
            f"{origin.column('time_ms')} holds {bad!r}, which is not of the form {form!r}; correct [time] format{like}"
        )
    return found


def form_of(text: str) -> str:
    """The form (strftime codes) that a time seems to be written in; the day before the month wherever that can be."""
    found = re.fullmatch(r"(\d{1,4})([./-])(\d\d?)\2(\d{1,4})(?:([ T])\d\d?:\d\d(:\d\d)?(\.\d+)?)?", text.strip())
    if found is None:
        return "%d.%m.%Y %H:%M:%S"
    first, mark, second, last, gap, seconds, fraction = found.groups()
    if len(first) == 4:
        days = ["%Y", "%m", "%d"]
    else:
        days = [*(("%m", "%d") if int(second) > 12 else ("%d", "%m")), "%Y" if len(last) == 4 else "%y"]
    clock = f"{gap}%H:%M{':%S' if seconds else ''}{'%.f' if fraction else ''}" if gap else ""
    return mark.join(days) + clock


def _dates(raw: pl.Series, where: str) -> pl.Series:
    texts = pl.select(pl.when(raw.str.contains(_ISO)).then(raw)).to_series()  # 01/02/2024 may mean two days
    try:
        dates = texts.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
    except pl.exceptions.ComputeError:  # no format fits the first value
        dates = pl.repeat(None, len(texts), dtype=pl.Datetime("ms", "UTC"), eager=True)
    if dates.null_count():
        bad = raw.filter(dates.is_null())[0]
        raise DataError(
            f"{where} holds {bad!r}, which is no number and no ISO 8601 time of one form; correct it, or tell the form: "
            f'`[time]` with `format = "{form_of(bad)}"` and `zone = "Europe/Berlin"`.'
        )
    return dates.dt.epoch("ms").alias("time_ms")


def _numbers(series: pl.Series, unit: str | None, where: str) -> tuple[pl.Series, str, str]:
    if series.dtype.is_float() and not series.is_finite().all():
        raise DataError(f"{where} holds infinite values; fill or remove them.")
    note = ""
    fits = [name for name, (low, high) in _RANGES.items() if bool(series.is_between(low, high).all())]
    if unit is None:
        if not fits:
            shown = f"{series.min()!r} to {series.max()!r}"
            raise DataError(f"{where} runs from {shown}, which leaves the time unit open; {_ASK}.")
        unit = fits[0]
        note = f"the time unit is not stated; read as {unit}"
    elif unit in _RANGES and fits and unit not in fits:
        raise DataError(f"{where} is said to be in {unit}, but its values can only be {fits[0]}; {_ASK}.")
    if unit == "ordinal":
        if series.dtype.is_float() and not (series == series.floor()).all():
            raise DataError(f"{where} must hold whole positions where the clock is ordinal; correct it.")
        return series.cast(pl.Int64).alias("time_ms"), unit, note
    if series.dtype.is_integer():
        whole = series.cast(pl.Int64)
        times = {"s": whole * 1000, "ms": whole, "us": whole // 1000}[unit]
    else:
        times = (series / _PER_MS[unit]).round(0).cast(pl.Int64)
    return times.alias("time_ms"), unit, note
