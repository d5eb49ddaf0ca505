"""What a change is worth over several seeds: contrasts of means over seeds, paired by case, with intervals.

Two things make such a figure uncertain: which users happened to be asked, and which seeds happened to be drawn. The interval
holds both: half its width over users (bootstrap, seeds as they are) and over seeds (Student's t, of the contrast of each seed
over all cases) are added as squares (Zou and Donner, 2008, combine intervals so). With one seed it is that over users alone.

Shape suffixes: N cases, S seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from corsar.errors import DataError
from corsar.evaluate.compare import RESAMPLES, task_values
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.metrics import Floats, user_intervals

# 97.5 % points of Student's t with 1 … 10 degrees of freedom
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
HOW = (
    "Intervals are of 95 % and hold both the users (bootstrap, a user's cases together) and the seeds (Student's t); the cases"
    " of all runs are the same and are paired."
)


@dataclass(frozen=True)
class Gain:
    """A contrast with its interval."""

    value: float
    low: float
    high: float
    users_low: float  # of the interval over users alone
    users_high: float
    by_seed: tuple[float, ...]

    def told(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @property
    def verdict(self) -> str:
        """helps, hurts, or that neither is shown."""
        return "helps" if self.low > 0 else "hurts" if self.high < 0 else "makes no difference that is shown"


def t975(freedom: int) -> float:
    """97.5 % point of Student's t; behind the table by the expansion of Cornish and Fisher, to a thousandth."""
    if freedom <= len(T975):
        return T975[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def contrast(
    parts: Sequence[tuple[float, Sequence[Evaluated]]], task: str, metric: str, mask_N: np.ndarray[Any, Any] | None = None
) -> Gain:
    """The sum over parts of weight times the mean over the part's seeds, of the cases of a task.

    Args:
        parts: weights and runs, a run a seed and the seeds in one order; a part of one run goes with every seed.
        mask_N: cases that count, in order of their numbers; at least one.

    Raises:
        DataError: two runs were not asked the same cases.
    """
    first = parts[0][1][0]
    cases, _ = task_values(first, task, metric)
    num_seeds = max(len(runs) for _, runs in parts)
    sums_SN: Floats = np.zeros((num_seeds, len(cases)))
    for weight, runs in parts:
        values = []
        for run in runs:
            own, values_N = task_values(run, task, metric)
            if not own.equals(cases):
                raise DataError(f"'{run.name}' and '{first.name}' were not asked the same cases; evaluate them in one call")
            values.append(values_N)
        sums_SN += weight * np.stack(values)
    users_N, mask_N = cases["user_row"].to_numpy(), np.ones(len(cases), dtype=bool) if mask_N is None else mask_N
    sums_SN, mean_N = sums_SN[:, mask_N], sums_SN[:, mask_N].mean(0)
    resamples = int(first.report["config"]["evaluate"]["bootstrap"]) or RESAMPLES
    low, high = user_intervals(mean_N[:, None], users_N[mask_N], resamples, int(first.report["seeds"]["bootstrap"]))
    by_seed, value = sums_SN.mean(1).tolist(), float(mean_N.mean())
    spread = t975(num_seeds - 1) * statistics.stdev(by_seed) / math.sqrt(num_seeds) if num_seeds > 1 else 0.0
    return Gain(
        value=value,
        low=value - math.hypot(value - float(low[0]), spread),
        high=value + math.hypot(float(high[0]) - value, spread),
        users_low=float(low[0]),
        users_high=float(high[0]),
        by_seed=tuple(by_seed),
    )
