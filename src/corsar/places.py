"""What batches of check-ins hold beside what every batch holds: when, by the person's own clock, and where.

Shape suffixes as in batch.py: B cases, F slots of the window, I item rows, N item rows drawn for a step. A check-in is an
entry of the feed's kind, so the window's places are `feed_items_BF` and a model of any task can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from corsar.batch import OnDevice, SearchRecommendBatch
from corsar.geo import unit_vectors

HOUR_MS, MINUTE_MS = 3_600_000, 60_000
WEEK_HOURS = 168
UNKNOWN_MIN = -(1 << 15)  # stands for an offset that nobody told


@dataclass(frozen=True)
class Places(OnDevice):
    """Where places are, and how far the clock of each check-in is from UTC."""

    lat_lon_deg: Tensor  # [items + 1, 2] float64, NaN where unknown
    offsets_min: Tensor  # [check-ins] int64 in the order of the history's entries, UNKNOWN_MIN where unknown

    @cached_property
    def points_I3(self) -> Tensor:
        """Unit vectors of all item rows, [items + 1, 3] float32."""
        return unit_vectors(self.lat_lon_deg)


def hour_of_week(times_ms: Tensor, offsets_min: Tensor) -> Tensor:
    """Local hours of the week, 1 (Monday, 0:00 to 0:59) to 168; 0 where the offset is unknown."""
    local = (times_ms + offsets_min * MINUTE_MS) // HOUR_MS
    hours = (local + 3 * 24) % WEEK_HOURS + 1  # the clock begins on a Thursday
    return torch.where(offsets_min == UNKNOWN_MIN, 0, hours)


@dataclass(frozen=True, kw_only=True)
class PlaceBatch(SearchRecommendBatch):
    """One batch of cases of `next_place`."""

    times_BF: Tensor  # UTC ms, 0 pads
    hours_BF: Tensor  # local hour of the week of each check-in, 1 to 168; 0 pads and where unknown
    hour_B: Tensor  # that of the target, 0 unless `data.target_time` tells it
    points_I3: Tensor  # where all item rows are
    drawn_N: Tensor | None = None  # what a step tells the targets from; None: the whole catalogue
