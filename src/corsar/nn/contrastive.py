"""Contrastive losses: pairs against drawn negatives, and two views of the same rows against the rest of the batch.

Shape suffixes: P pairs, A and R distinct rows, N negatives, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 256  # rows of a matrix of logits that are worked on at once
SHARP = 40.0  # logits within this have exponentials that can be summed as they are


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


class _BoundedLogSumExp(torch.autograd.Function):
    """Row blocks that stay in cache; the slopes are written once, where autograd would keep and copy five such matrices."""

    @staticmethod
    def forward(ctx: Any, left_AD: Tensor, right_ND: Tensor, sharpness: Tensor, skip_diagonal: bool) -> Tensor:
        dtype = torch.promote_types(left_AD.dtype, torch.float32)  # at least: sums of exponentials
        left_AD, right_ND = left_AD.to(dtype), right_ND.to(dtype)
        out_A, to_sharpness_A = torch.empty_like(left_AD[:, 0]), torch.empty_like(left_AD[:, 0])
        to_left_AD = torch.empty_like(left_AD)
        share_A1, slopes_AN = left_AD.new_empty(len(left_AD), 1), left_AD.new_empty(len(left_AD), len(right_ND))
        is_sharp, scratch = bool(sharpness > SHARP), left_AD.new_empty(2, BLOCK, len(right_ND))
        with torch.autocast(left_AD.device.type, enabled=False):
            for start in range(0, len(left_AD), BLOCK):
                rows = slice(start, start + BLOCK)
                tanh, weighed = scratch[:, : len(left_AD[rows])]
                torch.mm(left_AD[rows], right_ND.T, out=tanh).tanh_()
                weights = torch.mul(tanh, sharpness, out=slopes_AN[rows])
                if skip_diagonal:
                    weights.diagonal(start).fill_(float("-inf"))
                top = weights.amax(1, keepdim=True) if is_sharp else 0.0
                if is_sharp:
                    weights.sub_(top)
                total = weights.exp_().sum(1, keepdim=True)
                out_A[rows] = (top + total.log()).squeeze(1)
                share = 1 / total
                to_sharpness_A[rows] = torch.mul(weights, tanh, out=weighed).sum(1) * share[:, 0]
                weights.addcmul_(weighed, tanh, value=-1)
                to_left_AD[rows] = (weights @ right_ND).mul_(share * sharpness)
                share_A1[rows] = share
        ctx.save_for_backward(left_AD, slopes_AN, to_left_AD, to_sharpness_A, share_A1 * sharpness)
        return out_A

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        left_AD, slopes_AN, to_left_AD, to_sharpness_A, share_A1 = ctx.saved_tensors
        grad_A1 = grads[0][:, None]
        return grad_A1 * to_left_AD, slopes_AN.T @ (grad_A1 * share_A1 * left_AD), grads[0] @ to_sharpness_A, None


def bounded_logsumexp(left_AD: Tensor, right_ND: Tensor, sharpness: Tensor, *, skip_diagonal: bool = False) -> Tensor:
    """logsumexp(tanh(left right') * sharpness) over the rows of `right`, [A]; `skip_diagonal` leaves row i out of row i."""
    out: Tensor = _BoundedLogSumExp.apply(left_AD, right_ND, sharpness, skip_diagonal)  # type: ignore[no-untyped-call]
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
    """InfoNCE of P pairs (rows of `left` and `right`), half each direction, for each pair, [P].

    What the negatives add depends on one side of a pair alone, so it is computed once for each distinct row of a pair.
    """
    return (
        _one_direction(scorer, left_AD, right_RD, left_P, right_P, negative_right_ND)
        + _one_direction(scorer, right_RD, left_AD, right_P, left_P, negative_left_ND)
    ) / 2


def _one_direction(
    scorer: Bilinear, from_AD: Tensor, to_RD: Tensor, from_P: Tensor, to_P: Tensor, negative_ND: Tensor
) -> Tensor:
    rows, from_P = torch.unique(from_P, return_inverse=True)
    mapped_AD = F.embedding(rows, from_AD) @ scorer.weight
    against_A = bounded_logsumexp(mapped_AD, negative_ND, scorer.sharpness)
    positive_P = scorer.bounded((F.embedding(from_P, mapped_AD) * F.embedding(to_P, to_RD)).sum(1))
    against_P = F.embedding(from_P, against_A[:, None])[:, 0]
    loss_P: Tensor = torch.logaddexp(positive_P, against_P) - positive_P
    return loss_P


def view_loss(scorer: Bilinear, first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """SimCLR over 2B rows: each row against its other view, all others but itself as negatives (Chen et al. 2020)."""
    if len(first_BD) == 0:
        return first_BD.new_zeros(())
    both = torch.cat([first_BD, second_BD])
    mapped = both @ scorer.weight
    total = bounded_logsumexp(mapped, both, scorer.sharpness, skip_diagonal=True)
    return (total - scorer.bounded((mapped * both.roll(len(first_BD), 0)).sum(1))).mean()
