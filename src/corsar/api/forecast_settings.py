"""The settings of a forecaster as keywords: sorted to the model, to training and to the run, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from corsar.config import RunSection, check, hint
from corsar.errors import ConfigError
from corsar.models import forecaster_class
from corsar.train.series import SeriesTraining

RUN_KEYS = ("seed", "device", "threads")


@dataclass(frozen=True)
class ForecastSettings:
    """All settings of a forecaster."""

    name: str  # of the model
    multivariate: bool
    model: BaseModel
    training: SeriesTraining
    run: RunSection
    preset: str | None  # None: the model has no presets

    def told(self) -> dict[str, Any]:
        """All of them by name, as keywords that make the same again."""
        told: dict[str, Any] = {} if self.preset is None else {"preset": self.preset}
        told |= {"multivariate": self.multivariate, **self.model.model_dump(mode="json")}
        if forecaster_class(self.name).trained:
            told |= self.training.model_dump(mode="json")
        return told | {key: getattr(self.run, key) for key in RUN_KEYS}


def forecast_settings(
    name: str, presets: dict[str, dict[str, Any]], usual: dict[str, Any], given: dict[str, Any]
) -> ForecastSettings:
    """The settings that these keywords make: usual < preset < given.

    Raises:
        ConfigError: One is unknown or out of range.
    """
    given = dict(given)
    preset = given.pop("preset", "corrected") if presets else None
    if preset is not None and preset not in presets:
        raise ConfigError(f"unknown preset {preset!r}; {hint(str(preset), presets)}")
    multivariate = given.pop("multivariate", False)
    if not isinstance(multivariate, bool):
        raise ConfigError(f"multivariate={multivariate!r} will not do; give True or False")
    cls = forecaster_class(name)
    places = dict.fromkeys(cls.Config.model_fields, "model") | dict.fromkeys(RUN_KEYS, "run")
    if cls.trained:
        places |= dict.fromkeys(SeriesTraining.model_fields, "train")
    keys: dict[str, dict[str, Any]] = {"model": {}, "train": {}, "run": {}}
    for key, value in {**usual, **presets.get(preset or "", {}), **given}.items():
        if key not in places:
            more = ["multivariate", *(["preset"] if presets else [])]
            raise ConfigError(f"unknown setting '{key}' of the model {name}; {hint(key, [*places, *more])}")
        keys[places[key]][key] = value
    return ForecastSettings(
        name, multivariate, check(cls.Config, keys["model"], "model"), check(SeriesTraining, keys["train"], "train"),
        check(RunSection, keys["run"], "run"), preset,
    )  # fmt: skip
