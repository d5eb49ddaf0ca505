"""External id <-> row. Row 0 is padding and stands for unknown ids; ids keep their type, Int64 or String."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from corsar.errors import DataError, writing

Rows = np.ndarray[Any, np.dtype[np.int64]]
FEW = 64  # ids in a list that are looked up one by one, without the costs of a table
_NUMBER = re.compile(r"-?[0-9]{1,18}")
Ids = pl.Series | np.ndarray[Any, Any] | Iterable[int | str]


def _series(ids: Ids) -> pl.Series:
    """Ids as a Series of Int64 or String."""
    series = ids if isinstance(ids, pl.Series) else pl.Series(ids if isinstance(ids, np.ndarray) else list(ids))
    if series.dtype.is_integer():
        return series.cast(pl.Int64)
    if series.dtype == pl.Null:
        return series.cast(pl.String)
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        return series.cast(pl.String)
    raise DataError(f"ids must be integers or strings, not {series.dtype}; cast the id column first")


def _ascend(ids: pl.Series) -> bool:
    """Whether the ids are numbers, each larger than the one before."""
    return ids.dtype == pl.Int64 and ids.is_sorted() and not (ids.slice(1) == ids.slice(0, max(0, len(ids) - 1))).any()


def _bisect(ids: Rows, asked: pl.Series) -> Rows:
    """Row of each id asked for among the ascending ids, 0 where it is not there or null."""
    wanted = asked.fill_null(0).to_numpy()
    order = np.argsort(wanted)  # neighbours among the wanted are then neighbours in memory
    at = np.empty(len(wanted), dtype=np.int64)
    at[order] = np.searchsorted(ids, wanted[order])
    found = np.zeros(len(wanted), dtype=bool)
    inside = at < len(ids)
    found[inside] = ids[at[inside]] == wanted[inside]
    rows: Rows = np.where(found & asked.is_not_null().to_numpy(), at + 1, 0)
    return rows


class Vocab:
    """Ids in a fixed order; the first id is row 1. `len` is the number of ids, without the padding row."""

    def __init__(self, ids: Ids) -> None:
        series = _series(ids).rename("id")
        if series.null_count():
            raise DataError(f"{series.null_count()} ids of a vocabulary are null; drop those rows first")
        self._ids = series
        # sorted numbers are found by bisection and need no table, which for millions of ids is larger than they are
        self._sorted = series.to_numpy() if _ascend(series) else None
        if self._sorted is None and series.n_unique() != len(series):
            twice = series.filter(series.is_duplicated())[0]
            raise DataError(f"id {twice!r} stands twice in a vocabulary; keep one row for each id")

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def _table(self) -> pl.DataFrame:
        return pl.DataFrame({"id": self._ids, "row": np.arange(1, len(self._ids) + 1)})

    @property
    def dtype(self) -> pl.DataType:
        """Type of the ids: Int64 or String."""
        return self._ids.dtype

    def rows(self, ids: Ids, *, missing: Literal["raise", "pad"] = "raise") -> Rows:
        """Rows of the ids, [n] int64; unknown ids raise or become row 0. Null is an unknown id.

        Ids of the other type are read as this one ("12" is 12), so that ids from a command line find their row.
        """
        few = self._few(ids)
        if few is not None and (missing == "pad" or few.all()):
            return few
        given = _series(ids)
        asked = given.cast(self.dtype, strict=False)
        rows = self._found(asked) if self._sorted is None else _bisect(self._sorted, asked)
        if missing == "raise" and (unknown := given.filter(pl.Series(rows) == 0)).len():
            some = ", ".join(repr(one) for one in unknown.unique(maintain_order=True).head(3).to_list())
            raise DataError(f"ids unknown: {unknown.len()} ({some}); prepare the dataset with them, or leave them out")
        return rows

    def _found(self, asked: pl.Series) -> Rows:
        frame = asked.rename("id").to_frame()
        rows = frame.join(self._table, on="id", how="left", maintain_order="left")["row"].fill_null(0)
        return rows.to_numpy(writable=True)

    def _few(self, ids: Ids) -> Rows | None:
        """Rows of a few ids of one type, each looked up by itself; None where there are more, or others."""
        if not isinstance(ids, list) or len(ids) > FEW or len({type(one) for one in ids} - {type(None)}) > 1:
            return None
        kind = int if self.dtype == pl.Int64 else str
        rows = np.zeros(len(ids), dtype=np.int64)
        for at, one in enumerate(ids):
            if one is None:
                continue
            if type(one) is int and kind is str:
                one = str(one)
            elif type(one) is str and kind is int and _NUMBER.fullmatch(one):
                one = int(one)
            if type(one) is not kind or (isinstance(one, int) and not -(1 << 63) <= one < 1 << 63):
                return None
            rows[at] = self._row(one)
        return rows

    def _row(self, one: int | str) -> int:
        if self._sorted is not None:
            at = int(np.searchsorted(self._sorted, one))
            return at + 1 if at < len(self._sorted) and self._sorted[at] == one else 0
        hashes, rows = self._hashed
        at = int(np.searchsorted(hashes, hash(one)))
        while at < len(hashes) and hashes[at] == hash(one):
            if self._ids[int(rows[at]) - 1] == one:
                return int(rows[at])
            at += 1
        return 0

    @cached_property
    def _hashed(self) -> tuple[Rows, Rows]:
        """Hashes of the ids in ascending order, and the row of each: an eighth of the memory of a dict."""
        hashes = np.fromiter(map(hash, self._ids), dtype=np.int64, count=len(self))
        order = np.argsort(hashes)
        return hashes[order], order + 1

    def ids(self, rows: Rows | Iterable[int]) -> pl.Series:
        """Ids of the rows, in the type they came in; row 0 gives null."""
        at = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), dtype=np.int64)
        if len(at) and (at.min() < 0 or at.max() > len(self)):
            raise DataError(f"rows must lie in 0 … {len(self)}; use rows of this vocabulary")
        if not len(self):
            return pl.Series("id", [None] * len(at), dtype=self.dtype)
        if len(at) <= FEW:
            return pl.Series("id", [self._ids[row - 1] if row else None for row in at.tolist()], dtype=self.dtype)
        found = self._ids.gather(np.maximum(at - 1, 0))
        return pl.DataFrame({"id": found, "real": at > 0}).select(pl.when("real").then("id")).to_series().rename("id")

    def save(self, path: Path) -> None:
        """Write the ids as one Parquet column."""
        beside = path.with_name(f".{path.name}.partial")
        with writing(path, pl.exceptions.PolarsError):
            self._ids.to_frame().write_parquet(beside)
            beside.replace(path)

    @classmethod
    def open(cls, path: Path) -> Vocab:
        """The vocabulary stored at `path`."""
        return cls(pl.read_parquet(path, columns=["id"])["id"])
