"""What flows from data into forecasters: regular series on the device, and windows cut from them.

Shape suffixes: N steps of all groups, one group behind the other, G groups, B windows, L past steps, T future steps,
V variables, M marks of a time. A group is one series (V = 1), or several that are forecast together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from corsar.batch import OnDevice


@dataclass(frozen=True)
class SeriesBatch(OnDevice):
    """Windows of series."""

    past_BLV: Tensor
    past_marks_BLM: Tensor
    future_marks_BTM: Tensor
    future_BTV: Tensor | None = None  # what came; None where nobody knows

    def __len__(self) -> int:
        return len(self.past_BLV)


@dataclass(frozen=True)
class Panel(OnDevice):
    """All steps of all groups; group g is rows `offsets[g]:offsets[g + 1]`."""

    values_NV: Tensor
    marks_NM: Tensor
    offsets: Tensor

    def owners(self) -> Tensor:
        """The group of each step, [N]."""
        lengths = self.offsets[1:] - self.offsets[:-1]
        return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)

    def scaled(self, mean_GV: Tensor, std_GV: Tensor, dtype: torch.dtype = torch.float32) -> Panel:
        """The same in units of each group's scale."""
        owner_N = self.owners()
        values_NV = (self.values_NV - mean_GV[owner_N]) / std_GV[owner_N]
        return Panel(values_NV.to(dtype), self.marks_NM, self.offsets)

    def window_starts(self, past_len: int, horizon: int, first_G: Tensor, end_G: Tensor) -> Tensor:
        """First rows of all windows whose futures lie in `first_G <= row < end_G` and whose pasts lie in their group, [W]."""
        first = torch.maximum(first_G, self.offsets[:-1] + past_len)
        spans = zip(first.tolist(), (end_G - horizon + 1).tolist(), strict=True)
        return torch.cat([torch.arange(one, max(one, end)) - past_len for one, end in spans])

    def batch(self, starts_B: Tensor, past_len: int, horizon: int) -> SeriesBatch:
        """The windows that begin at these rows."""
        rows_BL = starts_B[:, None] + torch.arange(past_len + horizon, device=starts_B.device)
        values, marks = self.values_NV[rows_BL], self.marks_NM[rows_BL]
        return SeriesBatch(values[:, :past_len], marks[:, :past_len], marks[:, past_len:], values[:, past_len:])
