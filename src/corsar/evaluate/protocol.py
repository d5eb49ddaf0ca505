"""From a model and a dataset to a Result: figures, and the protocol that they were taken under with its fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.batch import Task
from corsar.config import Config, EvaluateSection
from corsar.data.store import Dataset
from corsar.errors import DataError
from corsar.evaluate.candidates import Chosen, choose
from corsar.evaluate.lists import list_metrics
from corsar.evaluate.metrics import ndcg, summary
from corsar.evaluate.ranking import Ranked, model_device, rank_targets
from corsar.evaluate.report import PLACES, Figures, Result
from corsar.evaluate.segments import segment_masks
from corsar.evaluate.ties import Ints, break_ties
from corsar.models.base import Model
from corsar.progress import Progress

BOOTSTRAP_SEED = 0
LABELS = "label 1 alone is history or target"


def evaluate(
    model: Model,
    dataset: Dataset,
    config: Config,
    *,
    split: str | None = None,
    progress: Progress | None = None,
    max_cases: int | None = None,
) -> Result:
    """Figures of the model on the held-out cases, for each task of `train.tasks` that it knows.

    Args:
        split: in place of `evaluate.split`, as is `max_cases` of `evaluate.max_cases`.

    Raises:
        DataError: there is no case, or a score is not finite.
    """
    start = time.perf_counter()
    changed = {"split": split, "max_cases": max_cases}
    rules = config.evaluate.model_copy(update={name: value for name, value in changed.items() if value is not None})
    chosen = {task: choose(dataset, task, rules) for task in dataset.tasks}
    tasks = [task for task in asked_tasks(model, dataset, config) if len(chosen[task].cases)]
    if not tasks:
        raise DataError(
            f"the dataset has no case in {rules.split} (subset {rules.subset}) that this model knows; choose another"
            " evaluate.split or evaluate.subset, or prepare the dataset with another split"
        )
    protocol = protocol_of(dataset, rules, chosen, config.data.target_time)
    metrics: dict[str, Figures] = {}
    segments: dict[str, dict[str, Any]] = {}
    cases_total = sum(len(chosen[task].cases) for task in tasks)
    with progress.task("evaluate", cases_total) if progress else nullcontext() as bar:
        ranked = {
            task: _ranked(model, dataset, config, rules, chosen[task], bar and bar.advance, top=max(rules.ks)) for task in tasks
        }
    events = dataset.train_events()
    counts_I = np.bincount(events.item_E.numpy(), minlength=dataset.catalogue.num_items + 1)
    for task, (better_N, tied_N, _) in ranked.items():
        cases = chosen[task].cases
        user_N = cases.user_N.numpy()

        def told(mask: Any, better: Ints = better_N, tied: Ints = tied_N, users: Any = user_N) -> dict[str, Any]:
            return summary(better[mask], tied[mask], users[mask], rules.ks, rules.bootstrap, BOOTSTRAP_SEED)

        metrics[task] = told(slice(None))
        segments[task] = {
            name: {"cases": int(mask.sum()), "users": len(np.unique(user_N[mask])), "metrics": told(mask)}
            for name, mask in segment_masks(cases, dataset.history, events).items()
        }
    return Result(
        model=str(config.model.get("name", "unisar")),
        trained=model.trained,
        metrics=metrics,
        lists={task: list_metrics(one.top_NK, chosen[task].cases.item_N.numpy(), counts_I) for task, one in ranked.items()},
        cases={task: len(chosen[task].cases) for task in tasks},
        users={task: len(np.unique(chosen[task].cases.user_N.numpy())) for task in tasks},
        segments=segments,
        protocol=protocol,
        fingerprint=fingerprint(protocol),
        seeds={"run": config.run.seed, "bootstrap": BOOTSTRAP_SEED},
        wall_s=round(time.perf_counter() - start, 3),
        machine=machine(model),
        config=config.model_copy(update={"evaluate": rules}).model_dump(mode="json"),
        derived=dataset.manifest.get("derived"),
        places=pl.concat(_table(task, chosen[task], one) for task, one in ranked.items()),
    )


def validation_score(model: Model, dataset: Dataset, config: Config) -> float:
    """Mean NDCG@5 of the trained tasks on validation cases: at most `train.valid_cases` of each, drawn once.

    Candidates are the given ones, or `train.valid_negatives` sampled ones where the dataset has none.
    """
    train, scores = config.train, []
    both = config.data.require_both_histories or config.evaluate.subset == "both_histories"
    for task in asked_tasks(model, dataset, config):
        rules = config.evaluate.model_copy(
            update={
                "split": "valid",
                "candidates": _valid_candidates(task, dataset, config),
                "max_cases": train.valid_cases,
                "subset": "both_histories" if both else "all",
                "exclude_seen": False,
            }
        )
        chosen = choose(dataset, task, rules)
        if len(chosen.cases):
            better_N, tied_N, _ = _ranked(model, dataset, config, rules, chosen, None)
            scores.append(float(ndcg(better_N, tied_N, 5).mean()))
    if not scores:
        raise DataError("the dataset has no validation case to choose a model by; prepare it with another split")
    return sum(scores) / len(scores)


def told_candidates(model: Model, dataset: Dataset, config: Config) -> str:
    """Among what `validation_score` ranks a target, as the end of a sentence: a score goes with its candidates."""
    rules = {_valid_candidates(task, dataset, config): None for task in asked_tasks(model, dataset, config)}
    names = {"given": "the given candidates", "full": "all items"}
    sampled = f"{config.train.valid_negatives + 1} sampled candidates"
    return "among " + " or ".join(names.get(rule, sampled) for rule in rules)


def asked_tasks(model: Model, dataset: Dataset, config: Config) -> list[Task]:
    """The tasks of `train.tasks` that the model knows and the dataset has."""
    return [task for task in dataset.tasks if task in model.tasks and task in config.train.tasks]


def _valid_candidates(task: Task, dataset: Dataset, config: Config) -> str:
    """Candidates to choose an epoch by: a place that a person knows beats any sample of places, so there it is all of them."""
    if dataset.cases("valid", task).negatives_NC is not None:
        return "given"
    return "full" if task == "next_place" else f"sampled:{config.train.valid_negatives}"


def _ranked(
    model: Model, dataset: Dataset, config: Config, rules: EvaluateSection, chosen: Chosen, advance: Any, top: int = 0
) -> Ranked:
    better_N, tied_N, top_NK = rank_targets(
        model, dataset, chosen.cases, chosen.negatives_NC, config.data,
        score=rules.score, exclude_seen=rules.exclude_seen, top=top, advance=advance,
    )  # fmt: skip
    return Ranked(*break_ties(better_N, tied_N, rules.ties), top_NK)


def _table(task: Task, chosen: Chosen, ranked: Ranked) -> pl.DataFrame:
    """The place of each case, under the columns of `PLACES`."""
    columns = {
        "task": pl.Series([task]).new_from_index(0, len(chosen.rows_N)),
        "case": chosen.rows_N,
        "user_row": chosen.cases.user_N.numpy(),
        "better": ranked.better_N,
        "tied": ranked.tied_N,
    }
    return pl.DataFrame(columns, schema=PLACES)


def protocol_of(dataset: Dataset, rules: EvaluateSection, chosen: dict[Task, Chosen], target_time: bool) -> dict[str, Any]:
    """All that figures must share to stand in one table, as plain data; its hash is the fingerprint."""
    told = {
        "data": dataset.manifest["data_hash"],
        "split": rules.split,
        "ties": rules.ties,
        "subset": rules.subset,
        "max_cases": rules.max_cases,
        "exclude_seen": rules.exclude_seen,
        "history": dataset.manifest["rules"]["history"],
        "labels": LABELS,
        "tasks": {task: part.told for task, part in chosen.items()},
    }
    return told | ({"target_time": target_time} if "next_place" in chosen else {})


def fingerprint(protocol: dict[str, Any]) -> str:
    """SHA-256 of the protocol as canonical JSON, in hex: figures go into one table only if it is the same."""
    text = json.dumps(protocol, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def machine(model: Model) -> dict[str, Any]:
    """What computed the figures: processor, cores, threads, torch, and the GPU if the model lies on one."""
    device = model_device(model)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    told = {"cpu": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    if device.type == "cuda":
        told["gpu"] = torch.cuda.get_device_name(device)
    return told
