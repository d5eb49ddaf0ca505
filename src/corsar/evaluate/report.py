"""The result of an evaluation as a file, and several of them as one table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corsar.errors import DataError

FORMAT = 1
Figures = dict[str, dict[str, float]]  # metric -> value, and low and high of its 95 % interval
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """Figures, and all that is needed to know what they mean."""

    model: str
    metrics: dict[str, Figures]  # of each task
    cases: dict[str, int]
    users: dict[str, int]
    segments: dict[str, dict[str, dict[str, Any]]]  # task -> segment -> cases, users, metrics
    protocol: dict[str, Any]
    fingerprint: str
    seeds: dict[str, int]
    wall_s: float
    machine: dict[str, Any]
    config: dict[str, Any]
    derived: str | None  # a sentence where the data is simulated or derived


def write_report(result: Result, folder: Path) -> dict[str, Any]:
    """Write `report.json` into a run directory; what comes back is what was written, the run's name in it."""
    where = folder.resolve()
    report = {"format": FORMAT, "name": where.parent.name if where.name == "artifact" else where.name, **asdict(result)}
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".report.{os.getpid()}.json"
    beside.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    beside.rename(folder / "report.json")
    return report


def read_report(path: Path) -> dict[str, Any]:
    """The report at `path`, a file or a run directory.

    Raises:
        DataError: there is none, or it is no report of this version.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"'{file}' is not there; make it with `corsar evaluate`") from error
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}' cannot be read; make it anew with `corsar evaluate`") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise DataError(f"'{file}' is no report of this version; make it anew with `corsar evaluate`")
    return report


def table_rows(reports: Sequence[Report | Result], metrics: Sequence[str] | None = None) -> list[dict[str, str]]:
    """One row for each task and report, tasks together: column -> text; a figure is "value ± half its interval".

    Args:
        metrics: columns to show; by default HR at the first and last k, NDCG at the last k, and MRR.

    Raises:
        DataError: the reports were not all taken under one protocol; the sentence says what differs.
    """
    told = [asdict(report) if isinstance(report, Result) else report for report in reports]
    for report in told[1:]:
        _check_same(told[0], report)
    tasks = list(dict.fromkeys(task for report in told for task in report["metrics"]))
    names = metrics or _main_metrics([name for report in told for task in tasks for name in report["metrics"].get(task, {})])
    return [
        {
            "task": task,
            "model": str(report.get("name") or report["model"]),
            **{name: _cell(report["metrics"][task].get(name)) for name in names},
        }
        for task in tasks
        for report in told
        if task in report["metrics"]
    ]


def sentences(report: Report) -> list[str]:
    """What a table of such reports must say beside its figures: the protocol, and whether the data is derived."""
    rules = report["protocol"]
    tasks = [f"{report['cases'][task]:,} {task} cases of {report['users'][task]:,} users" for task in report["cases"]]
    candidates = ", ".join(dict.fromkeys(str(told.get("candidates")) for told in rules["tasks"].values()))
    ties = "in expectation" if rules["ties"] == "expected" else "won by the target"
    told = f"{' and '.join(tasks)} of {rules['split']}; candidates: {candidates}; ties {ties}; ± is half a 95 % interval."
    return [told, report["derived"]] if report.get("derived") else [told]


def _main_metrics(names: Sequence[str]) -> list[str]:
    ks = sorted({int(name.partition("@")[2]) for name in names if "@" in name})
    return [*(f"HR@{k}" for k in dict.fromkeys([*ks[:1], *ks[-1:]])), *(f"NDCG@{k}" for k in ks[-1:]), "MRR"]


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "–"
    value = f"{figure['value']:.4f}"
    return f"{value} ±{(figure['high'] - figure['low']) / 2:.4f}" if "low" in figure else value


def _check_same(first: Report, other: Report) -> None:
    if first["fingerprint"] == other["fingerprint"]:
        return
    one, two = dict(leaves(first["protocol"])), dict(leaves(other["protocol"]))
    differ = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    plain = [key for key in differ if not key.endswith("_hash")]  # a hash says something only where nothing else does
    shown = ", ".join(f"{key} ({_short(one.get(key))} against {_short(two.get(key))})" for key in plain or differ)
    names = [report.get("name") or report["model"] for report in (first, other)]
    where = shown or "their fingerprints"
    raise DataError(
        f"'{names[0]}' and '{names[1]}' do not go into one table, they differ in {where}; evaluate them in one call"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:8]}…"


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, each under its dotted name."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
