"""Warm start: the weights of an earlier run on new logs. What both know keeps its rows, what is new starts fresh."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from corsar.artifact import Artifact, build_model, open_artifact
from corsar.batch import Sizes
from corsar.config import Config
from corsar.data.store import Dataset
from corsar.errors import ConfigError
from corsar.models.base import Model
from corsar.models.towers import TOWERS
from corsar.vocab import Rows, Vocab

COUNTS = ("num_users", "num_items", "num_words")
COLUMNS = {"category_sizes": "categories", "attribute_sizes": "attributes"}


def warm_start(model: Model, config: Config, dataset: Dataset) -> None:
    """Give a fresh model the weights of `train.start_from`: rows of known ids, words and values, and all other weights.

    Raises:
        ConfigError: The earlier model has other settings, or its logs other columns.
        ArtifactError: There is no run or artifact at `train.start_from`.
    """
    source = open_artifact(str(config.train.start_from))
    _check_settings(source, config)
    known = _known_rows(source, dataset)
    owner = table_owners(config, model.sizes)
    old = source.model.state_dict()
    with torch.no_grad():
        for name, new in model.named_parameters():  # buffers are counts of the new logs
            if name.startswith(TOWERS) and name not in old:
                continue  # the earlier run had none
            if name in owner:
                _take_rows(new, old[name], known[owner[name]])
            else:
                new.copy_(old[name])


def table_owners(config: Config, sizes: Sizes) -> dict[str, tuple[str, int]]:
    """Which tables have a row for each user, item, word or value: name of the parameter -> (field of Sizes, column).

    A model does not say so; but a table that grows with a count is a table of that. The models compared have no memory.
    """

    def shapes(some: Sizes) -> dict[str, torch.Size]:
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in build_model(config, some).state_dict().items()}

    now = shapes(sizes)
    grown: dict[tuple[str, int], Sizes] = {
        (name, 0): dataclasses.replace(sizes, **{name: getattr(sizes, name) + 1}) for name in COUNTS
    }
    for name in COLUMNS:
        values: tuple[int, ...] = getattr(sizes, name)
        for column in range(len(values)):
            more = tuple(size + (at == column) for at, size in enumerate(values))
            grown[name, column] = dataclasses.replace(sizes, **{name: more})  # type: ignore[arg-type]
    return {name: key for key, more in grown.items() for name, shape in shapes(more).items() if shape[:1] != now[name][:1]}


def _check_settings(source: Artifact, config: Config) -> None:
    def told(one: Config) -> dict[str, Any]:
        windows = {f"data.{key}": getattr(one.data, key) for key in ("feed_len", "search_len")}
        return {f"model.{key}": value for key, value in one.model.items()} | windows

    then, now = told(source.config), told(config)
    for key in sorted({*then, *now}, key=lambda key: (key != "model.name", key)):
        if then.get(key) != now.get(key):
            raise ConfigError(
                f"{config.train.start_from} was trained with {key} = {then.get(key)!r}, not {now.get(key)!r}; "
                "set it to the same, or leave train.start_from out"
            )


def _known_rows(source: Artifact, dataset: Dataset) -> dict[tuple[str, int], Rows]:
    """For each vocabulary the old row of each new row, 0 where it is new."""
    pairs: dict[tuple[str, int], tuple[Vocab, Vocab]] = {
        ("num_users", 0): (source.users, dataset.users),
        ("num_items", 0): (source.items, dataset.items),
        ("num_words", 0): (source.words, dataset.words),
    }
    for field, kind in COLUMNS.items():
        then, now = source.manifest["dataset"][kind], dataset.manifest[kind]
        names = [[column["name"] for column in columns] for columns in (then, now)]
        if names[0] != names[1]:
            raise ConfigError(
                f"{source.path} was trained with the {kind} {names[0]}, and this dataset has {names[1]}; "
                "prepare it with the same columns, or leave train.start_from out"
            )
        for column, (before, after) in enumerate(zip(then, now, strict=True)):
            if "values" not in before or "values" not in after:
                raise ConfigError(
                    f"an earlier corsar prepared the dataset without the values of {kind}; prepare both datasets again, "
                    "or leave train.start_from out"
                )
            pairs[field, column] = (Vocab(before["values"]), Vocab(after["values"]))
    return {
        key: np.concatenate([[0], old.rows(new.ids(range(1, len(new) + 1)), missing="pad")])
        for key, (old, new) in pairs.items()
    }


def _take_rows(new: Tensor, old: Tensor, known: Rows) -> None:
    """Row r of the new table becomes row `known[r]` of the old one; rows that are new stay, and row 0 is row 0."""
    old_rows = torch.from_numpy(known)
    is_known = old_rows > 0
    is_known[0] = True
    new[is_known] = old[old_rows[is_known]]
