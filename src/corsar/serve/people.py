"""Who is served, what each of them did, and how they live: what a page shows of a person.

All of it is what the model knows: the newest events that the artifacts hold, and what the store took since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.api.past import stored_past
from corsar.artifact import Artifact
from corsar.batch import Task
from corsar.evaluate.periods import lag_spectrum
from corsar.index.queries import phrase
from corsar.places import UNKNOWN_MIN, hour_of_week
from corsar.serve.engine import logged_until
from corsar.serve.store import CLICKS, EventStore, LiveEvent

HOUR_MS = 3_600_000
BINS_H = (1, 2, 3, 6, 24, 7 * 24, 28 * 24)  # widths of a bin of the rhythm
BINS_AN_EVENT = 20  # at most, else the bins are wider
MOST_BINS, MOST_LAGS = 4096, 1000
FEWEST = 8  # events that a rhythm is looked for in
Told = dict[str, Any]


@dataclass
class Done:
    """One event, with the places of a search's clicks beside it."""

    kind: str  # feed, search or checkin
    time_ms: int | None  # None where the logs have no clock
    offset_min: int = UNKNOWN_MIN
    query: str | None = None
    items: list[Told] = field(default_factory=list)  # item_id, text
    is_live: bool = False

    def told(self) -> Told:
        """As the page reads it."""
        names = ("kind", "time_ms", "query", "items", "is_live")
        return {name: getattr(self, name) for name in names}


class People:
    """The users of an engine's artifacts."""

    def __init__(self, by_task: Mapping[Task, Artifact]) -> None:
        """Look at what the engine serves.

        Args:
            by_task: What answers each task; logs that two of them hold are read once.
        """
        logs: dict[object, Artifact] = {}
        for artifact in by_task.values():
            logs.setdefault(artifact.manifest["dataset"].get("data_hash") or id(artifact), artifact)
        self._logs = list(logs.values())
        self._ids = [one.users.ids(np.arange(1, len(one.users) + 1)).cast(pl.String) for one in self._logs]

    def find(self, prefix: str, k: int, store: EventStore) -> list[Told]:
        """The first `k` users whose ids begin so, one with that very id first: user_id, feed, searches, check_ins, is_live."""
        exact = [prefix] if any(int(one.users.rows([prefix], missing="pad")[0]) for one in self._logs) else []
        logged = [ids.filter(ids.str.starts_with(prefix)).head(k).to_list() for ids in self._ids]
        live = store.users(prefix, k)
        found = list(dict.fromkeys([*exact, *(user for some in logged for user in some), *live]))[:k]
        return [self._counted(user, user in live) for user in found]

    def _counted(self, user_id: str, is_live: bool) -> Told:
        told = {"feed": 0, "searches": 0, "check_ins": 0}
        for artifact in self._logs:
            row, past = int(artifact.users.rows([user_id], missing="pad")[0]), artifact.history
            for name, offsets in (("feed", past.feed_offsets), ("searches", past.search_offsets)):
                name = "check_ins" if name == "feed" and artifact.places is not None else name
                told[name] += int(offsets[row + 1] - offsets[row]) if row else 0
        return {"user_id": user_id, **told, "is_live": is_live}

    def events(self, user_id: str, k: int, store: EventStore) -> list[Told]:
        """The newest `k` events of a user, the newest first."""
        return [done.told() for done in reversed(self._done(user_id, k, store)[-k:])]

    def _done(self, user_id: str, k: int, store: EventStore) -> list[Done]:
        """Events of a user, the oldest first: those of the logs, and the newest `k` or more since."""
        live, done = store.newest(user_id, k, -(-k // CLICKS)), list[Done]()
        for artifact in self._logs:
            done += _logged(artifact, user_id)
            kinds, until = _kinds(artifact), logged_until(artifact, user_id)
            own = [event for event in live if event.kind in kinds and (until is None or event.time_ms > until)]
            live = [event for event in live if event.kind not in kinds]  # another log of these kinds does not repeat them
            done += _lived(artifact, own)
        return sorted(done, key=lambda one: -(1 << 62) if one.time_ms is None else one.time_ms)

    def rhythm(self, user_id: str, store: EventStore) -> Told:
        """When a user does things: the lag spectrum of their events binned in time, and their hours of the week.

        `lags` are rows of hours, correlation, and chance: what white noise of that many pairs of bins stays within in 19 of 20.
        A period is told where its lag is higher than the highest of so many lags of white noise would be in 39 of 40.
        """
        done = [one for one in self._done(user_id, MOST_LAGS, store) if one.time_ms is not None]
        told: Told = {"events": len(done), "bin_hours": None, "lags": [], "period_hours": None, "strength": None,
                      "week": None, "clock": None, "notes": []}  # fmt: skip
        if not done:
            told["notes"] = ["no event of this user has a time of the clock, so there is no rhythm to show"]
            return told
        is_local = all(one.offset_min != UNKNOWN_MIN for one in done)
        times = torch.tensor([one.time_ms for one in done])
        hours = hour_of_week(times, torch.tensor([one.offset_min if is_local else 0 for one in done]))
        told["week"] = torch.bincount(hours - 1, minlength=7 * 24).view(7, 24).tolist()
        told["clock"] = "local" if is_local else "utc"
        if len(done) < FEWEST:
            told["notes"] = [f"{len(done)} events are too few for a rhythm; it takes {FEWEST}"]
            return told
        return told | _spectrum(times.numpy())

    def places(self, item_ids: Sequence[str]) -> list[Told]:
        """Where the items are, without those that are nowhere: item_id, text, lat_deg, lon_deg."""
        told: dict[str, Told] = {}
        for artifact in self._logs:
            if artifact.places is None:
                continue
            rows = [int(artifact.items.rows([item], missing="pad")[0]) for item in item_ids]
            for row, point in zip(rows, artifact.places.lat_lon_deg[rows].tolist(), strict=True):
                if row and np.isfinite(point).all():
                    [thing] = _things(artifact, [row])
                    told.setdefault(str(thing["item_id"]), thing | {"lat_deg": point[0], "lon_deg": point[1]})
        return list(told.values())


def _kinds(artifact: Artifact) -> tuple[str, ...]:
    return ("feed", "search") if artifact.places is None else ("checkin",)


def _logged(artifact: Artifact, user_id: str) -> list[Done]:
    row = int(artifact.users.rows([user_id], missing="pad")[0])
    if not row:
        return []
    has_clock = artifact.manifest["dataset"].get("clock") == "utc"
    done = []
    for entry in stored_past(artifact, row):
        kind = "search" if entry.is_search else "feed" if artifact.places is None else "checkin"
        query = None if entry.words is None else phrase(artifact.words.ids(list(entry.words)).to_list())
        time_ms = entry.time_ms if has_clock else None
        done.append(Done(kind, time_ms, entry.offset_min, query, _things(artifact, entry.items)))
    return done


def _lived(artifact: Artifact, events: Sequence[LiveEvent]) -> list[Done]:
    """Events of the store; those of one search session are one search, as for the model."""
    done: list[Done] = []
    sessions: dict[str, Done] = {}
    for event in events:
        search = sessions.get(event.session_id or "") if event.kind == "search" else None
        if search is None:
            offset = UNKNOWN_MIN if event.utc_offset_min is None else event.utc_offset_min
            search = Done(event.kind, event.time_ms, offset, is_live=True)
            done.append(search)
            if event.kind == "search" and event.session_id:
                sessions[event.session_id] = search
        search.query = search.query or event.query
        if event.item_id is not None:
            row = int(artifact.items.rows([event.item_id], missing="pad")[0])
            search.items += _things(artifact, [row]) if row else [{"item_id": event.item_id, "text": ""}]
    return done


def _things(artifact: Artifact, rows: Iterable[int]) -> list[Told]:
    known = [row for row in rows if row]
    names = zip(artifact.items.ids(known).to_list(), artifact.item_text(known), strict=True)
    return [{"item_id": item, "text": text} for item, text in names]


def _spectrum(times_ms: np.ndarray[Any, np.dtype[np.int64]]) -> Told:
    """The lag spectrum of counts of events: bins as narrow as their number allows, the newest of them where they are many."""
    span_h = (times_ms.max() - times_ms.min()) / HOUR_MS
    most = min(MOST_BINS, BINS_AN_EVENT * len(times_ms))
    width_h = next((width for width in BINS_H if span_h / width < most), BINS_H[-1])
    bins = times_ms // (width_h * HOUR_MS)
    bins = bins[bins > bins.max() - MOST_BINS] - max(bins.min(), bins.max() - MOST_BINS + 1)
    counts_L1 = np.bincount(bins).astype(np.float64)[:, None]
    found = lag_spectrum(counts_L1, np.ones_like(counts_L1, dtype=bool))
    shown = min(MOST_LAGS, (len(counts_L1) + 1) // 2)
    lags = [
        {
            "hours": lag * width_h,
            "correlation": float(found.correlation[lag]),
            "chance": float(1.96 / np.sqrt(found.pairs[lag])),
        }
        for lag in range(1, shown)
        if np.isfinite(found.correlation[lag])
    ]
    told: Told = {"bin_hours": width_h, "lags": lags}
    at = round(found.period) if np.isfinite(found.period) else shown
    level = NormalDist().inv_cdf(1 - 0.025 / max(1, len(lags)))  # the highest of so many lags is chance, too
    if 0 < at < shown and found.correlation[at] > level / np.sqrt(found.pairs[at]):
        told |= {"period_hours": found.period * width_h, "strength": float(found.correlation[at])}
    return told
