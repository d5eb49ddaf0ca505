"""Train and evaluate every row of a results page, then write the page: `python benchmarks/results.py toys`.

What is finished is not done again: a killed run goes on from its checkpoint. Each step is a `corsar` command, and the page
quotes the command, its time and the machine beside the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tomllib
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corsar.api import evaluate_runs
from corsar.evaluate.report import table_rows
from corsar.progress import Progress

TOYS, GROCERY = "../shared/data/toys_search_feed", "../shared/data/amazon_grocery"
Reports = list[dict[str, Any]]
SEEDS = (0, 1, 2)
STUDENT_T = {2: 4.303}  # its 97.5 % point by degrees of freedom


@dataclass(frozen=True)
class Protocol:
    """One table of a page: evaluation flags, and rows that cannot stand in it."""

    title: str
    flags: tuple[str, ...]
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    dataset: str = ""  # in place of the one that the runs were trained on: untrained rows are counted anew on it
    seeds: bool = False  # a table of all seeds follows

    def folder(self, runs: Path) -> Path:
        """Where its reports are kept; other flags have another place."""
        return runs / f"reports_{zlib.crc32(' '.join((*self.flags, self.dataset)).encode()):08x}"


@dataclass(frozen=True)
class Suite:
    """A page: how the dataset is made, which settings files are its rows, which tables it has."""

    prepare: dict[str, tuple[str, ...]]
    rows: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    train_flags: tuple[str, ...] = ()
    intro: tuple[str, ...] = field(default=())


UNTRAINED = ("popularity", "covisit", "bm25", "blend_all_words", "blend")
SUITES = {
    "toys": Suite(
        prepare={
            f"datasets/{name}": (
                f"{TOYS}/{events}.parquet",
                *("--items", f"{TOYS}/items.parquet", "--candidates", f"{TOYS}/candidates.parquet"),
                *("--config", "configs/toys_columns.toml"),
            )
            for name, events in (("toys", "events"), ("toys_noisy", "events_noisy"))
        },
        rows=(*UNTRAINED, "sasrec", "unisar_paper", "unisar_ids", "unisar_words"),
        protocols=(
            Protocol("The 99 given candidates, cases with both histories", ("--evaluate.subset", "both_histories"), seeds=True),
            Protocol(
                "The 99 given candidates, all test cases (the published form gives NaN where a side is empty)",
                ("--evaluate.subset", "all"),
                without=("unisar_paper",),
            ),
            Protocol(
                "The whole catalogue, a fixed, hashed sample of 2,000 users (1,000 cases a task, one a user), both histories",
                ("--evaluate.subset", "both_histories", "--evaluate.candidates", "full", "--evaluate.max_cases", "1000"),
                seeds=True,
            ),
            Protocol(
                "Noisy queries (30 % of the words replaced), the 99 given candidates, both histories: untrained rows",
                ("--evaluate.subset", "both_histories"),
                only=UNTRAINED,
                dataset="datasets/toys_noisy",
            ),
        ),
    ),
    "grocery": Suite(
        prepare={
            "datasets/grocery": (f"{GROCERY}/train.csv", "--config", "configs/grocery_columns.toml"),
        },
        rows=("popularity", "covisit", "sasrec", "unisar_ids"),
        protocols=(
            Protocol("99 sampled candidates, all test cases", ("--evaluate.candidates", "sampled:99"), seeds=True),
            Protocol(
                "The whole catalogue, a fixed, hashed sample of 2,000 test cases",
                ("--evaluate.candidates", "full", "--evaluate.max_cases", "2000"),
                seeds=True,
            ),
        ),
    ),
}


def corsar(*words: str) -> str:
    """Run one command, its progress shown; what it printed."""
    sys.stderr.write(f"corsar {' '.join(words)}\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("corsar")), *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"corsar {words[0]} ended with {done.returncode}")
    return done.stdout


def train_seconds(run: Path) -> tuple[float, int]:
    """Seconds spent on training steps and validation, and epochs, from the run's own log and settings."""
    settings = tomllib.loads((run / "config.toml").read_text())["train"]
    cases = settings["batch_size"] * len(settings["tasks"])  # of a joint step
    seconds, epochs, before = 0.0, 0, 0
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        if line["kind"] == "steps":
            seconds += (line["step"] - before) * cases / line["cases_per_s"]
            before = line["step"]
        else:
            seconds += line.get("seconds", 0) + line.get("valid_s", 0)
            epochs += line["kind"] == "epoch"
    return seconds, epochs


def figure(report: dict[str, Any], task: str, metric: str) -> str:
    """value [low, high], or a dash."""
    found = report["metrics"].get(task, {}).get(metric)
    if found is None:
        return "–"
    short = [f"{found[key]:.4f}".removeprefix("0") for key in ("value", "low", "high") if key in found]
    return short[0] + (f" [{short[1]}, {short[2]}]" if len(short) == 3 else "")


def table(reports: Reports) -> list[str]:
    """Markdown rows: model, then NDCG@10 and HR@10 of each task."""
    tasks = [task for task in ("recommend", "search") if any(task in r["metrics"] for r in reports)]
    columns = [(task, metric) for task in tasks for metric in ("NDCG@10", "HR@10")]
    lines = ["| model | " + " | ".join(f"{task} {metric}" for task, metric in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for report in reports:
        cells = [figure(report, task, metric) for task, metric in columns]
        lines.append(f"| {report['name']} | " + " | ".join(cells) + " |")
    return lines


def kept_report(run: Path, file: Path, protocol: Protocol, threads: str) -> dict[str, Any]:
    """The report of a run under a protocol, from `file` where it was computed before."""
    if not file.exists():
        flags = dict(zip((flag.removeprefix("--") for flag in protocol.flags[::2]), protocol.flags[1::2], strict=True))
        with Progress() as progress:
            told = evaluate_runs([run], overrides=flags | {"run.threads": threads}, baselines=False, progress=progress)
        file.write_text(json.dumps(told["reports"][0]))
    report: dict[str, Any] = json.loads(file.read_text())
    return report


def evaluate(name: str, suite: Suite, protocol: Protocol, runs: Path, threads: str) -> tuple[str, Reports]:
    """The command of a table, and its reports; each is kept beside the runs, so that none is computed twice."""
    rows = [row for row in suite.rows if row not in protocol.without and (not protocol.only or row in protocol.only)]
    folders = [runs / row for row in rows]
    if protocol.dataset:
        folders = [runs / "on" / Path(protocol.dataset).name / row for row in rows]
        for row, run in zip(rows, folders, strict=True):
            if not (run / "artifact").exists():
                corsar("train", f"configs/{name}_{row}.toml", "--out", str(run), "--data.path", protocol.dataset)
    kept = protocol.folder(runs)
    kept.mkdir(exist_ok=True)
    files = [kept / f"{row}.json" for row in rows]
    reports = [kept_report(run, file, protocol, threads) for run, file in zip(folders, files, strict=True)]
    table_rows(reports)  # refuses reports of unlike protocols
    return f"corsar evaluate {' '.join(map(str, folders))} {' '.join(protocol.flags)}", reports


def seed_table(name: str, suite: Suite, protocol: Protocol, runs: Path, threads: str) -> list[str]:
    """Trained rows under a protocol: the mean over seeds with its interval, and the figure of each seed."""
    tasks, lines = ("recommend", "search"), []
    for row in (row for row in suite.rows if row not in (*UNTRAINED, *protocol.without)):
        folders = [runs / run_name(row, seed) for seed in SEEDS]
        told = [kept_report(run, protocol.folder(runs) / f"{run.name}.json", protocol, threads) for run in folders]
        table_rows(told)  # refuses reports of unlike protocols
        cells = []
        for task in tasks:
            values = [report["metrics"][task]["NDCG@10"]["value"] for report in told if task in report["metrics"]]
            cells.append(over_seeds(values) if values else "–")
        lines.append(f"| {row} | {len(told)} | " + " | ".join(cells) + " |")
    head = "| model | seeds | " + " | ".join(f"{task} NDCG@10" for task in tasks) + " |"
    how = f"Seed N: `corsar train configs/{name}_ROW.toml --out {runs}/ROW_sN --run.seed N`."
    what = (
        "Mean over seeds ± half of its 95 % interval (Student's t, 2 degrees of freedom), and each seed. Rows without training"
    )
    return [f"### All seeds: {protocol.title}", "", head, "|---" * 4 + "|", *lines, "", f"{what} have no seed. {how}", ""]


def over_seeds(values: list[float]) -> str:
    """mean ± half its 95 % interval (each value)."""
    short = [f"{value:.4f}".removeprefix("0") for value in (statistics.mean(values), *values)]
    half = STUDENT_T[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{short[0]} ± {half:.4f}".replace("± 0", "± ") + f" ({', '.join(short[1:])})"


def run_name(row: str, seed: int) -> str:
    """The folder of a row's run with this seed."""
    return f"{row}_s{seed}" if seed else row


def train_rows(name: str, suite: Suite, runs: Path, threads: str) -> list[str]:
    """Train every row, trained ones with every seed; the lines of the commands and times of seed 0."""
    lines = []
    for row in suite.rows:
        for seed in SEEDS if row not in UNTRAINED else (0,):
            run = runs / run_name(row, seed)
            words = ["train", f"configs/{name}_{row}.toml", "--out", str(run)]
            words += ["--run.seed", str(seed)] if seed else []
            if not ((run / "artifact").exists() and not (run / "checkpoint").exists()):
                corsar(*words, "--run.threads", threads, *(["--resume"] if (run / "config.toml").exists() else []))
            if not seed:
                seconds, epochs = train_seconds(run)
                lines.append(f"| {row} | `corsar {' '.join(words)}` | {epochs or '–'} | {seconds:.0f} s |")
    return lines


def main() -> None:
    """One page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--threads", default="2")
    given = parser.parse_args()
    suite, runs = SUITES[given.suite], Path("runs") / given.suite
    runs.mkdir(parents=True, exist_ok=True)
    for out, words in suite.prepare.items():
        if not Path(out).exists():
            corsar("prepare", "tables", *words, "--out", out)
    commands = train_rows(given.suite, suite, runs, given.threads)
    page = [f"# Results on {given.suite.capitalize()}", ""]
    first = True
    for protocol in suite.protocols:
        command, reports = evaluate(given.suite, suite, protocol, runs, given.threads)
        if first:
            page += heading(reports[0])
            first = False
        cases = ", ".join(f"{n:,} {task} cases" for task, n in reports[-1]["cases"].items())
        page += [f"## {protocol.title}", "", *table(reports), ""]
        page += [f"{cases}; fingerprint `{reports[0]['fingerprint'][:16]}`; `{command}`", ""]
        if protocol.seeds:
            page += seed_table(given.suite, suite, protocol, runs, given.threads)
    page += ["## Commands and times", "", "| row | command | epochs | time |", "|---|---|---|---|", *commands, ""]
    Path(f"docs/results/{given.suite}.md").write_text("\n".join(page))


def heading(report: dict[str, Any]) -> list[str]:
    """What holds for the whole page."""
    machine = report["machine"]
    told = [report["derived"], ""] if report.get("derived") else []
    told += [
        "Values are means over cases with 95 % intervals (bootstrap over users); ties in expectation; seed 0 unless named."
    ]
    told += [f"Machine: {machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}."]
    told += ["Written by `python benchmarks/results.py` (`make results`), which goes on where it was stopped."]
    told += ["Trainings ran on one thread each, beside other work, so that their times are upper bounds; budgets were short."]
    return [*told, ""]


if __name__ == "__main__":
    main()
