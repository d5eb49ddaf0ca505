"""What a person calls from Python: prepare logs, train and evaluate runs, ask a model. The command line adds printing alone."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from corsar.artifact import Artifact, find_artifact, open_artifact
from corsar.batch import History, Ragged, Task
from corsar.config import Config, Section, check, load_config, read_toml
from corsar.data.build import build_dataset
from corsar.data.store import open_dataset
from corsar.errors import ArtifactError, ConfigError, DataError
from corsar.evaluate.protocol import evaluate
from corsar.evaluate.report import sentences, table_rows, write_report
from corsar.progress import Progress
from corsar.schema import Tables
from corsar.sources.kuaisar import read_kuaisar
from corsar.sources.tables import read_tables
from corsar.text import words
from corsar.train.loop import train
from corsar.windows import make_batch

DAY_MS = 86_400_000
AT_ONCE = 4096  # candidates that a model scores in one batch
BASELINES = {"recommend": ("popularity", "covisit"), "search": ("popularity", "bm25", "blend")}
File = Path | str


class PrepareConfig(Section):
    """How tables become a dataset directory; the other keys are the column map of `sources.tables`."""

    split: Literal["given", "leave_last", "time", "last_fraction"] | None = None  # None: given where told, else leave_last
    valid_days: float | None = Field(default=None, gt=0)  # lengths of the held-out spans of the split `time`
    test_days: float | None = Field(default=None, gt=0)
    require_click: bool = False  # drop searches without a click
    min_word_count: int = Field(default=1, ge=1)
    derived: str | None = None  # said beside each figure
    time_unit: str | None = None
    time: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    columns: dict[str, dict[str, Any]] = {}


def prepare_tables(
    events: File,
    out: File,
    *,
    items: File | None = None,
    users: File | None = None,
    candidates: File | None = None,
    config: File | None = None,
    split: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Your own files as a dataset directory: its path, the funnel of rows, and counts.

    Args:
        config: TOML with a column map and the keys of `PrepareConfig`; files with plain column names need none.
        split: in place of what `config` says.
    """
    told = read_toml(Path(config)) if config else {}
    settings = check(PrepareConfig, told | ({"split": split} if split else {}))
    return _prepare(read_tables(events, items, users, candidates, told), Path(out), settings, overwrite, progress)


def prepare_kuaisar(
    raw: File, out: File, *, split: str | None = None, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """KuaiSAR's raw CSV files as a dataset directory; by default the last day is test and the day before valid."""
    days = {"valid_days": 1, "test_days": 1} if split in (None, "time") else {}
    settings = check(PrepareConfig, {"split": split or "time", **days})
    return _prepare(read_kuaisar(Path(raw)), Path(out), settings, overwrite, progress)


def _prepare(tables: Tables, out: Path, settings: PrepareConfig, overwrite: bool, progress: Progress | None) -> dict[str, Any]:
    spans = {"valid_ms": settings.valid_days, "test_ms": settings.test_days}
    path = build_dataset(
        tables,
        out,
        split=settings.split or ("given" if "split" in tables.events.columns else "leave_last"),
        require_click=settings.require_click,
        min_word_count=settings.min_word_count,
        overwrite=overwrite,
        progress=progress,
        **{name: None if days is None else round(days * DAY_MS) for name, days in spans.items()},
    )
    manifest = open_dataset(path).manifest
    return {"path": str(path), "funnel": manifest["funnel"], "counts": manifest["counts"]}


def run_dir(config: File | None, out: File | None, overrides: Mapping[str, str]) -> Path:
    """Where a run is written: `out`, or else runs/ and the name of the settings file or of the model."""
    if out is not None:
        return Path(out)
    return Path("runs") / (Path(config).stem if config else overrides.get("model.name", "unisar").strip('"'))


def train_run(
    config: Config | File | None,
    out: File,
    *,
    overrides: Mapping[str, str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The run directory, its model and the seconds that it took.

    Args:
        config: Settings, a TOML file of them, or None for the defaults (with `resume`: those of the run).
        overrides: "section.key" -> value, on top of a file.
    """
    run, start = Path(out), time.monotonic()
    if config is None and resume and (run / "config.toml").is_file():
        config = run / "config.toml"
    settings = config if isinstance(config, Config) else load_config(Path(config) if config else None, overrides)
    if not settings.data.path:
        raise ConfigError('no dataset is named; give --data DIR, or path = "DIR" in [data]')
    train(settings, run, resume=resume, progress=progress)
    return {"run": str(run), "model": settings.model["name"], "seconds": round(time.monotonic() - start, 1)}


def evaluate_runs(
    runs: Sequence[File],
    *,
    overrides: Mapping[str, str] | None = None,
    baselines: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Reports of the runs, and one table of them under the protocol of the first; each report is written into its run.

    Args:
        overrides: "evaluate.key" -> value, in place of what the first run says.
        baselines: Count the untrained baselines beside, as runs in the first run's folder `baselines`, unless they are there.
    """
    folders = [Path(run) for run in runs]
    first = load_config(find_artifact(folders[0]) / "model.toml", overrides)
    dataset = open_dataset(first.data.path)
    if baselines:
        folders += _baselines(folders, first, progress)
    reports = []
    for artifact, folder in ((open_artifact(folder), folder) for folder in folders):
        own = {} if "evaluate.score" in (overrides or {}) else {"score": artifact.config.evaluate.score}  # part of the model
        rules = first.evaluate.model_copy(update=own)
        config = artifact.config.model_copy(update={"evaluate": rules, "run": first.run})
        if artifact.manifest["dataset"]["data_hash"] != dataset.manifest["data_hash"]:
            raise DataError(f"{folder} was trained on another dataset than {first.data.path}; evaluate them apart")
        result = evaluate(artifact.model.to(first.run.device), dataset, config, progress=progress)
        reports.append(write_report(result, folder))
    return {"reports": reports, "table": table_rows(reports), "sentences": sentences(reports[0])}


def _baselines(runs: list[Path], config: Config, progress: Progress | None) -> list[Path]:
    """Untrained runs that are not among `runs`, counted anew; they live beside the first run's artifact."""
    there = {open_artifact(run).config.model["name"] for run in runs}
    wanted = dict.fromkeys(name for task in config.train.tasks for name in BASELINES[task])
    home, made = runs[0] / "baselines", []
    for name in wanted:
        if name not in there:
            shutil.rmtree(home / name, ignore_errors=True)
            rules = config.evaluate.model_copy(update={"score": "logit"})
            settings = config.model_copy(update={"model": {"name": name}, "evaluate": rules})
            made.append(home / name)
            train(settings, home / name, progress=progress)
    return made


def recommend(
    run: File | Artifact, *, user: str | int | None = None, history: Iterable[str | int] | None = None, k: int = 10
) -> dict[str, Any]:
    """The `k` best items for a user: {"items": rows of rank, item_id, score, text; "notes": sentences}.

    Args:
        run: A run, an artifact, or an opened artifact.
        user: An id of the logs; one that they do not hold has an empty history.
        history: Item ids, the oldest first, in place of what is stored.
    """
    return _answer(run, "recommend", "", user, history, k)


def search(
    run: File | Artifact,
    query: str,
    *,
    user: str | int | None = None,
    history: Iterable[str | int] | None = None,
    k: int = 10,
) -> dict[str, Any]:
    """The `k` best items for a query of a user; arguments and result are those of `recommend`."""
    return _answer(run, "search", query, user, history, k)


def _answer(
    run: File | Artifact, task: Task, query: str, user: str | int | None, history: Iterable[str | int] | None, k: int
) -> dict[str, Any]:
    if k < 1:
        raise ConfigError(f"k is {k}; ask for at least one item")
    artifact = run if isinstance(run, Artifact) else open_artifact(Path(run))
    if task not in artifact.model.tasks or task not in artifact.config.train.tasks:
        raise ConfigError(f"this {artifact.config.model['name']} was not trained for {task}; name a run that was")
    notes: list[str] = []
    user_row = 0
    if user is not None:
        user_row = int(artifact.users.rows([user], missing="pad")[0])
        if not user_row:
            notes.append(f"user {user} is not in the logs, so nothing is known of their history")
    past = artifact.history if history is None else _past(artifact, user_row, list(history), notes)
    user_B = torch.tensor([user_row])
    feed_end_B, search_end_B = past.feed_offsets[user_B + 1], past.search_offsets[user_B + 1]
    if artifact.config.data.history == "own":
        if task == "recommend":
            search_end_B = past.search_offsets[user_B]
        else:
            feed_end_B = past.feed_offsets[user_B]
    query_B, queries = None, None
    if task == "search":
        found = artifact.words.rows(words(query), missing="pad").tolist()
        known = [row for row in found if row]
        if not known:
            notes.append("no word of the query is in the logs, so the items are ranked by the history alone")
        elif len(known) < len(found):
            notes.append(f"{len(found) - len(known)} of {len(found)} words of the query are not in the logs")
        query_B, queries = torch.zeros(1, dtype=torch.int64), Ragged.of([known])
    ends = user_B, feed_end_B, search_end_B
    feed_len, search_len, count = artifact.sizes.feed_len, artifact.sizes.search_len, artifact.catalogue.num_items
    scores = []
    with torch.inference_mode():
        for first in range(1, count + 1, AT_ONCE):
            some = torch.arange(first, min(first + AT_ONCE, count + 1))[None]
            batch = make_batch(
                task, past, artifact.catalogue, *ends, some, query_B, feed_len=feed_len, search_len=search_len, queries=queries
            )
            scores.append(artifact.model.score(batch)[0])
    best = torch.cat(scores).topk(min(k, count))
    rows = (best.indices + 1).tolist()
    columns = (artifact.items.ids(rows).to_list(), best.values.tolist(), artifact.item_text(rows))
    items = [
        {"rank": rank, "item_id": item, "score": score, "text": text}
        for rank, (item, score, text) in enumerate(zip(*columns, strict=True), 1)
    ]
    return {"items": items, "notes": notes}


def _past(artifact: Artifact, user_row: int, items: list[str | int], notes: list[str]) -> History:
    """A history in which `user_row` owns these feed events and nothing else."""
    rows = artifact.items.rows(items, missing="pad").tolist() if items else []
    known = torch.tensor([row for row in rows if row], dtype=torch.int64)
    if len(known) < len(rows):
        notes.append(f"{len(rows) - len(known)} of {len(rows)} items of the history are not in the catalogue")
    owners = torch.arange(len(artifact.history.feed_offsets))
    none = torch.zeros(0, dtype=torch.int64)
    return History(
        feed_items=known,
        feed_times=torch.arange(len(known)),
        feed_others=torch.zeros_like(known),
        feed_offsets=torch.where(owners > user_row, len(known), 0),
        search_queries=none,
        search_clicks=Ragged.of([]),
        search_times=none,
        search_others=none,
        search_offsets=torch.zeros_like(owners),
        queries=Ragged.of([[]]),
    )


def doctor(path: File | None = None) -> dict[str, str]:
    """What this machine has, and whether the dataset directory, run or artifact at `path` is whole."""
    told = {name: importlib.metadata.version(name) for name in ("corsar", "torch", "polars", "numpy", "pydantic")}
    told["python"], told["machine"] = platform.python_version(), platform.platform()
    told["cores"], told["torch threads"] = str(os.cpu_count()), str(torch.get_num_threads())
    told["GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    if path is None:
        return told
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; name a dataset directory, a run or an artifact")
    try:
        artifact = open_artifact(path)
    except ArtifactError:
        if (path / "artifact").exists() or not (path / "manifest.json").is_file():
            raise
        if json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("kind") == "artifact":
            raise
        dataset = open_dataset(path)
        dataset.verify()
        counts = dataset.manifest["counts"]
        return told | {str(path): f"a whole dataset directory: {counts['users']} users, {counts['items']} items"}
    model = artifact.config.model["name"]
    return told | {str(path): f"a whole artifact of {model}: {len(artifact.users)} users, {len(artifact.items)} items"}
