"""The contract of a forecaster: windows in, the steps that follow out, both in scaled units. Nothing here opens a file."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from corsar.series import SeriesBatch


class Forecaster(nn.Module):
    """Base of all forecasters: `forward` is all that one writes."""

    class Config(BaseModel):
        """Settings of a forecaster; an unknown key is an error."""

        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

        horizon: int = Field(96, ge=1)  # steps that one forecast reaches ahead

    trained: ClassVar[bool] = True  # False: there is nothing to learn
    config: Config

    def __init__(self, config: Config, num_variables: int) -> None:
        super().__init__()
        self.config, self.num_variables = config, num_variables

    @property
    def past_len(self) -> int:
        """Steps that a forecast looks back on."""
        raise NotImplementedError  # abstract

    def forward(self, batch: SeriesBatch) -> Tensor:
        """The forecast, [B, T, V], T being the number of future marks."""
        raise NotImplementedError  # abstract
