"""What a step of a model of places tells the targets from: the whole catalogue, or a drawn part that stands for it.

Shape suffixes: B cases, R item rows of a step, N item rows drawn for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from corsar.places import PlaceBatch


class Compared(NamedTuple):
    """The item rows that a step compares; row 0 is no place."""

    rows_R: Tensor
    at_B: Tensor  # where the targets stand among them
    extra_R: Tensor  # added to a logit, for the rows that it stands for


PlaceLoss = Callable[[Tensor, Compared, PlaceBatch], Tensor]  # logits [B, R] in, the loss of each case out


def compared_rows(num_items: int, target_B: Tensor, drawn_N: Tensor | None) -> Compared:
    """The rows of a step; None: those of the whole catalogue.

    Of a part of the catalogue, the drawn ones stand for all that are no targets: each weighs as much as so many of them
    (importance weights of a sampled softmax; Bengio and Senécal, 2003).
    """
    rows_R = torch.arange(num_items + 1, device=target_B.device)
    if drawn_N is not None:
        rows_R = torch.unique(torch.cat([target_B.new_zeros(1), target_B, drawn_N]))
    is_drawn_R = ~torch.isin(rows_R, target_B) & (rows_R > 0)
    num_drawn = is_drawn_R.sum()
    share = (num_items + 1 - len(rows_R) + num_drawn) / num_drawn.clamp(min=1)
    extra_R = torch.where(is_drawn_R, share.log(), 0.0)
    at_B = torch.searchsorted(rows_R, target_B.contiguous())
    return Compared(rows_R, at_B, torch.where(rows_R > 0, extra_R, -torch.inf))


def cross_entropy(logits_BR: Tensor, compared: Compared, batch: PlaceBatch) -> Tensor:
    """Minus the log-likelihood of the target of each case, [B]."""
    return F.cross_entropy(logits_BR + compared.extra_R, compared.at_B, reduction="none")
