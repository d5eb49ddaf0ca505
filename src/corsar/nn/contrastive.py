"""Contrastive losses: pairs against drawn negatives, and two views of the same rows against the rest of the batch.

Shape suffixes: P pairs, A and R distinct rows, N negatives, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bilinear(nn.Module):
    """tanh(x W y) / temperature, with a learned matrix and temperature."""

    def __init__(self, dim: int, temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        self.temperature = nn.Parameter(torch.tensor(temperature))

    @property
    def sharpness(self) -> Tensor:
        """One over the temperature, which is kept off 0."""
        return 1 / self.temperature.clamp(min=0.01)

    def bounded(self, logits: Tensor) -> Tensor:
        """The bounded logits over the temperature."""
        return torch.tanh(logits) * self.sharpness


def bounded_logsumexp(logits: Tensor, sharpness: Tensor, *, skip_diagonal: bool = False) -> Tensor:
    """logsumexp(tanh(logits) * sharpness) over the last axis, the plain twin of the fast form below, [A]."""
    bounded = torch.tanh(logits) * sharpness
    if skip_diagonal:
        bounded = bounded.masked_fill(torch.eye(len(bounded), dtype=torch.bool, device=bounded.device), float("-inf"))
    return torch.logsumexp(bounded, 1)


class _BoundedLogSumExp(torch.autograd.Function):
    """The same in place: these matrices are the largest of a step, and autograd would keep and copy five of each."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, sharpness: Tensor, skip_diagonal: bool) -> Tensor:
        tanh = torch.tanh(logits)
        weights = tanh * sharpness
        if skip_diagonal:
            weights.fill_diagonal_(float("-inf"))
        top = weights.amax(1, keepdim=True)
        weights.sub_(top).exp_()
        total = weights.sum(1, keepdim=True)
        ctx.save_for_backward(tanh, weights, total, sharpness)
        return (top + total.log()).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        tanh, weights, total, sharpness = ctx.saved_tensors
        shares = weights * (grads[0].unsqueeze(1) / total)
        to_sharpness = torch.dot(shares.flatten(), tanh.flatten())
        slope = torch.addcmul(sharpness.expand_as(tanh), tanh, tanh * sharpness, value=-1)
        return shares.mul_(slope), to_sharpness.view_as(sharpness), None


def fast_bounded_logsumexp(logits: Tensor, sharpness: Tensor, *, skip_diagonal: bool = False) -> Tensor:
    """`bounded_logsumexp` with a hand-written backward, [A]."""
    out: Tensor = _BoundedLogSumExp.apply(logits, sharpness, skip_diagonal)  # type: ignore[no-untyped-call]
    return out


def pair_loss(
    scorer: Bilinear,
    left_AD: Tensor,
    right_RD: Tensor,
    left_P: Tensor,
    right_P: Tensor,
    negative_left_ND: Tensor,
    negative_right_ND: Tensor,
) -> Tensor:
    """InfoNCE of P pairs (rows of `left` and `right`), half each direction; repeats count as often as they stand.

    What the negatives add depends on one side of a pair alone, so it is computed once for each distinct row of a pair.
    """
    if len(left_P) == 0:
        return left_AD.new_zeros(())
    return (
        _one_direction(scorer, left_AD, right_RD, left_P, right_P, negative_right_ND)
        + _one_direction(scorer, right_RD, left_AD, right_P, left_P, negative_left_ND)
    ) / 2


def _one_direction(
    scorer: Bilinear, from_AD: Tensor, to_RD: Tensor, from_P: Tensor, to_P: Tensor, negative_ND: Tensor
) -> Tensor:
    rows, from_P = torch.unique(from_P, return_inverse=True)
    mapped_AD = F.embedding(rows, from_AD) @ scorer.weight
    against_A = fast_bounded_logsumexp(mapped_AD @ negative_ND.T, scorer.sharpness)
    positive_P = scorer.bounded((F.embedding(from_P, mapped_AD) * F.embedding(to_P, to_RD)).sum(1))
    against_P = F.embedding(from_P, against_A[:, None])[:, 0]
    return (torch.logaddexp(positive_P, against_P) - positive_P).mean()


def view_loss(scorer: Bilinear, first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """SimCLR over 2B rows: each row against its other view, all others but itself as negatives (Chen et al. 2020)."""
    if len(first_BD) == 0:
        return first_BD.new_zeros(())
    both = torch.cat([first_BD, second_BD])
    mapped = both @ scorer.weight
    total = fast_bounded_logsumexp(mapped @ both.T, scorer.sharpness, skip_diagonal=True)
    return (total - scorer.bounded((mapped * both.roll(len(first_BD), 0)).sum(1))).mean()
