"""A learned filter along a sequence: each place reads the places before it, weighed by lag and channel.

Paper
    Zhou et al., "Filter-enhanced MLP is All You Need for Sequential Recommendation", WWW 2022. Its filter is circular: the
    first places read the last ones. Here the kernel is causal, and the circular form comes by name alone.

Cost
    L log L a row and channel, by an FFT over twice the slots. The circular form of rows with unlike lengths transforms the
    kernel once a row.

Shape suffixes: B rows, L slots, D channels, F frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from corsar.errors import ConfigError
from corsar.nn.padding import Padding


class FourierFilter(nn.Module):
    """out[t] = Σ_τ kernel[τ] · x[t − τ], a kernel for each channel.

    Args:
        dim: channels.
        max_len: lags of the kernel; no row may be longer.
        circular: t − τ is taken around the row's own length, so that each place reads all places: for a loss at the last
            place alone, since elsewhere it would read what it is to tell.
    """

    def __init__(self, dim: int, max_len: int, circular: bool = False) -> None:
        super().__init__()
        self.circular = circular
        self.kernel = nn.Parameter(torch.randn(max_len, dim) * max_len**-0.5)

    def forward(self, x_BLD: Tensor, *, lengths: Tensor | None = None, is_real: Tensor | None = None) -> Tensor:
        """The filtered sequence, [B, L, D], 0 at padding.

        Args:
            x_BLD: [B, L, D].
            lengths: [B] real places of each row, which stand first.
            is_real: [B, L] bool; real places wherever they stand: the filter works on them as if nothing stood between.

        Raises:
            ConfigError: L is above `max_len`, or both `lengths` and `is_real` are given.
        """
        slots, max_len = x_BLD.shape[1], len(self.kernel)
        if slots > max_len:
            raise ConfigError(f"{slots} slots and a filter of {max_len}; set max_len to the longest row")
        if x_BLD.numel() == 0:
            return x_BLD
        padding = Padding(slots, lengths, is_real)
        front_BLD = padding.to_front(x_BLD)
        with torch.autocast(x_BLD.device.type, enabled=False):
            wide = torch.float64 if x_BLD.dtype == torch.float64 else torch.float32  # there is no FFT of half precision
            filtered_BLD = self._filter(front_BLD.to(wide), self.kernel[:slots].to(wide), padding.length_B)
        return padding.put_back(filtered_BLD.to(x_BLD.dtype))

    def _filter(self, x_BLD: Tensor, kernel_LD: Tensor, length_B: Tensor | None) -> Tensor:
        slots = x_BLD.shape[1]
        size = slots if self.circular and length_B is None else 2 * slots
        if not self.circular or length_B is None:
            spectrum_BFD = torch.fft.rfft(x_BLD, size, 1) * torch.fft.rfft(kernel_LD, size, 0)
            filtered: Tensor = torch.fft.irfft(spectrum_BFD, size, 1)[:, :slots]
            return filtered
        at_L = torch.arange(slots, device=x_BLD.device)
        kernel_BLD = kernel_LD * (at_L < length_B[:, None]).unsqueeze(-1)
        spectrum_BFD = torch.fft.rfft(x_BLD, size, 1) * torch.fft.rfft(kernel_BLD, size, 1)
        line: Tensor = torch.fft.irfft(spectrum_BFD, size, 1)
        after_BL = at_L + length_B[:, None]  # what runs over the end of the row enters at its start
        return line[:, :slots] + line.gather(1, after_BL.clamp(max=size - 1)[..., None].expand_as(x_BLD))
