"""Dropout whose mask takes 16 random bits an element: torch's own, one generator call each, is half a step on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """As torch.nn.Dropout; the probability is rounded to 1/65,536."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """x with elements zeroed and the rest scaled up in training, x itself otherwise."""
        if not self.training or self.probability == 0:
            return x
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        bits = bits.view(torch.int16)[: x.numel()].view(x.shape)
        keep = bits >= round(self.probability * 65536) - 32768
        kept: Tensor = _Keep.apply(x, keep, 1 / (1 - self.probability))  # type: ignore[no-untyped-call]
        return kept


class _Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.where(keep, x, 0.0).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return torch.where(keep, grads[0], 0.0).mul_(ctx.scale), None, None
