"""What corsar knows of each public data set: licence, place, files, and every field with its unit and its traps.

The tables stand in `dictionary/NAME.toml`, one file a data set.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from corsar.errors import DataError

FIELD = ("field", "holds", "unit", "what", "trap")


def data_sets() -> dict[str, dict[str, Any]]:
    """All data sets by name: title, licence, published, size, prepare, notes, and files with their fields as dicts of FIELD."""
    folder = files("corsar.sources") / "dictionary"
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name: _read((folder / f"{name}.toml").read_text(encoding="utf-8")) for name in names}


def describe(name: str) -> dict[str, Any]:
    """One data set of `data_sets`, and its name.

    Raises:
        DataError: there is none of this name.
    """
    known = data_sets()
    if name not in known:
        raise DataError(f"there is no data set '{name}'; choose one of {', '.join(known)}.")
    return {"name": name, **known[name]}


def _read(text: str) -> dict[str, Any]:
    told = tomllib.loads(text)
    for file in told["files"]:
        file["fields"] = [dict(zip(FIELD, field, strict=True)) for field in file["fields"]]
    return told
