"""Histories of check-ins in the forms in which a person says them, as the past of a question.

A history is a list of check-ins, the oldest first. A check-in is a place, or {"item_id": 7, "time_ms": 1333475100000,
"utc_offset_min": -360}; without a time nothing is known of its hour. A frame has such check-ins as rows, of one history or,
with a column user_id, of one a user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import torch

from corsar.api.engine import People
from corsar.api.past import Entry, Past
from corsar.api.questions import plain, rows_of
from corsar.artifact import Artifact
from corsar.config import hint
from corsar.errors import ConfigError
from corsar.places import UNKNOWN_MIN, hour_of_week
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


def told_check_ins(artifact: Artifact, histories: list[list[CheckIn]]) -> list[Past]:
    """The histories in rows of the artifact.

    Raises:
        ConfigError: The model was not trained on check-ins.
    """
    if artifact.places is None:
        raise ConfigError(f"this {artifact.config.model['name']} was not trained on check-ins; ask a model that was")
    ids = [one["item_id"] for some in histories for one in some]
    rows = iter(rows_of(artifact.items, ids, "places of a history").tolist())
    return [[_entry(next(rows), one["time_ms"], one["utc_offset_min"]) for one in some] for some in histories]


def _entry(row: int, time_ms: int | None, offset_min: int | None) -> Entry:
    has_clock = time_ms is not None and offset_min is not None
    return Entry((row,), None, time_ms, offset_min if has_clock and offset_min is not None else UNKNOWN_MIN)


def people_at(artifact: Artifact, people: People, at: str | int | None) -> People:
    """The same people with what they did before the moment; all of it where none is told."""
    if at is None or people.places is None:
        return people
    past, moment, ends = people.history, read_moment(at), []
    for row in people.owner_B.tolist():
        start, end = (int(past.feed_offsets[row + one]) for one in (0, 1))
        ends.append(start + int(torch.searchsorted(past.feed_times[start:end].contiguous(), moment)))
    end_B = torch.tensor(ends, dtype=torch.int64)
    offsets_min, people = people.places.offsets_min, replace(people, end_B=end_B)
    if not artifact.config.data.target_time or not len(offsets_min):
        return people
    offset_B = offsets_min[(end_B - 1).clamp(min=0)]  # the clock of the newest check-in
    hour_B = hour_of_week(torch.full_like(end_B, moment), offset_B)
    return replace(people, hour_B=torch.where(end_B > past.feed_offsets[people.owner_B], hour_B, 0))


def read_moment(at: str | int) -> int:
    """UTC milliseconds of a moment; ConfigError where it is none."""
    text = str(at).strip()
    if re.fullmatch(r"-?[0-9]{1,17}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no moment; write it as 2012-04-03T18:00, or in milliseconds") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1000)
