"""Which column of a log that nobody described is which: by its name first, then by what it holds.

The rules are these, and each choice says which of them made it:

1. told: what the person says wins.
2. by its name: the whole name is one of `up_names.WORDS` (English, German, French, Spanish); then a part of it is
   (`kunden_nr`); then it holds one of `up_names.STEMS` (`Kundennummer`). It must also hold what it is taken for (`fits`).
3. by what it holds: times; a few values of which one means a search; ids, those of the table of items first; free text that
   is not the same for all events of an item is a query, and text that is, is the item's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from corsar.api.up_names import CATEGORIES, RULES, SHOWN, WORDS, is_search, plain_name, surest
from corsar.errors import ConfigError, DataError
from corsar.sources.times import form_of

SAMPLE = 20_000  # rows that are looked at
FEW = 30  # kinds of events, at most


NEEDED = ("user_id", "item_id")


@dataclass
class Reading:
    """What the columns of a file are taken for."""

    file: str
    columns: dict[str, str] = field(default_factory=dict)  # corsar's name -> the file's
    why: dict[str, str] = field(default_factory=dict)
    clock: str | None = None  # a column with the hours of a day, beside one with the day
    time: dict[str, str] = field(default_factory=dict)  # unit, or format: as [time] of a column map
    kinds: dict[str, str] = field(default_factory=dict)  # what `kind` holds -> feed, search or checkin
    shown: list[str] = field(default_factory=list)  # kinds of what was shown and not taken
    categories: list[str] = field(default_factory=list)  # of items, where the events hold them

    def take(self, role: str, column: str, why: str) -> None:
        """Take a column for this."""
        self.columns[role], self.why[role] = column, why


def read_columns(file: str, df: pl.DataFrame, told: Mapping[str, str], known: Mapping[str, pl.Series]) -> Reading:
    """What the columns of these events are.

    Args:
        told: corsar's name -> the file's, as a person says it; "" for a column that is not there.
        known: ids that are known from elsewhere: `item_id` of the table of items.

    Raises:
        ConfigError: a told column is not there.
        DataError: no column can hold the users, or the items.
    """
    df = df.head(SAMPLE)
    reading = Reading(file)
    for role, column in told.items():
        if role not in WORDS:
            raise ConfigError(f"there is no column {role!r} of corsar's; there are {', '.join(WORDS)}")
        if column and column not in df.columns:
            raise ConfigError(f"{file} has no column {column!r}; it has {', '.join(df.columns)}")
        if column:
            reading.take(role, column, "as told")
    free = _Free(df, reading, {role for role, column in told.items() if not column})
    for rule in RULES:
        for role in WORDS:
            found = [column for column in free.columns() if rule(role, column)] if free.wants(role) else []
            for column in sorted(found, key=lambda column: surest(role, column)):
                if free.wants(role) and fits(role, df[column]):
                    reading.take(role, column, "by its name")
    _by_content(df, free, reading, known)
    missing = [role for role in NEEDED if role not in reading.columns]
    if missing:
        raise DataError(
            f"{file}: no column for {missing[0]} was found among {', '.join(df.columns)}; say it as in --column "
            f"{missing[0]}=NAME"
        )
    _times(df, free, reading)
    if "kind" in reading.columns:
        _kinds(df, reading)
    _items(df, free, reading)
    return reading


class _Free:
    """Columns that are not taken yet, and what is still looked for."""

    def __init__(self, df: pl.DataFrame, reading: Reading, absent: set[str]) -> None:
        self._df, self._reading, self._absent = df, reading, absent

    def columns(self) -> list[str]:
        taken = {*self._reading.columns.values(), self._reading.clock, *self._reading.categories}
        return [name for name in self._df.columns if name not in taken and self._df[name].null_count() < self._df.height]

    def wants(self, role: str) -> bool:
        return role not in self._reading.columns and role not in self._absent


def fits(role: str, values: pl.Series) -> bool:
    """Whether the column can hold it at all."""
    values = values.drop_nulls()
    if values.dtype.is_nested():
        return role == "text"
    if role in ("lat_deg", "lon_deg"):
        numbers = degrees(values)
        return numbers.null_count() == 0 and bool(numbers.abs().max() <= (90 if role == "lat_deg" else 180))  # type: ignore[operator]
    if role == "time_ms":
        return time_of(values, by_name=True) is not None
    if role == "split":
        return set(values.cast(pl.String).unique()) <= {"train", "valid", "test"}
    if role == "label":
        return set(values.cast(pl.String).str.to_lowercase().unique()) <= {"0", "1", "true", "false"}
    if role == "kind":
        return values.n_unique() <= FEW and not values.dtype.is_float()
    if role in ("query", "text"):
        return values.dtype == pl.String and 2 * values.cast(pl.Float64, strict=False).null_count() > len(values)
    return values.n_unique() > 1 and not _is_fraction(values) and (role == "session_id" or values.n_unique() < len(values))


def _by_content(df: pl.DataFrame, free: _Free, reading: Reading, known: Mapping[str, pl.Series]) -> None:
    why = "by what it holds"
    if free.wants("time_ms"):
        for column in free.columns():
            if time_of(df[column].drop_nulls(), by_name=False) is not None:
                reading.take("time_ms", column, why)
                break
    if free.wants("kind"):
        for column in free.columns():
            values = df[column].drop_nulls()
            if values.dtype == pl.String and values.n_unique() <= FEW and any(map(is_search, values.unique())):
                reading.take("kind", column, why)
                break
    for role, ids in known.items():
        if free.wants(role):
            shares = {column: df[column].drop_nulls().cast(pl.String).is_in(ids.cast(pl.String).implode()).mean() or 0.0
                      for column in free.columns() if not df[column].dtype.is_nested()}  # fmt: skip
            if shares and max(shares.values()) > 0.5:  # type: ignore[operator]
                reading.take(role, max(shares, key=lambda name: shares[name]), why)
    if free.wants("user_id") and "session_id" in reading.columns:
        reading.take("user_id", reading.columns.pop("session_id"), "a session stands for a user, whom no column names")
    for role in NEEDED:
        for column in free.columns() if free.wants(role) else []:
            if fits(role, df[column]) and not is_prose(df[column]) and df[column].n_unique() > 2:
                reading.take(role, column, why)
                break
    if free.wants("query") and "item_id" in reading.columns:
        for column in free.columns():
            if is_prose(df[column]) and not _is_of_item(df, column, reading.columns["item_id"]):
                reading.take("query", column, why)
                break


def _times(df: pl.DataFrame, free: _Free, reading: Reading) -> None:
    """What the times are written in; hours in a column of their own are added to a day."""
    if "time_ms" not in reading.columns:
        return
    values = df[reading.columns["time_ms"]].drop_nulls()
    if values.dtype == pl.String and not values.str.contains(":").any():
        for column in free.columns():
            texts = df[column].drop_nulls()
            if texts.dtype == pl.String and texts.str.contains(r"^\d\d?:\d\d(:\d\d)?$").all():
                reading.clock = column
                both = df.select(one=pl.concat_str(reading.columns["time_ms"], column, separator=" "))["one"]
                values = both.drop_nulls()
                break
    reading.time = time_of(values, by_name=True) or {}


def time_of(values: pl.Series, *, by_name: bool) -> dict[str, str] | None:
    """How times are written, as [time] of a column map says it; None where these are none.

    Args:
        by_name: whole numbers that are no times of our days are positions, for the column is called so.
    """
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        return {"unit": "iso"}
    if not len(values) or values.dtype.is_nested() or values.dtype == pl.Boolean:
        return None
    numbers = values.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        for unit, low, high in (("s", 5e8, 5e9), ("ms", 5e11, 5e12), ("us", 5e14, 5e15)):  # from 1985 on
            if numbers.is_between(low, high).all():
                return {"unit": unit}
        return {"unit": "ordinal"} if by_name and (numbers == numbers.floor()).all() else None
    if values.dtype != pl.String:
        return None
    texts = clean_times(values)
    if texts.str.contains(r"^\d{4}-\d\d-\d\d").all():
        return {"unit": "iso"}
    forms = dict.fromkeys(form_of(text) for text in texts.unique(maintain_order=True).head(200))
    for form in sorted(forms, key=lambda form: not form.startswith("%m")):  # a day over 12 says which comes first
        try:
            if texts.str.to_datetime(form, strict=False).null_count() == 0:
                return {"format": form}
        except pl.exceptions.ComputeError:
            continue
    return None


def clean_times(values: pl.Series) -> pl.Series:
    """The times without words and commas around the hour."""
    return values.str.strip_chars().str.replace(r"\s*Uhr$", "").str.replace(r",\s*", " ")


def degrees(values: pl.Series) -> pl.Series:
    """The numbers, written with a comma or a point."""
    return values.str.replace(",", ".").cast(pl.Float64, strict=False) if values.dtype == pl.String else values.cast(pl.Float64)


def _kinds(df: pl.DataFrame, reading: Reading) -> None:
    places = {"lat_deg", "lon_deg"} <= reading.columns.keys()
    for value in df[reading.columns["kind"]].drop_nulls().cast(pl.String).str.strip_chars().unique(maintain_order=True):
        reading.kinds[value] = "search" if is_search(value) else "checkin" if places else "feed"
        if any(word in value.lower() for word in SHOWN):
            reading.shown.append(value)
    if len(reading.shown) == len(reading.kinds):
        reading.shown = []  # nothing else happened in this log


def _items(df: pl.DataFrame, free: _Free, reading: Reading) -> None:
    """Text and categories of items that stand in the events themselves."""
    item = reading.columns["item_id"]
    if "text" in reading.columns and not _is_of_item(df, reading.columns["text"], item):
        del reading.columns["text"], reading.why["text"]
    if free.wants("text"):
        for column in free.columns():
            if is_prose(df[column]) and _is_of_item(df, column, item):
                reading.take("text", column, "by what it holds")
                break
    for column in free.columns():
        is_named = any(part in plain_name(column) for part in CATEGORIES)
        if is_named and not df[column].dtype.is_nested() and _is_of_item(df, column, item):
            reading.categories.append(column)


def _letters(values: pl.Series) -> float:
    """Share of the texts that hold letters."""
    return float(values.str.contains(r"\p{L}{2}").mean() or 0.0) if len(values) else 0.0  # type: ignore[arg-type]


def is_prose(values: pl.Series) -> bool:
    """Whether it holds texts of several words."""
    values = values.drop_nulls()
    if values.dtype != pl.String or not len(values):
        return False
    values = values.filter(values.str.strip_chars() != "")
    return _letters(values) > 0.9 and float(values.str.contains(r"\p{L} +\S").mean() or 0.0) > 0.1  # type: ignore[arg-type]


def _is_fraction(values: pl.Series) -> bool:
    return values.dtype.is_float() and not bool((values == values.floor()).all())


def _is_of_item(df: pl.DataFrame, column: str, item: str) -> bool:
    """Whether nearly all items have one value of it, in all their events."""
    told = df.select(item=item, value=column).drop_nulls().group_by("item").agg(pl.col("value").n_unique(), rows=pl.len())
    told = told.filter(pl.col("rows") > 1)
    return bool(told.height) and float((told["value"] == 1).mean() or 0.0) >= 0.95  # type: ignore[arg-type]
