"""TensorBoard: what the log gets stands on the board once, whatever happened to the run."""

import json
import sys
from pathlib import Path

import pytest

from corsar.errors import ConfigError
from corsar.train.board import Board
from corsar.train.loop import train

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny_run.register()
    return tiny_run.make_dataset(tmp_path_factory.mktemp("data") / "tiny")


def points(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: step and value of each point, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(run / "tensorboard")).Reload()
    return {tag: [(one.step, one.value) for one in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of metrics.jsonl."""
    told: dict[str, list[tuple[int, float]]] = {}
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        for name, value in line.items():
            if name not in ("kind", "epoch", "step", "best"):
                told.setdefault(f"{line['kind']}/{name}", []).append((line["step"], pytest.approx(value, rel=1e-6)))
    return told


def test_board_shows_what_the_log_has_also_of_an_interrupted_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_run.settings(data, run__tensorboard="true")
    monkeypatch.setattr(tiny_run.TinyNet, "losses", 0)
    monkeypatch.setenv("TINY_SIGNAL", "SIGINT:40")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, resume=False)
    monkeypatch.delenv("TINY_SIGNAL")
    Board(tmp_path / "tensorboard", 20).write({"kind": "steps", "step": 38, "loss": 99.0})  # behind the last checkpoint
    train(config, tmp_path, resume=True)
    assert points(tmp_path) == logged(tmp_path)
    assert [step for step, _ in points(tmp_path)["epoch/score"]] == [13, 26, 39]


def test_run_without_a_board_writes_none(data: Path, tmp_path: Path) -> None:
    train(tiny_run.settings(data, train__max_steps="1"), tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_missing_package_is_one_sentence_and_nothing_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'corsar\[tensorboard\]'"):
        train(tiny_run.settings(data, run__tensorboard="true"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
