"""Dropout whose mask takes 16 random bits an element: torch's own, one generator call each, is half a step on a CPU."""

from __future__ import annotations

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
        mask = torch.empty(x.shape, device=x.device)  # 0 or the scale: two passes over the data where a choice takes three
        torch.ge(bits, round(self.probability * 65536) - 32768, out=mask)
        return x * mask.mul_(1 / (1 - self.probability)).to(x.dtype)
