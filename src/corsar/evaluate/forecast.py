"""Errors of forecasts rolled over a stretch of time: every window counts, in scaled and in original units.

The published evaluations drop the last batch where it is not full; here no window is left out. Neighbouring windows share most
of their steps, so that intervals resample blocks of windows (Carlstein, "The use of subseries values for estimating the
variance of a general statistic from a stationary sequence", Annals of Statistics 14, 1986).

Shape suffixes: B windows of a batch, W all windows, T future steps, V variables, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from corsar.models.forecaster import Forecaster
from corsar.progress import Progress
from corsar.series import Panel

BATCH = 64  # windows forecast at once
METRICS = ("mse", "mae", "mse_original", "mae_original")


@dataclass(frozen=True)
class Scale:
    """The mean and the spread of each variable of each group over its training part, [G, V] float64 each."""

    mean_GV: Tensor
    std_GV: Tensor


@dataclass(frozen=True)
class RollingErrors:
    """Errors of each window, averaged over its steps; the first two in scaled units, the others in original ones."""

    mse: np.ndarray  # [W, V], as are the others
    mae: np.ndarray
    mse_original: np.ndarray
    mae_original: np.ndarray
    targets_W: np.ndarray  # first rows of the futures
    groups_W: np.ndarray

    def summary(self, block: int, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
        """Each metric's mean over windows and variables, with its 95 % interval over blocks of `block` windows.

        Returns:
            {"mse": {"value": …, "low": …, "high": …}, "mae": …, "mse_original": …, "mae_original": …, "windows": W,
            "blocks": number of blocks}; without an interval where there are fewer than two blocks.
        """
        told: dict[str, Any] = {}
        for name in METRICS:
            told[name] = _interval(getattr(self, name).mean(1), self._blocks(block), resamples, seed)
        return {**told, "windows": len(self.targets_W), "blocks": int(self._blocks(block)[-1]) + 1}

    def by_series(self) -> dict[int, dict[str, float]]:
        """Each metric's mean over the windows of each series, by its place: among the variables, or with one, the groups."""
        if self.mse.shape[1] > 1:
            parts = {variable: (slice(None), variable) for variable in range(self.mse.shape[1])}
            return {place: {name: float(getattr(self, name)[part].mean()) for name in METRICS} for place, part in parts.items()}
        own = {int(group): self.groups_W == group for group in np.unique(self.groups_W)}
        return {place: {name: float(getattr(self, name)[rows].mean()) for name in METRICS} for place, rows in own.items()}

    def less(self, other: RollingErrors, metric: str, block: int, *, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
        """How far this metric is below the other's on the same windows: the mean difference with its interval.

        Raises:
            ValueError: The windows are not the same.
        """
        if not np.array_equal(self.targets_W, other.targets_W):
            raise ValueError("errors of unlike windows; roll both over the same stretch")
        difference_W = (getattr(other, metric) - getattr(self, metric)).mean(1)
        return _interval(difference_W, self._blocks(block), resamples, seed)

    def _blocks(self, block: int) -> np.ndarray:
        """The block of each window, [W]: `block` windows that follow one another in one series, or what is left of it."""
        is_new = np.diff(self.targets_W, prepend=-2) != 1
        run_W = np.cumsum(is_new) - 1
        place_W = np.arange(len(self.targets_W)) - np.flatnonzero(is_new)[run_W]
        _, numbers_W = np.unique(np.stack([run_W, place_W // block], 1), axis=0, return_inverse=True)
        return numbers_W.reshape(-1)


def _interval(values_W: np.ndarray, blocks_W: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    counts = np.bincount(blocks_W)
    sums = np.bincount(blocks_W, values_W)
    told = {"value": float(values_W.mean())}
    if len(counts) > 1:
        drawn = np.random.default_rng(seed).integers(len(counts), size=(resamples, len(counts)))
        means = sums[drawn].sum(1) / counts[drawn].sum(1)
        told["low"], told["high"] = (float(one) for one in np.quantile(means, [0.025, 0.975]))
    return told


def rolling_errors(
    model: Forecaster, panel: Panel, starts_W: Tensor, scale: Scale, *, progress: Progress | None = None
) -> RollingErrors:
    """The errors of the forecasts from all windows that begin at these rows of a scaled panel.

    Args:
        panel: Scaled series, as `Panel.scaled` gives them.
        starts_W: First rows of the windows, in time order within a series, [W].
        scale: What turns errors back into original units.
    """
    groups_W = panel.owners()[starts_W].cpu()
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    batches = torch.split(starts_W, BATCH)
    for starts_B in (progress or Progress(quiet=True)).track(batches, "forecast", len(batches)):
        error_BTV = _errors(model, panel, starts_B).double()
        parts.append((error_BTV.square().mean(1).cpu().numpy(), error_BTV.abs().mean(1).cpu().numpy()))
    squared, absolute = (np.concatenate(part) for part in zip(*parts, strict=True))
    std_WV = scale.std_GV[groups_W].numpy()
    targets_W = (starts_W + model.past_len).cpu().numpy()
    return RollingErrors(squared, absolute, squared * std_WV**2, absolute * std_WV, targets_W, groups_W.numpy())


def mean_squared_error(model: Forecaster, panel: Panel, starts_W: Tensor, progress: Progress) -> float:
    """The mean over all windows, steps and variables, in scaled units."""
    total = 0.0
    batches = torch.split(starts_W, BATCH)
    for starts_B in progress.track(batches, "validate", len(batches)):
        total += float(_errors(model, panel, starts_B).square().mean((1, 2)).sum())
    return total / len(starts_W)


@torch.no_grad()
def _errors(model: Forecaster, panel: Panel, starts_B: Tensor) -> Tensor:
    """Forecast minus what came, [B, T, V]; the model stays in evaluation mode."""
    model.eval()
    batch = panel.batch(starts_B.to(panel.values_NV.device), model.past_len, model.config.horizon)
    assert batch.future_BTV is not None
    error_BTV: Tensor = model(batch) - batch.future_BTV
    return error_BTV
