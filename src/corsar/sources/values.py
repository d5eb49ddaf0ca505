"""What the texts of a CSV file must be to be read as ids, times, counts, flags and lists; an empty one is no fault."""

from __future__ import annotations

import polars as pl

from corsar.errors import DataError
from corsar.sources.files import Scan
from corsar.sources.findings import Rule, find

EMPTY = ("", "nan", "null", "none", "na", "<na>")
LIST = r"^\s*\[\s*(\d+(\s*,\s*\d+)*)?\s*\]\s*$"
MOST = 2.0**53  # beyond it a number that was once a float is not the number it was
RANGES = {"time": (1e11, 1e14), "seconds": (1e8, 1e11), "flag": (0.0, 2.0)}  # 1973 to 5138, in either unit
UNITS = {"time": "milliseconds: that would have 12 or 13 digits", "seconds": "seconds: that would have 9 or 10 digits"}


def empty(name: str) -> pl.Expr:
    """Whether nothing is told; NaN and the like are nothing."""
    return pl.col(name).is_null() | pl.col(name).str.strip_chars().str.to_lowercase().is_in(EMPTY)


def number(name: str) -> pl.Expr:
    """The number that is written, as 12, 12.0 or 1.2e1; null where it is none."""
    value = pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def doubtful(scan: Scan, kinds: dict[str, str]) -> dict[str, bool]:
    """The columns that hold something else than sound values, and whether all but their nulls are sound; a quick pass."""
    asked = []
    for name, kind in kinds.items():
        value = pl.col(name).cast(pl.Float64, strict=False)
        low, high = RANGES.get(kind, (0, MOST))
        sound = (
            pl.col(name).str.contains(LIST)
            if kind == "list"
            else value.is_between(low, high, closed="left") & (value == value.floor())
        )
        asked += [pl.col(name).null_count().alias(f"{name} nulls"), sound.sum().alias(f"{name} sound")]
    rows, *counts = scan.read(scan.frame.select(pl.len(), *asked)).row(0)
    told = zip(kinds, counts[::2], counts[1::2], strict=True)
    return {name: nulls + sound == rows for name, nulls, sound in told if sound < rows}


def faults(kinds: dict[str, str]) -> list[Rule]:
    """A rule for each way in which a value of the columns can be malformed, by the kind of each column."""
    rules = []
    for name, kind in kinds.items():
        value, told = number(name), ~empty(name)
        header = pl.col(name) == name
        ways: dict[str, pl.Expr] = {"is the name of the column: the header stands in the file twice": header}
        if kind == "list":
            ways["is no list of whole numbers as [20, 34]"] = told & ~header & ~pl.col(name).str.contains(LIST)
        else:
            ways["is no number"] = told & ~header & value.is_null()
            ways["is no whole number"] = value != value.floor()
            ways["is negative"] = value < 0
            if kind in UNITS:
                ways[f"is no time in {UNITS[kind]}"] = (value >= 0) & ~value.is_between(*RANGES[kind], closed="left")
            else:
                ways["is beyond 2^53, where floats skip whole numbers: ids become others"] = value >= MOST
            if kind == "flag":
                ways["is neither 0 nor 1"] = (value > 1) & (value == value.floor()) & (value < MOST)
        rules += [Rule("malformed", name, what, holds) for what, holds in ways.items()]
    return rules


def refuse_values(scan: Scan, kinds: dict[str, str], remedy: str = "correct it, or fetch the file again") -> None:
    """Nothing, where every value of the columns is sound or empty, and most are sound.

    Raises:
        DataError: naming file, column, line and value of the first that is not.
    """
    doubts = [column for column, is_sound in doubtful(scan, kinds).items() if not is_sound]
    for one in find(scan, faults({column: kinds[column] for column in doubts})):
        raise DataError(f"{one.sentence()}; {remedy}.")
