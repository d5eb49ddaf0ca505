"""Visits: how often a person was at each place, the later visited first among equals; the baseline that is hard to beat.

    score(x) = visits of x in the history + position_weight · place of the last visit in it + tie_weight · popularity of x

The place of a visit is 1 for the oldest of the history. For recommend and search the history is that of the feed.

Cost
    One number an item, and the history of each case.

Shape suffixes: B cases, F slots of the history, C candidates, V (case, place) pairs of the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model
from corsar.models.counted import item_counts


class Visited:
    """What the histories of a batch say of candidates [B, C], float64; 0 for a place that is not in them."""

    def __init__(self, batch: SearchRecommendBatch, width: int) -> None:
        self._width = width
        real_BF = batch.feed_is_real_BF & (batch.feed_items_BF > 0)
        case, place = real_BF.nonzero(as_tuple=True)
        key = case * width + batch.feed_items_BF[case, place]
        self._keys_V, at, self._counts_V = torch.unique(key, return_inverse=True, return_counts=True)
        last_V = torch.zeros(len(self._keys_V), dtype=torch.int64, device=key.device)
        self._last_V = last_V.scatter_reduce(0, at, place + 1, "amax")
        self.length_B1 = real_BF.sum(1, keepdim=True)

    def counts(self, candidates_BC: Tensor) -> Tensor:
        """How often each candidate was visited."""
        return self._of(self._counts_V, candidates_BC)

    def last(self, candidates_BC: Tensor) -> Tensor:
        """The place of its last visit, from 1."""
        return self._of(self._last_V, candidates_BC)

    def _of(self, values_V: Tensor, candidates_BC: Tensor) -> Tensor:
        if not len(self._keys_V):
            return torch.zeros(candidates_BC.shape, dtype=torch.float64, device=candidates_BC.device)
        wanted = torch.arange(len(candidates_BC), device=candidates_BC.device)[:, None] * self._width + candidates_BC
        at = torch.searchsorted(self._keys_V, wanted).clamp_(max=len(self._keys_V) - 1)
        return torch.where(self._keys_V[at] == wanted, values_V[at], 0).double()


class Visits(Model):
    """Scores are visits of the person."""

    class Config(Model.Config):
        """How ties are broken."""

        name: str = "visits"
        position_weight: float = Field(1e-4, ge=0)
        tie_weight: float = Field(1e-9, ge=0)  # of popularity

    config: Config
    trained = False
    tasks = ("recommend", "search", "next_place")
    counts: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, dtype=torch.float64))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count the items of the training part, which break ties."""
        self.counts = item_counts(events, catalogue.num_items)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Visits of each candidate, [B, C] float64."""
        return self.scorer(batch, batch.candidates_BC)(batch.candidates_BC)

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What scores candidates [B, C] of the same cases; the histories are counted once."""
        visited, config = Visited(batch, len(self.counts)), self.config

        def score(candidates_BC: Tensor) -> Tensor:
            recent_BC = config.position_weight * visited.last(candidates_BC)
            return visited.counts(candidates_BC) + recent_BC + config.tie_weight * self.counts[candidates_BC]

        return score

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """The counts, whatever the item, [B, items + 1]."""
        return self.counts.expand(len(rows_B), -1)
