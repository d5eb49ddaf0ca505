"""Markov: where people went from the last place of the history.

    score(x) = transitions from the last place to x + visits_weight · visits of x in the history + tie_weight · popularity of x

Transitions are counted over the training sequences of all users, each with its next place.

Cost
    One number for each pair of places of which one followed the other.

Shape suffixes: B cases, F slots of the history, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model
from corsar.models.counted import item_counts
from corsar.models.visits import Visited
from corsar.nn.sparse import row_bounds, sum_rows


def count_transitions(events: TrainEvents, width: int) -> tuple[Tensor, Tensor]:
    """Sorted keys `from * width + to` of the transitions of all users, and how often each was made (float32)."""
    same = events.user_E[1:] == events.user_E[:-1]
    keys, counts = torch.unique(events.item_E[:-1][same] * width + events.item_E[1:][same], return_counts=True)
    return keys, counts.float()


def last_places(batch: SearchRecommendBatch) -> Tensor:
    """The newest place of each history, [B, 1]; 0 where it is empty."""
    at_B1 = (batch.feed_is_real_BF.sum(1, keepdim=True) - 1).clamp(min=0)
    return torch.where(batch.feed_is_real_BF[:, :1], batch.feed_items_BF.gather(1, at_B1), 0)


def transitions(keys: Tensor, values: Tensor, width: int, from_B1: Tensor, candidates_BC: Tensor) -> Tensor:
    """How often people went from the given place of each case to each candidate, [B, C] float64."""
    return sum_rows(keys, values, width, from_B1, from_B1 > 0, candidates_BC)


def transitions_out(keys: Tensor, values: Tensor, width: int, from_B1: Tensor) -> Tensor:
    """How often people went anywhere from the given places, [B, 1] float64."""
    until = torch.nn.functional.pad(values.double().cumsum(0), (1, 0))
    starts, ends = row_bounds(keys, from_B1, width)
    return until[ends] - until[starts]


class Markov(Model):
    """Scores are transitions from the last place."""

    class Config(Model.Config):
        """How ties are broken."""

        name: str = "markov"
        visits_weight: float = Field(1e-3, ge=0)
        tie_weight: float = Field(1e-9, ge=0)  # of popularity

    config: Config
    trained = False
    tasks = ("recommend", "search", "next_place")
    counts: Tensor
    pair_keys: Tensor
    pair_values: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, dtype=torch.float64))
        self.register_buffer("pair_keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("pair_values", torch.zeros(0))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count items and transitions of the training part."""
        self.counts = item_counts(events, catalogue.num_items)
        self.pair_keys, self.pair_values = count_transitions(events, len(self.counts))

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Transitions to each candidate, [B, C] float64."""
        return self.scorer(batch, batch.candidates_BC)(batch.candidates_BC)

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What scores candidates [B, C] of the same cases; the histories are counted once."""
        width, from_B1 = len(self.counts), last_places(batch)
        visited, config = Visited(batch, width), self.config

        def score(candidates_BC: Tensor) -> Tensor:
            moved_BC = transitions(self.pair_keys, self.pair_values, width, from_B1, candidates_BC)
            visits_BC = config.visits_weight * visited.counts(candidates_BC)
            return moved_BC + visits_BC + config.tie_weight * self.counts[candidates_BC]

        return score

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """Transitions from the given items, [B, items + 1]."""
        columns_BI = torch.arange(len(self.counts), device=rows_B.device).expand(len(rows_B), -1)
        return transitions(self.pair_keys, self.pair_values, len(self.counts), rows_B[:, None], columns_BI)
