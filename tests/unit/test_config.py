"""Settings: what is accepted, what wins, and what one sentence says where something is wrong."""

import tomllib
from pathlib import Path

import pytest

from corsar.config import PRESETS, Config, check, dump_config, load_config
from corsar.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    file = folder / "c.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_need_no_file() -> None:
    assert load_config() == Config()


def test_flags_win_over_file_over_preset_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, 'preset = "paper"\n[train]\nnegatives = "fresh"\nepochs = 3\n')
    config = load_config(file, {"train.epochs": "5", "model.dim": "8", "evaluate.ties": "expected"})
    assert config.data.require_both_histories  # preset
    assert config.train.negatives == "fresh"  # file over preset
    assert config.train.epochs == 5  # flag over file
    assert config.evaluate.ties == "expected"  # flag over preset
    assert config.evaluate.score == "sigmoid"
    assert config.model == {"name": "unisar", "query_in_attention": False, "empty_history": "nan", "dim": 8}


def test_flag_with_the_word_nan_is_text() -> None:
    assert load_config(None, {"model.empty_history": "nan"}).model["empty_history"] == "nan"


def test_preset_of_a_flag_wins_over_that_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'preset = "paper"\n')
    assert load_config(file, {"preset": "corrected"}).train.negatives == "fresh"
    assert load_config(None, {"preset": "paper"}).train.negatives == "static"


def test_paper_preset_gives_its_model_keys_to_unisar_alone() -> None:
    config = load_config(None, {"preset": "paper", "model.name": "sasrec"})
    assert config.model == {"name": "sasrec"}
    assert config.train.negatives == "static"


def test_presets_name_keys_that_exist() -> None:
    for name in PRESETS:
        assert load_config(None, {"preset": name}).preset == name


@pytest.mark.parametrize("preset", list(PRESETS))
def test_dumped_settings_load_as_the_same(tmp_path: Path, preset: str) -> None:
    config = load_config(None, {"preset": preset, "train.clip_norm": "0.1", "data.path": "π/123", "model.dim": "8"})
    text = dump_config(config)
    assert load_config(write(tmp_path, text)) == config
    assert "max_steps" not in tomllib.loads(text)["train"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("data.path", "123", "123"),
        ("data.path", '"a b"', "a b"),
        ("data.path", "a/b", "a/b"),
        ("data.path", "2020-01-01", "2020-01-01"),
        ("data.history", "own", "own"),
        ("train.learning_rate", "1e-2", 0.01),
        ("train.tasks", '["search"]', ("search",)),
        ("evaluate.candidates", "sampled:100", "sampled:100"),
        ("run.amp", "true", True),
    ],
)
def test_flag_is_read_as_toml_or_else_as_text(name: str, text: str, value: object) -> None:
    section, key = name.split(".")
    assert getattr(getattr(load_config(None, {name: text}), section), key) == value


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"train.lr": "1"}, "unknown key 'lr' in [train]"),
        ({"train.learning_rat": "1"}, "unknown key 'learning_rat' in [train]; did you mean 'learning_rate'?"),
        ({"trian.epochs": "1"}, "unknown section 'trian'; did you mean 'train'?"),
        ({"epochs": "1"}, "unknown key 'epochs'"),
        ({"train": "1"}, "'train' is a section; name a key of it, as in train.tasks"),
        ({"preset": "papre"}, "unknown preset 'papre'; did you mean 'paper'?"),
        ({"train.negatives": "statik"}, "train.negatives = 'statik' will not do"),
        ({"train.epochs": "0"}, "train.epochs = 0 will not do: it should be greater than or equal to 1"),
        ({"train.epochs": "many"}, "train.epochs = 'many' will not do; write a whole number"),
        ({"train.epochs": "1.5"}, "train.epochs = 1.5 will not do; write a whole number"),
        ({"train.learning_rate": "low"}, "train.learning_rate = 'low' will not do; write a number"),
        ({"run.amp": "maybe"}, "run.amp = 'maybe' will not do; write true or false"),
        ({"evaluate.ks": "5"}, "evaluate.ks = 5 will not do; write a list, as in ks = [1, 5, 10]"),
        ({"train.learning_rate": "nan"}, "train.learning_rate = 'nan' will not do"),
        ({"train.tasks": "search"}, """tasks = 'search' will not do; write a list, as in tasks = ["recommend", "search"]"""),
        ({"train.tasks": "[]"}, "train.tasks = [] will not do"),
        ({"evaluate.candidates": "sampled"}, "none of auto, given, full and sampled:N"),
        ({"evaluate.ks": "[0]"}, "evaluate.ks.0 = 0 will not do"),
    ],
)  # fmt: skip
def test_wrong_setting_is_one_sentence(flags: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, flags)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[train]\nlearning_rte = 1", "unknown key 'learning_rte' in [train]; did you mean 'learning_rate'?"),
        ("train = 3", "'train' is a section; write [train]"),
        ("[train", "is no valid TOML"),
        ("[optim]\nlr = 1", "unknown key 'optim'"),
    ],
)
def test_wrong_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no settings file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a directory"):
        load_config(tmp_path)


def test_settings_of_a_model_name_their_section() -> None:
    from corsar.models.sasrec import SASRecNet

    with pytest.raises(ConfigError, match=r"unknown key 'dmi' in \[model\]; did you mean 'dim'\?"):
        check(SASRecNet.Config, {"dmi": 3}, "model")
    with pytest.raises(ConfigError, match=r"model\.dim = 0 will not do"):
        check(SASRecNet.Config, {"dim": 0}, "model")


def test_every_config_file_of_the_project_loads() -> None:
    files = [f for f in (Path(__file__).parents[2] / "configs").glob("*.toml") if not f.stem.endswith("_columns")]
    assert files
    for file in files:
        load_config(file)
