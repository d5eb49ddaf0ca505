"""Habits: a mixture of what a person repeats and of what is new to them, by models/returns.py, in front of any model of places.

`discovery` is the model of what is new, as in `discovery = {name = "automtn", predictor = "text"}`; without one, popularity
alone says what is new, which shows what of a mixture's figures is the head's.

Cost
    That of models/returns.py and of the model of what is new.

Shape suffixes: B cases, C candidates, R item rows of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from pydantic import ValidationError, field_validator
from torch import Tensor, nn

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models import DISCOVERIES, model_class
from corsar.models.base import Model, Terms
from corsar.models.compared import Compared, compared_rows
from corsar.models.returns import SMALL, ReturnHead
from corsar.places import PlaceBatch

GAIN = 10.0  # how much faster than other weights the one moves that lets the model's logits in


class HabitsNet(Model):
    """The bare module: flat check-ins in, logits of places out (log-probabilities where there is no model of what is new)."""

    class Config(Model.Config):
        """The model of what is new, by its name and settings."""

        name: str = "habits"
        discovery: dict[str, Any] = {}

        @field_validator("discovery")
        @classmethod
        def _known(cls, told: dict[str, Any]) -> dict[str, Any]:
            if not told:
                return told
            if told.get("name") not in DISCOVERIES:
                raise ValueError(f'it needs a name, one of {", ".join(DISCOVERIES)}, as in {{name = "{DISCOVERIES[0]}"}}')
            try:
                return model_class(told["name"]).Config(**told).model_dump(mode="json")
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error

    config: Config
    tasks = ("next_place",)

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.returns = ReturnHead(sizes.num_items)
        self.discovery: Any = None
        if config.discovery:
            cls = model_class(config.discovery["name"])
            self.discovery = cls(cls.Config(**config.discovery), sizes)
            self.gain = nn.Parameter(torch.tensor(SMALL))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count transitions and popularity of the training part."""
        self.returns.count(events, catalogue)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Logits of the candidates, [B, C]."""
        return self.scorer(batch, batch.candidates_BC)(batch.candidates_BC)

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives the logits of candidates [B, C] of the same cases; the histories are read once."""
        assert isinstance(batch, PlaceBatch)
        masses = self.returns.masses(batch)
        if self.discovery is not None:
            new = self.discovery.scorer(batch, items_R)
            visited_BI = _visited(batch, self.sizes.num_items)

            def both(candidates_BC: Tensor) -> Tensor:
                new_BC = self._gained(new(candidates_BC), visited_BI.gather(1, candidates_BC))
                return cast(Tensor, self.returns(new_BC, candidates_BC, masses))

            return both

        def mixed(candidates_BC: Tensor) -> Tensor:
            nothing_BC = torch.zeros(candidates_BC.shape, device=candidates_BC.device)
            return cast(Tensor, self.returns(nothing_BC, candidates_BC, masses))

        places_BI = torch.arange(1, self.sizes.num_items + 1, device=batch.user_B.device).expand(len(batch), -1)
        whole_B1 = mixed(places_BI).logsumexp(1, keepdim=True)
        return lambda candidates_BC: mixed(candidates_BC) - whole_B1

    def loss(self, batch: SearchRecommendBatch) -> Terms:
        """place: cross-entropy of the target among the catalogue, or the part drawn; and what the other model adds."""
        assert isinstance(batch, PlaceBatch)
        if self.discovery is not None:
            terms: Terms = self.discovery.loss(batch, self._place_loss)
            return terms
        compared = compared_rows(self.sizes.num_items, batch.candidates_BC[:, 0], batch.drawn_N)
        nothing_BR = torch.zeros(len(batch), len(compared.rows_R), device=compared.rows_R.device)
        return {"place": batch.gather(self.returns.loss(nothing_BR, compared, batch)).mean()}

    def term_weights(self) -> dict[str, float]:
        """Those of the model of what is new."""
        return {} if self.discovery is None else self.discovery.term_weights()

    def item_vectors(self, batch: SearchRecommendBatch, rows_R: Tensor) -> Tensor:
        """Those of the model of what is new, [R, D]; without one, what each place is worth to everybody, [R, 1]."""
        vectors: Tensor = self.returns.bias(rows_R) if self.discovery is None else self.discovery.item_vectors(batch, rows_R)
        return vectors

    def _place_loss(self, logits_BR: Tensor, compared: Compared, batch: PlaceBatch) -> Tensor:
        visited_BR = _visited(batch, self.sizes.num_items)[:, compared.rows_R]
        return self.returns.loss(self._gained(logits_BR, visited_BR), compared, batch)

    def _gained(self, logits_BC: Tensor, visited_BC: Tensor) -> Tensor:
        """The model's logits as the mixture takes them: nearly nothing at first, and nothing ever where the person has been.

        So the model learns from discoveries alone; one that also saw returns would learn by heart who goes where.
        """
        return torch.where(visited_BC, 0.0, GAIN * self.gain * logits_BC)


def _visited(batch: PlaceBatch, num_items: int) -> Tensor:
    """Whether each place stands in each history, [B, items + 1]; of row 0, which is no place, nothing is told."""
    nowhere = torch.zeros(len(batch), num_items + 1, dtype=torch.bool, device=batch.user_B.device)
    return nowhere.scatter(1, torch.where(batch.feed_is_real_BF, batch.feed_items_BF, 0), True)
