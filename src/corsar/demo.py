"""The demo: two simulated apps, the same models on both, and what reading both logs is worth in each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from corsar.api import evaluate_runs, prepare_kuaisar, train_run
from corsar.batch import TASKS
from corsar.config import load_config
from corsar.progress import Progress
from corsar.sources.simulate import simulate
from corsar.sources.truth import DEFAULTS

# small, so that all of it takes less than three minutes on two cores
COMMON = {
    "data.feed_len": "20",
    "data.search_len": "10",
    "train.epochs": "4",
    "train.batch_size": "64",
    "train.align_negatives": "32",
    "train.learning_rate": "3e-3",
    "train.search_weight": "1",
    "train.valid_cases": "500",
    "evaluate.candidates": "sampled:99",
    "evaluate.bootstrap": "200",
}
SMALL = {
    "model.dim": "32",
    "model.id_dim": "32",
    "model.word_dim": "16",
    "model.dropout": "0",
    "model.own_experts": "2",
    "model.shared_experts": "2",
    "model.expert_dim": "32",
    "model.tower": "[32]",
    "model.head": "[32]",
    "model.transition_weight": "0.01",
}
RUNS: dict[str, dict[str, str]] = {
    "popularity": {"model.name": "popularity"},
    "bm25": {"model.name": "bm25", "train.tasks": '["search"]'},
    "sasrec": {"model.name": "sasrec", "model.dim": "32", "model.blocks": "1", "model.dropout": "0"},
    "unisar": {"model.name": "unisar", **SMALL},
    "unisar_own": {"model.name": "unisar", "data.history": "own", **SMALL},
}
GAIN = 0.01  # a difference of NDCG@10 below this is called none


def run_demo(out: Path, *, users: int, seed: int, progress: Progress, settings: dict[str, str] | None = None) -> dict[str, Any]:
    """Titled tables of both simulated apps ("parts"), and plain sentences on what they say.

    Args:
        settings: "section.key" -> value, in place of the demo's own.
    """
    transfers = {"transfer": DEFAULTS.transfer, "no_transfer": 0.0}
    parts: list[dict[str, Any]] = []
    sentences: list[str] = []
    for name, transfer in transfers.items():
        home = out / name
        shutil.rmtree(home, ignore_errors=True)
        simulate(home / "raw", users=users, transfer=transfer, seed=seed)
        prepare_kuaisar(home / "raw", home / "dataset", split="last_fraction", progress=progress)
        for run, own in RUNS.items():
            progress.say(f"{name}: {run}")
            keys = COMMON | own | {"run.seed": str(seed), "data.path": str(home / "dataset")} | (settings or {})
            train_run(load_config(None, keys), home / "runs" / run, progress=progress)
        told = evaluate_runs([home / "runs" / run for run in RUNS], baselines=False, progress=progress)
        figures = {run: _ndcg(report) for run, report in zip(RUNS, told["reports"], strict=True)}
        title = f"Simulated app, transfer {transfer:g}"
        parts.append({"title": title, "table": told["table"], "reports": told["reports"], "figures": figures})
        sentences += [one for one in told["sentences"] if one not in sentences]
        sentences += [_sentence(transfer, task, figures["unisar"][task], figures["unisar_own"][task]) for task in TASKS]
    return {"parts": parts, "sentences": sentences}


def _ndcg(report: dict[str, Any]) -> dict[str, float]:
    return {task: metrics["NDCG@10"]["value"] for task, metrics in report["metrics"].items()}


def _sentence(transfer: float, task: str, both: float, own: float) -> str:
    gain = both - own
    verdict = "neither helps nor hurts" if abs(gain) < GAIN else "helps" if gain > 0 else "hurts"
    figures = f"NDCG@10 is {both:.4f} with both and {own:.4f} with its own alone ({gain:+.4f})"
    return f"Transfer {transfer:g}: for {task}, reading both histories {verdict}: {figures}."
