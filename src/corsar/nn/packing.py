"""Real positions of a padded batch as one flat list, so that padding costs nothing and can change nothing.

Shape suffixes: B rows, L slots, T real positions (all rows one after another), E channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Packing:
    """Where the real positions of a batch stand.

    Linear maps, norms and feed-forward nets work on packed positions [T, E]; only attention needs the rows back.
    """

    def __init__(self, is_real_BL: Tensor) -> None:
        self.is_real_BL = is_real_BL
        self.shape = is_real_BL.shape
        self.at_T = is_real_BL.reshape(-1).nonzero().squeeze(1)
        self.is_full = len(self.at_T) == is_real_BL.numel()
        self.length_B = is_real_BL.sum(1)

    def pack(self, padded_BLE: Tensor) -> Tensor:
        """The real positions, [T, ...]."""
        flat = padded_BLE.reshape(-1, *padded_BLE.shape[2:])
        if self.is_full:
            return flat
        packed: Tensor = _Pick.apply(flat, self.at_T)  # type: ignore[no-untyped-call]
        return packed

    def unpack(self, packed_TE: Tensor) -> Tensor:
        """The rows with zeros at padding, [B, L, E]."""
        flat = packed_TE
        if not self.is_full:
            flat = _Place.apply(packed_TE, self.at_T, self.is_real_BL.numel())  # type: ignore[no-untyped-call]
        return flat.reshape(*self.shape, *packed_TE.shape[1:])

    def mean(self, packed_TE: Tensor) -> Tensor:
        """Mean over the real positions of each row, 0 where a row has none, [B, E]."""
        return self.unpack(packed_TE).sum(1) / self.length_B.clamp(min=1).unsqueeze(1)


class _Pick(torch.autograd.Function):
    """`flat[at]` for distinct positions: the backward is one copy, where index_select's would be a slow sum."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, at: Tensor) -> Tensor:
        ctx.save_for_backward(at)
        ctx.size = len(flat)
        return flat.index_select(0, at)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (at,) = ctx.saved_tensors
        return grads[0].new_zeros(ctx.size, *grads[0].shape[1:]).index_copy_(0, at, grads[0]), None


class _Place(torch.autograd.Function):
    """Zeros with the given rows at distinct positions."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, at: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(at)
        return packed.new_zeros(size, *packed.shape[1:]).index_copy_(0, at, packed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (at,) = ctx.saved_tensors
        return grads[0].index_select(0, at), None, None
