"""Points of irregular curves -> flat arrays -> batches. Point by point, or binned in time.

A layer that works on lags counts places, not days. Point by point (`bin_days=None`) a lag is a number of measurements, and
equal lags are unequal times. With `bin_days`, values are averaged over the bins of one grid of the clock, and a lag is a time;
that costs (1) all periods under two bins, which the grid cannot tell from others, (2) what happens inside a bin, (3) places:
the span of a curve over `bin_days` of them, most of them empty where measurements are rare, and (4) a guess at empty bins:
`empty_bins="zero"` puts the curve's mean there, which adds nothing to a correlation; `"skip"` leaves them out, so that a lag
counts bins with a measurement (nights, say) and is no time any more.

Shape suffixes: N curves, P places of all curves one after another, C channels, K numbers of the context, B curves of a batch,
L places of its longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from corsar.curves import CurveBatch
from corsar.errors import ConfigError, DataError

EmptyBins = Literal["zero", "skip"]
MOST_BINS = 100_000  # of one curve
MOST_SPREADS = 5.0  # values further from the mean than this are cut there
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Measurements of all curves at their places."""

    offsets: NDArray[np.int64]  # [N + 1]
    time_P: Floats
    values_PC: Floats  # a channel a band, 0 where there is no measurement
    seen_PC: NDArray[np.bool_]

    def curve(self, row: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Times [L], values [L, C] and whether they were measured [L, C], of one curve."""
        part = slice(self.offsets[row], self.offsets[row + 1])
        return self.time_P[part], self.values_PC[part], self.seen_PC[part]


def make_grid(points: pl.DataFrame, bands: list[str], bin_days: float | None = None, empty_bins: EmptyBins = "zero") -> Grid:
    """The points (`object, time, value, band`, objects together) at their places; several of a band at one place are averaged.

    Args:
        bin_days: None: each time at which an object was measured is a place. A width in the unit of `time`: each bin is one;
            bins begin at whole multiples of it, so that a night with its times around .2 stays in one piece.
        empty_bins: zero: a bin without a measurement is a place too; skip: it is none.

    Raises:
        ConfigError: the width is no positive number, or a curve would have over 100,000 bins.
        DataError: a band is not among `bands`.
    """
    if bin_days is not None and not (np.isfinite(bin_days) and bin_days > 0):
        raise ConfigError(f"bin_days = {bin_days} will not do; give the width of a bin in days, or None for no bins")
    unknown = sorted(set(points["band"].unique()) - set(bands))
    if unknown:
        raise DataError(f"band '{unknown[0]}' is not known here; give curves of the bands {', '.join(bands)} alone.")
    channel = pl.col("band").replace_strict(bands, range(len(bands)), return_dtype=pl.Int64)
    time = pl.col("time") if bin_days is None else (pl.col("time") / bin_days).floor()  # in bins from here on
    rows = points.select("value", time=time, channel=channel, row=pl.col("object").rle_id())
    rows = rows.group_by("row", "time", "channel", maintain_order=True).agg(pl.col("value").mean())
    is_regular = bin_days is not None and empty_bins == "zero"
    place = pl.col("time") - pl.col("time").min() if is_regular else pl.col("time").rank("dense") - 1
    rows = rows.with_columns(place=place.over("row").cast(pl.Int64))
    sizes = rows.group_by("row", maintain_order=True).agg(pl.col("place").max() + 1, pl.col("time").min())
    lengths = sizes["place"].to_numpy()
    if bin_days is not None and lengths.max() > MOST_BINS:
        raise ConfigError(f"bin_days = {bin_days} cuts a curve into over {MOST_BINS:,} bins; choose wider ones")
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    at, channels = offsets[rows["row"].to_numpy()] + rows["place"].to_numpy(), rows["channel"].to_numpy()
    values_PC, seen_PC = np.zeros((offsets[-1], len(bands))), np.zeros((offsets[-1], len(bands)), dtype=bool)
    values_PC[at, channels], seen_PC[at, channels] = rows["value"].to_numpy(), True
    time_P = np.repeat(sizes["time"].to_numpy() - offsets[:-1], lengths) + np.arange(offsets[-1])
    time_P[at] = rows["time"].to_numpy()  # those of empty bins stand there already
    return Grid(offsets, time_P if bin_days is None else (time_P + 0.5) * bin_days, values_PC, seen_PC)


@dataclass(frozen=True)
class Scaling:
    """What the training curves say about sizes; it goes with a model, as plain numbers."""

    bands: list[str]
    span: float  # a typical curve's, in days
    gap: float  # between two places
    context_mean: list[float]
    context_spread: list[float]

    @staticmethod
    def of(grid: Grid, bands: list[str]) -> Scaling:
        """From the grid of the training curves."""
        context_NK, starts, ends = _context(grid), grid.offsets[:-1], grid.offsets[1:] - 1
        span = float(np.median(grid.time_P[ends] - grid.time_P[starts]))
        steps = np.delete(np.diff(grid.time_P), starts[1:] - 1)
        gap = float(np.median(steps)) if len(steps) else 0.0
        spread_K = context_NK.std(0)
        spread_K[spread_K == 0] = 1
        return Scaling(bands, span or 1.0, gap or 1.0, context_NK.mean(0).tolist(), spread_K.tolist())


@dataclass(frozen=True)
class CurveSet:
    """Scaled curves in flat arrays, of which batches are cut."""

    offsets: Tensor  # [N + 1]
    values_PC: Tensor  # a value and whether it was measured, for each band; the logarithm of the gap before the place
    time_P: Tensor
    context_NK: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Places of each curve, [N]."""
        return self.offsets[1:] - self.offsets[:-1]

    def batch(self, rows_B: Tensor, pad_to: int | None = None) -> CurveBatch:
        """The given curves, padded at their ends to the longest of them, or to more places."""
        starts_B, lengths_B = self.offsets[rows_B], self.lengths[rows_B]
        place_L = torch.arange(max(int(lengths_B.max()), pad_to or 0))
        is_real_BL = place_L < lengths_B[:, None]
        at_BL = torch.where(is_real_BL, starts_B[:, None] + place_L, 0)
        values_BLC = self.values_PC[at_BL] * is_real_BL[..., None]
        return CurveBatch(values_BLC, is_real_BL, self.time_P[at_BL] * is_real_BL, self.context_NK[rows_B])


def scaled(grid: Grid, scaling: Scaling) -> CurveSet:
    """The curves of a grid, each band of each curve with mean 0 and spread 1."""
    lengths = np.diff(grid.offsets)
    mean_NC, spread_NC, _ = _moments(grid)
    own_P = np.repeat(np.arange(len(lengths)), lengths)
    values_PC = (grid.values_PC - mean_NC[own_P]) / np.where(spread_NC > 0, spread_NC, 1)[own_P]
    values_PC = np.where(grid.seen_PC, values_PC.clip(-MOST_SPREADS, MOST_SPREADS), 0)
    gap_P = np.diff(grid.time_P, prepend=grid.time_P[:1])
    gap_P[grid.offsets[:-1]] = 0
    channels = [values_PC, grid.seen_PC, np.log1p(gap_P / scaling.gap)[:, None]]
    context_NK = (_context(grid) - scaling.context_mean) / scaling.context_spread
    first_P = grid.time_P[grid.offsets[:-1]][own_P]
    return CurveSet(
        torch.from_numpy(grid.offsets),
        torch.from_numpy(np.concatenate(channels, 1)).float(),
        torch.from_numpy((grid.time_P - first_P) / scaling.span).float(),
        torch.from_numpy(context_NK.clip(-MOST_SPREADS, MOST_SPREADS)).float(),
    )


def _context(grid: Grid) -> Floats:
    """Mean, log spread and log count of each band, and the differences of the means, [N, K]; 0 where a band is missing."""
    mean_NC, spread_NC, count_NC = _moments(grid)
    known_NC = count_NC > 0
    least = np.float64(1e-3)
    colours = [np.where(known_NC[:, 0] & known_NC[:, c], mean_NC[:, 0] - mean_NC[:, c], 0) for c in range(1, known_NC.shape[1])]
    return np.column_stack([mean_NC, np.where(known_NC, np.log(spread_NC + least), 0), np.log1p(count_NC), *colours])


def _moments(grid: Grid) -> tuple[Floats, Floats, Floats]:
    """Mean, spread and count of each band of each curve, [N, C] each."""
    starts = grid.offsets[:-1]
    count_NC = np.add.reduceat(grid.seen_PC, starts, dtype=np.float64)
    mean_NC = np.add.reduceat(grid.values_PC, starts) / count_NC.clip(1)
    away_PC = np.where(grid.seen_PC, grid.values_PC - np.repeat(mean_NC, np.diff(grid.offsets), 0), 0)
    return mean_NC, np.sqrt(np.add.reduceat(away_PC**2, starts) / count_NC.clip(1)), count_NC
