"""Evaluated runs as one table: figures with intervals, differences with their tests, segments; as data, rows and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corsar.evaluate.compare import Difference, differences, main_metric, tasks_of
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.markdown import chance, figure, table
from corsar.evaluate.paired import DRAWS
from corsar.evaluate.report import cell, main_metrics, place_metrics, sentences
from corsar.evaluate.segments import PLACE_SEGMENTS, SEGMENTS

TEST = (
    "Intervals are of 95 %: users are resampled, a user's cases together. p is that of a randomisation test over users"
    f" ({DRAWS:,} draws: each user's difference keeps its size and gets a sign by chance), corrected by Holm's method for all"
    " differences of the table."
)
Rows = list[dict[str, str]]
Figure = Mapping[str, float]


def compared(runs: Sequence[Evaluated], metric: str | None = None, reference: str | None = None) -> dict[str, Any]:
    """All that a table of the runs says, as plain data.

    "rows" are a task and a run each, with their figures and "difference" (None for the reference); "segments" are a task and
    a segment each, with the figures of `metric` by run; "sentences" must stand beside them.

    Args:
        metric: what is tested; NDCG at the largest k by default.
        reference: name of a run; by default each task's best run that only counts, or else its first run.

    Raises:
        ConfigError: no figure or run has that name.
        DataError: two runs were not asked the same cases.
    """
    shown, widest = main_metric(runs, metric), max(runs, key=lambda run: len(run.tasks)).report
    found = {(one.task, one.name): one for one in differences(runs, shown, reference)}
    first, *derived = sentences(widest)
    tasks = tasks_of(runs)
    return {
        "metric": shown,
        "fingerprint": widest["fingerprint"],
        "protocol": widest["protocol"],
        "derived": widest.get("derived"),
        "rows": [_row(run, task, found.get((task, run.name))) for task in tasks for run in runs if task in run.tasks],
        "segments": [row for task in tasks for row in _segments([run for run in runs if task in run.tasks], task, shown)],
        "sentences": [*derived, first, TEST],
    }


def _row(run: Evaluated, task: str, difference: Difference | None) -> dict[str, Any]:
    return {
        "task": task,
        "run": run.name,
        "model": run.report["model"],
        "trained": run.report["trained"],
        "seed": run.report["seeds"]["run"],
        "metrics": run.report["metrics"][task],
        "difference": difference and difference.told(),
    }


def _segments(runs: Sequence[Evaluated], task: str, metric: str) -> list[dict[str, Any]]:
    meanings = PLACE_SEGMENTS if task == "next_place" else SEGMENTS
    return [
        {
            "task": task,
            "segment": name,
            "meaning": meanings.get(name, ""),
            "cases": told["cases"],
            "users": told["users"],
            "figures": {run.name: run.report["segments"][task][name]["metrics"].get(metric) for run in runs},
        }
        for name, told in runs[0].report["segments"][task].items()
    ]


def figure_rows(told: Mapping[str, Any], cell: Callable[[Figure | None], str] = cell) -> Rows:
    """The figures as rows of text, all tasks in one table.

    Args:
        cell: how a figure is written; by default with half its interval behind it.
    """
    there = [name for row in told["rows"] for name in row["metrics"]]
    shown = (place_metrics if all(row["task"] == "next_place" for row in told["rows"]) else main_metrics)(there)
    names = dict.fromkeys([*shown, told["metric"]])
    return [
        {"task": row["task"], "run": row["run"], "kind": "trained" if row["trained"] else "counted"}
        | {name: cell(row["metrics"].get(name)) for name in names}
        for row in told["rows"]
    ]


def difference_rows(told: Mapping[str, Any]) -> Rows:
    """The differences and their tests as rows of text, all tasks in one table."""
    return [
        {
            "task": row["task"],
            "run": row["run"],
            "minus": row["difference"]["reference"],
            told["metric"]: figure(row["difference"], "+"),
            "p": chance(row["difference"]["p"]),
            "p (Holm)": chance(row["difference"]["p_holm"]),
        }
        for row in told["rows"]
        if row["difference"]
    ]


def segment_rows(told: Mapping[str, Any], cell: Callable[[Figure | None], str] = cell) -> Rows:
    """The rows of the segments that have cases as text, all tasks in one: the metric of each run."""
    runs = list(dict.fromkeys(row["run"] for row in told["rows"]))
    return [
        {"task": one["task"], "segment": one["segment"].replace("_", " "), "cases": f"{one['cases']:,}"}
        | {run: cell(one["figures"].get(run)) for run in runs}
        for one in told["segments"]
        if one["cases"]
    ]


def markdown(told: Mapping[str, Any]) -> str:
    """The comparison as a piece of a Markdown page."""
    meanings = {one["segment"].replace("_", " "): one["meaning"] for one in told["segments"] if one["cases"]}
    said = [sentence.replace("± is half a 95 % interval", "[…] is a 95 % interval") for sentence in told["sentences"]]
    lines = [line for sentence in said for line in (sentence, "")]
    lines += [*table(figure_rows(told, figure)), "Differences, paired by case:", "", *table(difference_rows(told))]
    if meanings:
        lines += [f"{told['metric']} by segment; segments overlap:", "", *table(segment_rows(told, figure))]
        lines += [*(f"- {name}: {meaning}" for name, meaning in meanings.items()), ""]
    return "\n".join([*lines, f"Fingerprint of the protocol: `{told['fingerprint'][:16]}`."])
