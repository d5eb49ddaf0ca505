"""Settings: strict TOML -> pydantic, one section a concern, presets expanded to explicit keys before anything else."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corsar.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
WRITE = {"int": "a whole number", "float": "a number", "bool": "true or false"}  # for errors of these kinds


class Section(BaseModel):
    """A section of the settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """Which part of the dataset directory a run sees."""

    path: str = ""  # the dataset directory
    feed_len: int = Field(default=30, ge=1)  # feed events in a history window
    search_len: int = Field(default=30, ge=1)  # searches in a history window
    history: Literal["both", "own"] = "both"  # own: recommend sees feed events alone, search sees searches alone
    require_both_histories: bool = False  # train on cases with both kinds of history alone
    target_time: bool = False  # next_place: the hour of the week that is asked for may be known


class TrainSection(Section):
    """How a model is trained."""

    tasks: tuple[Literal["recommend", "search", "next_place"], ...] = Field(default=("recommend", "search"), min_length=1)
    epochs: int = Field(default=40, ge=1)
    max_steps: int | None = Field(default=None, ge=1)  # stop after this many joint steps, whatever the epoch
    batch_size: int = Field(default=1024, ge=1)  # of the first task; the other runs out together with it
    num_negatives: int = Field(default=4, ge=1)
    negatives: Literal["fresh", "static"] = "fresh"  # drawn anew each epoch, or the same ones every epoch
    drawn_places: int = Field(default=4096, ge=1)  # next_place: a step tells targets from this many, or from all there are
    align_negatives: int = Field(default=1024, ge=1)  # items and queries that the query-item alignment tells apart
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)  # L2, on weights and embeddings, not on biases
    search_weight: float = Field(default=0.1, ge=0)  # total loss = recommend + search_weight * search
    warmup: int = Field(default=0, ge=0)  # joint steps in which the rate rises to `learning_rate`
    decay: Literal["none", "linear"] = "none"  # linear: the rate falls step by step, to nothing at the end of the last epoch
    plateau_factor: float = Field(default=0.1, gt=0, le=1)
    plateau_patience: int = Field(default=3, ge=0)
    min_learning_rate: float = Field(default=1e-6, ge=0)
    stop_patience: int = Field(default=5, ge=1)  # epochs without a better validation score
    valid_cases: int = Field(default=2000, ge=1)  # of each task, drawn once
    valid_negatives: int = Field(default=99, ge=1)  # used where the dataset has no given candidates
    clip_norm: float | None = Field(default=None, gt=0)  # longest gradient of a step; longer ones are scaled down to it
    checkpoint_every: int = Field(default=200, ge=1)  # joint steps between last checkpoints
    sparse_rows: int = Field(default=1_000_000, ge=0)  # of tables of more rows, Adam updates those of the step alone
    two_tower: bool = False  # learn two towers beside the model, which choose what it scores of a large catalogue
    start_from: str | None = None  # a run or artifact of the same model; its weights are taken over where the rows are known


class EvaluateSection(Section):
    """The protocol of the figures."""

    split: Literal["valid", "test"] = "test"
    # given | full | sampled:N; auto = given where the dataset has them, else full
    candidates: str = Field(default="auto", pattern=r"^(auto|given|full|sampled:[1-9]\d*)$")
    ties: Literal["expected", "target_first"] = "expected"
    score: Literal["logit", "sigmoid"] = "logit"
    subset: Literal["all", "both_histories"] = "all"
    max_cases: int | None = Field(default=None, ge=1)  # a fixed, hashed sample of this many cases a task
    exclude_seen: bool = False  # recommend only: items of the user's history are no candidates
    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 5, 10), min_length=1)
    bootstrap: int = Field(default=1000, ge=0)  # resamplings of users for the 95 % intervals


class RunSection(Section):
    """Run options: what does not change the mathematics, and the seed."""

    seed: int = 0
    device: str = "cpu"
    threads: int | None = Field(default=None, ge=1)  # of torch; None leaves what the machine says
    amp: bool = False  # bfloat16 where torch's autocast says so
    tensorboard: bool = False  # scalars of metrics.jsonl into RUN/tensorboard as well


class Config(Section):
    """All settings of a run. `model` is checked by the model's own Config, which knows its keys.

    Example:
        >>> import corsar
        >>> config = corsar.Config()
        >>> config.train.batch_size, config.evaluate.candidates
        (1024, 'auto')
    """

    preset: Literal["corrected", "paper"] = "corrected"
    data: DataSection = DataSection()
    model: dict[str, Any] = Field(default_factory=lambda: {"name": "unisar"})
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    run: RunSection = RunSection()


# What a preset sets, as explicit keys; a file or a flag that names one of them wins.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "corrected": {},
    "paper": {
        "data": {"require_both_histories": True},
        "model": {"query_in_attention": False, "empty_history": "nan"},
        "train": {"negatives": "static"},
        "evaluate": {"ties": "target_first", "score": "sigmoid"},
    },
}

# In place of those above, for a model whose published form is another one.
MODEL_PRESETS: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "paper": {
        "automtn": {
            "model": {
                "lags": "paper_short",
                "lengths": "fixed",
                "distance": "batch_range",
                "residual": False,
            },
        },
    },
}


def load_config(file: Path | None = None, overrides: Mapping[str, str] | None = None) -> Config:
    """The settings of a run: defaults < preset < file < overrides.

    Args:
        file: A TOML file; None for the defaults.
        overrides: "section.key" (or "preset") -> the value as TOML would write it; text that is no TOML is a string.

    Raises:
        ConfigError: One sentence on the first thing that is wrong.

    Example:
        >>> import corsar
        >>> config = corsar.load_config(None, {"model.name": "sasrec", "train.epochs": "3"})
        >>> config.model, config.train.epochs
        ({'name': 'sasrec'}, 3)
    """
    given: dict[str, Any] = {} if file is None else read_toml(file)
    for name, value in given.items():
        if name in _sections() and not isinstance(value, dict):
            raise ConfigError(f"'{name}' is a section; write [{name}] on a line of its own and its keys below it")
    return resolve(with_flags(given, overrides or {}))


def with_flags(given: Mapping[str, Any], flags: Mapping[str, str]) -> dict[str, Any]:
    """The keys of sections as a file would hold them, with flags on top: "section.key" -> the value as TOML would write it."""
    given = dict(given)
    for name, text in flags.items():
        section, _, key = name.rpartition(".")
        if not section and key in _sections():
            raise ConfigError(f"'{key}' is a section; name a key of it, as in {key}.{_example(key)}")
        if not section:
            given[key] = text.strip("\"'")
        elif section not in _sections():
            raise ConfigError(f"unknown section '{section}'; {hint(section, _sections())}")
        else:
            given[section] = {**given.get(section, {}), key: _value(section, key, text)}
    return given


def resolve(given: Mapping[str, Any]) -> Config:
    """The settings that these keys of sections make, as a file would hold them: defaults < preset < given."""
    given = dict(given)
    preset = given.get("preset", "corrected")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; {hint(str(preset), PRESETS)}")
    given["model"] = {"name": "unisar", **given.get("model", {})}
    name = str(given["model"]["name"])
    for section, keys in MODEL_PRESETS.get(preset, {}).get(name, PRESETS[preset]).items():
        if section != "model" or name in ("unisar", *MODEL_PRESETS.get(preset, {})):
            given[section] = {**keys, **given.get(section, {})}
    return check(Config, given)


def dump_config(config: Config) -> str:
    """The settings as TOML; a key without a value (None) is left out."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def check(kind: type[M], values: Mapping[str, Any], section: str = "") -> M:
    """`values` as a `kind`; ConfigError with one sentence where they do not fit. `section` is for the sentence."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    *parents, key = [section] * bool(section) + [str(part) for part in first["loc"]]
    where, known = parents[0] if parents else "", kind
    if first["type"] == "extra_forbidden":
        for name in parents[1:] if section else parents:
            known = known.model_fields[name].annotation  # type: ignore[assignment]
        what = f"unknown key '{key}' in [{where}]" if where else f"unknown key '{key}'"
        raise ConfigError(f"{what}; {hint(key, known.model_fields)}")
    name = ".".join([*parents, key])
    if first["type"] == "string_pattern_mismatch" and key == "candidates":
        raise ConfigError(f"{name} = {first['input']!r} is none of auto, given, full and sampled:N, as in sampled:100")
    if first["type"] == "tuple_type":
        for parent in parents[1:] if section else parents:
            known = known.model_fields[parent].annotation  # type: ignore[assignment]
        like = json.dumps(known.model_fields[key].get_default(call_default_factory=True))
        raise ConfigError(f"{name} = {first['input']!r} will not do; write a list, as in {key} = {like}")
    if value := WRITE.get(first["type"].partition("_")[0]):
        raise ConfigError(f"{name} = {first['input']!r} will not do; write {value}")
    message = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    raise ConfigError(f"{name} = {first['input']!r} will not do: it {message[0].lower()}{message[1:]}")


def read_toml(file: Path) -> dict[str, Any]:
    """The file's keys; ConfigError with one sentence where it cannot be read."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no settings file {file}; check the path") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a directory; name the TOML file in it") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not text in UTF-8; name a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is no valid TOML: {str(error)[0].lower()}{str(error)[1:]}") from None


def _sections() -> list[str]:
    return [name for name in Config.model_fields if name != "preset"]


def _fields(section: str) -> Mapping[str, Any]:
    kind = Config.model_fields[section].annotation
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _example(section: str) -> str:
    return next(iter(_fields(section)), "name")


def _value(section: str, key: str, text: str) -> Any:
    """What a flag's text means: TOML where it is TOML (and the key is no plain string), else the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = parsed["value"]
    if isinstance(value, float) and not math.isfinite(value):
        return text  # "nan" is a word: no setting is a number that is none
    field = _fields(section).get(key)
    is_text = field is not None and field.annotation is str and not isinstance(value, str)
    return text if is_text or len(parsed) > 1 or not isinstance(value, bool | int | float | str | list | dict) else value


def hint(word: str, known: Iterable[str]) -> str:
    """What a person may have meant by an unknown word."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in values.items() if value is not None}
    return {key: _without_none(value) if isinstance(value, dict) else value for key, value in kept.items()}
