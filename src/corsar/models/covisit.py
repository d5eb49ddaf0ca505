"""Item co-visits: candidates that stood near the last history items in the training sequences of all users.

    score(x) = Σ over the last history items y of C(y, x) / √(1 + popularity of y)

C(y, x) counts how often x stands within `reach` places of y in a user's training sequence, whatever the kind of the two
events. Popularity times `tie_weight` breaks ties, and alone ranks for an empty history. The query is not read.

Cost
    One number for each pair of items that were near each other; a score looks up history_len · candidates of them.

Shape suffixes: B cases, F feed slots, S search slots, K clicks of a search, L merged slots, R history items, C candidates.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model
from corsar.models.counted import count_pairs, covisit_scores, covisits, item_counts


class CoVisit(Model):
    """Scores are weighted co-visit counts with the last history items."""

    class Config(Model.Config):
        """What counts as near, and as recent."""

        name: str = "covisit"
        history_len: int = Field(10, ge=1)  # last history entries that are looked at
        reach: int = Field(5, ge=1)  # places between two items that count as near
        tie_weight: float = Field(1e-6, ge=0)  # weight of popularity

    config: Config
    trained = False
    counts: Tensor
    pair_keys: Tensor
    pair_values: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, dtype=torch.float64))
        self.register_buffer("pair_keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("pair_values", torch.zeros(0))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count items and near pairs of the training part."""
        self.counts = item_counts(events, catalogue.num_items)
        self.pair_keys, self.pair_values = count_pairs(events, catalogue.num_items + 1, self.config.reach)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Co-visits with the last history items, [B, C] float64."""
        near_BC = covisit_scores(self.pair_keys, self.pair_values, self.counts, batch, self.config.history_len)
        return near_BC + self.config.tie_weight * self.counts[batch.candidates_BC]

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """Co-visit counts with the given items, [B, items + 1]."""
        return covisits(self.pair_keys, self.pair_values, self.counts, rows_B)
