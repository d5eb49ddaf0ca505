"""The two towers beside a model: they change nothing of it, go on as if nothing had been, and find what a softmax would."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from corsar.artifact import open_artifact
from corsar.config import Config
from corsar.data.loader import TrainLoader
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, CorsarError
from corsar.models.towers import ASKED, TOWERS, TwoTower, two_tower_of
from corsar.progress import Progress
from corsar.train.loop import fresh_model, train

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run

UNISAR = {
    "model__name": "unisar", "model__dim": "8", "model__id_dim": "8", "model__word_dim": "8", "model__own_experts": "1",
    "model__shared_experts": "1", "model__expert_dim": "8", "model__tower": "[8]", "model__head": "[8]",
    "train__epochs": "2", "train__batch_size": "80", "train__clip_norm": "0.5", "train__valid_cases": "10",
}  # fmt: skip
SASREC = {"model__name": "sasrec", "model__dim": "8", "model__blocks": "1", "train__epochs": "2", "train__batch_size": "80"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of UniSAR with towers that nothing interrupted."""
    return train(settings(data, UNISAR, train__two_tower="true"), tmp_path_factory.mktemp("runs") / "towers")


def settings(data: Path, keys: dict[str, str], **more: str) -> Config:
    return tiny_run.settings(data, **{**keys, **more})


def weights(run: Path, what: str = "weights") -> dict[str, torch.Tensor]:
    [file] = (run / "checkpoint").glob(f"*/{what}.safetensors")
    return load_file(file)


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock measured."""
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("_s")} for line in told]


@pytest.mark.parametrize("keys", [UNISAR, {**SASREC, "train__sparse_rows": "5"}], ids=["unisar", "sasrec by rows"])
def test_model_is_bit_for_bit_the_same_with_and_without_towers(keys: dict[str, str], data: Path, tmp_path: Path) -> None:
    without = train(settings(data, keys), tmp_path / "without")
    beside = train(settings(data, keys, train__two_tower="true"), tmp_path / "beside")
    for what in ("weights", "optimizer"):
        told, more = weights(without, what), weights(beside, what)
        own = {name: value for name, value in more.items() if TOWERS not in name}
        assert own.keys() == told.keys()
        assert len(more) > len(own)
        for name, value in told.items():
            assert torch.equal(value, own[name]), name
    kept = load_file(without / "artifact" / "weights.safetensors")
    for name, value in load_file(beside / "artifact" / "weights.safetensors").items():
        assert name.startswith(TOWERS) or torch.equal(value, kept[name]), name
    own_lines = [{key: value for key, value in line.items() if "two_tower" not in key} for line in lines(beside)]
    assert own_lines == lines(without)
    assert all({f"{task}/two_tower" for task in ASKED} <= line.keys() for line in lines(beside) if line["kind"] == "steps")


def test_towers_learn_to_find_the_targets(data: Path) -> None:
    model, towers, loader = begun(data, SASREC)
    optimizer = torch.optim.Adam(towers.parameters(), lr=0.01)
    batch = loader.step(0, 0)["recommend"]
    for _ in range(60):
        optimizer.zero_grad()
        towers.learn(model, batch)
        optimizer.step()
    products_BI = towers.user_vectors(model, batch) @ all_items(towers, model, batch).T
    assert (products_BI[:, 1:].argmax(1) + 1 == batch.candidates_BC[:, 0]).double().mean() > 0.6  # chance: 1 of 30


def begun(data: Path, kind: dict[str, str] = UNISAR) -> tuple[Any, TwoTower, TrainLoader]:
    """A model before its first step, and its towers."""
    config, dataset = settings(data, kind, train__two_tower="true"), open_dataset(data)
    model, config = fresh_model(config, dataset)
    towers = two_tower_of(model)
    assert towers is not None
    return model, towers, TrainLoader(dataset, config.data, config.train, 0)


def test_no_gradient_reaches_the_model(data: Path) -> None:
    model, towers, loader = begun(data)
    for batch in loader.step(0, 0).values():
        towers.learn(model, batch)
    has_gradient = {name for name, one in model.named_parameters() if one.grad is not None}
    assert has_gradient == {name for name, _ in model.named_parameters() if name.startswith(TOWERS)}


def test_loss_is_the_corrected_softmax_written_out(data: Path) -> None:
    model, towers, loader = begun(data)
    events = open_dataset(data).train_events()
    for task, batch in loader.step(0, 0).items():
        users_BE = towers.user_vectors(model, batch)
        every_IE = all_items(towers, model, batch)
        of_task = events.item_E[events.is_search_E == (task == "search")]
        rows = [*batch.candidates_BC[:, 0].tolist(), *batch.candidates_BC[:, 1].tolist()]
        parts = []
        for b, user_E in enumerate(users_BE):
            logits = []
            for at, row in enumerate(rows):
                chance = (of_task == row).double().mean() + 1 / batch.catalogue.num_items
                is_kept = at == b or row != rows[b]
                logits.append(user_E.double() @ every_IE[row].double() - chance.log() if is_kept else torch.tensor(-torch.inf))
            parts.append(F.cross_entropy(torch.stack(logits), torch.tensor(b)))
        assert float(torch.stack(parts).mean().detach()) == pytest.approx(towers.loss(model, batch).item(), abs=1e-5)


def all_items(towers: TwoTower, model: Any, batch: Any) -> torch.Tensor:
    rows_I = torch.arange(batch.catalogue.num_items + 1)
    return towers.item_vectors(rows_I, model.item_vectors(batch, rows_I))


def test_vector_of_a_user_does_not_hang_on_the_others_of_the_batch(data: Path) -> None:
    model, towers, loader = begun(data)
    for batch in loader.step(0, 1).values():
        whole_BE = towers.user_vectors(model, batch)
        for b in range(3):
            torch.testing.assert_close(towers.user_vectors(model, batch.take(torch.tensor([b])))[0], whole_BE[b])
        empty = {name: torch.zeros_like(getattr(batch, name)) for name in ("feed_is_real_BF", "search_is_real_BS")}
        none = dataclasses.replace(batch, **empty)
        assert torch.isfinite(towers.user_vectors(model, none)).all()


@pytest.mark.parametrize("at", [4, 7])
def test_interrupted_run_goes_on_with_its_towers(
    at: int, data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, count = settings(data, UNISAR, train__two_tower="true", train__checkpoint_every="1"), 0
    learn = TwoTower.learn

    def stopped(self: TwoTower, model: Any, batch: Any) -> float:
        nonlocal count
        count += 1
        if count == at:
            raise KeyboardInterrupt
        return learn(self, model, batch)

    monkeypatch.setattr(TwoTower, "learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    train(config, tmp_path / "run", resume=True)
    for what in ("weights", "optimizer"):
        told, found = weights(run, what), weights(tmp_path / "run", what)
        assert told.keys() == found.keys()
        assert all(torch.equal(told[name], found[name]) for name in told)
    assert lines(tmp_path / "run") == lines(run)


def test_artifact_holds_the_towers(run: Path) -> None:
    artifact = open_artifact(run)
    towers = two_tower_of(artifact.model)
    assert towers is not None
    stored = load_file(run / "artifact" / "weights.safetensors")
    assert torch.equal(towers.item_bias.weight, stored[f"{TOWERS}item_bias.weight"])
    assert towers.item_bias.weight.any()


def test_warm_start_takes_towers_where_there_are_some(data: Path, run: Path, tmp_path: Path) -> None:
    step = {"train__max_steps": "1", "train__learning_rate": "1e-12", "train__two_tower": "true"}
    beside = train(settings(data, UNISAR, **step, train__start_from=str(run)), tmp_path / "beside")
    told = load_file(run / "artifact" / "weights.safetensors")
    for name, value in weights(beside).items():
        torch.testing.assert_close(value, told[name], atol=1e-6, rtol=0)
    without = train(settings(data, UNISAR), tmp_path / "without")
    grown = train(settings(data, UNISAR, **step, train__start_from=str(without)), tmp_path / "grown")
    assert any(name.startswith(TOWERS) for name in weights(grown))


def test_what_can_have_no_towers_is_one_sentence(data: Path, tmp_path: Path) -> None:
    tiny_run.register()
    with pytest.raises(ConfigError, match="leave train"):
        train(settings(data, {}, train__two_tower="true"), tmp_path / "tiny")
    counted = train(settings(data, {}, model__name="counted", train__two_tower="true"), tmp_path / "counted")
    assert two_tower_of(open_artifact(counted).model) is None


def test_loss_that_is_not_finite_is_one_sentence(data: Path, tmp_path: Path) -> None:
    config = settings(data, SASREC, train__two_tower="true", train__learning_rate="1e30", train__epochs="6")
    with pytest.raises(CorsarError, match="lower train"):
        train(config, tmp_path / "run", progress=Progress(quiet=True))
