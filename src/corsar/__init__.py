"""corsar: one model for search and recommendation, from the logs of a feed and a search box.

The names below load when they are first used, so that `import corsar` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corsar.api import BM25 as BM25
    from corsar.api import AutoMTN as AutoMTN
    from corsar.api import Blend as Blend
    from corsar.api import CoVisit as CoVisit
    from corsar.api import CurveClassifier as CurveClassifier
    from corsar.api import Dataset as Dataset
    from corsar.api import Popularity as Popularity
    from corsar.api import SASRec as SASRec
    from corsar.api import UniSAR as UniSAR
    from corsar.api import evaluate_runs as evaluate_runs
    from corsar.api import example_check_ins as example_check_ins
    from corsar.api import example_logs as example_logs
    from corsar.api import find_periods as find_periods
    from corsar.api import load as load
    from corsar.api import next_place as next_place
    from corsar.api import plot_period as plot_period
    from corsar.api import prepare_foursquare as prepare_foursquare
    from corsar.api import prepare_kuaisar as prepare_kuaisar
    from corsar.api import prepare_tables as prepare_tables
    from corsar.api import recommend as recommend
    from corsar.api import search as search
    from corsar.api import train_run as train_run
    from corsar.api.forecasters import Autoformer as Autoformer
    from corsar.api.forecasters import NLinear as NLinear
    from corsar.api.forecasters import SeasonalNaive as SeasonalNaive
    from corsar.api.release import prepare_unisar_release as prepare_unisar_release
    from corsar.artifact import open_artifact as open_artifact
    from corsar.config import Config as Config
    from corsar.config import load_config as load_config
    from corsar.errors import CorsarError as CorsarError


_PLACES = {
    "AutoMTN": "corsar.api",
    "Autoformer": "corsar.api.forecasters",
    "BM25": "corsar.api",
    "Blend": "corsar.api",
    "CoVisit": "corsar.api",
    "Config": "corsar.config",
    "CorsarError": "corsar.errors",
    "CurveClassifier": "corsar.api",
    "Dataset": "corsar.api",
    "NLinear": "corsar.api.forecasters",
    "Popularity": "corsar.api",
    "SASRec": "corsar.api",
    "SeasonalNaive": "corsar.api.forecasters",
    "UniSAR": "corsar.api",
    "evaluate_runs": "corsar.api",
    "example_check_ins": "corsar.api",
    "example_logs": "corsar.api",
    "find_periods": "corsar.api",
    "load": "corsar.api",
    "load_config": "corsar.config",
    "next_place": "corsar.api",
    "open_artifact": "corsar.artifact",
    "plot_period": "corsar.api",
    "prepare_foursquare": "corsar.api",
    "prepare_kuaisar": "corsar.api",
    "prepare_tables": "corsar.api",
    "prepare_unisar_release": "corsar.api.release",
    "recommend": "corsar.api",
    "search": "corsar.api",
    "train_run": "corsar.api",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> object:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"corsar has no name {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
