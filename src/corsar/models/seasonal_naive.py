"""Seasonal naive: the last season again and again. The forecast that every other one has to beat.

Paper
    Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 2021, section 5.2.

Differs from the paper
    Nothing.

Differs from the published code
    There is none.

Cost
    A copy.

Shape suffixes: B windows, L past steps, T future steps, V variables.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from corsar.models.forecaster import Forecaster
from corsar.series import SeriesBatch


class SeasonalNaiveNet(Forecaster):
    """The bare module; nothing in it is learned."""

    class Config(Forecaster.Config):
        """The one setting."""

        season: int | None = Field(None, ge=1)  # steps; None: the last value again, unless the estimator knows better

    config: Config
    trained = False

    @property
    def past_len(self) -> int:
        """Steps that a forecast looks back on: one season."""
        return self.config.season or 1

    def forward(self, batch: SeriesBatch) -> Tensor:
        """Step t of the future is the newest past step a whole number of seasons before it, [B, T, V]."""
        season, steps = self.past_len, batch.future_marks_BTM.shape[1]
        place_T = torch.arange(steps, device=batch.past_BLV.device) % season - season
        return batch.past_BLV[:, place_T]
