"""From logs of any columns to a service, in steps that are not done twice: read, prepare, train, compare, choose.

All lies in one folder: `up.json` (what it was made from), `columns.toml` (how the logs were read), `dataset/`, `runs/`, and the
service's `events.sqlite`, which outlives all else. What is finished stays as long as logs, reading and budget are the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from corsar.api.check_dataset import check_dataset
from corsar.api.prepare import prepare_given
from corsar.api.runs import BASELINES, rule_settings, train_run
from corsar.api.sweep import MARK, finish
from corsar.api.up_logs import Logs, read_logs, reading_lines
from corsar.artifact import find_artifact, replacing
from corsar.batch import Task
from corsar.config import Config, dump_config, load_config, read_toml
from corsar.data.store import Dataset, file_hash, open_dataset
from corsar.errors import ConfigError, DataError
from corsar.evaluate.compare import Difference, differences, main_metric
from corsar.evaluate.gather import Evaluated, open_runs
from corsar.evaluate.report import table_rows, write_text
from corsar.progress import Progress
from corsar.train.dry_run import dry_run

MADE = ("dataset", "runs", "served", "up.json", "columns.toml")  # what may be made anew
PAIRS = 2_000_000  # (case, candidate) pairs of a task that are scored to compare a run, for each minute of the budget
EXACT = 20_000  # items that are all ranked to compare runs; of more, a sample
SHARES = {"unisar": 5, "corsar": 3, "sasrec": 2, "habits": 1}  # of the budget, of those that are trained
LEAST_MIN = 1.0  # of a budget of which others than UniSAR get a share
UNPROVED = {"recommend": "covisit", "search": "blend_any_word", "next_place": "visits"}  # rules for what cannot be compared
MOST_EPOCHS = 20
UNISAR = {
    "model.embedding_std": "0.3",  # the published start is so small that a short training would end before it begins
    "model.item_query_weight": "0.1",
    "model.item_query_temperature": "0.1",
    "model.transition_weight": "0.01",
    "model.dim": "32",
    "train.search_weight": "1",
}
CORSAR = {"model.name": "corsar", "train.num_negatives": "20", "train.learning_rate": "1e-3"}


def make_service(
    logs: Sequence[Path | str],
    out: Path | str = "corsar-up",
    *,
    items: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    config: Path | str | None = None,
    minutes: float = 3.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs that answer each task as well as any here does on the validation part, ready to be served.

    Args:
        logs: CSV, Parquet or JSON-lines files of events, of any columns.
        out: The folder for all of it; one that is something else is refused.
        items: A table of the items.
        columns: corsar's name of a column -> the file's, in place of what is guessed; "" where there is none.
        config: A TOML file with keys of a column map ([time], [kinds], split …), in place of what is guessed.
        minutes: How long the trained models may train, all together; a busy machine takes longer.

    Returns:
        "runs" (to be served in this order: each task by the first that answers it), "best" (task -> name of its run), "table"
        and "sentences" (what the comparison says), "reading" (lines on the columns), "state" (where live events are kept).

    Raises:
        DataError: The logs cannot be read, or hold too little to learn from.
        ConfigError: A setting is wrong, or the folder is not ours.

    Example:
        >>> import corsar, tempfile
        >>> from corsar.api.up import make_service
        >>> events, items = corsar.example_logs()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     events.rename({"user_id": "Kunde", "item_id": "Artikel"}).write_csv(folder + "/log.csv", separator=";")
        ...     told = make_service([folder + "/log.csv"], folder + "/up", minutes=0)
        >>> sorted(told["best"])
        ['recommend', 'search']
    """
    progress, home = progress or Progress(quiet=True), Path(out)
    if minutes < 0:
        raise ConfigError(f"minutes is {minutes}; give 0 (nothing is trained, the rules alone are counted) or more")
    if not logs:
        raise ConfigError("name at least one log, as in: corsar up events.csv")
    files = [Path(log) for log in logs]
    _ours(home)
    settings = _settings(config)
    read = read_logs(files, None if items is None else Path(items), columns or {}, settings)
    lines = reading_lines(read)
    for line in lines:
        progress.say(line)
    _enough(read)
    _start(home, _made_from([*files, *([Path(items)] if items else [])], read), minutes, read, progress)
    dataset = open_dataset(home / "dataset")
    tasks = [task for task in dataset.tasks if len(dataset.cases("train", task)) and len(dataset.cases("valid", task))]
    data, candidates = str(dataset.manifest["data_hash"]), _candidates(dataset, tasks, minutes)
    whole = sum(SHARES.get(name, 0) for name in candidates)
    for name, told_of in candidates.items():
        seconds = 60 * minutes * SHARES.get(name, 0) / max(1, whole)
        finish(home / "runs" / name, _settled(home / "runs" / name, told_of, seconds), data, name, progress)
    told = _chosen(open_runs([home / "runs" / name for name in candidates], baselines=False), tasks, home)
    for task in dataset.tasks:
        if task not in tasks and len(dataset.cases("train", task)):
            _add_unproved(told, home / "runs" / f"{UNPROVED[task]}_{task}", task, dataset)
    return {"reading": lines, **told, "state": str(home / "events.sqlite")}


def _ours(home: Path) -> None:
    if home.exists() and not (home / "up.json").is_file() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigError(f"{home} is there already and was not made by corsar up; choose another folder with --out")


def _settings(config: Path | str | None) -> dict[str, Any]:
    if config is None:
        return {}
    told = read_toml(Path(config))
    if "columns" in told:
        raise ConfigError("columns are told as --column query=NAME; leave [columns] out of the file")
    return told


def _enough(read: Logs) -> None:
    events = read.events.drop_nulls("item_id").group_by("user_id").len()
    if "split" not in read.events.columns and (events["len"] < 3).all():
        raise DataError(
            "no user has three events or more, of which one can be learnt from, one chosen by and one kept; give longer logs, "
            "or see that the column of users is the right one (--column user_id=NAME)"
        )


def _made_from(files: Sequence[Path], read: Logs) -> str:
    """A hash of the files and of what they were taken for."""
    seen = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            seen.update(hashlib.file_digest(opened, "sha256").digest())
    told = [[one.file, one.columns, one.clock, one.time, one.kinds, one.shown, one.categories] for one in read.readings]
    seen.update(json.dumps([told, read.settings], sort_keys=True).encode())
    return seen.hexdigest()


def _start(home: Path, made_from: str, minutes: float, read: Logs, progress: Progress) -> None:
    """The dataset of these logs in its place, and nothing beside it that was made of others."""
    try:
        before = json.loads((home / "up.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if before.get("made_from") != made_from:
        if before.get("made_from"):
            progress.say(f"{home} was made from other logs, or read otherwise; it is made anew (live events are kept)")
        for name in MADE:
            path = home / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    elif before.get("minutes") != minutes:
        shutil.rmtree(home / "runs", ignore_errors=True)
    write_text(home / "up.json", json.dumps({"made_from": made_from, "minutes": minutes}) + "\n")
    write_text(home / "columns.toml", _columns_toml(read))
    if not (home / "dataset").exists():
        told = read.settings | ({"split": "given"} if "split" in read.events.columns else {})
        prepare_given(read.events, read.items, None, None, home / "dataset", told, progress=progress)
    for one in check_dataset(home / "dataset"):
        if one.level != "note":
            progress.say(f"{one.level}: {one.sentence()}")


def _columns_toml(read: Logs) -> str:
    """How the logs were read, as a column map: what `corsar prepare tables` takes, where there is one log."""
    maps = [
        {
            "columns": {
                "events": {role: name for role, name in one.columns.items() if role not in ("text", "lat_deg", "lon_deg")}
            }
        }
        | ({"time": one.time} if one.time else {})
        | ({"kinds": one.kinds} if one.kinds else {})
        for one in read.readings
    ]
    parts = [f"# {one.file}\n{tomli_w.dumps(told)}" for one, told in zip(read.readings, maps, strict=True)]
    return "\n".join(parts)


def _candidates(dataset: Dataset, tasks: Sequence[Task], minutes: float) -> dict[str, Config]:
    """Name of a run -> its settings. A rule is a run of its own for each task, so that each task can be served by another."""
    items, cases = dataset.catalogue.num_items, max(len(dataset.cases("train", task)) for task in tasks)
    most = min(2000, max(200, int(PAIRS * max(1, minutes)) // max(1, 1000 if items > EXACT else items)))
    common = {
        "data.path": str(dataset.path),
        "evaluate.split": "valid",
        "evaluate.candidates": "sampled:999" if items > EXACT else "full",
        "evaluate.max_cases": str(most),
        "train.valid_cases": "500",
        "train.align_negatives": "256",
        "train.batch_size": str(64 if cases < 30_000 else 128 if cases < 300_000 else 512),
        "train.decay": "linear",
        "train.learning_rate": "3e-3",
    }
    found: dict[str, Config] = {}
    for task in tasks:
        for name in BASELINES[task]:
            base = load_config(None, common | {"train.tasks": json.dumps([task])})
            found[f"{name}_{task}"] = rule_settings(base, name)
    asked = [task for task in tasks if task != "next_place"]
    if asked and minutes:
        found["unisar"] = load_config(None, common | UNISAR | {"model.name": "unisar", "train.tasks": json.dumps(asked)})
        if minutes >= LEAST_MIN:
            found["corsar"] = load_config(None, common | CORSAR | {"train.tasks": json.dumps(asked)})
        if minutes >= LEAST_MIN and "recommend" in asked:
            found["sasrec"] = load_config(None, common | {"model.name": "sasrec", "train.tasks": '["recommend"]'})
    elif minutes:
        found["habits"] = load_config(None, common | {"model.name": "habits"})
    return found


def _settled(run: Path, config: Config, seconds: float) -> Config:
    """The settings with as many epochs or steps as its seconds have room for; those of a run that goes on stay."""
    if (run / MARK).is_file() or run.name not in SHARES:
        return config
    if (run / "config.toml").is_file():
        return load_config(run / "config.toml")
    took = dry_run(config, run)
    epochs = min(MOST_EPOCHS, int(seconds / took["seconds"]["epoch"]))
    if epochs:
        return config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
    steps = max(20, int((seconds - took["seconds"]["validation"]) / took["seconds"]["step"]))
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1, "max_steps": steps})})


def _add_unproved(told: dict[str, Any], run: Path, task: Task, dataset: Dataset) -> None:
    """Serve a rule for a task of which nothing is in the validation part."""
    if not (run / "artifact").exists():
        shutil.rmtree(run, ignore_errors=True)
        base = load_config(None, {"data.path": str(dataset.path), "train.tasks": json.dumps([task])})
        train_run(rule_settings(base, UNPROVED[task]), run)
    told["runs"].insert(0, str(run))
    told["best"][task] = run.name
    told["sentences"].insert(0, f"{task}: nothing of it is in the validation part, so that {run.name} is served unproved")


def _chosen(found: Sequence[Evaluated], tasks: Sequence[Task], home: Path) -> dict[str, Any]:
    """The best run of each task, and what is to be said of it."""
    metric = main_metric(found)
    apart = differences(found, metric)
    best: dict[str, str] = {}
    sentences: list[str] = []
    for task in tasks:
        here = [run for run in found if task in run.tasks]
        first = max(here, key=lambda run: float(run.report["metrics"][task][metric]["value"]))
        best[task] = first.name
        sentences.append(_sentence(task, metric, here, first, [one for one in apart if one.task == task]))
    sentences.append(
        "figures are those of the validation part, by which the choice was made: of new users expect a little less"
    )
    table = table_rows([run.report for run in found])
    runs = [_for_tasks(home, name, [task for task in best if best[task] == name]) for name in dict.fromkeys(best.values())]
    return {"runs": [str(run) for run in runs], "best": best, "table": table, "sentences": sentences}


def _for_tasks(home: Path, name: str, tasks: Sequence[str]) -> Path:
    """The run, or a copy of its artifact that answers these tasks alone, where it was trained for more."""
    run, copy = home / "runs" / name, home / "served" / name
    config = load_config(find_artifact(run) / "model.toml")
    if set(config.train.tasks) == set(tasks):
        return run
    with replacing(copy) as beside:
        shutil.copytree(find_artifact(run), beside, dirs_exist_ok=True)
        file, listed = beside / "model.toml", beside / "manifest.json"
        only = config.model_copy(update={"train": config.train.model_copy(update={"tasks": tuple(tasks)})})
        file.write_text(dump_config(only), encoding="utf-8")
        manifest = json.loads(listed.read_text(encoding="utf-8"))
        manifest["files"]["model.toml"] = file_hash(file)
        listed.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return copy


def _sentence(task: str, metric: str, here: Sequence[Evaluated], first: Evaluated, apart: Sequence[Difference]) -> str:
    """Whether a trained model beats the best rule, and what is served."""
    value = {run.name: float(run.report["metrics"][task][metric]["value"]) for run in here}
    trained = [one for one in apart if one.name in SHARES]
    if not trained:
        return f"{task}: {first.name} is the best rule ({metric} {value[first.name]:.4f}); it is served; no model was trained"
    top = max(trained, key=lambda one: one.value)
    verdict = "beats" if top.low > 0 else "is worse than" if top.high < 0 else "is not told from"
    return (
        f"{task}: {top.name} {verdict} the best rule, {top.reference}: {metric} {value[top.name]:.4f} against "
        f"{value[top.reference]:.4f}, difference {top.value:+.4f} (95 % interval {top.low:+.4f} to {top.high:+.4f}, paired); "
        f"{first.name} is served"
    )
