"""What a person may leave out of a log: days, types of items, and users and items of few clicks; each is counted by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corsar.errors import DataError
from corsar.spool import Spool
from corsar.vocab import Rows, Vocab

Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Filters:
    """What is left out; the defaults leave out nothing."""

    from_day: date | None = None  # the first day of the log's clock that is kept
    to_day: date | None = None  # the last one
    item_types: tuple[str, ...] = ()  # types of items that are kept
    search_types: tuple[str, ...] = ()  # types of search results whose clicks count
    min_events: int = 0  # users with fewer clicks are left out
    k_core: int = 0  # users and items with fewer clicks among each other are left out

    @property
    def counts_clicks(self) -> bool:
        """Whether all of the log must be read before it is known what stays."""
        return self.min_events > 0 or self.k_core > 0

    def days_ms(self, offset_min: int) -> tuple[int | None, int | None]:
        """Where the days begin and end, in UTC milliseconds; the end is the first moment that is out.

        Raises:
            DataError: the last day is before the first.
        """
        if self.from_day and self.to_day and self.to_day < self.from_day:
            raise DataError(f"the days {self.from_day} to {self.to_day} hold nothing; give the earlier one first")

        def start(day: date) -> int:
            midnight = datetime(day.year, day.month, day.day, tzinfo=timezone(timedelta(minutes=offset_min)))
            return round(midnight.timestamp() * 1000)

        return (
            None if self.from_day is None else start(self.from_day),
            None if self.to_day is None else start(self.to_day + timedelta(days=1)),
        )


@dataclass
class Tally:
    """The rows of one table: how many were read, and what became of those that are not kept."""

    table: str
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        """Rows that are left."""
        return self.read - self.rejected.total()

    def reject(self, frame: pl.DataFrame, rules: list[tuple[pl.Expr, str]]) -> pl.DataFrame:
        """The rows that no rule speaks against; the others are counted under the first that does."""
        reasons = pl.Enum([reason for _, reason in rules])
        why: Any = pl.lit(None, reasons)
        for rule, reason in reversed(rules):
            why = pl.when(rule).then(pl.lit(reason, reasons)).otherwise(why)
        frame = frame.with_columns(_why=why)
        for reason, rows in frame["_why"].drop_nulls().value_counts().sort("_why").iter_rows():
            self.rejected[reason] += rows
        return frame.filter(pl.col("_why").is_null()).drop("_why")

    def unclick(self, frame: pl.DataFrame, rule: pl.Expr, reason: str) -> pl.DataFrame:
        """The rows with label 0 where the rule says so: what was clicked there is no click, and the search stays."""
        hit = rule & (pl.col("label") == 1)
        self.notes[reason] += frame.select(hit.sum()).item()
        return frame.with_columns(label=pl.when(hit).then(pl.lit(0, pl.Int8)).otherwise("label"))

    def lines(self) -> list[dict[str, Any]]:
        """The table's part of the funnel."""
        told = [("read", self.read, "")]
        told += [("rejected", rows, reason) for reason, rows in self.rejected.most_common() if rows]
        told += [("note", rows, reason) for reason, rows in self.notes.items() if rows]
        told += [("kept", self.kept, "")]
        return [{"table": self.table, "stage": stage, "rows": rows, "reason": reason} for stage, rows, reason in told]


class Core:
    """The users and items that have enough clicks; a click is a row of label 1, and clicks on one item again count again.

    In memory lie one number for each user and item, the clicks themselves on disk.
    """

    def __init__(self, events: Spool, filters: Filters, folder: Path) -> None:
        """Found in all events of the first part of the spool; `folder` is made for the clicks."""
        self._filters = filters
        users, items = self._distinct(events, "user_id"), self._distinct(events, "item_id")
        pairs = Spool(folder, 1)
        for frame in events.frames():
            clicked = frame.filter(pl.col("label") == 1)
            pairs.append(pl.DataFrame({"user": users.rows(clicked["user_id"]), "item": items.rows(clicked["item_id"])}))
        is_user, is_item = np.ones(len(users) + 1, dtype=bool), np.ones(len(items) + 1, dtype=bool)
        if filters.min_events:
            is_user = self._counts(pairs, is_user, is_item)[0] >= filters.min_events
        self.frequent = _ids(users, is_user)  # users who pass min_events
        while filters.k_core:
            num_user, num_item = self._counts(pairs, is_user, is_item)
            stay_user, stay_item = is_user & (num_user >= filters.k_core), is_item & (num_item >= filters.k_core)
            if stay_user.sum() == is_user.sum() and stay_item.sum() == is_item.sum():
                break
            is_user, is_item = stay_user, stay_item
        self.users = _ids(users, is_user)
        self.items = _ids(items, is_item) if filters.k_core else None
        pairs.remove()

    @staticmethod
    def _distinct(events: Spool, key: str) -> Vocab:
        ids: pl.Series | None = None
        for frame in events.frames():
            here = frame.filter(pl.col("label") == 1)[key].unique()
            ids = here if ids is None else pl.concat([ids, here]).unique()
        assert ids is not None
        return Vocab(ids.sort())

    @staticmethod
    def _counts(pairs: Spool, is_user: Bools, is_item: Bools) -> tuple[Rows, Rows]:
        num_user, num_item = np.zeros(len(is_user), dtype=np.int64), np.zeros(len(is_item), dtype=np.int64)
        for frame in pairs.frames():
            user, item = frame["user"].to_numpy(), frame["item"].to_numpy()
            inside = is_user[user] & is_item[item]
            num_user += np.bincount(user[inside], minlength=len(num_user))
            num_item += np.bincount(item[inside], minlength=len(num_item))
        return num_user, num_item

    def apply(self, frame: pl.DataFrame, tally: Tally) -> pl.DataFrame:
        """The events that stay: those of users in it, and of these no click on an item out of it."""
        k_core, few = self._filters.k_core, f"user with fewer than {self._filters.min_events} clicks (min_events)"
        out = f"user out of the {k_core}-core (k_core)"
        frame = frame.with_columns(_few=~_has(self.frequent, frame["user_id"]), _out=~_has(self.users, frame["user_id"]))
        frame = tally.reject(frame, [(pl.col("_few"), few), (pl.col("_out"), out)]).drop("_few", "_out")
        if self.items is None:
            return frame
        frame = frame.with_columns(_out=~_has(self.items, frame["item_id"]))
        is_search = pl.col("kind") == "search"
        frame = tally.unclick(
            frame, is_search & pl.col("_out"), f"click on an item out of the {k_core}-core (k_core); its search stays"
        )
        rule = ~is_search & pl.col("_out")
        return tally.reject(frame, [(rule, f"item out of the {k_core}-core (k_core)")]).drop("_out")


def _ids(vocab: Vocab, is_in: Bools) -> Vocab:
    return Vocab(vocab.ids(np.flatnonzero(is_in[1:]) + 1))


def _has(vocab: Vocab, ids: pl.Series) -> pl.Series:
    return pl.Series(vocab.rows(ids, missing="pad") > 0)
