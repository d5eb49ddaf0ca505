"""Two processes of torchrun on the CPU (gloo) train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corsar.cli import main

SRC = Path(__file__).parents[2] / "src"
# an odd batch, so that shares differ in size; no dropout, whose masks are others in several processes; the tables of items,
# users and positions have more than 12 rows and travel by rows, those of words and categories whole
SETTINGS = [
    "--train.epochs", "2", "--train.batch_size", "13", "--train.align_negatives", "16", "--train.sparse_rows", "12",
    "--model.dropout", "0", "--model.dim", "32", "--model.embedding_std", "0.5", "--run.threads", "1",
    "--run.tensorboard", "true", "--train.two_tower", "true",
]  # fmt: skip


def torchrun(*argv: str) -> subprocess.CompletedProcess[str]:
    """corsar in two processes, by `torchrun --standalone --nproc-per-node 2 -m corsar.cli …`."""
    path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "corsar.cli"]
    return subprocess.run([*command, *argv], env=env, capture_output=True, text=True, check=False, timeout=300)


def lines(run: Path) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("_s")} for line in told]


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_of_one(tiny_dataset: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    main(["train", "--data", str(tiny_dataset), "--out", str(one), *SETTINGS])
    done = torchrun("train", "--data", str(tiny_dataset), "--out", str(two), *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: corsar evaluate") == 1
    for ours, theirs in zip(lines(two), lines(one), strict=True):
        assert (ours.pop("kind"), ours.pop("epoch"), ours.pop("step")) == (
            theirs.pop("kind"),
            theirs.pop("epoch"),
            theirs.pop("step"),
        )
        if "loss" in theirs:
            assert ours == pytest.approx(theirs, abs=1e-4)
    assert sorted(file.name for file in two.iterdir()) == sorted(file.name for file in one.iterdir())
    assert len(list((two / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_counted_model_is_counted_once(tiny_dataset: Path, tmp_path: Path) -> None:
    done = torchrun("train", "--data", str(tiny_dataset), "--model", "popularity", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert [line["kind"] for line in lines(tmp_path / "run")] == ["count"]


@pytest.mark.slow
def test_what_stops_the_first_process_stops_all_with_one_sentence(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    done = torchrun("train", "--data", str(tiny_dataset), "--out", str(tmp_path))
    assert done.returncode != 0
    assert "is there already; add --resume" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
