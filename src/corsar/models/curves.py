"""CurveNet: what kind of object an irregular, padded curve belongs to.

Paper
    Wu, Xu, Wang and Long, "Autoformer", NeurIPS 2021: the Auto-Correlation layer, here as the mixer of an encoder over curves.

Differs from the paper
    An encoder and a classifier in place of a forecaster, without series decomposition: blocks of mixer and feed-forward net
    with layer norms in front. Each curve has its own places: padding and gaps (`is_real`) enter nothing. `lengths=False` is
    the naive form, which takes padding for data within the mixer alone; it is here to be compared with.

Differs from the published code
    Lags are chosen row by row in training too, scores are divided by the energy of query and key, and values are rolled to
    where the lag was measured (nn/autocorrelation.py has each as an option).

Cost
    O(L log L) a curve and layer with Auto-Correlation, O(L²) with attention.

Shape suffixes: B curves, L places, C channels, K numbers of the context, D channels of the net, Y classes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from corsar.curves import CurveBatch
from corsar.nn.autocorrelation import AutoCorrelation
from corsar.nn.dropout import Dropout


class CurveNet(nn.Module):
    """The bare module: a batch of curves in, logits of the classes out."""

    class Config(BaseModel):
        """Settings of the net; an unknown key is an error."""

        model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

        dim: int = Field(32, ge=2)
        layers: int = Field(1, ge=1)
        heads: int = Field(2, ge=1)
        mixer: Literal["autocorrelation", "attention"] = "autocorrelation"
        lengths: bool = True  # False: padding enters the Auto-Correlation, as in its published form
        factor: float = Field(1.0, gt=0)  # of the number of lags, factor · ln L
        clocks: int = Field(8, ge=0)  # sines and cosines of the time: 1, 2, 4, … half turns in a typical span
        dropout: float = Field(0.1, ge=0, lt=1)

    def __init__(self, config: Config, num_channels: int, num_context: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        wide, dim = num_channels + 2 * config.clocks, config.dim
        # a net a place: how values are spread (skew, outliers) shows before anything is mixed
        self.embed = nn.Sequential(nn.Linear(wide, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)
        self.drop = Dropout(config.dropout)
        self.hidden = nn.Linear(2 * dim + num_context, 2 * dim)
        self.classes = nn.Linear(2 * dim, num_classes)

    def forward(self, batch: CurveBatch) -> Tensor:
        """Logits of the classes, [B, Y]."""
        is_real_BL1 = batch.is_real_BL[..., None]
        x_BLD = self.encode(batch)
        mean_BD = (x_BLD * is_real_BL1).sum(1) / is_real_BL1.sum(1)
        most_BD = x_BLD.masked_fill(~is_real_BL1, -torch.inf).amax(1)
        features = torch.cat([mean_BD, most_BD, batch.context_BK], 1)
        logits_BY: Tensor = self.classes(self.drop(F.gelu(self.hidden(features))))
        return logits_BY

    def encode(self, batch: CurveBatch) -> Tensor:
        """The places of the curves after all blocks, [B, L, D]; those that are not real hold no meaning."""
        turns = math.pi * 2.0 ** torch.arange(self.config.clocks, device=batch.time_BL.device)
        angle = batch.time_BL[..., None] * turns
        x_BLD: Tensor = self.embed(torch.cat([batch.values_BLC, angle.sin(), angle.cos()], -1))
        is_real_BL, order_BL1 = batch.is_real_BL, None
        if self.config.lengths:  # real places to the front, once for all blocks
            order_BL1 = is_real_BL.logical_not().to(torch.uint8).argsort(dim=1, stable=True)[..., None]
            x_BLD, is_real_BL = x_BLD.take_along_dim(order_BL1, 1), is_real_BL.take_along_dim(order_BL1[..., 0], 1)
        x_BLD = x_BLD * is_real_BL[..., None]
        for block in self.blocks:
            x_BLD = block(x_BLD, is_real_BL)
        x_BLD = self.norm(x_BLD)
        return x_BLD if order_BL1 is None else torch.zeros_like(x_BLD).scatter(1, order_BL1.expand_as(x_BLD), x_BLD)


class Block(nn.Module):
    """A mixer along the curve, then a feed-forward net; both add to what comes in."""

    def __init__(self, config: CurveNet.Config) -> None:
        super().__init__()
        dim, self.lengths = config.dim, config.lengths
        self.mixer_norm, self.net_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mixer: AutoCorrelation | nn.MultiheadAttention
        if config.mixer == "attention":
            self.mixer = nn.MultiheadAttention(dim, config.heads, batch_first=True)
        else:
            self.mixer = AutoCorrelation(dim, config.heads, factor=config.factor)
        self.net = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.drop = Dropout(config.dropout)

    def forward(self, x_BLD: Tensor, is_real_BL: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]; places that are not real stay 0. Where lengths are honoured, real ones stand first."""
        normed = self.mixer_norm(x_BLD) * is_real_BL[..., None]
        if isinstance(self.mixer, AutoCorrelation):
            mixed = self.mixer(normed, lengths=is_real_BL.sum(1) if self.lengths else None)
        else:
            mixed, _ = self.mixer(normed, normed, normed, key_padding_mask=~is_real_BL, need_weights=False)
        x_BLD = x_BLD + self.drop(mixed)
        x_BLD = x_BLD + self.drop(self.net(self.net_norm(x_BLD)))
        return x_BLD * is_real_BL[..., None]
