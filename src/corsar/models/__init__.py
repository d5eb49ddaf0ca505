"""The models by name: a new one is one file and one line here."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from corsar.errors import ConfigError

if TYPE_CHECKING:
    from corsar.models.base import Model
    from corsar.models.forecaster import Forecaster

MODELS: dict[str, str] = {
    "unisar": "corsar.models.unisar:UniSARNet",
    "corsar": "corsar.models.corsar:CorsarNet",
    "sasrec": "corsar.models.sasrec:SASRecNet",
    "popularity": "corsar.models.popularity:Popularity",
    "covisit": "corsar.models.covisit:CoVisit",
    "bm25": "corsar.models.bm25:BM25",
    "blend": "corsar.models.blend:Blend",
    "automtn": "corsar.models.automtn:AutoMTNNet",
    "habits": "corsar.models.habits:HabitsNet",
    "visits": "corsar.models.visits:Visits",
    "markov": "corsar.models.markov:Markov",
    "visits_markov": "corsar.models.visits_markov:VisitsMarkov",
    "nearest": "corsar.models.nearest:NearestPlace",
}
DISCOVERIES = ("automtn",)  # those that `habits` can stand in front of

FORECASTERS: dict[str, str] = {
    "autoformer": "corsar.models.autoformer:AutoformerNet",
    "nlinear": "corsar.models.nlinear:NLinearNet",
    "seasonal_naive": "corsar.models.seasonal_naive:SeasonalNaiveNet",
}


def forecaster_class(name: str) -> type[Forecaster]:
    """The class of the forecaster called `name`; KeyError where there is none."""
    module, _, attribute = FORECASTERS[name].partition(":")
    found: type[Forecaster] = getattr(importlib.import_module(module), attribute)
    return found


def model_class(name: str) -> type[Model]:
    """The class of the model called `name`; ConfigError where there is none."""
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(MODELS)}."
        raise ConfigError(f"unknown model '{name}'; {hint}")
    module, _, attribute = MODELS[name].partition(":")
    found: type[Model] = getattr(importlib.import_module(module), attribute)
    return found
