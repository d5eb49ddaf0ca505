"""Frames on disk, in parts: what is worked through part by part need not fit into memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl

from corsar.schema import Clock

PART_ROWS = 500_000  # rows of a part, about: they and what is made of them lie in memory at a time


def _same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


@dataclass(frozen=True)
class PartedTables:
    """Canonical tables as `schema.Tables` holds them, those of events and items in parts, which may lie on disk."""

    events: Sequence[pl.DataFrame]  # all events of a user are in one part; users ascend from part to part
    items: Sequence[pl.DataFrame] | None  # ids ascend from part to part
    users: pl.DataFrame | None
    clock: Clock
    funnel: list[dict[str, Any]]
    source: str
    derived: str | None
    categories: tuple[str, ...]
    attributes: tuple[str, ...]


class Spool(Sequence[pl.DataFrame]):
    """Parts, each a file to which frames are appended; a part is read as one frame of them all, in the order they came."""

    def __init__(self, folder: Path, num_parts: int, then: Callable[[pl.DataFrame], pl.DataFrame] = _same) -> None:
        """An empty spool in `folder`, which is made; `then` is what becomes of a part when it is read."""
        folder.mkdir(parents=True)
        self._folder, self._then = folder, then
        self._bytes: list[list[int]] = [[] for _ in range(num_parts)]

    def __len__(self) -> int:
        return len(self._bytes)

    def append(self, frame: pl.DataFrame, part: int = 0) -> None:
        """Put the rows of `frame` behind those of the part; columns may differ from frame to frame."""
        written = io.BytesIO()
        frame.write_ipc_stream(written)
        with self._file(part).open("ab") as file:
            file.write(written.getbuffer())
        self._bytes[part].append(written.tell())

    def frames(self, part: int = 0) -> Iterator[pl.DataFrame]:
        """The frames of a part as they were appended, one at a time."""
        if self._bytes[part]:
            with self._file(part).open("rb") as file:
                for size in self._bytes[part]:
                    yield pl.read_ipc_stream(io.BytesIO(file.read(size)))

    @overload
    def __getitem__(self, part: int) -> pl.DataFrame: ...
    @overload
    def __getitem__(self, part: slice) -> list[pl.DataFrame]: ...
    def __getitem__(self, part: int | slice) -> pl.DataFrame | list[pl.DataFrame]:
        if isinstance(part, slice):
            return [self[one] for one in range(len(self))[part]]
        if not 0 <= part < len(self):
            raise IndexError(part)
        return self._then(pl.concat(list(self.frames(part)), how="diagonal"))

    def remove(self) -> None:
        """Take the files away."""
        for part in range(len(self)):
            self._file(part).unlink(missing_ok=True)
        self._folder.rmdir()

    def _file(self, part: int) -> Path:
        return self._folder / f"{part}.ipcs"


def cuts(ids: pl.Series, rows: pl.Series, most: int) -> pl.Series:
    """The first ids of all parts but the first, so that parts have about `most` rows; an id is in one part.

    Args:
        ids: distinct ids, sorted.
        rows: how many rows each has.
    """
    part = np.cumsum(rows.to_numpy(), dtype=np.int64) // most
    at = np.flatnonzero(np.diff(part, prepend=0)) if len(part) else np.zeros(0, dtype=np.int64)
    return ids.gather(at[at > 0])


def deal(frame: pl.DataFrame, key: str, firsts: pl.Series, spool: Spool) -> None:
    """Append each row of the frame to the part of the spool that its id belongs to; an empty frame goes to the first."""
    if len(spool) == 1 or frame.is_empty():
        spool.append(frame)
        return
    frame = frame.with_columns(_part=firsts.search_sorted(frame[key], side="right"))
    for (number,), rows in frame.partition_by("_part", as_dict=True, include_key=False).items():
        spool.append(rows, int(number))
