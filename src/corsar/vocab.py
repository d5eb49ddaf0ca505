"""External id <-> row. Row 0 is padding and stands for unknown ids; ids keep their type, Int64 or String."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from corsar.errors import DataError, writing

Rows = np.ndarray[Any, np.dtype[np.int64]]
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


class Vocab:
    """Ids in a fixed order; the first id is row 1. `len` is the number of ids, without the padding row."""

    def __init__(self, ids: Ids) -> None:
        series = _series(ids).rename("id")
        if series.null_count():
            raise DataError(f"{series.null_count()} ids of a vocabulary are null; drop those rows first")
        if series.n_unique() != len(series):
            twice = series.filter(series.is_duplicated())[0]
            raise DataError(f"id {twice!r} stands twice in a vocabulary; keep one row for each id")
        self._ids = series
        self._table = pl.DataFrame({"id": series, "row": np.arange(1, len(series) + 1)})

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dtype(self) -> pl.DataType:
        """Type of the ids: Int64 or String."""
        return self._ids.dtype

    def rows(self, ids: Ids, *, missing: Literal["raise", "pad"] = "raise") -> Rows:
        """Rows of the ids, [n] int64; unknown ids raise or become row 0. Null is an unknown id.

        Ids of the other type are read as this one ("12" is 12), so that ids from a command line find their row.
        """
        given = _series(ids)
        asked = pl.DataFrame({"id": given.cast(self.dtype, strict=False)})
        rows = asked.join(self._table, on="id", how="left", maintain_order="left")["row"].fill_null(0)
        if missing == "raise" and (unknown := given.filter(rows == 0)).len():
            some = ", ".join(repr(one) for one in unknown.unique(maintain_order=True).head(3).to_list())
            raise DataError(f"ids unknown: {unknown.len()} ({some}); prepare the dataset with them, or leave them out")
        return rows.to_numpy(writable=True)

    def ids(self, rows: Rows | Iterable[int]) -> pl.Series:
        """Ids of the rows, in the type they came in; row 0 gives null."""
        at = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), dtype=np.int64)
        if len(at) and (at.min() < 0 or at.max() > len(self)):
            raise DataError(f"rows must lie in 0 … {len(self)}; use rows of this vocabulary")
        if not len(self):
            return pl.Series("id", [None] * len(at), dtype=self.dtype)
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
