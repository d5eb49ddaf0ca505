"""What an audit finds: kinds of leaks, how often each is there, and the first rows with the ids that a person knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.batch import Task
from corsar.data.store import Cases, Dataset, Split
from corsar.vocab import Rows

SHOWN = 3  # offending rows of a finding
AllCases = dict[tuple[Split, Task], Cases]
CHECKS = {
    "history order": "entries of a user that stand before earlier ones",
    "merged order": "entries whose place among those of the other kind contradicts the times",
    "other user": "cases whose history is not a stretch of their own user's",
    "future feed": "cases with a feed event at or after their time in their history",
    "future search": "cases with a search at or after their time in their history",
    "no event": "cases that no event stands for, at that time with that item, or that stand in two parts",
    "own event": "cases whose own event is in their history",
    "train after held-out": "training cases after a valid or test case of their user",
    "test before valid": "test cases before a valid case of their user",
    "train events": "events among those that are counted for training that are not of the training part",
    "held-out words": "words of the vocabulary that only valid or test queries have",
    "held-out queries": "queries that are drawn in training and were only asked in the valid or test part",
    "positive negatives": "cases with a candidate that is the target or was clicked together with it",
    "training negatives": "training cases for which an item of their user's training part is drawn as a negative",
    "batches": "cases whose batch shows the model an entry at or after their time",
}
"""What is looked for: name -> what is counted."""


@dataclass(frozen=True)
class Leak:
    """One kind of leak: how often it is there, and the first rows."""

    check: str
    count: int
    first: list[dict[str, Any]]

    @property
    def what(self) -> str:
        """What is counted, in words."""
        return CHECKS[self.check]


class Auditor:
    """Collects leaks; rows are told with the ids that a person knows."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.leaks: list[Leak] = []

    def leak(self, check: str, wrong: Any, columns: dict[str, Any], **told: Any) -> None:
        """Count where `wrong` (bool or row numbers) is, and keep the first of those rows."""
        wrong = np.asarray(wrong)
        rows = np.flatnonzero(wrong) if wrong.dtype == bool else wrong
        if not len(rows):
            return
        first = [
            told | {"row": int(row)} | {name: self._told(name, np.asarray(values)[row]) for name, values in columns.items()}
            for row in rows[:SHOWN]
        ]
        same = [at for at, one in enumerate(self.leaks) if one.check == check]
        if same:
            before = self.leaks[same[0]]
            self.leaks[same[0]] = Leak(check, before.count + len(rows), (before.first + first)[:SHOWN])
        else:
            self.leaks.append(Leak(check, len(rows), first))

    def _told(self, name: str, value: Any) -> Any:
        if name == "query":
            queries = self.dataset.history.queries
            start, end = queries.offsets[int(value)], queries.offsets[int(value) + 1]
            return " ".join(self.dataset.words.ids(queries.values[start:end].numpy()).cast(pl.String))
        vocab = {"user": self.dataset.users, "item": self.dataset.items, "word": self.dataset.words}.get(name)
        return value.item() if vocab is None else vocab.ids([int(value)])[0]


def owners(offsets: torch.Tensor) -> Rows:
    """The row that each value between the offsets is of: the user row of each entry, the search of each click."""
    return torch.repeat_interleave(offsets.diff()).numpy()


def told_columns(cases: Cases) -> dict[str, Any]:
    """What is told of a case that is at fault."""
    return {"user": cases.user_N.numpy(), "item": cases.item_N.numpy(), "time_ms": cases.time_N.numpy()}
