"""The run directory: its settings, its log, and what must hold before a run may start or go on in it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from corsar.config import Config, dump_config, load_config
from corsar.errors import ArtifactError, ConfigError, OutputError, writing
from corsar.models import model_class

# what may differ between a run and its resumption; every other difference would make it another run
FREE_KEYS = {
    "preset", "data.path", "train.epochs", "train.max_steps", "train.stop_patience", "train.checkpoint_every",
    "train.start_from", "run.device", "run.threads", "run.tensorboard", "evaluate.split", "evaluate.max_cases", "evaluate.ks",
    "evaluate.bootstrap",
}  # fmt: skip
BESIDE = ".config.toml.new"  # a run that was killed before it had settings has this file, or nothing
RESUME = "go on with --resume"


def check_run_dir(run_dir: Path, resume: bool) -> None:
    """ConfigError where a new run would overwrite something, or where there is nothing to resume."""
    if resume and not (run_dir / "config.toml").is_file():
        raise ConfigError(f"{run_dir} holds no run to resume; leave --resume out to start one")
    if not resume and run_dir.exists() and (not run_dir.is_dir() or {file.name for file in run_dir.iterdir()} - {BESIDE}):
        raise ConfigError(f"{run_dir} is there already; add --resume to go on with it, or choose another --out")


def check_same_run(config: Config, run_dir: Path) -> None:
    """ConfigError where the settings would make another run of the one in `run_dir`.

    A key that the run's own version of corsar did not have yet may be there, with its default.
    """
    stored, now = _flat(load_config(run_dir / "config.toml")), _flat(config)
    defaults = model_class(config.model["name"]).Config.model_fields
    for key in sorted({*stored, *now} - FREE_KEYS):
        section, _, name = key.partition(".")
        is_new = section == "model" and key not in stored and name in defaults and defaults[name].default == now[key]
        if stored.get(key) != now.get(key) and not is_new:
            raise ConfigError(
                f"{run_dir} was started with {key} = {stored.get(key)!r}, not {now.get(key)!r}; "
                "resume it with the same settings, or choose another --out"
            )


def write_config(config: Config, run_dir: Path) -> None:
    """Write config.toml, making the directory where there is none."""
    beside = run_dir / BESIDE
    with writing(run_dir / "config.toml"):
        run_dir.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(dump_config(config), encoding="utf-8")
            os.replace(beside, run_dir / "config.toml")
        except OSError:
            beside.unlink(missing_ok=True)
            raise


class Log:
    """metrics.jsonl, one JSON object a line; lines behind the first `size` bytes are cut off when it is opened.

    Raises:
        ArtifactError: There are fewer bytes than that, so that lines are lost.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        with writing(path, then=RESUME), path.open("ab") as opened:
            if opened.tell() < size:
                raise ArtifactError(f"{path} has lost lines that its checkpoint counts; bring it back, or train anew")
            opened.truncate(size)

    def write(self, line: dict[str, Any]) -> None:
        """Add a line: the whole of it, or an OutputError and none of it."""
        text = (json.dumps(line) + "\n").encode()
        try:
            with writing(self.path, then=RESUME), self.path.open("ab") as opened:
                opened.write(text)
        except OutputError:
            with suppress(OSError):
                os.truncate(self.path, self.size)
            raise
        self.size += len(text)


def _flat(config: Config) -> dict[str, Any]:
    told = config.model_dump(mode="json")
    sections = {name: value for name, value in told.items() if isinstance(value, dict)}
    return {f"{name}.{key}": value for name, keys in sections.items() for key, value in keys.items()}
