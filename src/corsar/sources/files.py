"""Parquet files, delimited text files and frames of polars or pandas as lazy frames, with errors that a person can act on."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import polars as pl

from corsar.errors import CLOSED, ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | pd.DataFrame

# what comes of a broken file; some broken pages of Parquet make polars panic
BROKEN: tuple[type[BaseException], ...] = (
    pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeDecodeError, EOFError, zlib.error, OSError,
)  # fmt: skip
SEPARATORS = (",", "\t", ";", "|")
BLOCK_BYTES = 16 << 20
TRIED = 100  # line ends at which a block of a text file may be cut


class Scan(NamedTuple):
    """A file or frame not yet read, and what its columns are called. Columns of a text file are all String."""

    file: str
    frame: pl.LazyFrame
    columns: list[str]
    is_text: bool = False  # nothing in it has a type yet

    def read(self, frame: pl.LazyFrame | None = None) -> pl.DataFrame:
        """The file's rows, or those of a `frame` made from it, read part by part."""
        try:
            return (self.frame if frame is None else frame).collect(engine="streaming")
        except BROKEN as error:
            raise DataError(f"{self.file}: not readable ({_first_line(error)}); {_remedy(error)}.") from error


def open_table(given: str | Path | Frame, name: str) -> Scan:
    """The file at a path, or a frame of polars or pandas, which messages call by `name`."""
    if isinstance(given, str | Path):
        return scan_file(given)
    frame = as_polars(given, name)
    return Scan(name, frame, frame.collect_schema().names())


def is_pandas(thing: Any) -> bool:
    """Whether it is an object of pandas, which need not be installed."""
    return type(thing).__module__.partition(".")[0] == "pandas"


def as_polars(frame: Frame, name: str) -> pl.LazyFrame:
    """A frame of polars or pandas as a lazy one of polars.

    Raises:
        DataError: it is no such frame, or a column of it holds values of several types.
    """
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return frame.lazy()
    if not is_pandas(frame) or not hasattr(frame, "columns"):
        raise DataError(f"{name} is a {type(frame).__name__}; give a frame of polars or pandas.")
    try:
        return pl.from_pandas(frame).lazy()
    except ModuleNotFoundError as error:
        raise ConfigError(f"frames of pandas need {error.name}; install it with: pip install 'corsar[pandas]'") from None
    except Exception as error:
        if not isinstance(error, TypeError | ValueError) and type(error).__module__.partition(".")[0] != "pyarrow":
            raise
        raise DataError(
            f"{name}: a column holds values of several types ({_first_line(error)}); give each column one type."
        ) from None


def scan_file(path: str | Path) -> Scan:
    """The file, opened by its ending: .parquet, .jsonl, or else text with a header line and any usual separator (.gz too).

    Raises:
        DataError: the file is missing, empty, or not what its ending says.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: this is a directory; name a file in it.")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; check the path.")
    try:
        is_text = path.suffix not in (".parquet", ".pq", ".jsonl", ".ndjson")
        if is_text:
            frame = pl.scan_csv(path, separator=_separator(path), infer_schema=False)
        elif path.suffix in (".jsonl", ".ndjson"):
            frame = pl.scan_ndjson(path, infer_schema_length=None)
        else:
            frame = pl.scan_parquet(path)
        return Scan(path.name, frame, frame.collect_schema().names(), is_text)
    except BROKEN as error:
        raise DataError(
            f"{path.name}: not readable as {path.suffix.lstrip('.') or 'text'} ({_first_line(error)}); {_remedy(error)}."
        ) from error


def read_blocks(path: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    """Rows of a delimited text file with a header line, all String, so many at a time as some megabytes hold.

    The file is not mapped into memory, so that its size does not count as memory of the process.
    """
    separator = _separator(path)
    try:
        with path.open("rb") as file:
            header, rest, is_first = file.readline(), b"", True
            while True:
                read = file.read(BLOCK_BYTES)
                block = rest + read
                cut = _cut(block) if read else len(block)
                rest = block[cut:]
                if cut or is_first:
                    data = header + memoryview(block)[:cut]
                    yield pl.read_csv(data, separator=separator, infer_schema=False, columns=columns)
                    is_first = False
                if not read:
                    return
    except BROKEN as error:
        raise DataError(f"{path.name}: not readable ({_first_line(error)}); {_remedy(error)}.") from error


def ahead(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same frames, the next one made by another thread while one is worked with."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = pool.submit(next, frames, None)
            yield frame


def _cut(block: bytes) -> int:
    """Where the last line of the block ends that is no part of a quoted field."""
    last = end = block.rfind(b"\n") + 1
    quotes = block.count(b'"', 0, end)
    for _ in range(TRIED):
        if not end or quotes % 2 == 0:
            return end
        before = block.rfind(b"\n", 0, end - 1) + 1
        quotes -= block.count(b'"', before, end)
        end = before
    return last  # a quote that stands alone in a field


def _separator(path: Path) -> str:
    """The separator that the header line holds most often."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        header = file.readline(1_000_000).decode("utf-8")
    return max(SEPARATORS, key=header.count)


def _remedy(error: BaseException) -> str:
    if (isinstance(error, OSError) and error.errno in CLOSED) or "permission denied" in str(error).lower():
        return "see that you may read it"
    return "give whole Parquet, or UTF-8 text with a header line (Latin-1 becomes it by: iconv -f latin1 -t utf-8)"


def _first_line(error: BaseException) -> str:
    if isinstance(error, pl.exceptions.PanicException):
        return "a part of it is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()  # without the path, which stands before it
    told = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return re.sub(r" \(os error \d+\).*", "", told)
