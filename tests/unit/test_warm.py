"""Warm start: what both logs know keeps its weights, what is new starts fresh, and settings that differ are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import corsar
from corsar.artifact import Artifact, open_artifact
from corsar.config import Config, load_config
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError
from corsar.models.base import Model
from corsar.train.loop import fresh_model, train
from corsar.train.warm import table_owners, warm_start
from corsar.vocab import Vocab

SMALL = {
    "unisar": {"model.dim": "8", "model.id_dim": "8", "model.word_dim": "8", "train.align_negatives": "8"},
    "sasrec": {"model.dim": "8", "model.blocks": "1"},
}
# the tables of each model, and whose rows they hold
TABLES = {
    "unisar": {
        "words.embedding.weight": ("num_words", 0),
        "item_id.weight": ("num_items", 0),
        "user_id.weight": ("num_users", 0),
        "categories.0.weight": ("category_sizes", 0),
        "attributes.0.weight": ("attribute_sizes", 0),
    },
    "sasrec": {"item.weight": ("num_items", 0), "item_bias.weight": ("num_items", 0)},
}


def _logs(users: int, things: list[str]) -> corsar.Dataset:
    """The example's logs with other things in the shop: other items, words and categories, some of them the same."""
    events, items = corsar.example_logs(users)
    kept = items.filter(pl.col("category").is_in(things))
    new = pl.DataFrame({"item_id": [101, 102], "text": ["red scarf", "violet scarf"], "category": ["scarf", "scarf"]})
    items = pl.concat([kept, new]) if "scarf" in things else kept
    events = events.with_columns(
        item_id=pl.when(pl.col("item_id").is_in(kept["item_id"].implode())).then("item_id").otherwise(items["item_id"][-1])
    )
    people = pl.DataFrame({"user_id": [f"u{n}" for n in range(users)], "town": [f"t{n % (users // 5)}" for n in range(users)]})
    return corsar.Dataset.from_frames(events, items=items, users=people)


@pytest.fixture(scope="module")
def old() -> corsar.Dataset:
    return _logs(20, ["shoe", "hat", "lamp", "cup"])


@pytest.fixture(scope="module")
def new() -> corsar.Dataset:
    return _logs(30, ["hat", "lamp", "cup", "scarf"])


def _config(dataset: corsar.Dataset, name: str, **more: str) -> Config:
    flags = {
        "data.path": str(dataset.path), "model.name": name, "train.epochs": "1", "train.batch_size": "64", "run.threads": "1",
        **SMALL[name],
    }  # fmt: skip
    return load_config(None, flags | {key.replace("__", "."): value for key, value in more.items()})


@pytest.fixture(scope="module", params=list(SMALL))
def source(request: pytest.FixtureRequest, old: corsar.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    run = tmp_path_factory.mktemp("runs") / "old"
    return open_artifact(train(_config(old, request.param), run))


def _warm(source: Artifact, new: corsar.Dataset) -> tuple[Model, Model, Dataset]:
    """A fresh model on the new logs, the same with the old weights, and the logs."""
    dataset = open_dataset(new.path)
    config = _config(new, source.config.model["name"], train__start_from=str(source.path))
    with torch.random.fork_rng():
        fresh, _ = fresh_model(config, dataset)
        warm, config = fresh_model(config, dataset)
    warm_start(warm, config, dataset)
    return fresh, warm, dataset


def test_tables_are_known_by_what_they_grow_with(source: Artifact) -> None:
    name = source.config.model["name"]
    assert table_owners(source.config, source.sizes) == TABLES[name]


def test_known_rows_keep_their_weights_and_new_rows_are_fresh(source: Artifact, new: corsar.Dataset) -> None:
    fresh, warm, dataset = _warm(source, new)
    vocabs: dict[str, tuple[Vocab, Vocab]] = {
        "num_users": (source.users, dataset.users),
        "num_items": (source.items, dataset.items),
        "num_words": (source.words, dataset.words),
    }
    for field, kind in (("category_sizes", "categories"), ("attribute_sizes", "attributes")):
        columns = (source.manifest["dataset"][kind][0], dataset.manifest[kind][0])
        vocabs[field] = (Vocab(columns[0]["values"]), Vocab(columns[1]["values"]))
    tables = TABLES[source.config.model["name"]]
    before, now, at_start = source.model.state_dict(), warm.state_dict(), fresh.state_dict()
    for name, weight in now.items():
        if name not in tables:
            assert torch.equal(weight, before[name]), name
            continue
        then, here = vocabs[tables[name][0]]
        known = [one for one in here.ids(range(1, len(here) + 1)).to_list() if one in set(then.ids(range(1, len(then) + 1)))]
        assert 0 < len(known) < len(here), name
        there, place = then.rows(known), here.rows(known)
        assert torch.equal(weight[place], before[name][there]), name
        added = np.setdiff1d(np.arange(1, len(here) + 1), place)
        assert torch.equal(weight[added], at_start[name][added]), name
        assert torch.equal(weight[0], before[name][0])
    assert any(not torch.equal(now[name], at_start[name]) for name in tables)


def test_first_step_starts_from_the_known_rows(source: Artifact, new: corsar.Dataset, tmp_path: Path) -> None:
    name = source.config.model["name"]
    config = _config(new, name, train__start_from=str(source.path), train__max_steps="1", train__learning_rate="1e-9")
    trained = open_artifact(train(config, tmp_path / "run")).model.state_dict()
    _, warm, _ = _warm(source, new)
    for key, weight in warm.state_dict().items():
        torch.testing.assert_close(trained[key], weight, rtol=0, atol=1e-8)


def test_resumed_run_needs_its_source_no_more(source: Artifact, new: corsar.Dataset, tmp_path: Path) -> None:
    name = source.config.model["name"]
    train(_config(new, name, train__start_from=str(source.path)), tmp_path / "run")
    train(_config(new, name, train__start_from=str(tmp_path / "gone"), train__epochs="2"), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count('"epoch"') >= 2


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"model__dim": "16"}, r"was trained with model\.dim = 8, not 16; set it to the same"),
        ({"data__feed_len": "7"}, r"was trained with data\.feed_len = 30, not 7"),
        ({"model__name": "popularity"}, ""),
    ],
)
def test_other_settings_are_told(
    source: Artifact, new: corsar.Dataset, tmp_path: Path, more: dict[str, str], sentence: str
) -> None:
    config = _config(new, source.config.model["name"], train__start_from=str(source.path), **more)
    if not sentence:  # an untrained model is counted anew
        config = config.model_copy(update={"model": {"name": "popularity"}})
        assert train(config, tmp_path / "run").is_dir()
        return
    with pytest.raises(ConfigError, match=sentence) as caught:
        train(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_another_model_or_other_columns_are_told(old: corsar.Dataset, source: Artifact, tmp_path: Path) -> None:
    other = {"unisar": "sasrec", "sasrec": "unisar"}[source.config.model["name"]]
    with pytest.raises(ConfigError, match=r"was trained with model\.name = "):
        train(_config(old, other, train__start_from=str(source.path)), tmp_path / "run")
    plain = corsar.Dataset.from_frames(corsar.example_logs()[0])
    config = _config(plain, source.config.model["name"], train__start_from=str(source.path))
    with pytest.raises(ConfigError, match=r"was trained with the categories \['category'\], and this dataset has \[\]"):
        train(config, tmp_path / "run")


def test_estimator_goes_on_with_new_logs(old: corsar.Dataset, new: corsar.Dataset) -> None:
    settings: dict[str, Any] = {"dim": 8, "id_dim": 8, "word_dim": 8, "epochs": 1, "batch_size": 64, "align_negatives": 8}
    model = corsar.UniSAR(**settings, learning_rate=1e-9).fit(old)
    before = model.recommend("u1", allow=[2, 3, 4], k=3)
    model.fit(new, warm_start=True)
    found = model.recommend(["u1", "u29"], k=12)
    assert found["score"].is_finite().all()
    assert {101, 102} <= set(found["item"])
    assert "u29" in set(found["user"])
    same = model.recommend("u1", history=[2, 3], allow=[2, 3, 4], k=3)
    fresh = corsar.UniSAR(**settings, learning_rate=1e-9).fit(old).recommend("u1", history=[2, 3], allow=[2, 3, 4], k=3)
    np.testing.assert_allclose(same["score"].to_numpy(), fresh["score"].to_numpy(), atol=1e-5)
    assert before.height == 3
    assert "start_from" not in repr(model)
    with pytest.raises(ConfigError, match="this UniSAR is not fitted"):
        corsar.UniSAR().fit(new, warm_start=True)
    assert corsar.Popularity().fit(old).fit(new, warm_start=True).recommend("u1", k=1).height == 1


def test_estimator_starts_from_a_run(old: corsar.Dataset, new: corsar.Dataset, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dim": 8, "blocks": 1, "epochs": 1, "batch_size": 64}
    corsar.SASRec(**settings).fit(old, run_dir=tmp_path / "old")
    model = corsar.SASRec(**settings, start_from=str(tmp_path / "old")).fit(new)
    assert model.recommend("u1")["score"].is_finite().all()
