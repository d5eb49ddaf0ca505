"""The plain twin that speed is measured against computes what the published code does."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TWIN = HERE.parents[1] / "benchmarks" / "twin_unisar.py"


def run(golden: Path) -> tuple[int, dict[str, str]]:
    """Exit code, and the verdict on each quantity."""
    done = subprocess.run([sys.executable, TWIN, golden], capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    return done.returncode, {line[0]: line[-1] for line in lines}


def test_twin_agrees_with_published_numbers() -> None:
    code, verdicts = run(HERE / "unisar.npz")
    assert code == 0
    assert len(verdicts) == 14
    assert set(verdicts.values()) == {"ok"}


def test_twin_exits_1_over_tolerance(tmp_path: Path) -> None:
    with np.load(HERE / "unisar.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["src.grad.word_emb"] = arrays["src.grad.word_emb"] * 1.001
    np.savez(tmp_path / "unisar.npz", **arrays)
    shutil.copy(HERE / "unisar.json", tmp_path)
    code, verdicts = run(tmp_path / "unisar.npz")
    assert code == 1
    assert [name for name, verdict in verdicts.items() if verdict == "OVER"] == ["src.grad.words"]
