"""Training: the schedule, runs that stop and go on as if nothing had been, and what is told when it cannot."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from corsar.artifact import open_artifact
from corsar.batch import Sizes
from corsar.config import Config, TrainSection, load_config
from corsar.data.store import open_dataset
from corsar.errors import ArtifactError, ConfigError, CorsarError
from corsar.progress import Progress
from corsar.train.checkpoint import has_checkpoint, load_checkpoint, read_state, save_checkpoint
from corsar.train.loop import train
from corsar.train.optim import Plateau, build_optimizer, set_learning_rate

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    tiny_run.register()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    return train(tiny_run.settings(data), tmp_path_factory.mktemp("runs") / "whole")


def weights(run: Path) -> dict[str, torch.Tensor]:
    [file] = (run / "checkpoint").glob("*/weights.safetensors")
    return load_file(file)


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock measured."""
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("_s")} for line in told]


def assert_same_run(run: Path, whole: Path) -> None:
    assert lines(run) == lines(whole)
    ours, theirs = weights(run), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = (load_file(one / "artifact" / "weights.safetensors") for one in (run, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def signalled(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(tiny_run.TinyNet, "losses", 0)
    monkeypatch.setenv("TINY_SIGNAL", what)


def test_run_directory_holds_settings_metrics_checkpoint_and_artifact(whole: Path, data: Path) -> None:
    config = load_config(whole / "config.toml")
    assert config.model == {"name": "tiny", "dim": 8, "broken": False, "empty_history": "zero"}
    told = lines(whole)
    assert [line["epoch"] for line in told if line["kind"] == "epoch"] == [0, 1, 2]
    steps = [line for line in told if line["kind"] == "steps"]
    assert {"loss", "recommend/click", "search/size", "learning_rate"} <= set(steps[0])
    assert steps[-1]["loss"] < steps[0]["loss"]
    for line in steps:
        parts = {name: line[f"recommend/{name}"] + 0.1 * line[f"search/{name}"] for name in ("click", "size")}
        assert line["loss"] == pytest.approx(parts["click"] + 0.01 * parts["size"], rel=1e-5)
    assert read_state(whole / "checkpoint")["threads"] == 1
    best = max((line for line in told if line["kind"] == "epoch"), key=lambda line: line["score"])
    assert best["best"]
    assert open_artifact(whole).config == config


def test_training_leaves_the_global_generator_and_threads_alone(data: Path, tmp_path: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train(tiny_run.settings(data, train__max_steps="1", run__threads="3"), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("number", [1, 8, 11, 24, 26])
def test_interrupted_run_goes_on_as_if_nothing_had_been(
    number: int, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, f"SIGINT:{number}")
    with pytest.raises(KeyboardInterrupt):
        train(tiny_run.settings(data), tmp_path / "run")
    assert has_checkpoint(tmp_path / "run" / "checkpoint")
    monkeypatch.delenv("TINY_SIGNAL")
    train(tiny_run.settings(data), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_killed_run_goes_on_as_if_nothing_had_been(data: Path, whole: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "TINY_SIGNAL": "SIGKILL:24", "PYTHONPATH": path}
    command = [sys.executable, tiny_run.__file__, str(data), str(tmp_path / "run")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert len(lines(tmp_path / "run")) < len(lines(whole))
    train(tiny_run.settings(data), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_run_without_a_checkpoint_resumes_from_the_start(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, "SIGUSR1:1")

    def stop(*_: object) -> None:
        raise SystemExit

    before = signal.signal(signal.SIGUSR1, stop)
    with pytest.raises(SystemExit):
        train(tiny_run.settings(data), tmp_path / "run")
    signal.signal(signal.SIGUSR1, before)
    monkeypatch.delenv("TINY_SIGNAL")
    train(tiny_run.settings(data), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_finished_run_resumes_to_nothing_and_can_be_made_longer(data: Path, whole: Path, tmp_path: Path) -> None:
    train(tiny_run.settings(data, train__epochs="1"), tmp_path / "run")
    before = lines(tmp_path / "run")
    train(tiny_run.settings(data, train__epochs="1"), tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == before
    train(tiny_run.settings(data), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_run_of_an_older_version_lacks_the_newer_keys_and_resumes(data: Path, whole: Path, tmp_path: Path) -> None:
    train(tiny_run.settings(data, train__epochs="1"), tmp_path / "run")
    stored = tmp_path / "run" / "config.toml"
    old = "".join(line for line in stored.read_text().splitlines(keepends=True) if not line.startswith("dim"))
    assert old != stored.read_text()
    stored.write_text(old)
    with pytest.raises(ConfigError, match=r"was started with model\.dim = None"):
        train(tiny_run.settings(data, model__dim="4"), tmp_path / "run", resume=True)
    train(tiny_run.settings(data), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_max_steps_ends_with_an_artifact(data: Path, tmp_path: Path) -> None:
    train(tiny_run.settings(data, train__max_steps="2"), tmp_path / "run")
    assert [(line["kind"], line["step"]) for line in lines(tmp_path / "run")] == [("steps", 2), ("epoch", 2)]
    open_artifact(tmp_path / "run")


def test_training_stops_where_nothing_gets_better(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.2, 0.9])
    monkeypatch.setattr("corsar.train.loop.validation_score", lambda *_, **__: next(scores))
    more = {"train__epochs": "9", "train__stop_patience": "3", "train__plateau_patience": "0"}
    train(tiny_run.settings(data, **more), tmp_path / "run")
    told = [line for line in lines(tmp_path / "run") if line["kind"] == "epoch"]
    assert [line["best"] for line in told] == [True, True, False, False, False]
    assert [line["learning_rate"] for line in told] == pytest.approx([0.01, 0.01, 0.01, 1e-3, 1e-4])


def test_untrained_model_is_counted(data: Path, tmp_path: Path) -> None:
    train(tiny_run.settings(data, model__name="counted"), tmp_path / "run")
    counts = open_artifact(tmp_path / "run").model.counts
    assert counts.sum() == len(open_dataset(data).train_events().item_E)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"model__broken": "true"}, "loss term 'size' of recommend is inf at epoch 0, step 0; lower train.learning_rate"),
        ({"model__broken": "true", "model__empty_history": "nan"}, "set data.require_both_histories = true"),
        ({"run__device": "cudda"}, "is no device of torch"),
        ({"train__tasks": '["search"]', "model__dmi": "1"}, r"unknown key 'dmi' in \[model\]"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(data: Path, tmp_path: Path, more: dict[str, str], sentence: str) -> None:
    with pytest.raises(CorsarError, match=sentence) as caught:
        train(tiny_run.settings(data, **more), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_runs_are_not_overwritten_nor_changed(data: Path, whole: Path, tmp_path: Path) -> None:
    def attempt(sentence: str, run: Path, config: Config, resume: bool) -> None:
        with pytest.raises(ConfigError, match=sentence):
            train(config, run, resume=resume)

    before = lines(whole)
    attempt("is there already; add --resume", whole, tiny_run.settings(data), False)
    attempt("holds no run to resume", tmp_path, tiny_run.settings(data), True)
    attempt(r"started with train\.batch_size = 16, not 17", whole, tiny_run.settings(data, train__batch_size="17"), True)
    other = tiny_run.make_dataset(tmp_path / "other", seed=1)
    attempt("is not the dataset that", whole, tiny_run.settings(other), True)
    assert lines(whole) == before


def test_progress_tells_epochs_on_a_stream_that_is_no_terminal(data: Path, tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        train(tiny_run.settings(data, train__epochs="1"), tmp_path / "run", progress=progress)
    assert re.fullmatch(
        r"epoch 1: validation NDCG@5 0\.\d{4} among \d+ sampled candidates \(the best so far\)\n", stream.getvalue()
    )
    assert stream.getvalue().count("\n") == 1


def test_learning_rate_rises_and_falls_step_by_step(data: Path, tmp_path: Path) -> None:
    more = {"train__warmup": "3", "train__decay": "linear", "train__epochs": "2"}
    train(tiny_run.settings(data, **more), tmp_path / "run")
    told = [(line["step"], line["learning_rate"]) for line in lines(tmp_path / "run") if line["kind"] == "steps"]
    last = told[-1][0]
    expected = [(step, 0.01 * min(1, step / 3) * (1 - (step - 1) / last)) for step, _ in told]
    assert len(told) > 1
    assert [rate for _, rate in told] == pytest.approx([rate for _, rate in expected])


def test_schedule_is_that_of_torch() -> None:
    train_section = TrainSection(learning_rate=1.0, plateau_patience=1, min_learning_rate=0.005)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.1, 1, min_lr=0.005)
    ours = Plateau(1.0)
    scores = [0.1, 0.2, 0.2, 0.20001, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1]
    for epoch, score in enumerate(scores):
        ours.update(score, epoch, train_section)
        optimizer.step()
        theirs.step(score)
        assert ours.learning_rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours.best_epoch == 11
    assert ours.since_best == 3
    set_learning_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_biases_have_no_weight_decay() -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 3), TrainSection(weight_decay=0.5))
    assert [(group["weight_decay"], group["params"][0].dim()) for group in optimizer.param_groups] == [(0.5, 2), (0, 1)]


def test_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    model = tiny_run.TinyNet(tiny_run.TinyNet.Config(), Sizes(2, 3, 4))
    optimizer = build_optimizer(model, TrainSection())
    save_checkpoint(tmp_path, model, optimizer, {"a": 1})
    save_checkpoint(tmp_path, model, optimizer, {"a": 2})
    assert read_state(tmp_path)["a"] == 2
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    with pytest.raises(ArtifactError, match="belongs to another model"):
        load_checkpoint(tmp_path, torch.nn.Linear(2, 2), optimizer)
    (tmp_path / "latest.json").write_text("{")
    with pytest.raises(ArtifactError, match="is damaged"):
        has_checkpoint(tmp_path)
