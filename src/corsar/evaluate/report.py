"""The result of an evaluation as files, and several of them as one table.

A run keeps one report a protocol: `reports/PRINT.json`, and the places of all cases as `reports/PRINT.parquet`, where PRINT is
the first digits of the fingerprint; `report.json` is the newest of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from corsar.errors import DataError, writing

FORMAT = 2
DIGITS = 16  # of a fingerprint, in the names of files
Figures = dict[str, dict[str, float]]  # metric -> value, and low and high of its 95 % interval
Report = Mapping[str, Any]
RULES = {"ties": "tie rule", "exclude_seen": "seen items"}  # of a protocol, as a sentence names them
PLACES: dict[str, Any] = {"task": pl.String, "case": pl.Int64, "user_row": pl.Int64, "better": pl.Int64, "tied": pl.Int64}


@dataclass(frozen=True)
class Result:
    """Figures, and all that is needed to know what they mean."""

    model: str
    trained: bool  # False for one that only counts
    metrics: dict[str, Figures]  # of each task
    lists: dict[str, dict[str, float]]  # task -> metric of the lists -> value
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
    places: pl.DataFrame  # a row a case, columns PLACES; it stands in a file of its own

    def told(self) -> dict[str, Any]:
        """What a report holds of it: all but the places."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "places"}


def write_report(result: Result, folder: Path) -> dict[str, Any]:
    """Write a run's report, in place of an earlier one of the same protocol; what comes back is the report, its name in it.

    Raises:
        OutputError: it cannot be written; what was there before is there still.
    """
    where = folder.resolve()
    report = {"format": FORMAT, "name": where.parent.name if where.name == "artifact" else where.name, **result.told()}
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    kept, name = folder / "reports", result.fingerprint[:DIGITS]
    write_file(kept / f"{name}.parquet", result.places.write_parquet, pl.exceptions.PolarsError)
    write_text(kept / f"{name}.json", text)
    write_text(folder / "report.json", text)
    return report


def write_file(file: Path, write: Callable[[Path], object], *kinds: type[Exception]) -> None:
    """Call `write` with a path beside `file`, then rename: the file is there as a whole, or as it was before.

    Raises:
        OutputError: the disk is in the way; it shows as OSError or as one of `kinds`.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with writing(file, *kinds):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(beside)
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text as `write_file` does."""
    write_file(file, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_report(path: Path, fingerprint: str | None = None) -> dict[str, Any]:
    """The report at `path`, a file or a run directory.

    Args:
        fingerprint: the first digits of the protocol's; of a run, its report under that protocol in place of the newest.

    Raises:
        DataError: there is none, or it is no report of this version.
    """
    file = path / "report.json" if path.is_dir() else path
    if fingerprint and path.is_dir():
        found = sorted((path / "reports").glob("*.json"))
        fits = [one for one in found if one.stem.startswith(fingerprint[:DIGITS])]
        if len(fits) != 1:
            there = ", ".join(one.stem for one in found) or "none"
            raise DataError(f"'{path}' has {len(fits)} reports of fingerprint {fingerprint}; it has {there}: name one of them")
        file = fits[0]
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"'{file}' is not there; make it with `corsar evaluate`, given the run") from error
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}' cannot be read; make it anew with `corsar evaluate`") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise DataError(f"'{file}' is no report of this version; make it anew with `corsar evaluate`")
    return report


def read_places(run: Path, report: Report) -> pl.DataFrame:
    """The places of all cases of a run's report, a row a case, columns `PLACES`.

    Raises:
        DataError: the file is missing, damaged, or not of this report.
    """
    file = run / "reports" / f"{report['fingerprint'][:DIGITS]}.parquet"
    try:
        places = pl.read_parquet(file)
        counts = dict(places.group_by("task").len().iter_rows())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"'{file}' is missing or cannot be read; make it anew with `corsar evaluate`") from error
    if dict(places.schema) != PLACES or counts != report["cases"]:
        raise DataError(f"'{file}' does not fit its report; make both anew with `corsar evaluate`")
    return places


def table_rows(reports: Sequence[Report | Result], metrics: Sequence[str] | None = None) -> list[dict[str, str]]:
    """One row for each task and report, tasks together: column -> text; a figure is "value ± half its interval".

    Args:
        metrics: columns to show; by default HR at the first and last k, NDCG at the last k, and MRR.

    Raises:
        DataError: the reports were not all taken under one protocol; the sentence says what differs.
    """
    told = [report.told() if isinstance(report, Result) else report for report in reports]
    check_same(told)
    tasks = list(dict.fromkeys(task for report in told for task in report["metrics"]))
    there = [name for report in told for task in tasks for name in report["metrics"].get(task, {})]
    names = metrics or (place_metrics(there) if tasks == ["next_place"] else main_metrics(there))
    return [
        {
            "task": task,
            "model": str(report.get("name") or report["model"]),
            **{name: cell(report["metrics"][task].get(name)) for name in names},
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
    seen = ", without items of the user's history in recommend" if rules.get("exclude_seen") else ""
    told = f"{' and '.join(tasks)} of {rules['split']}; candidates: {candidates}{seen}; ties {ties}; ± is half a 95 % interval."
    return [told, report["derived"]] if report.get("derived") else [told]


def main_metrics(names: Sequence[str]) -> list[str]:
    """HR at the first and last k, NDCG at the last k, and MRR: what a table shows unless more is asked for."""
    ks = sorted({int(name.partition("@")[2]) for name in names if "@" in name})
    return [*(f"HR@{k}" for k in dict.fromkeys([*ks[:1], *ks[-1:]])), *(f"NDCG@{k}" for k in ks[-1:]), "MRR"]


def place_metrics(names: Sequence[str]) -> list[str]:
    """What a table of next places shows: HR at each k (which papers on places call Acc), and MRR."""
    return [*dict.fromkeys(name for name in names if name.startswith("HR@")), "MRR"]


def cell(figure: Mapping[str, float] | None) -> str:
    """A figure as "value ± half its interval", or a dash."""
    if figure is None:
        return "–"
    value = f"{figure['value']:.4f}"
    return f"{value} ±{(figure['high'] - figure['low']) / 2:.4f}" if "low" in figure else value


def check_same(reports: Sequence[Report]) -> None:
    """Nothing; DataError if the reports were not all taken under one protocol: the sentence says what differs."""
    for report in reports[1:]:
        if report["fingerprint"] != reports[0]["fingerprint"]:
            raise DataError(_difference(reports[0], report))


def _difference(first: Report, other: Report) -> str:
    one, two = dict(leaves(first["protocol"])), dict(leaves(other["protocol"]))
    differ = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    plain = [key for key in differ if not key.endswith("_hash")]  # a hash says something only where nothing else does
    shown = ", ".join(
        f"{RULES.get(key, key)} ({_short(one.get(key))} against {_short(two.get(key))})" for key in plain or differ
    )
    names = [report.get("name") or report["model"] for report in (first, other)]
    where = shown or "their fingerprints"
    return f"'{names[0]}' and '{names[1]}' do not go into one table, they differ in {where}; evaluate them in one call"


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
