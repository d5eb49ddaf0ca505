"""NLinear: one linear map from the past to the future, on what is left after the last value is taken off.

Paper
    Zeng, Chen, Zhang and Xu, "Are Transformers Effective for Time Series Forecasting?", AAAI 2023, section 4 (NLinear).

Differs from the paper
    Nothing.

Differs from the published code
    Nothing; of its two forms this is the one whose map is shared by all variables.

Cost
    input_len * horizon multiplications a variable.

Shape suffixes: B windows, L past steps, T future steps, V variables.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from corsar.models.forecaster import Forecaster
from corsar.series import SeriesBatch


class NLinearNet(Forecaster):
    """The bare module."""

    class Config(Forecaster.Config):
        """Sizes of NLinear."""

        input_len: int = Field(336, ge=1)

    config: Config

    def __init__(self, config: Config, num_variables: int) -> None:
        super().__init__(config, num_variables)
        self.map = nn.Linear(config.input_len, config.horizon)

    @property
    def past_len(self) -> int:
        """Steps that a forecast looks back on."""
        return self.config.input_len

    def forward(self, batch: SeriesBatch) -> Tensor:
        """The last value plus a linear map of the differences to it, [B, T, V]."""
        last_B1V = batch.past_BLV[:, -1:]
        forecast_BVT: Tensor = self.map((batch.past_BLV - last_B1V).transpose(1, 2))
        return forecast_BVT.transpose(1, 2) + last_B1V
