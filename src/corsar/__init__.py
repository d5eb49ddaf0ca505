"""corsar: one model for search and recommendation, from the logs of a feed and a search box.

The names below load when they are first used, so that `import corsar` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corsar.api import evaluate_runs as evaluate_runs
    from corsar.api import prepare_kuaisar as prepare_kuaisar
    from corsar.api import prepare_tables as prepare_tables
    from corsar.api import recommend as recommend
    from corsar.api import search as search
    from corsar.api import train_run as train_run
    from corsar.artifact import open_artifact as open_artifact
    from corsar.config import Config as Config
    from corsar.config import load_config as load_config
    from corsar.data.store import open_dataset as open_dataset
    from corsar.errors import CorsarError as CorsarError

_PLACES = {
    "Config": "corsar.config",
    "CorsarError": "corsar.errors",
    "evaluate_runs": "corsar.api",
    "load_config": "corsar.config",
    "open_artifact": "corsar.artifact",
    "open_dataset": "corsar.data.store",
    "prepare_kuaisar": "corsar.api",
    "prepare_tables": "corsar.api",
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
