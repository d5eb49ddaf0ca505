"""Train and evaluate every row of docs/results/places.md, then write it: `python benchmarks/places.py` (`make results-places`).

What is finished is not done again: a killed run goes on from its checkpoint, and figures that were taken are kept beside the
runs. Each row is a `corsar` command, done in this process to spare its start. A row with several seeds is its mean over them,
case by case, before it is compared. With --have the page is written of what there is, and says which rows have fewer seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from results import SEEDS, corsar, train_seconds

from corsar.api import evaluate_runs, train_run
from corsar.config import load_config
from corsar.data.store import open_dataset
from corsar.evaluate.metrics import case_metric, user_intervals
from corsar.evaluate.report import read_places, read_report, table_rows
from corsar.evaluate.segments import is_return

RAW = Path("../shared/data/foursquare_calgary_phoenix")
CITIES = {"calgary": "CAL_checkin.csv", "phoenix": "PHO_checkin.csv.gz"}
SPLITS = {
    "leave_last": "the last check-in of each person",
    "last_fraction": "the last 20 % of each person's check-ins",
}
UNTRAINED = ("popularity", "nearest", "markov", "visits", "visits_markov")
TRAINED = (
    "habits", "automtn_code_returns", "automtn_text_returns", "sasrec", "automtn_code", "automtn_text", "automtn_paper",
)  # fmt: skip
METRICS = ("HR@1", "HR@5", "HR@10", "HR@20", "MRR")
AGAINST = ("visits", "visits_markov")
COMPARED = ("HR@1", "HR@10", "MRR")
RESAMPLES = 2000
Seeds = tuple[int, ...]
Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Row:
    """A row of a table: the places of its cases, one frame a seed, in the order of the cases."""

    name: str
    places: list[pl.DataFrame]

    def values(self, metric: str) -> Values:
        """The metric of each case, the mean over seeds."""
        each = [case_metric(metric, one["better"].to_numpy(), one["tied"].to_numpy()) for one in self.places]
        return np.mean(each, 0)

    @property
    def users(self) -> np.ndarray[Any, Any]:
        return self.places[0]["user_row"].to_numpy()


def prepare(city: str, split: str, out: Path, *more: str) -> None:
    if not out.exists():
        corsar("prepare", "foursquare", str(RAW / CITIES[city]), "--split", split, "--out", str(out), *more)


def run_row(data: Path, home: Path, row: str, seed: int, threads: str) -> tuple[Path, str]:
    """The run of a row, trained and evaluated, and the command of its training."""
    run, file = home / (f"{row}_s{seed}" if seed else row), f"configs/places_{row}.toml"
    words = ["train", file, "--data", str(data), "--out", str(run)]
    words += ["--run.seed", str(seed)] if seed else []
    if not (run / "done").exists():
        sys.stderr.write(f"corsar {' '.join(words)}\n")
        told = {"data.path": str(data), "run.threads": threads} | ({"run.seed": str(seed)} if seed else {})
        train_run(load_config(Path(file), told), run, resume=(run / "config.toml").exists())
        evaluate_runs([run], overrides={"run.threads": threads, "evaluate.bootstrap": "0"}, baselines=False)
        (run / "done").write_text("trained and evaluated\n")
    return run, f"corsar {' '.join(words)}"


def rows_of(
    data: Path, home: Path, names: tuple[str, ...], seeds: Seeds, threads: str, have: bool = False
) -> tuple[list[Row], list[str]]:
    """Rows with all their seeds, and lines of commands and times; figures of unlike protocols are refused."""
    rows, lines, reports = [], [], []
    for name in names:
        wanted = seeds if name in TRAINED else (0,)
        if have:
            wanted = tuple(seed for seed in wanted if (home / (f"{name}_s{seed}" if seed else name) / "done").exists())
        if not wanted:
            lines.append(f"| {name} | 0 | not trained | – | – |")
            continue
        made = [run_row(data, home, name, seed, threads) for seed in wanted]
        told = [read_report(run) for run, _ in made]
        reports += told
        rows.append(Row(name, [read_places(run, report).sort("case") for (run, _), report in zip(made, told, strict=True)]))
        seconds, epochs = train_seconds(made[0][0])
        lines.append(f"| {name} | {len(made)} | `{made[0][1]}` | {epochs or '–'} | {seconds:.0f} s |")
    table_rows(reports)
    return rows, lines


def short(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1)


def table(rows: list[Row], keep: np.ndarray[Any, np.dtype[np.bool_]]) -> list[str]:
    """Markdown: a row each, its metrics over the kept cases with 95 % intervals over users."""
    lines = ["| model | " + " | ".join(name.replace("HR", "Acc") for name in METRICS) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for row in rows:
        values = np.stack([row.values(metric)[keep] for metric in METRICS], 1)
        low, high = user_intervals(values, row.users[keep], RESAMPLES)
        cells = [f"{short(v)} [{short(a)}, {short(b)}]" for v, a, b in zip(values.mean(0), low, high, strict=True)]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return lines


def comparisons(rows: list[Row]) -> list[str]:
    """Markdown: trained rows minus the counted ones, paired by case, 95 % intervals over users."""
    by_name = {row.name: row for row in rows}
    lines = [
        "| model minus | " + " | ".join(f"{name.replace('HR', 'Acc')}" for name in COMPARED) + " |",
        "|---" * (len(COMPARED) + 1) + "|",
    ]
    for name in [row.name for row in rows if row.name in TRAINED]:
        for other in AGAINST:
            gap = np.stack([by_name[name].values(metric) - by_name[other].values(metric) for metric in COMPARED], 1)
            low, high = user_intervals(gap, by_name[name].users, RESAMPLES)
            cells = [f"{v:+.4f} [{a:+.4f}, {b:+.4f}]" for v, a, b in zip(gap.mean(0), low, high, strict=True)]
            lines.append(f"| {name} − {other} | " + " | ".join(cells) + " |")
    return lines


def part(
    city: str, split: str, home: Path, names: tuple[str, ...], seeds: Seeds, threads: str, have: bool = False
) -> list[str]:
    """The tables of one city and split."""
    data = Path("datasets/places") / f"{city}_{split}"
    prepare(city, split, data)
    rows, lines = rows_of(data, home / f"{city}_{split}", names, seeds, threads, have)
    dataset = open_dataset(data)
    cases = dataset.cases("test", "next_place")
    returns = is_return(cases, dataset.history)
    report = read_report(home / f"{city}_{split}" / rows[0].name)
    page = [f"## {city.capitalize()}, {SPLITS[split]}", ""]
    page += [
        f"{len(cases):,} cases of {len(np.unique(rows[0].users)):,} people, {returns.mean():.0%} of them returns; the whole"
    ]
    page[-1] += f" catalogue of {dataset.catalogue.num_items:,} places; fingerprint `{report['fingerprint'][:16]}`."
    page += [
        "",
        *table(rows, np.ones(len(cases), dtype=bool)),
        "",
        "Returns:",
        "",
        *table(rows, returns),
        "",
        "Discoveries:",
        "",
    ]
    page += [*table(rows, ~returns), "", "Differences, paired by case:", "", *comparisons(rows), ""]
    return [*page, "| row | seeds | command of seed 0 | epochs | time |", "|---|---|---|---|---|", *lines, ""]


def reference(home: Path, threads: str) -> list[str]:
    """The untrained rows counted on all before the test part: nothing is held out for validation."""
    page = ["## The untrained rows, counted on all that comes before the test check-in", ""]
    page += ["Prepared with `--no-valid`: the check-in before the last is for counting, as in the literature's tables.", ""]
    for city in CITIES:
        data = Path("datasets/places") / f"{city}_no_valid"
        prepare(city, "leave_last", data, "--no-valid")
        rows, _ = rows_of(data, home / f"{city}_no_valid", UNTRAINED, (0,), threads)
        page += [f"{city.capitalize()}:", "", *table(rows, np.ones(len(rows[0].users), dtype=bool)), ""]
    return page


def main() -> None:
    """The page; with --only, a part of it is trained and the page is left as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--rows", nargs="*", default=[*UNTRAINED, *TRAINED], choices=[*UNTRAINED, *TRAINED])
    parser.add_argument("--only", metavar="CITY_SPLIT", help="as calgary_leave_last: train this part, write no page")
    parser.add_argument("--have", action="store_true", help="write the page of the rows that are finished")
    given = parser.parse_args()
    home, names, seeds = Path("runs/places"), tuple(given.rows), tuple(given.seeds)
    parts = [(city, split) for city in CITIES for split in SPLITS if given.only in (None, f"{city}_{split}")]
    if given.have:
        missing = [one for one in parts if not all((home / "_".join(one) / name / "done").exists() for name in AGAINST)]
        parts = [one for one in parts if one not in missing]
    tables = [part(city, split, home, names, seeds, given.threads, given.have) for city, split in parts]
    if given.only:
        print("\n".join(tables[0]))
        return
    machine = json.loads((home / "calgary_leave_last" / names[0] / "report.json").read_text())["machine"]
    page = ["# Results on places: Calgary and Phoenix", ""]
    page += [
        "Acc@k is HR@k. Values are means over cases and seeds with 95 % intervals (bootstrap over users); ties in expectation."
    ]
    page += [
        f"Seeds of trained rows: {', '.join(map(str, seeds))}, or as many of them as a table says.",
        "The epoch was chosen on the validation part, whole catalogue.",
    ]
    page += ["Returns are targets that the person was at before, discoveries all others."]
    page += [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, one thread each beside other work."
    ]
    page += ["Written by `python benchmarks/places.py` (`make results-places`), which goes on where it was stopped.", ""]
    if given.have:
        page += [
            "**Not finished**: this page holds the rows that were trained when it was written (`--have`); the tables name",
            "",
        ]
        page[-2] += " the others."
    notes = Path("docs/results/places_notes.md")
    page += [notes.read_text()] if notes.exists() else []
    for one in tables:
        page += one
    if given.have and missing:
        page += ["Not run yet: " + ", ".join(f"{city.capitalize()} of `{split}`" for city, split in missing) + ".", ""]
    page += reference(home, given.threads)
    Path("docs/results/places.md").write_text("\n".join(page))


if __name__ == "__main__":
    main()
