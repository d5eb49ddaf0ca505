"""Train and evaluate the runs of a grid one after the other; what is finished is not done again.

A run is finished when `finished.json` lies in it. One that was killed goes on from its checkpoint. `asked.json` beside the
runs holds the settings that they were started with: others are refused, so that one table never mixes two grids.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corsar.api.grid import Unit
from corsar.api.runs import BASELINES, evaluate_runs, rule_settings, train_run
from corsar.config import Config
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, CorsarError
from corsar.evaluate.gather import Evaluated, open_runs
from corsar.evaluate.report import write_text
from corsar.progress import Progress

MARK = "finished.json"
FREE = ("run.device", "run.threads", "run.tensorboard", "data.path", "train.checkpoint_every")  # they change no figure


def run_units(units: Sequence[Unit], out: Path, progress: Progress) -> dict[tuple[str, int], Evaluated]:
    """(variant, seed) -> its evaluated run, all trained and evaluated by now, under one display.

    Raises:
        ConfigError: the folder holds runs of other settings or of other data.
        CorsarError: a run cannot be trained; the sentence names it.
    """
    data = str(open_dataset(units[0].config.data.path).manifest["data_hash"])
    _ask(units, out)
    with progress.task("runs", len(units)) as bar:
        for unit in units:
            label = f"{unit.variant}, seed {unit.seed}"
            try:
                finish(unit.folder(out), unit.config, data, label, progress)
            except CorsarError as error:
                raise type(error)(f"{label}: {error}") from error
            bar.advance(1, label)
    found = _open([unit.folder(out) for unit in units])
    return {(unit.variant, unit.seed): run for unit, run in zip(units, found, strict=True)}


def run_rules(config: Config, out: Path, progress: Progress) -> dict[str, Evaluated]:
    """The untrained rules of the base's tasks, counted and evaluated: what every table must show beside trained runs."""
    data = str(open_dataset(config.data.path).manifest["data_hash"])
    names = dict.fromkeys(name for task in config.train.tasks for name in BASELINES[task])
    for name in names:
        finish(out / "rules" / name, rule_settings(config, name), data, name, progress)
    return dict(zip(names, _open([out / "rules" / name for name in names]), strict=True))


def finish(run: Path, config: Config, data: str, label: str, progress: Progress) -> None:
    """Train and evaluate a run, or go on with it, unless it is finished.

    Args:
        data: hash of the dataset that is there now.
        label: what the display calls it.
    """
    if mark := _mark(run):
        if mark["data"] != data:
            raise ConfigError(f"{run} was made from another dataset than {config.data.path}; choose another --out")
        return
    progress.say(label)
    start, going_on = time.monotonic(), (run / "config.toml").is_file()
    train_run(config, run, resume=going_on, progress=progress)
    (report,) = evaluate_runs([run], baselines=False, progress=progress)["reports"]
    told = {"data": data, "fingerprint": report["fingerprint"], "seconds": time.monotonic() - start, "resumed": going_on}
    write_text(run / MARK, json.dumps(told) + "\n")


def seconds_of(run: Path) -> str:
    """How long a finished run took, as text; of one that was stopped on the way, what its last part took."""
    told = _mark(run)
    return f"{told['seconds']:.0f} s" + (" after a stop" if told["resumed"] else "")


def _mark(run: Path) -> dict[str, Any]:
    """What was written when the run was finished; nothing where it is not."""
    try:
        found = json.loads((run / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _open(runs: Sequence[Path]) -> list[Evaluated]:
    """The runs with the reports of the grid's protocol; somebody may have evaluated one of them under another since."""
    return open_runs(runs, fingerprint=_mark(runs[0])["fingerprint"], baselines=False)


def _ask(units: Sequence[Unit], out: Path) -> None:
    """Keep what the runs are to be; ConfigError where they were started as something else."""
    file, now = out / "asked.json", {unit.folder(out).name: _kept(unit.told) for unit in units}
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        before = {}
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} is there already and holds no such runs; choose another --out") from None
    except ValueError:
        raise ConfigError(f"{file} cannot be read; choose another --out, or delete {out}") from None
    for name in now.keys() & before.keys():
        for key in sorted(now[name].keys() | before[name].keys()):
            if now[name].get(key) != before[name].get(key):
                raise ConfigError(
                    f"{out / 'runs' / name} was started with {key} = {before[name].get(key)!r}, not {now[name].get(key)!r}; "
                    f"choose another --out, or delete {out}"
                )
    write_text(file, json.dumps({**before, **now}, indent=1) + "\n")


def _kept(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in FREE}
