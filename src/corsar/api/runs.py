"""Train and evaluate runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from corsar.api.torchrun import torchrun_processes
from corsar.artifact import find_artifact, open_artifact
from corsar.config import Config, load_config
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, DataError
from corsar.evaluate.gather import rule_of
from corsar.evaluate.protocol import evaluate
from corsar.evaluate.report import sentences, table_rows, write_report
from corsar.progress import Progress
from corsar.train.dry_run import dry_run
from corsar.train.loop import train
from corsar.train.machine import find_device, fixed_threads
from corsar.train.places import with_long_history
from corsar.train.processes import Processes

BASELINES = {
    "recommend": ("popularity", "covisit"),
    "search": ("popularity", "bm25", "blend_any_word", "blend_all_words"),
    "next_place": ("popularity", "nearest", "markov", "visits", "visits_markov"),
}
WORDINGS = {"blend_any_word": "bm25", "blend_all_words": "all_words"}  # how the words of these blends match
File = Path | str


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
    dry: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The run directory, its model and the seconds that it took.

    Args:
        config: Settings, a TOML file of them, or None for the defaults (with `resume`: those of the run).
        overrides: "section.key" -> value, on top of a file.
        dry: Write nothing, and give back settings, parameters, steps, bytes and seconds as a few steps let one expect them.

    Example:
        >>> import corsar, tempfile
        >>> events, _ = corsar.example_logs()
        >>> dataset = corsar.Dataset.from_frames(events)
        >>> config = corsar.load_config(None, {"data.path": str(dataset.path), "model.name": "covisit"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     corsar.train_run(config, folder + "/run")["model"]
        'covisit'
    """
    run, start = Path(out), time.monotonic()
    if config is None and resume and (run / "config.toml").is_file():
        config = run / "config.toml"
    settings = config if isinstance(config, Config) else load_config(Path(config) if config else None, overrides)
    if dry:
        return dry_run(settings, run, resume=resume)
    if not settings.data.path:
        raise ConfigError('no dataset is named; give --data DIR, or path = "DIR" in [data]')
    with torchrun_processes(settings.run.device) as processes:
        train(settings, run, resume=resume, progress=progress, processes=processes)
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

    Example:
        >>> import corsar, tempfile
        >>> events, items = corsar.example_logs()
        >>> dataset = corsar.Dataset.from_frames(events, items=items)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = corsar.Blend().fit(dataset, run_dir=folder + "/blend")
        ...     told = corsar.evaluate_runs([folder + "/blend"], overrides={"evaluate.bootstrap": "10"})
        >>> 0 < told["reports"][0]["metrics"]["recommend"]["NDCG@10"]["value"] <= 1
        True
        >>> [line["model"] for line in told["table"]][:2]
        ['blend', 'popularity']
    """
    folders = [Path(run) for run in runs]
    first = load_config(find_artifact(folders[0]) / "model.toml", overrides)
    dataset, device = open_dataset(first.data.path), find_device(first, Processes())
    reports = []
    with fixed_threads(first.run.threads or torch.get_num_threads()):
        folders += _baselines(folders, first, progress) if baselines else []
        for artifact, folder in ((open_artifact(folder), folder) for folder in folders):
            rules = first.evaluate
            if "evaluate.score" not in (overrides or {}):  # else it is part of the model
                rules = rules.model_copy(update={"score": artifact.config.evaluate.score})
            config = artifact.config.model_copy(update={"evaluate": rules, "run": first.run})
            if artifact.manifest["dataset"]["data_hash"] != dataset.manifest["data_hash"]:
                raise DataError(f"{folder} was trained on another dataset than {first.data.path}; evaluate them apart")
            result = evaluate(artifact.model.to(device), dataset, config, progress=progress)
            reports.append(write_report(result, folder))
    return {"reports": reports, "table": table_rows(reports), "sentences": sentences(reports[0])}


def _baselines(runs: list[Path], config: Config, progress: Progress | None) -> list[Path]:
    """Untrained runs that are not among `runs`, counted anew; they live beside the first run's artifact."""
    there = {rule_of(open_artifact(run).config.model) for run in runs}
    wanted = dict.fromkeys(name for task in config.train.tasks for name in BASELINES[task])
    home, made = runs[0] / "baselines", []
    for name in wanted:
        if rule_of(rule_settings(config, name).model) not in there:
            shutil.rmtree(home / name, ignore_errors=True)
            made.append(home / name)
            train(rule_settings(config, name), home / name, progress=progress)
    return made


def rule_settings(config: Config, name: str) -> Config:
    """The settings of the untrained rule `name` beside a run: its data and protocol, and nothing of its model."""
    rules = config.evaluate.model_copy(update={"score": "logit"})
    model = {"name": "blend", "match": WORDINGS[name]} if name in WORDINGS else {"name": name}
    settings = config.model_copy(update={"model": model, "evaluate": rules})
    if "next_place" in config.train.tasks:  # who counts looks back as far as there is something
        settings = settings.model_copy(update={"data": with_long_history(config.data)})
    return settings
