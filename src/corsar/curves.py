"""What flows into a model of curves. Shape suffixes: B curves, L places, C channels, K numbers of the context."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corsar.batch import OnDevice


@dataclass(frozen=True)
class CurveBatch(OnDevice):
    """Curves side by side; places that are not real stand anywhere and hold zeros."""

    values_BLC: Tensor
    is_real_BL: Tensor  # bool; each row has one at least
    time_BL: Tensor  # since the first place of the curve, in the unit of a typical span
    context_BK: Tensor  # what the scaling of each curve took away, standardised: its levels and spreads

    def __len__(self) -> int:
        return len(self.values_BLC)
