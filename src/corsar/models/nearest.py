"""Nearest place: the places in order of their distance from the last place of the history, which itself comes first.

    score(x) = -kilometres from the last place to x + tie_weight · popularity of x

Cost
    One distance a candidate; coordinates lie in the batch.

Shape suffixes: B cases, C candidates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.geo import distance_km
from corsar.models.base import Model
from corsar.models.counted import item_counts
from corsar.models.markov import last_places
from corsar.places import PlaceBatch


class NearestPlace(Model):
    """Scores are distances below zero; popularity alone where the history is empty."""

    class Config(Model.Config):
        """How ties are broken."""

        name: str = "nearest"
        tie_weight: float = Field(1e-9, ge=0)  # of popularity

    config: Config
    trained = False
    tasks = ("next_place",)
    counts: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, dtype=torch.float64))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count the items of the training part, which break ties."""
        self.counts = item_counts(events, catalogue.num_items)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Kilometres below zero to each candidate, [B, C] float64."""
        assert isinstance(batch, PlaceBatch)
        from_B1 = last_places(batch)
        far_BC = distance_km(
            F.embedding(from_B1, batch.points_I3).double(), F.embedding(batch.candidates_BC, batch.points_I3).double()
        )
        return torch.where(from_B1 > 0, -far_BC, 0.0) + self.config.tie_weight * self.counts[batch.candidates_BC]

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """The counts, whatever the item, [B, items + 1]: coordinates lie in batches alone."""
        return self.counts.expand(len(rows_B), -1)
