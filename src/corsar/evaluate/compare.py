"""Differences between runs, paired by case: every run was asked the same cases, so that what is hard for all cancels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from corsar.batch import TASKS
from corsar.errors import ConfigError, DataError
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.metrics import case_metric, user_intervals

RESAMPLES = 1000  # where the reports were made without intervals


@dataclass(frozen=True)
class Difference:
    """The mean of one run's figure minus the reference's over the same cases, with its 95 % interval."""

    task: str
    name: str
    reference: str
    value: float
    low: float
    high: float


def main_metric(runs: Sequence[Evaluated], metric: str | None = None) -> str:
    """`metric`, or NDCG at the largest k; ConfigError where the reports do not all have it."""
    names = [set(figures) for run in runs for figures in run.report["metrics"].values()]
    shared: list[str] = sorted(
        set.intersection(*names), key=lambda name: (name.partition("@")[0], int(name.partition("@")[2] or 0))
    )
    if metric is None:
        return [name for name in shared if name.startswith("NDCG@")][-1]
    if metric not in shared:
        raise ConfigError(f"no figure '{metric}' stands in all the reports; name one of {', '.join(shared)}")
    return metric


def tasks_of(runs: Sequence[Evaluated]) -> list[str]:
    """The tasks that at least one of the runs was evaluated on."""
    return [task for task in TASKS if any(task in run.tasks for run in runs)]


def differences(runs: Sequence[Evaluated], metric: str, reference: str | None = None) -> list[Difference]:
    """Of each task, all runs against one: users are resampled, a user's cases together.

    Args:
        metric: as a report names it.
        reference: name of a run; by default each task's best run that only counts, or else its first run.

    Raises:
        ConfigError: no run has that name.
        DataError: two runs were not asked the same cases.
    """
    if reference is not None and reference not in {run.name for run in runs}:
        raise ConfigError(f"no run is named '{reference}'; the runs are {', '.join(run.name for run in runs)}")
    found = []
    for task in tasks_of(runs):
        here = [run for run in runs if task in run.tasks]
        chosen = _reference(here, task, metric, reference)
        base = _of_task(chosen, task)
        for run in here:
            if run is not chosen:
                found.append(_difference(run, chosen, _of_task(run, task), base, task, metric))
    return found


def _reference(runs: Sequence[Evaluated], task: str, metric: str, name: str | None) -> Evaluated:
    for run in runs:
        if run.name == name:
            return run
    counting = [run for run in runs if not run.report["trained"]]
    return max(counting, key=lambda run: float(run.report["metrics"][task][metric]["value"])) if counting else runs[0]


def _of_task(run: Evaluated, task: str) -> pl.DataFrame:
    return run.places.filter(pl.col("task") == task).sort("case")


def _difference(run: Evaluated, chosen: Evaluated, own: pl.DataFrame, base: pl.DataFrame, task: str, metric: str) -> Difference:
    if not own.select("case", "user_row").equals(base.select("case", "user_row")):
        raise DataError(f"'{run.name}' and '{chosen.name}' were not asked the same cases; evaluate them in one call")
    values_N = _values(own, metric) - _values(base, metric)
    resamples = int(run.report["config"]["evaluate"]["bootstrap"]) or RESAMPLES
    low, high = user_intervals(values_N[:, None], own["user_row"].to_numpy(), resamples, int(run.report["seeds"]["bootstrap"]))
    return Difference(task, run.name, chosen.name, float(values_N.mean()), float(low[0]), float(high[0]))


def _values(places: pl.DataFrame, metric: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return case_metric(metric, places["better"].to_numpy(), places["tied"].to_numpy())
