"""The Auto-Correlation of AutoMTN's published copy, for `preset = "paper"` alone.

Its inverse FFT is not told the length of the sequence. Of an odd length L it therefore gives L - 1 numbers, which are the
correlations of another sequence: of 25 check-ins, 24 lags. Sequences are still rolled around L. Lags are chosen as in the
published Autoformer: in training from the mean over the batch.

Shape suffixes: B cases, L check-ins, D channels, M kept lags, T lags.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from corsar.nn.autocorrelation import AutoCorrelation


class ShortLags(AutoCorrelation):
    """Auto-Correlation with one lag too few where the length is odd."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads, lags="paper_code", direction="paper", normalise=False)

    def forward(self, query_BLD: Tensor, key_BLD: Tensor, value_BLD: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        """The reading of each check-in, [B, L, D]."""
        q_BLD, k_BLD, v_BLD = self.query_map(query_BLD), self.key_map(key_BLD), self.value_map(value_BLD)
        spectrum_BFD = torch.fft.rfft(q_BLD, dim=1) * torch.fft.rfft(k_BLD, dim=1).conj()
        score_BT = torch.fft.irfft(spectrum_BFD.mean(2), dim=1)
        length = q_BLD.shape[1]
        kept = min(int(math.log(length)), score_BT.shape[1])
        chosen_BM = (score_BT.mean(0, keepdim=True) if self.training else score_BT).topk(kept, 1).indices
        lag_BM = chosen_BM.expand(len(score_BT), -1)
        weight_BM = score_BT.gather(1, lag_BM).softmax(1)
        from_BML = (torch.arange(length, device=lag_BM.device) + lag_BM[..., None]) % length
        parts_BMLD = v_BLD[:, None].expand(-1, kept, -1, -1).gather(2, from_BML[..., None].expand(-1, -1, -1, v_BLD.shape[2]))
        out_BLD: Tensor = self.out_map((weight_BM[..., None, None] * parts_BMLD).sum(1))
        return out_BLD
