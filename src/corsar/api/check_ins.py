"""Histories of check-ins in the forms in which a person says them, as the past of a question.

A history is a list of check-ins, the oldest first. A check-in is a place, or {"item_id": 7, "time_ms": 1333475100000,
"utc_offset_min": -360}; without a time nothing is known of its hour. A frame has such check-ins as rows, of one history or,
with a column user_id, of one a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from corsar.api.engine import People
from corsar.api.questions import plain, rows_of, told_people
from corsar.artifact import Artifact
from corsar.config import hint
from corsar.errors import ConfigError
from corsar.places import UNKNOWN_MIN, Places
from corsar.schema import EVENTS
from corsar.sources.columns import find_columns
from corsar.sources.files import Scan, as_polars, is_pandas

KEYS = ("item_id", "time_ms", "utc_offset_min")
CheckIn = dict[str, Any]


def read_check_ins(history: Any) -> tuple[list[list[CheckIn]], list[Any] | None]:
    """The histories as lists of check-ins, and the users that they belong to where they are told."""
    if isinstance(history, pl.DataFrame | pl.LazyFrame) or (is_pandas(history) and hasattr(history, "columns")):
        parts, users = _of_frame(as_polars(history, "history"))
    else:
        told, users = plain(history), None
        several = bool(told) and not isinstance(told[0], str | int | Mapping)
        parts = [[_check_in(one) for one in plain(some)] for some in (told if several else [told])]
    for part in parts:
        times = [one["time_ms"] for one in part if one["time_ms"] is not None]
        if len(times) not in (0, len(part)):
            raise ConfigError(
                "some check-ins of a history have a time and others none; give time_ms to all of them, or to none"
            )
        if times != sorted(times):
            raise ConfigError("a history of check-ins is not in the order of its times; put the oldest first")
    return parts, users


def _of_frame(frame: pl.LazyFrame) -> tuple[list[list[CheckIn]], list[Any] | None]:
    scan = Scan("history", frame, frame.collect_schema().names())
    contract = {name: EVENTS[name] for name in (*KEYS, "user_id")}
    names = find_columns(scan, contract, {}, "events", optional=("user_id", "time_ms", "utc_offset_min"))
    df = scan.read(scan.frame.select(pl.col(source).alias(name) for name, source in names.items()))
    if "time_ms" in df.columns:
        df = df.sort("time_ms", maintain_order=True)
    parts = df.partition_by("user_id", maintain_order=True) if "user_id" in df.columns else [df]
    users = [part["user_id"][0] for part in parts] if "user_id" in df.columns else None
    keys = [name for name in KEYS if name in df.columns]
    return [[_check_in(row) for row in part.select(keys).to_dicts()] for part in parts], users


def _check_in(told: Any) -> CheckIn:
    """One check-in with all keys."""
    if not isinstance(told, Mapping):
        return {"item_id": told, "time_ms": None, "utc_offset_min": None}
    for key in told:
        if key not in KEYS:
            raise ConfigError(f"unknown key '{key}' of a check-in; {hint(str(key), KEYS)}")
    if told.get("item_id") is None:
        raise ConfigError('a check-in of a history has no place; give it an "item_id"')
    for key in KEYS[1:]:
        if told.get(key) is not None and not isinstance(told[key], int):
            raise ConfigError(f"{key} = {told[key]!r} is no whole number; give milliseconds of UTC, and minutes of offset")
    return {key: told.get(key) for key in KEYS}


def told_check_ins(artifact: Artifact, histories: list[list[CheckIn]], user_B: Tensor) -> People:
    """Questions with check-ins of their own; places that the catalogue does not know are left out.

    Raises:
        ConfigError: The model was not trained on check-ins.
    """
    if artifact.places is None:
        raise ConfigError(f"this {artifact.config.model['name']} was not trained on check-ins; ask a model that was")
    events = [[{"items": [one["item_id"]], "query": None, "is_search": False} for one in some] for some in histories]
    people, _ = told_people(artifact, events, user_B)
    every = [one for some in histories for one in some]
    rows = rows_of(artifact.items, [one["item_id"] for one in every], "places of a history").tolist()
    known = [one for one, row in zip(every, rows, strict=True) if row]
    times = [at if one["time_ms"] is None else one["time_ms"] for at, one in enumerate(known)]
    has_clock = [one["time_ms"] is not None and one["utc_offset_min"] is not None for one in known]
    offsets = [one["utc_offset_min"] if told else UNKNOWN_MIN for one, told in zip(known, has_clock, strict=True)]
    history = replace(people.history, feed_times=torch.tensor(times, dtype=torch.int64))
    places = Places(artifact.places.lat_lon_deg, torch.tensor(offsets, dtype=torch.int64))
    return replace(people, history=history, places=places)
