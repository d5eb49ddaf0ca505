"""What a dataset of check-ins asks of the settings that nobody told."""

from __future__ import annotations

import json
from typing import Any

from corsar.config import Config, DataSection
from corsar.data.store import Dataset
from corsar.errors import ConfigError

HISTORY_LEN = 2000  # check-ins of a person that are looked at; a model may look at fewer of them
USUAL: dict[str, dict[str, Any]] = {
    "data": {"feed_len": HISTORY_LEN},
    "train": {"tasks": ("next_place",)},
    "evaluate": {"ks": (1, 5, 10, 20)},
}


def place_settings(config: Config, dataset: Dataset) -> Config:
    """The settings, and on a dataset of check-ins `USUAL` for the keys that nobody told.

    Raises:
        ConfigError: a task is asked for of which the dataset has no cases.
    """
    if dataset.tasks == ("next_place",):
        for section, keys in USUAL.items():
            part = getattr(config, section)
            told = {key: value for key, value in keys.items() if key not in part.model_fields_set}
            config = config.model_copy(update={section: part.model_copy(update=told)})
    for task in config.train.tasks:
        if task not in dataset.tasks:
            have = json.dumps(list(dataset.tasks))
            raise ConfigError(f"{config.data.path} holds no cases of {task}; set train.tasks = {have}")
    return config


def with_long_history(data: DataSection) -> DataSection:
    """The section with all that is usually looked at."""
    return data.model_copy(update={"feed_len": max(data.feed_len, HISTORY_LEN)})
