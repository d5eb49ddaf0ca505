"""Autoformer: forecasts by Auto-Correlation, with the trend taken out after every step.

Paper
    Wu, Xu, Wang and Long, "Autoformer: Decomposition Transformers with Auto-Correlation for Long-Term Series Forecasting",
    NeurIPS 2021: equations 1 (decomposition), 3 (encoder), 4 (decoder), 6 and 7 (Auto-Correlation).

Differs from the paper
    With `lags="exact"` (the default) training picks each window's own lags as forecasting does, values are read where keys
    matched (`direction="back"`) and scores are divided by the energy of queries and keys (`normalise`).

Differs from the published code
    `lags="paper_code", direction="paper", normalise=False` is that code, to 1e-6. Its decoder takes the start of its time
    marks from the past, as every caller of it does. Circular convolutions of three steps are one linear map of three shifts.

Cost
    O(L log L) in Auto-Correlation; at dim 512 all but the linear maps is small: 2 L (encoder_layers (4 + 2 r) +
    decoder_layers (8 + 2 r)) dim^2 operations a window forward, with r = ff_dim / dim.

Shape suffixes: B windows, L past steps, T future steps, S steps of the decoder (label_len + T), V variables, M marks of a
time, D channels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from corsar.models.forecaster import Forecaster
from corsar.nn.autocorrelation import AutoCorrelation
from corsar.nn.decomposition import SeasonalNorm, decompose
from corsar.nn.dropout import Dropout
from corsar.series import SeriesBatch

MARKS = 4  # hour, weekday, day of the month, day of the year


class AutoformerNet(Forecaster):
    """The bare module: scaled windows in, scaled forecasts out."""

    class Config(Forecaster.Config):
        """Sizes of Autoformer, those of its paper unless told otherwise."""

        input_len: int = Field(96, ge=2)
        label_len: int | None = Field(None, ge=1)  # steps of the past that the decoder starts with; half of them unless told
        dim: int = Field(512, ge=1)
        heads: int = Field(8, ge=1)
        encoder_layers: int = Field(2, ge=1)
        decoder_layers: int = Field(1, ge=1)
        ff_dim: int = Field(2048, ge=1)
        dropout: float = Field(0.05, ge=0, lt=1)
        kernel: int = Field(25, ge=1)  # steps of the moving average that is called trend
        factor: float = Field(3.0, gt=0)
        lags: Literal["exact", "paper_code"] = "exact"
        direction: Literal["back", "paper"] = "back"
        normalise: bool = True
        lag_zero: bool = True

        @field_validator("label_len")
        @classmethod
        def _no_longer_than_the_past(cls, told: int | None, info: ValidationInfo) -> int | None:
            if told is not None and told > info.data.get("input_len", told):
                raise ValueError(f"should be no more than input_len = {info.data['input_len']}; lower it")
            return told

        @field_validator("heads")
        @classmethod
        def _parts_of_dim(cls, told: int, info: ValidationInfo) -> int:
            if info.data.get("dim", told) % told:
                raise ValueError(f"should divide dim = {info.data['dim']}; choose another")
            return told

    config: Config

    def __init__(self, config: Config, num_variables: int) -> None:
        super().__init__(config, num_variables)
        self.label_len = config.label_len or max(1, config.input_len // 2)
        self.embed_past = Embedding(num_variables, config)
        self.embed_start = Embedding(num_variables, config)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = SeasonalNorm(config.dim)
        self.decoder = nn.ModuleList(DecoderLayer(config, num_variables) for _ in range(config.decoder_layers))
        self.decoder_norm = SeasonalNorm(config.dim)
        self.out_map = nn.Linear(config.dim, num_variables)

    @property
    def past_len(self) -> int:
        """Steps that a forecast looks back on."""
        return self.config.input_len

    def forward(self, batch: SeriesBatch) -> Tensor:
        """The forecast, [B, T, V]."""
        start_BSM = torch.cat([batch.past_marks_BLM[:, -self.label_len :], batch.future_marks_BTM], 1)
        return self.forecast(batch.past_BLV, batch.past_marks_BLM, start_BSM)

    def forecast(self, past_BLV: Tensor, past_marks_BLM: Tensor, start_marks_BSM: Tensor) -> Tensor:
        """The forecast, [B, T, V], with the marks of the decoder's own steps told."""
        label_len = self.label_len
        horizon = start_marks_BSM.shape[1] - label_len
        memory_BLD = self.embed_past(past_BLV, past_marks_BLM)
        for layer in self.encoder:
            memory_BLD = layer(memory_BLD)
        memory_BLD = self.encoder_norm(memory_BLD)

        seasonal_BLV, trend_BLV = decompose(past_BLV, self.config.kernel)
        seasonal_BSV = F.pad(seasonal_BLV[:, -label_len:], (0, 0, 0, horizon))
        mean_BTV = past_BLV.mean(1, keepdim=True).expand(-1, horizon, -1)
        trend_BSV = torch.cat([trend_BLV[:, -label_len:], mean_BTV], 1)
        x_BSD = self.embed_start(seasonal_BSV, start_marks_BSM)
        for layer in self.decoder:
            x_BSD, more_BSV = layer(x_BSD, memory_BLD)
            trend_BSV = trend_BSV + more_BSV
        forecast_BSV: Tensor = self.out_map(self.decoder_norm(x_BSD)) + trend_BSV
        return forecast_BSV[:, label_len:]


class CircularConv(nn.Module):
    """A convolution over three neighbouring steps, the last step standing before the first; no bias."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_dim, 3 * in_dim))  # of the step before, the step itself, the one after
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, in_dim] -> [B, L, out_dim]."""
        return F.linear(torch.cat([x.roll(1, 1), x, x.roll(-1, 1)], -1), self.weight)


class Embedding(nn.Module):
    """Values by a circular convolution plus marks by a linear map."""

    def __init__(self, num_variables: int, config: AutoformerNet.Config) -> None:
        super().__init__()
        self.values = CircularConv(num_variables, config.dim)
        self.marks = nn.Linear(MARKS, config.dim, bias=False)
        self.drop = Dropout(config.dropout)
        nn.init.kaiming_normal_(self.values.weight)

    def forward(self, values: Tensor, marks: Tensor) -> Tensor:
        """[B, L, V] and [B, L, M] -> [B, L, D]."""
        out: Tensor = self.drop(self.values(values) + self.marks(marks))
        return out


class FeedForward(nn.Module):
    """Two linear maps without bias around an exact GELU."""

    def __init__(self, config: AutoformerNet.Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.dim, config.ff_dim, bias=False)
        self.down = nn.Linear(config.ff_dim, config.dim, bias=False)
        self.drop = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        out: Tensor = self.drop(self.down(self.drop(F.gelu(self.up(x)))))
        return out


class EncoderLayer(nn.Module):
    """Auto-Correlation, then the feed-forward; of each sum the seasonal part goes on (equation 3)."""

    def __init__(self, config: AutoformerNet.Config) -> None:
        super().__init__()
        self.correlation = _correlation(config)
        self.feed_forward = FeedForward(config)
        self.drop = Dropout(config.dropout)
        self.kernel = config.kernel

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        x_BLD, _ = decompose(x_BLD + self.drop(self.correlation(x_BLD)), self.kernel)
        x_BLD, _ = decompose(x_BLD + self.feed_forward(x_BLD), self.kernel)
        return x_BLD


class DecoderLayer(nn.Module):
    """Self and cross Auto-Correlation and the feed-forward; the trends of the three sums are handed on (equation 4)."""

    def __init__(self, config: AutoformerNet.Config, num_variables: int) -> None:
        super().__init__()
        self.self_correlation = _correlation(config)
        self.cross_correlation = _correlation(config)
        self.feed_forward = FeedForward(config)
        self.trend = CircularConv(config.dim, num_variables)
        self.drop = Dropout(config.dropout)
        self.kernel = config.kernel

    def forward(self, x_BSD: Tensor, memory_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """The seasonal part, [B, S, D], and what the layer adds to the trend, [B, S, V]."""
        x_BSD, first = decompose(x_BSD + self.drop(self.self_correlation(x_BSD)), self.kernel)
        crossed = self.cross_correlation(x_BSD, memory_BLD, memory_BLD)
        x_BSD, second = decompose(x_BSD + self.drop(crossed), self.kernel)
        x_BSD, third = decompose(x_BSD + self.feed_forward(x_BSD), self.kernel)
        return x_BSD, self.trend(first + second + third)


def _correlation(config: AutoformerNet.Config) -> AutoCorrelation:
    told = {key: getattr(config, key) for key in ("lags", "direction", "normalise", "lag_zero", "factor")}
    return AutoCorrelation(config.dim, config.heads, **told)
