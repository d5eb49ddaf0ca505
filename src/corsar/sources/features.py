"""Features of items or users: one row an id, read some megabytes at a time and kept on disk in parts of the ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from corsar.errors import DataError
from corsar.sources.filters import Tally
from corsar.spool import Spool, cuts, deal
from corsar.vocab import Vocab

_USUAL = r"^\[(?:\d+(?:, \d+)*)?\]$"


def whole(name: str) -> pl.Expr:
    """A column of numbers, written as 12, 12.0 or 1.2e1, as Int64; null where it is none."""
    return pl.col(name).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)


def listed(lists: pl.Series) -> pl.Series:
    """Lists written as "[20, 34]" as texts like "20 34"; null where a list is empty."""
    if lists.str.contains(_USUAL).all():
        texts = lists.str.strip_chars("[]").str.replace_all(", ", " ", literal=True)
    else:
        texts = lists.str.replace_all(r"[\[\],\s]+", " ").str.strip_chars()
    return texts.replace("", None)


class Features:
    """One row an id: the first one; texts of lists, other columns as whole numbers where they are such."""

    def __init__(self, table: str, key: str, folder: Path, then: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """None yet; they are kept in `folder`, and `then` is what becomes of a part of them when it is read."""
        self.tally = Tally(table)
        self._key, self._rough, self._then = key, Spool(folder, 1), then
        self._no_numbers: Counter[str] = Counter()  # values of each column that are no whole numbers
        self._names: list[str] = []

    def read(self, blocks: Iterator[pl.DataFrame], types: tuple[str, ...] = ()) -> None:
        """Keep the rows with an id, of these types where some are given."""
        seen: Counter[str] = Counter()
        for block in blocks:
            self._names = [name for name in block.columns if name not in (self._key, "caption", "item_type")]
            columns = {"caption": listed(block["caption"])} if "caption" in block.columns else {}
            frame = block.with_columns(**columns, **{self._key: whole(self._key)})
            self.tally.read += len(frame)
            rules = [(pl.col(self._key).is_null(), f"no readable {self._key}")]
            if types:
                seen.update(dict(frame["item_type"].drop_nulls().value_counts().iter_rows()))
                other = ~pl.col("item_type").is_in(types).fill_null(False)
                rules.append((other, f"not {' or '.join(types)} (item_types)"))
            frame = self.tally.reject(frame, rules).drop("item_type", strict=False)
            for name in self._names:
                is_none = pl.col(name).is_not_null() & whole(name).is_null()
                self._no_numbers[name] += frame.select(is_none.sum()).item()
            self._rough.append(frame)
        lost = [name for name in types if not seen[name]]
        if lost:
            there = ", ".join(sorted(seen)) or "none"
            raise DataError(f"no item is of the type '{lost[0]}'; those that are there: {there}")

    def ids(self) -> pl.Series:
        """The distinct ids, sorted."""
        return pl.concat([frame[self._key] for frame in self._rough.frames()]).unique().sort()

    def dealt(self, folder: Path, part_rows: int, kept: Vocab | None) -> Spool:
        """The rows in parts of the ids, of those ids alone that are kept where told; repeated ones are counted."""
        ids, rows = self.ids(), 0
        if kept is not None:
            ids = ids.filter(pl.Series(kept.rows(ids, missing="pad") > 0))
        firsts = cuts(ids, pl.repeat(1, len(ids), dtype=pl.Int64, eager=True), part_rows)
        spool = Spool(folder, len(firsts) + 1, self._once)
        for frame in self._rough.frames():
            if kept is not None:
                frame = frame.with_columns(_out=pl.Series(kept.rows(frame[self._key], missing="pad") == 0))
                frame = self.tally.reject(frame, [(pl.col("_out"), "too few clicks (min_events, k_core)")]).drop("_out")
            rows += len(frame)
            deal(frame, self._key, firsts, spool)
        self.tally.rejected[f"{self._key} was there before"] += rows - len(ids)
        self._rough.remove()
        return spool

    def _once(self, frame: pl.DataFrame) -> pl.DataFrame:
        numbers = {name: whole(name) for name in self._names if not self._no_numbers[name]}
        once = frame.unique(self._key, keep="first", maintain_order=True).with_columns(**numbers)
        return self._then(once.rename({"caption": "text"}, strict=False))
