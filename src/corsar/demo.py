"""The demo: two simulated apps, the same models on both, and what reading both logs is worth in each."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import torch

from corsar.api import evaluate_runs, prepare_kuaisar, train_run
from corsar.config import load_config
from corsar.errors import ConfigError
from corsar.evaluate.gather import open_runs
from corsar.evaluate.page import Part, write_page
from corsar.progress import Progress, Task
from corsar.sources.simulate import simulate
from corsar.sources.truth import DEFAULTS

# small, so that all of it takes less than three minutes on two cores
COMMON = {
    "data.feed_len": "20",
    "data.search_len": "10",
    "train.epochs": "9",
    "train.batch_size": "128",
    "train.num_negatives": "2",
    "train.align_negatives": "64",
    "train.learning_rate": "6e-3",
    "train.decay": "linear",
    "train.search_weight": "1",
    "train.valid_cases": "200",
    "evaluate.candidates": "sampled:99",
    "evaluate.bootstrap": "200",
}
SMALL = {
    "model.dim": "32",
    "model.id_dim": "32",
    "model.embedding_std": "0.5",  # Xavier-normal starts so small that a short training would end before it begins
    "model.word_dim": "16",
    "model.dropout": "0",
    "model.heads": "1",
    "model.own_experts": "2",
    "model.shared_experts": "2",
    "model.expert_dim": "32",
    "model.tower": "[32]",
    "model.head": "[32]",
    "model.item_query_weight": "0.1",  # what is searched for tells the kinds of items apart: the short training needs it
    "model.item_query_temperature": "0.1",
    "model.transition_weight": "0.001",
}
RUNS: dict[str, dict[str, str]] = {
    "popularity": {"model.name": "popularity"},
    "bm25": {"model.name": "bm25", "train.tasks": '["search"]'},
    "sasrec": {"model.name": "sasrec", "model.dim": "32", "model.blocks": "1", "model.dropout": "0", "train.epochs": "2"},
    "unisar": {"model.name": "unisar", **SMALL},
    "unisar_own": {"model.name": "unisar", "data.history": "own", **SMALL},
}
PARTS = 100  # of each training, on the bar
TRAINED = 3  # runs of an app that are trained
GAIN = 0.01  # a difference of NDCG@10 below this is called none


class _Part(Task):
    """Counts a training in hundredths, for the bar of the process that waits."""

    def __init__(self, relay: _Relay, label: str, total: int | None) -> None:
        super().__init__(relay, label, total)
        self._queue, self._parts, self._counts = relay.queue, max(1, total or 1), label == "train"

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Pass on what is done."""
        before = self._done * PARTS // self._parts
        self._done += amount
        if self._counts and (more := self._done * PARTS // self._parts - before):
            self._queue.put(more)


class _Relay(Progress):
    """The progress of one app's process, as messages: hundredths done, or a sentence."""

    def __init__(self, queue: Queue[int | str], name: str) -> None:
        super().__init__(quiet=True)
        self.queue, self._name = queue, name

    def say(self, sentence: str) -> None:
        """Pass the sentence on."""
        self.queue.put(f"{self._name}: {sentence}")

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        """A task whose training parts are passed on."""
        yield _Part(self, label, total)


def run_demo(out: Path, *, users: int, seed: int, progress: Progress, settings: dict[str, str] | None = None) -> dict[str, Any]:
    """Titled tables of both simulated apps ("parts"), and plain sentences on what they say; an app a process, a core each.

    "page" is where the report of both lies; None where plotly, which draws it, is not installed.

    Args:
        settings: "section.key" -> value, in place of the demo's own.
    """
    apps = {"transfer": DEFAULTS.transfers()[0], "no_transfer": 0.0}
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(apps), context) as pool:
        queue: Queue[int | str] = manager.Queue()
        waiting = [pool.submit(_app, out / name, name, apps[name], users, seed, settings or {}, queue) for name in apps]
        with progress.task("train", len(apps) * TRAINED * PARTS) as task:
            while not all(one.done() for one in waiting) or not queue.empty():
                try:
                    told = queue.get(timeout=0.2)
                except Empty:
                    continue
                if isinstance(told, int):
                    task.advance(told)
                else:
                    progress.say(told)
        parts = [one.result() for one in waiting]
    sentences = [sentence for part in parts for sentence in part.pop("sentences")]
    page, told = _page(out, parts)
    return {"parts": parts, "page": page, "sentences": [*dict.fromkeys(sentences), told]}


def _page(out: Path, parts: list[dict[str, Any]]) -> tuple[str | None, str]:
    """Write the report of both apps; where it is, and a sentence on it. A demo without plotly is a demo still."""
    try:
        shown = [
            Part(part["title"], open_runs([out / part["name"] / "runs" / run for run in RUNS]), reference="unisar_own")
            for part in parts
        ]
        page = write_page(shown, out / "report.html", title="The demo: two simulated apps, the same models on both")
    except ConfigError as error:
        return None, f"No report page was written: {error}."
    return str(page), f"The report to look at is in {page}."


def _app(
    home: Path, name: str, transfer: float, users: int, seed: int, settings: dict[str, str], queue: Queue[int | str]
) -> dict[str, Any]:
    """Simulate one app, train on it and evaluate."""
    torch.set_num_threads(1)
    progress = _Relay(queue, name)
    shutil.rmtree(home, ignore_errors=True)
    simulate(home / "raw", users=users, transfer=transfer, seed=seed)
    prepare_kuaisar(home / "raw", home / "dataset", split="last_fraction", progress=progress)
    for run, own in RUNS.items():
        progress.say(run)
        keys = COMMON | own | {"run.seed": str(seed), "run.threads": "1", "data.path": str(home / "dataset")} | settings
        train_run(load_config(None, keys), home / "runs" / run, progress=progress)
    told = evaluate_runs([home / "runs" / run for run in RUNS], baselines=False, progress=progress)
    figures = {run: _ndcg(report) for run, report in zip(RUNS, told["reports"], strict=True)}
    sentences = [_sentence(transfer, task, figures["unisar"][task], figures["unisar_own"][task]) for task in figures["unisar"]]
    return {
        "name": name,
        "title": f"Simulated app, transfer {transfer:g}",
        "table": told["table"],
        "reports": told["reports"],
        "figures": figures,
        "sentences": [*told["sentences"], *sentences],
    }


def _ndcg(report: dict[str, Any]) -> dict[str, float]:
    return {task: metrics["NDCG@10"]["value"] for task, metrics in report["metrics"].items()}


def _sentence(transfer: float, task: str, both: float, own: float) -> str:
    gain = both - own
    verdict = "neither helps nor hurts" if abs(gain) < GAIN else "helps" if gain > 0 else "hurts"
    figures = f"NDCG@10 is {both:.4f} with both and {own:.4f} with its own alone ({gain:+.4f})"
    return f"Transfer {transfer:g}: for {task}, reading both histories {verdict}: {figures}."
