"""Differences between runs, paired by case: every run was asked the same cases, so that what is hard for all cancels out.

Each has an interval (users resampled) and a p (`paired.randomisation_test`), which Holm's method corrects for all differences
of a table together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from corsar.batch import TASKS
from corsar.errors import ConfigError, DataError
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.metrics import Floats, case_metric, user_intervals
from corsar.evaluate.paired import holm, randomisation_test

RESAMPLES = 1000  # where the reports were made without intervals


@dataclass(frozen=True)
class Difference:
    """The mean of one run's figure minus the reference's over the same cases, with its 95 % interval and its p."""

    task: str
    name: str
    reference: str
    value: float
    low: float
    high: float
    p: float  # of there being no difference
    p_holm: float  # corrected for all differences of the table

    def told(self) -> dict[str, Any]:
        """All of it but the names of the run and the task."""
        return {key: value for key, value in asdict(self).items() if key not in ("task", "name")}


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
    found: list[Difference] = []
    for task in tasks_of(runs):
        here = [run for run in runs if task in run.tasks]
        chosen = _reference(here, task, metric, reference)
        found += _of(chosen, [run for run in here if run is not chosen], task, metric)
    corrected = holm(np.array([one.p for one in found]))
    return [replace(one, p_holm=float(p)) for one, p in zip(found, corrected, strict=True)]


def _reference(runs: Sequence[Evaluated], task: str, metric: str, name: str | None) -> Evaluated:
    for run in runs:
        if run.name == name:
            return run
    counting = [run for run in runs if not run.report["trained"]]
    return max(counting, key=lambda run: float(run.report["metrics"][task][metric]["value"])) if counting else runs[0]


def task_values(run: Evaluated, task: str, metric: str) -> tuple[pl.DataFrame, Floats]:
    """The cases of a task (case, user_row), in order of their numbers, and the metric of each, [N]."""
    places = run.places.filter(pl.col("task") == task).sort("case")
    values_N = case_metric(metric, places["better"].to_numpy(), places["tied"].to_numpy())
    return places.select("case", "user_row"), values_N


def _of(chosen: Evaluated, others: Sequence[Evaluated], task: str, metric: str) -> list[Difference]:
    if not others:
        return []
    base, base_N = task_values(chosen, task, metric)
    columns = []
    for run in others:
        own, values_N = task_values(run, task, metric)
        if not own.equals(base):
            raise DataError(f"'{run.name}' and '{chosen.name}' were not asked the same cases; evaluate them in one call")
        columns.append(values_N - base_N)
    values_NM, user_N = np.stack(columns, 1), base["user_row"].to_numpy()
    told = max(int(run.report["config"]["evaluate"]["bootstrap"]) for run in (chosen, *others))
    seed = int(chosen.report["seeds"]["bootstrap"])
    low, high = user_intervals(values_NM, user_N, told or RESAMPLES, seed)
    p = randomisation_test(values_NM, user_N, seed=seed)
    figures = np.stack([values_NM.mean(0), low, high, p], 1).tolist()
    return [
        Difference(task, run.name, chosen.name, value, start, end, chance, chance)
        for run, (value, start, end, chance) in zip(others, figures, strict=True)
    ]
