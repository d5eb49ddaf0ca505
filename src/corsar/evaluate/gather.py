"""Evaluated runs as a page shows them: report, places of all cases, learning curve."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from corsar.errors import ConfigError, DataError
from corsar.evaluate.report import Report, check_same, read_places, read_report


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training."""

    number: int  # from 1
    loss: float | None  # mean over its steps
    score: float | None  # on the validation part
    best: bool  # the highest score so far


@dataclass(frozen=True)
class Evaluated:
    """A run with its figures."""

    name: str  # differs from that of all other runs of the page
    path: Path  # as it was named
    report: Report
    places: pl.DataFrame
    epochs: list[Epoch]

    @property
    def tasks(self) -> list[str]:
        """The tasks that it was evaluated on."""
        return list(self.report["metrics"])


def open_runs(runs: Sequence[Path], *, fingerprint: str | None = None, baselines: bool = True) -> list[Evaluated]:
    """The runs with their reports under one protocol: that of the first run's newest report.

    Args:
        fingerprint: the first digits of another protocol's fingerprint.
        baselines: take what `corsar evaluate` put into the folders `baselines` of the runs along.

    Raises:
        ConfigError: a run is not there.
        DataError: a run has no report, or the reports are not of one protocol.
    """
    paths, reports = list(dict.fromkeys(runs)), list[dict[str, Any]]()
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"there is no run {path}; name a run that `corsar evaluate` has scored")
        if not (path / "report.json").is_file():
            raise DataError(f"{path} has no report; run `corsar evaluate {path}` first")
        wanted = fingerprint or (str(reports[0]["fingerprint"]) if reports else None)
        try:
            reports.append(read_report(path, wanted))
        except DataError:
            if fingerprint:
                raise
            reports.append(read_report(path))  # of another protocol: the sentence below says what differs
    check_same(reports)
    if baselines:
        there = {_rule(report) for report in reports}
        for path in list(paths):
            for one in sorted((path / "baselines").glob("*/report.json")):
                report = read_report(one)
                if report["fingerprint"] == reports[0]["fingerprint"] and _rule(report) not in there:
                    paths.append(one.parent)
                    reports.append(report)
                    there.add(_rule(report))
    times = Counter(str(report["name"]) for report in reports)
    return [
        Evaluated(
            str(report["name"]) if times[str(report["name"])] == 1 else str(path),
            path,
            report,
            read_places(path, report),
            _epochs(path),
        )
        for path, report in zip(paths, reports, strict=True)
    ]


def rule_of(model: Mapping[str, Any]) -> tuple[str, str]:
    """What tells an untrained rule from the others: the name of its model, and how the words of a query match."""
    return str(model["name"]), str(model.get("match", ""))


def _rule(report: Report) -> tuple[str, str]:
    return rule_of({"name": report["model"], **report["config"].get("model", {})})


def _epochs(run: Path) -> list[Epoch]:
    """The learning curve in a run's metrics.jsonl; empty where there is none."""
    home = run.parent if run.name == "artifact" else run
    try:
        lines = (home / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    sums: dict[int, tuple[float, int]] = {}  # epoch -> loss times steps, steps
    ends: dict[int, dict[str, Any]] = {}
    before = 0
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            break  # the last line of a run that was killed
        if line.get("kind") == "steps" and "loss" in line:
            loss, steps = sums.get(line["epoch"], (0.0, 0))
            new = line["step"] - before
            sums[line["epoch"]] = (loss + line["loss"] * new, steps + new)
            before = line["step"]
        elif line.get("kind") == "epoch":
            ends[line["epoch"]] = line
    return [
        Epoch(
            number=epoch + 1,
            loss=sums[epoch][0] / sums[epoch][1] if sums.get(epoch, (0, 0))[1] else None,
            score=ends.get(epoch, {}).get("score"),
            best=bool(ends.get(epoch, {}).get("best")),
        )
        for epoch in sorted({*sums, *ends})
    ]
