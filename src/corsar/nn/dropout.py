"""Dropout whose mask takes 16 random bits an element: torch's own, one generator call each, is half a step on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def dropout_mask(x: Tensor, probability: float) -> Tensor:
    """0 with this probability, else 1 / (1 - probability), in the shape of x."""
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    bits = bits.view(torch.int16)[: x.numel()].view(x.shape)
    mask = torch.empty_like(x)  # 0 or the scale: two passes over the data where a choice takes three
    torch.ge(bits, round(probability * 65536) - 32768, out=mask)
    return mask.mul_(1 / (1 - probability))


class Dropout(nn.Module):
    """As torch.nn.Dropout; the probability is rounded to 1/65,536."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """x with elements zeroed and the rest scaled up in training, x itself otherwise."""
        if not self.training or self.probability == 0:
            return x
        return x * dropout_mask(x, self.probability)
