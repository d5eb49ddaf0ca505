"""Trainings that are killed at random moments and resumed end as if nothing had been, bit for bit.

The moments vary from run to run; what a failure says brings them back: CORSAR_KILL_SEED=… pytest tests/e2e/test_kill.py
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SEED = int(os.environ.get("CORSAR_KILL_SEED") or random.SystemRandom().randrange(10**9))
SMALL = {
    "model.dim": "8", "model.id_dim": "8", "model.word_dim": "8", "data.feed_len": "6", "data.search_len": "4",
    "train.epochs": "3", "train.batch_size": "24", "train.align_negatives": "4", "train.valid_cases": "8",
    "train.checkpoint_every": "2", "train.learning_rate": "0.01", "train.two_tower": "true", "run.threads": "1",
}  # fmt: skip
FLAGS = [token for key, value in SMALL.items() for token in (f"--{key}", value)]
# a part of a mark's name for each phase of a training
PHASES = {
    "before the settings": ("mkdir ", "config.toml"),
    "in a step": (" backward", " step"),
    "in the validation": ("rank_targets",),
    "while a line is written": ("metrics.jsonl",),
    "while a checkpoint is written": ("/checkpoint",),
    "while an artifact is written": ("artifact",),
}


class Trainer:
    """The warm process, and the unbroken run that all others are held against."""

    def __init__(self, process: subprocess.Popen[str], data: Path, home: Path) -> None:
        self.process, self.data, self.home = process, data, home
        self.whole = home / "whole"
        told = self.ask(self.whole, marks=str(home / "marks.json"))
        assert told["code"] == 0, self.log(self.whole)
        self.seconds: float = told["seconds"]
        self.marks: list[str] = json.loads((home / "marks.json").read_text())

    def ask(self, run: Path, **kill: Any) -> dict[str, Any]:
        """Train, or go on where there is a run, in a child that is killed as told."""
        resume = ["--resume"] if (run / "config.toml").is_file() else []
        argv = ["train", "--data", str(self.data), "--out", str(run), *FLAGS, *resume]
        return self.send({"argv": [argv], "folder": str(run), "log": f"{run}.log", **kill})

    def send(self, told: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        heard: dict[str, Any] = json.loads(self.process.stdout.readline())
        return heard

    def log(self, run: Path) -> str:
        return Path(f"{run}.log").read_text()[-2000:]

    def assert_ends_as_the_unbroken_run(self, run: Path, how: str) -> None:
        where = f"seed {SEED}, killed {how}"
        assert self.ask(run)["code"] == 0, f"{where}: {self.log(run)}"
        assert lines(run) == lines(self.whole), where
        assert files(run) == files(self.whole), where
        for name in files(self.whole):
            timed = name in ("metrics.jsonl", "checkpoint/latest.json") or name.endswith("state.json")
            if not timed and (self.whole / name).is_file():
                assert (run / name).read_bytes() == (self.whole / name).read_bytes(), f"{where}: {name}"
        assert state(run) == state(self.whole), where


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock measured."""
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("_s")} for line in told]


def files(run: Path) -> list[str]:
    return sorted(file.relative_to(run).as_posix() for file in run.rglob("*"))


def state(run: Path) -> dict[str, Any]:
    """The checkpoint's numbers, but for the size of a file that holds measured times."""
    [file] = run.glob("checkpoint/*/state.json")
    told: dict[str, Any] = json.loads(file.read_text())
    return {key: value for key, value in told.items() if key != "metrics_bytes"}


@pytest.fixture(scope="module")
def trainer(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    source = str(Path(__file__).parents[2] / "src")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONWARNINGS": "error::DeprecationWarning"}
    env["PYTHONPATH"] = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("warm_trainer.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as process:
        yield Trainer(process, tiny_dataset, tmp_path_factory.mktemp("kills"))


@pytest.mark.slow
def test_ten_kills_at_random_moments_end_in_the_weights_of_the_unbroken_run(trainer: Trainer) -> None:
    draw = random.Random(SEED)
    for number in range(10):
        after = draw.uniform(0, trainer.seconds)
        run = trainer.home / f"moment{number}"
        assert trainer.ask(run, after_s=after)["code"] in (-9, 0), trainer.log(run)
        trainer.assert_ends_as_the_unbroken_run(run, f"after {after:.4f} s")


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_kill_in_each_phase_ends_as_the_unbroken_run(phase: str, trainer: Trainer) -> None:
    draw = random.Random(f"{SEED} {phase}")
    marks = [at for at, name in enumerate(trainer.marks) if any(part in name for part in PHASES[phase])]
    at = draw.choice(marks)
    run = trainer.home / f"mark{at}"
    assert trainer.ask(run, at=at)["code"] == -9, trainer.log(run)
    trainer.assert_ends_as_the_unbroken_run(run, f"at mark {at}, {trainer.marks[at]}")


@pytest.mark.slow
def test_run_killed_again_and_again_ends_as_the_unbroken_run(trainer: Trainer) -> None:
    draw = random.Random(f"{SEED} again")
    run, kills = trainer.home / "again", []
    for _ in range(3):
        kills.append(draw.randrange(2, len(trainer.marks) // 3))
        assert trainer.ask(run, at=kills[-1])["code"] in (-9, 0), trainer.log(run)
    trainer.assert_ends_as_the_unbroken_run(run, f"at marks {kills}")


@pytest.mark.slow
def test_kill_in_the_middle_of_a_file_ends_as_the_unbroken_run(trainer: Trainer) -> None:
    draw = random.Random(f"{SEED} bytes")
    sizes = {(trainer.whole / name).stat().st_size for name in files(trainer.whole) if (trainer.whole / name).is_file()}
    for number in range(2):
        limit = draw.randrange(100, max(sizes))
        run = trainer.home / f"bytes{number}"
        assert trainer.ask(run, bytes=limit)["code"] == -25, trainer.log(run)
        trainer.assert_ends_as_the_unbroken_run(run, f"when a file had {limit} bytes")


def test_marks_cover_every_phase(trainer: Trainer) -> None:
    assert all(any(part in name for name in trainer.marks) for parts in PHASES.values() for part in parts), trainer.marks
    epochs = [line for line in lines(trainer.whole) if line["kind"] == "epoch"]
    assert sum(line["best"] for line in epochs) >= 1
    assert len(epochs) == 3
