"""Habits: the return head alone, in front of no model: what a person repeats, where people went from here, and popularity.

It shows what of AutoMTN's figures with the head is the head's.

Cost
    That of models/returns.py.

Shape suffixes: B cases, C candidates, R item rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model, Terms
from corsar.models.returns import ReturnHead, compared_rows
from corsar.places import PlaceBatch


class HabitsNet(Model):
    """The bare module: flat check-ins in, log-probabilities of places out."""

    class Config(Model.Config):
        """Nothing to set."""

        name: str = "habits"

    tasks = ("next_place",)

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.returns = ReturnHead(sizes.num_items)

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count transitions and popularity of the training part."""
        self.returns.count(events, catalogue)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Log-probabilities of the candidates, [B, C]."""
        return self.scorer(batch, batch.candidates_BC)(batch.candidates_BC)

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives the log-probabilities of candidates [B, C] of the same cases; the histories are weighed once."""
        assert isinstance(batch, PlaceBatch)
        masses = self.returns.masses(batch)

        def mixed(candidates_BC: Tensor) -> Tensor:
            nothing_BC = torch.zeros(candidates_BC.shape, device=candidates_BC.device)
            return cast(Tensor, self.returns(nothing_BC, candidates_BC, masses))

        places_BI = torch.arange(1, self.sizes.num_items + 1, device=batch.user_B.device).expand(len(batch), -1)
        whole_B1 = mixed(places_BI).logsumexp(1, keepdim=True)
        return lambda candidates_BC: mixed(candidates_BC) - whole_B1

    def loss(self, batch: SearchRecommendBatch) -> Terms:
        """place: cross-entropy of the target among the catalogue, or the part drawn."""
        assert isinstance(batch, PlaceBatch)
        rows_R, at_B, extra_R = compared_rows(self.sizes.num_items, batch.candidates_BC[:, 0], batch.drawn_N)
        nothing_BR = torch.zeros(len(batch), len(rows_R), device=rows_R.device)
        return {"place": batch.gather(self.returns.loss(nothing_BR, rows_R, extra_R, at_B, batch)).mean()}

    def item_vectors(self, batch: SearchRecommendBatch, rows_R: Tensor) -> Tensor:
        """What each place is worth to everybody, [R, 1]: there are no other vectors."""
        return self.returns.bias(rows_R)  # type: ignore[no-any-return]
