"""Grids: how they are told, what they make, and what is wrong with them in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from corsar.api.grid import BASE, changes_text, merged, read_grid, sections, slug, units_of
from corsar.errors import ConfigError

GRID = """
seeds = [3, 5]
metric = "MRR"
[base.data]
path = "{data}"
[base.model]
name = "sasrec"
dim = 8
[base.evaluate]
candidates = "sampled:9"
[all]
train.epochs = 2
[variants.wide]
"model.dim" = 16
[variants."no negatives"]
train.num_negatives = 1
[variants.unisar]
model.name = "unisar"
preset = "paper"
"""


def write(folder: Path, text: str, data: Path | str = "nowhere") -> Path:
    file = folder / "grid.toml"
    file.write_text(text.replace("{data}", str(data)))
    return file


def test_units_are_the_base_with_what_each_variant_changes(tiny_dataset: Path, tmp_path: Path) -> None:
    grid = read_grid(write(tmp_path, GRID, tiny_dataset), {"train.batch_size": "7"})
    units = units_of(grid, {BASE: {}, **grid.variants})
    assert [(unit.variant, unit.seed) for unit in units] == [
        (name, seed) for seed in (3, 5) for name in (BASE, "wide", "no negatives", "unisar")
    ]
    assert {unit.config.run.seed for unit in units[:4]} == {3}
    base, wide, negatives, unisar = (unit.config for unit in units[:4])
    assert all(one.train.epochs == 2 and one.train.batch_size == 7 for one in (base, wide, negatives, unisar))
    assert (base.model, wide.model) == ({"name": "sasrec", "dim": 8}, {"name": "sasrec", "dim": 16})
    assert (base.train.num_negatives, negatives.train.num_negatives) == (4, 1)
    assert unisar.model["empty_history"] == "nan"
    assert "dim" not in unisar.model  # nothing of the base's model is left
    # a preset may score otherwise; the protocol is the base's
    assert unisar.evaluate == base.evaluate.model_copy(update={"score": "sigmoid"})
    assert base.evaluate.ties == "expected"
    assert units[1].folder(tmp_path) == tmp_path / "runs" / "wide_s3"
    assert units[2].folder(tmp_path) == tmp_path / "runs" / "no_negatives_s3"


def test_base_may_be_a_file_beside_the_grid(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "settings.toml").write_text(f'[data]\npath = "{tiny_dataset}"\n[train]\nepochs = 9\n')
    grid = read_grid(write(tmp_path / "more", 'base = "../settings.toml"\n'))
    assert (grid.seeds, grid.metric, grid.variants) == ((0, 1, 2), None, {})
    (first, *_) = units_of(grid, {BASE: {}})
    assert first.config.train.epochs == 9
    assert first.config.model["name"] == "unisar"


def test_keys_are_told_in_any_way_of_toml() -> None:
    assert sections({"model.dim": 8, "model": {"blocks": 1}, "preset": "paper"}, "x") == {
        "model": {"dim": 8, "blocks": 1}, "preset": "paper",
    }  # fmt: skip
    assert merged({"model": {"dim": 8}}, {"model": {"name": "unisar"}}) == {"model": {"dim": 8, "name": "unisar"}}
    assert merged({"model": {"name": "sasrec", "dim": 8}}, {"model": {"name": "unisar"}}) == {"model": {"name": "unisar"}}
    assert changes_text({"model": {"mixer": "fourier"}, "data": {"target_time": True}}) == (
        "model.mixer = fourier, data.target_time = true"
    )
    assert (slug("no / such part"), slug("../..")) == ("no_such_part", "_")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bases = 3", "did you mean 'base'"),
        ("seeds = [1]", "names no base"),
        ('base = "none.toml"', "no settings file"),
        ("[base]\nepochs = 3", "name its section too"),
        (GRID.replace("[3, 5]", "[3, 3]"), "different whole numbers"),
        (GRID.replace("[3, 5]", "[true]"), "different whole numbers"),
        (GRID.replace('"MRR"', "3"), "metric = 3"),
        (GRID.replace("[variants.wide]", "[variants.base]"), "give it another name"),
        (GRID + '[variants."no  negatives"]\nmodel.dim = 4', "let them differ"),
        (GRID.replace('"model.dim"', '"model.dmi"'), "variant 'wide': unknown key 'dmi' in [model]; did you mean 'dim'?"),
        (GRID.replace('"model.dim"', '"modle.dim"'), "variant 'wide': unknown key 'modle'; did you mean 'model'?"),
        (GRID.replace('"model.dim"', '"evaluate.split"'), "variant 'wide': it sets evaluate.split"),
        (GRID.replace('"model.dim"', '"run.seed"'), "variant 'wide': it sets run.seed"),
        (GRID.replace('"model.dim"', '"data.target_time"'), "variant 'wide': it sets data.target_time"),
        (GRID.replace('"model.dim"', '"data.path"'), "variant 'wide': it sets data.path"),
        (GRID.replace('"model.dim"', '"dim"'), "'dim' in 'wide' is no setting"),
        (GRID.replace("train.epochs = 2", "train.epochs = 0"), "train.epochs = 0 will not do"),
        (GRID.replace("path =", "feed_len = 3 #"), "no dataset is named"),
    ],
)
def test_fault_is_told_in_one_sentence(text: str, words: str, tiny_dataset: Path, tmp_path: Path) -> None:
    def make() -> None:
        grid = read_grid(write(tmp_path, text, tiny_dataset))
        units_of(grid, {BASE: {}, **grid.variants})

    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
