"""Parquet and delimited text files as lazy frames, with errors that a person can act on."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import polars as pl

from corsar.errors import DataError

SEPARATORS = (",", "\t", ";", "|")


class Scan(NamedTuple):
    """A file not yet read, and what its columns are called. Columns of a text file are all String."""

    file: str
    frame: pl.LazyFrame
    columns: list[str]

    def read(self, frame: pl.LazyFrame | None = None) -> pl.DataFrame:
        """The file's rows, or those of a `frame` made from it, read part by part."""
        try:
            return (self.frame if frame is None else frame).collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{self.file}: not readable ({_first_line(error)}); check the file.") from error


def scan_file(path: str | Path) -> Scan:
    """The file, opened by its ending: .parquet, or else text with a header line and any usual separator (.gz too).

    Raises:
        DataError: the file is missing, empty, or not what its ending says.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; check the path.")
    try:
        if path.suffix in (".parquet", ".pq"):
            frame = pl.scan_parquet(path)
        else:
            frame = pl.scan_csv(path, separator=_separator(path), infer_schema=False)
        return Scan(path.name, frame, frame.collect_schema().names())
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"{path.name}: not readable as {path.suffix.lstrip('.') or 'text'} ({_first_line(error)}); "
            "give Parquet, or UTF-8 text with a header line."
        ) from error


def _separator(path: Path) -> str:
    """The separator that the header line holds most often."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        header = file.readline(1_000_000).decode("utf-8")
    return max(SEPARATORS, key=header.count)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
