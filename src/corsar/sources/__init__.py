"""Raw files -> canonical tables. One file a source, imported when it is asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from corsar.errors import DataError

SOURCES: dict[str, str] = {
    "tables": "corsar.sources.tables",
    "kuaisar": "corsar.sources.kuaisar",
    "foursquare": "corsar.sources.foursquare",
    "simulate": "corsar.sources.simulate",
    "movielens": "corsar.sources.movielens",
    "jdsearch": "corsar.sources.jdsearch",
}


def source_module(name: str) -> ModuleType:
    """The module of the named source."""
    if name not in SOURCES:
        raise DataError(f"there is no source '{name}'; choose one of {', '.join(SOURCES)}.")
    return importlib.import_module(SOURCES[name])
