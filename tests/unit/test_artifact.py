"""Artifacts: what is saved opens as the same, and damage is told."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from corsar.artifact import build_model, last_entries, open_artifact, save_artifact
from corsar.config import Config
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ArtifactError, ConfigError
from corsar.models.base import Model
from corsar.windows import History, make_batch

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    tiny_run.register()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_run.make_dataset(tmp_path_factory.mktemp("data") / "tiny"))


def save(dataset: Dataset, path: Path, **more: str) -> tuple[Model, Config]:
    config = tiny_run.settings(dataset.path, **more)
    model = build_model(config, dataset.sizes(5, 4)).eval()
    if not model.trained:
        model.count(dataset.train_events(), dataset.catalogue)
    save_artifact(path, model, config, dataset)
    return model, config


def scores(model: Model, history: History, dataset: Dataset) -> torch.Tensor:
    user_B = torch.arange(1, len(dataset.users) + 1)
    candidates_BC = torch.arange(1, 11).expand(len(user_B), -1)
    ends = (history.feed_offsets[user_B + 1], history.search_offsets[user_B + 1])
    batch = make_batch("recommend", history, dataset.catalogue, user_B, *ends, candidates_BC, feed_len=5, search_len=4)
    with torch.inference_mode():
        return model.score(batch)


@pytest.mark.parametrize("name", ["tiny", "counted"])
def test_artifact_opens_as_what_was_saved(tmp_path: Path, dataset: Dataset, name: str) -> None:
    model, config = save(dataset, tmp_path / "run" / "artifact", model__name=name)
    artifact = open_artifact(tmp_path / "run")  # a run serves where an artifact does
    assert artifact.path == tmp_path / "run" / "artifact"
    assert open_artifact(str(tmp_path / "run")).path == artifact.path
    assert artifact.config.data == config.data
    assert artifact.config.model == model.config.model_dump()
    assert artifact.sizes == model.sizes
    assert artifact.items.ids([1, 2]).to_list() == dataset.items.ids([1, 2]).to_list()
    assert artifact.item_text([0, 1, 2]) == ["", "red shoe", "blue hat"]
    assert torch.equal(artifact.catalogue.item_categories, dataset.catalogue.item_categories)
    assert torch.equal(scores(artifact.model, artifact.history, dataset), scores(model, dataset.history, dataset))


def test_saving_again_replaces_the_artifact(tmp_path: Path, dataset: Dataset) -> None:
    save(dataset, tmp_path / "a")
    model, _ = save(dataset, tmp_path / "a", model__dim="4")
    assert open_artifact(tmp_path / "a").config.model["dim"] == 4
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert scores(model, dataset.history, dataset).shape == (tiny_run.USERS, 10)


def test_artifact_survives_a_kill_between_two_renames(tmp_path: Path, dataset: Dataset) -> None:
    save(dataset, tmp_path / "artifact")
    (tmp_path / "artifact").rename(tmp_path / ".artifact.old")
    open_artifact(tmp_path)
    save(dataset, tmp_path / "artifact")
    assert open_artifact(tmp_path).path == tmp_path / "artifact"


@pytest.mark.parametrize(("feed_len", "search_len"), [(1, 1), (2, 3), (5, 4), (100, 100)])
def test_last_entries_give_the_same_windows(dataset: Dataset, feed_len: int, search_len: int) -> None:
    whole, short = dataset.history, last_entries(dataset.history, feed_len, search_len)
    user_B = torch.arange(len(dataset.users) + 1)
    batches = []
    for history in (whole, short):
        ends = (history.feed_offsets[user_B + 1], history.search_offsets[user_B + 1])
        batches.append(
            make_batch(
                "search", history, dataset.catalogue, user_B, *ends, user_B[:, None],
                feed_len=feed_len, search_len=search_len,
            )
        )  # fmt: skip
    a, b = batches
    for name in ("feed_items_BF", "feed_is_real_BF", "feed_slots_BF", "search_slots_BS", "search_clicks_BSK"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert torch.equal(a.queries.padded(a.search_queries_BS, 4), b.queries.padded(b.search_queries_BS, 4))


def test_damage_is_one_sentence(tmp_path: Path, dataset: Dataset) -> None:
    save(dataset, tmp_path / "whole")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "whole", tmp_path / name))

    changed = copy("changed")
    (changed / "weights.safetensors").write_bytes(b"x")
    missing = copy("missing")
    (missing / "model.toml").unlink()
    other = copy("other")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    broken = copy("broken")
    (broken / "manifest.json").write_text("{")
    for path, sentence in [
        (changed, "not the file that was written"),
        (missing, "has no file model.toml"),
        (other, "is of format 99"),
        (broken, "is damaged"),
        (tmp_path / "nothing", "does not exist"),
        (tmp_path, "holds no artifact"),
        (dataset.path, "holds no artifact"),
    ]:
        with pytest.raises(ArtifactError, match=sentence):
            open_artifact(path)


def test_settings_that_do_not_fit_the_model_are_one_sentence(dataset: Dataset) -> None:
    for key, value, sentence in [
        ("model__dmi", "3", "did you mean 'dim'"),
        ("model__name", "tinny", "did you mean 'tiny'"),
        ("model__name", "3", "is no text"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            build_model(tiny_run.settings(dataset.path, **{key: value}), dataset.sizes(5, 4))
