"""Who asks and what for, in the forms in which a person says it, as rows of an artifact.

A history is a list of events, the oldest first. An event is an item id, or {"item_id": 7, "query": "red shoes"}: with a query
(or "kind": "search") it is a search, whose item may be missing. A frame has such events as rows, of one history or, with a
column user_id, of one a user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import torch
from torch import Tensor

from corsar.api.engine import People
from corsar.api.past import Entry, Past, lists_of, people_of
from corsar.artifact import Artifact
from corsar.batch import Ragged
from corsar.config import hint
from corsar.errors import ConfigError, DataError
from corsar.schema import EVENTS
from corsar.sources.columns import find_columns
from corsar.sources.files import Scan, as_polars, is_pandas
from corsar.text import words, words_column
from corsar.vocab import Rows, Vocab

KEYS = ("item_id", "kind", "query")
Event = dict[str, Any]


def plain(things: Any) -> list[Any]:
    """A list of ids, queries or histories, given as one of them or as a list, a Series or an array."""
    if isinstance(things, str | int | Mapping) or not isinstance(things, Iterable):
        return [things]
    told: list[Any] = things.tolist() if hasattr(things, "tolist") else list(things)
    return told


def rows_of(vocab: Vocab, ids: Iterable[Any], what: str, *, known: bool = False) -> Rows:
    """Rows of the ids, 0 where one is unknown; with `known`, unknown ids are a DataError."""
    try:
        return vocab.rows(list(ids), missing="raise" if known else "pad")
    except (TypeError, OverflowError):
        raise DataError(f"{what} must be numbers or texts, all of one kind; correct the list") from None


def read_histories(history: Any) -> tuple[list[list[Event]], list[Any] | None]:
    """The histories as lists of events, and the users that they belong to where they are told."""
    if isinstance(history, pl.DataFrame | pl.LazyFrame) or (is_pandas(history) and hasattr(history, "columns")):
        return _of_frame(as_polars(history, "history"))
    told = plain(history)
    several = bool(told) and not isinstance(told[0], str | int | Mapping)
    return [[_event(one) for one in plain(events)] for events in (told if several else [told])], None


def _of_frame(frame: pl.LazyFrame) -> tuple[list[list[Event]], list[Any] | None]:
    scan = Scan("history", frame, frame.collect_schema().names())
    contract = {name: EVENTS[name] for name in (*KEYS, "user_id", "time_ms")}
    names = find_columns(scan, contract, {}, "events", optional=("kind", "user_id", "time_ms"))
    df = scan.read(scan.frame.select(pl.col(source).alias(name) for name, source in names.items()))
    if "time_ms" in df.columns:
        df = df.sort("time_ms", maintain_order=True)
    df = df.with_columns(pl.col("item_id").fill_nan(None).cast(pl.Int64) for name in ["item_id"] if df[name].dtype.is_float())
    parts = df.partition_by("user_id", maintain_order=True) if "user_id" in df.columns else [df]
    users = [part["user_id"][0] for part in parts] if "user_id" in df.columns else None
    keys = [name for name in KEYS if name in df.columns]
    return [[_event(row) for row in part.select(keys).to_dicts()] for part in parts], users


def _event(told: Any) -> Event:
    """One event with the keys items, query and is_search."""
    if not isinstance(told, Mapping):
        return {"items": [told], "query": None, "is_search": False}
    for key in told:
        if key not in KEYS:
            raise ConfigError(f"unknown key '{key}' of an event; {hint(str(key), KEYS)}")
    query, item = told.get("query") or None, told.get("item_id")
    is_search = query is not None or str(told.get("kind") or "").lower() == "search"
    if item is None and not is_search:
        raise ConfigError('an event of a history has no item; give it an "item_id", or a "query" if it was a search')
    items = [] if item is None else item if isinstance(item, list) else [item]
    return {"items": items, "query": query, "is_search": is_search}


def query_rows(artifact: Artifact, queries: list[str | None]) -> tuple[Ragged, list[tuple[int, int]]]:
    """Word rows of each query, and how many of its words are known, of how many."""
    if not all(query is None or isinstance(query, str) for query in queries):
        raise ConfigError("a query is a text; write queries as strings")
    if all(query is None or query.isascii() for query in queries):
        cut = [words(query or "") for query in queries]
    else:
        cut = words_column(pl.Series(queries, dtype=pl.String)).to_list()
    rows = iter(rows_of(artifact.words, [word for some in cut for word in some], "words"))
    found = [[int(next(rows)) for _ in some] for some in cut]
    known = [[row for row in some if row] for some in found]
    return Ragged.of(known), [(len(some), len(given)) for some, given in zip(known, cut, strict=True)]


def told_pasts(artifact: Artifact, histories: list[list[Event]]) -> tuple[list[Past], int]:
    """The histories in rows of the artifact, and how many of their items the catalogue does not know."""
    ids = [item for events in histories for event in events for item in event["items"]]
    rows = iter(rows_of(artifact.items, ids, "items of a history").tolist())
    queries, _ = query_rows(artifact, [event["query"] for events in histories for event in events if event["is_search"]])
    asked = iter(lists_of(queries))
    pasts: list[Past] = []
    unknown = 0
    for events in histories:
        past: Past = []
        for event in events:
            told = [next(rows) for _ in event["items"]]
            unknown += told.count(0)
            if event["is_search"]:
                past.append(Entry(tuple(dict.fromkeys(row for row in told if row)), next(asked)))
            else:
                past += [Entry((row,)) for row in told]
        pasts.append(past)
    return pasts, unknown


def told_people(artifact: Artifact, histories: list[list[Event]], user_B: Tensor) -> tuple[People, int]:
    """Questions with a past of their own, and how many of its items the catalogue does not know."""
    pasts, unknown = told_pasts(artifact, histories)
    return people_of(artifact, pasts, user_B), unknown


def allowed_items(artifact: Artifact, allow: Any, exclude: Any) -> Tensor | None:
    """Which item rows may be answered, bool [items + 1]; None for all.

    Raises:
        DataError: None of the allowed items is in the catalogue.
    """
    if allow is None and exclude is None:
        return None
    allowed_I = torch.full((artifact.catalogue.num_items + 1,), allow is None)
    if allow is not None:
        some = torch.from_numpy(rows_of(artifact.items, plain(allow), "allowed items"))
        if len(some) and not some.any():
            raise DataError(f"none of the {len(some)} allowed items is in the catalogue; check their ids")
        allowed_I[some] = True
    if exclude is not None:
        allowed_I[torch.from_numpy(rows_of(artifact.items, plain(exclude), "excluded items"))] = False
    allowed_I[0] = False
    return allowed_I
