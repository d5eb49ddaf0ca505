"""The plain twins that speed is measured against compute what the published code does."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
TWINS = HERE.parents[1] / "benchmarks"


def run(golden: Path) -> tuple[int, dict[str, str]]:
    """Exit code, and the verdict on each quantity."""
    twin = TWINS / f"twin_{golden.stem}.py"
    done = subprocess.run([sys.executable, twin, golden], capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    return done.returncode, {line[0]: line[-1] for line in lines}


@pytest.mark.parametrize(("golden", "quantities"), [("unisar.npz", 14), ("autocorrelation.npz", 25)])
def test_twin_agrees_with_published_numbers(golden: str, quantities: int) -> None:
    code, verdicts = run(HERE / golden)
    assert code == 0
    assert len(verdicts) == quantities
    assert set(verdicts.values()) == {"ok"}


@pytest.mark.parametrize(
    ("golden", "changed", "quantity"),
    [
        ("unisar.npz", "src.grad.word_emb", "src.grad.words"),
        ("autocorrelation.npz", "layer.eval.cross", "layer.eval.cross"),
    ],
)
def test_twin_exits_1_over_tolerance(tmp_path: Path, golden: str, changed: str, quantity: str) -> None:
    with np.load(HERE / golden, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays[changed] = arrays[changed] * 1.001
    np.savez(tmp_path / golden, **arrays)
    shutil.copy((HERE / golden).with_suffix(".json"), tmp_path)
    code, verdicts = run(tmp_path / golden)
    assert code == 1
    assert [name for name, verdict in verdicts.items() if verdict == "OVER"] == [quantity]
