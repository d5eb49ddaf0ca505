"""What flows from data and serving into the models: flat tables on the device, and batches cut from them (windows.py).

Shape suffixes: B cases, F feed slots, S search slots, K clicks of a search, C candidates, Q queries of the batch,
N negatives of the alignment. Rows are positions in a vocabulary; row 0 is padding everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

Task = Literal["recommend", "search", "next_place"]
TASKS: tuple[Task, ...] = ("recommend", "search", "next_place")


class OnDevice:
    """Gives a dataclass of tensors (nested ones too) the method `to`."""

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`; tensors already there are not copied."""
        moved = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            moved[field.name] = value.to(device) if isinstance(value, Tensor | OnDevice) else value
        return type(self)(**moved)


@dataclass(frozen=True)
class Ragged(OnDevice):
    """Rows of different lengths in one flat array: row r is `values[offsets[r]:offsets[r + 1]]`."""

    values: Tensor  # [total] int64
    offsets: Tensor  # [rows + 1] int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Length of each row, [rows]."""
        return self.offsets[1:] - self.offsets[:-1]

    def select(self, rows: Tensor) -> Ragged:
        """The given rows, in that order, as a new Ragged."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        inside = torch.arange(len(owner), device=rows.device) - offsets[owner]
        return Ragged(self.values[starts[owner] + inside], offsets)

    def then(self, other: Ragged) -> Ragged:
        """The rows of both, the other's behind."""
        return Ragged(torch.cat([self.values, other.values]), torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]]))

    def padded(self, rows: Tensor, width: int) -> Tensor:
        """The first `width` values of the given rows (any shape), zeros behind: [*rows.shape, width]."""
        at = self.offsets[rows].unsqueeze(-1) + torch.arange(width, device=rows.device)
        inside = at < self.offsets[rows + 1].unsqueeze(-1)
        if len(self.values) == 0:
            return torch.zeros_like(at)
        return torch.where(inside, self.values[at.clamp(max=len(self.values) - 1)], 0)

    @staticmethod
    def of(rows: list[list[int]]) -> Ragged:
        """From a list of lists."""
        lengths = torch.tensor([0, *map(len, rows)])
        return Ragged(torch.tensor([v for row in rows for v in row], dtype=torch.int64), lengths.cumsum(0))


@dataclass(frozen=True)
class Catalogue(OnDevice):
    """What is known of items and users apart from events. Line 0 of each table is padding (no words, zeros)."""

    item_words: Ragged  # word rows of each item
    item_categories: Tensor  # [items + 1, category columns] int64, 0 = unknown
    user_attributes: Tensor  # [users + 1, attribute columns] int64, 0 = unknown

    @property
    def num_items(self) -> int:
        """Items without the padding row."""
        return len(self.item_words) - 1


@dataclass(frozen=True)
class SearchRecommendBatch(OnDevice):
    """One batch of cases of one task. Real entries come first in each window, the oldest at slot 0; pads behind are 0."""

    task: Task
    user_B: Tensor
    feed_items_BF: Tensor
    feed_is_real_BF: Tensor  # bool
    feed_slots_BF: Tensor  # slot in the merged window, 0 = oldest
    search_queries_BS: Tensor  # rows of `queries`
    search_clicks_BSK: Tensor  # item rows, 0 behind the last click
    search_is_real_BS: Tensor  # bool
    search_slots_BS: Tensor
    query_B: Tensor  # rows of `queries`; 0 for recommend
    candidates_BC: Tensor  # item rows; in training and evaluation the target is column 0
    queries: Ragged  # word rows of the distinct queries of this batch; row 0 is the empty query
    catalogue: Catalogue
    align_items_N: Tensor | None = None  # item rows, negatives of the query-item alignment (training only)
    align_queries_N: Tensor | None = None  # rows of `queries`
    gather: Callable[[Tensor], Tensor] = lambda rows: rows  # rows of all processes that share the cases of a step

    def __len__(self) -> int:
        return len(self.user_B)

    def take(self, rows: Tensor) -> Self:
        """The given cases, in that order."""
        changed = {f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self) if "_B" in f.name}
        return dataclasses.replace(self, **changed)


@dataclass(frozen=True)
class TrainEvents(OnDevice):
    """The training part as one sequence a user: what untrained models count. Sorted by user, then time, then file order."""

    user_E: Tensor
    item_E: Tensor  # one row for each clicked item (a search with two clicks gives two)
    is_search_E: Tensor  # bool


@dataclass(frozen=True)
class Sizes:
    """What a model must know of the data to lay out its tables; counts are without the padding row 0."""

    num_users: int
    num_items: int
    num_words: int
    category_sizes: tuple[int, ...] = ()  # values of each category column
    attribute_sizes: tuple[int, ...] = ()  # values of each user attribute column
    feed_len: int = 30
    search_len: int = 30
