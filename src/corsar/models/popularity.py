"""Popularity: how often an item stands in the training part, whoever asks and whatever for.

Cost
    One number an item.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model
from corsar.models.counted import item_counts


class Popularity(Model):
    """Scores are training counts."""

    class Config(Model.Config):
        """There is nothing to set."""

        name: str = "popularity"

    config: Config
    trained = False
    tasks = ("recommend", "search", "next_place")
    counts: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, dtype=torch.float64))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count the items of the training part."""
        self.counts = item_counts(events, catalogue.num_items)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """The count of each candidate, [B, C] float64."""
        return self.counts[batch.candidates_BC]

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """The counts, whatever the item, [B, items + 1]."""
        return self.counts.expand(len(rows_B), -1)
