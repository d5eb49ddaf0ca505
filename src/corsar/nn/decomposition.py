"""Series decomposition: what moves slowly apart from what repeats.

Paper
    Wu et al., "Autoformer: Decomposition Transformers with Auto-Correlation for Long-Term Series Forecasting", NeurIPS 2021,
    equation 1.

Shape suffixes: B rows, L steps, D channels, K steps of the average.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORT = 512  # up to this many steps, a product with the matrix of the average is faster than pooling


def moving_average(x_BLD: Tensor, kernel: int) -> Tensor:
    """The mean of the `kernel` steps around each, [B, L, D]; before the first and after the last step, these are repeated."""
    slots, before = x_BLD.shape[1], (kernel - 1) // 2
    if slots <= SHORT:
        at_L1 = torch.arange(slots, device=x_BLD.device)[:, None]
        from_LK = (at_L1 + torch.arange(kernel, device=x_BLD.device) - before).clamp(0, slots - 1)
        count_LL = x_BLD.new_zeros(slots, slots).scatter_add(1, from_LK, x_BLD.new_ones(slots, kernel))
        return count_LL @ x_BLD / kernel
    first_BKD = x_BLD[:, :1].expand(-1, before, -1)
    last_BKD = x_BLD[:, -1:].expand(-1, kernel - 1 - before, -1)
    longer_BLD = torch.cat([first_BKD, x_BLD, last_BKD], 1)
    return F.avg_pool1d(longer_BLD.transpose(1, 2), kernel, 1).transpose(1, 2)


def decompose(x_BLD: Tensor, kernel: int = 25) -> tuple[Tensor, Tensor]:
    """The seasonal part and the trend of each row, both [B, L, D]; they add up to it."""
    trend_BLD = moving_average(x_BLD, kernel)
    return x_BLD - trend_BLD, trend_BLD


class SeasonalNorm(nn.Module):
    """Layer norm minus its mean over time, so that no trend is left."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        normed_BLD: Tensor = self.norm(x_BLD)
        return normed_BLD - normed_BLD.mean(1, keepdim=True)
