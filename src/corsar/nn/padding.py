"""Rows of unlike lengths: real places brought to the front for a layer, and what it gives put back where they stood.

Shape suffixes: B rows, L slots, X channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corsar.errors import ConfigError


class Padding:
    """Where the real places of padded rows stand: in front, `lengths` of them, or wherever `is_real` says.

    Raises:
        ConfigError: both are given.
    """

    def __init__(self, slots: int, lengths: Tensor | None, is_real: Tensor | None) -> None:
        if lengths is not None and is_real is not None:
            raise ConfigError("both lengths and is_real are given; give one of them")
        self.order_BL: Tensor | None = None
        if is_real is not None:
            self.order_BL = is_real.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
            lengths = is_real.sum(1)
        self.length_B = lengths
        self.is_first_BL1: Tensor | None = None
        if lengths is not None:
            self.is_first_BL1 = (torch.arange(slots, device=lengths.device) < lengths[:, None]).unsqueeze(-1)

    def to_front(self, x_BLX: Tensor) -> Tensor:
        """Real places first, in their order, and 0 behind them, [B, L, X]."""
        if self.order_BL is not None:
            x_BLX = x_BLX.gather(1, self.order_BL[..., None].expand_as(x_BLX))
        return x_BLX if self.is_first_BL1 is None else x_BLX * self.is_first_BL1

    def put_back(self, x_BLX: Tensor) -> Tensor:
        """What stands in front where it came from, and 0 at padding, [B, L, X]."""
        if self.is_first_BL1 is not None:
            x_BLX = x_BLX * self.is_first_BL1
        if self.order_BL is None:
            return x_BLX
        return torch.zeros_like(x_BLX).scatter(1, self.order_BL[..., None].expand_as(x_BLX), x_BLX)
