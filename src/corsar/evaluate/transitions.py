"""How feed events and searches follow each other in a dataset, and how much of it is more than chance within a user.

A page of the feed (events of one user and time) is one event here, and so is a search. *Expected* is what a shuffle of each
user's own events would give, counted exactly; *excess* is what lies above. Intervals are of 95 % and resample users.

Legend: E events in order of user and time, U users, R resamplings, M sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corsar.data.store import Dataset
from corsar.windows import History

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
KINDS = ("feed", "search")
TRANSITIONS = ("feed→feed", "feed→search", "search→feed", "search→search")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
RESAMPLES = 400


@dataclass(frozen=True)
class Log:
    """All events of all users in their order."""

    user_E: Ints
    time_E: Ints
    is_search_E: npt.NDArray[np.bool_]
    item_E: Ints  # the first item of the page, or the first click of the search; 0 where there is none
    query_E: Ints  # rows of the history's queries; 0 for feed events

    @property
    def pairs(self) -> Ints:
        """Events that have a successor of the same user."""
        return np.flatnonzero(self.user_E[1:] == self.user_E[:-1])


def log_of(history: History) -> Log:
    """The events of a history, pages of the feed drawn together."""
    parts: dict[str, list[Ints]] = {name: [] for name in ("user", "time", "is_search", "item", "query", "place")}
    for kind in KINDS:
        offsets, time = getattr(history, f"{kind}_offsets"), getattr(history, f"{kind}_times").numpy()
        user = torch.repeat_interleave(offsets.diff()).numpy()
        place = np.arange(len(user)) - offsets.numpy()[user] + getattr(history, f"{kind}_others").numpy()
        if kind == "feed":
            item, query, kept = history.feed_items.numpy(), np.zeros(len(user), np.int64), np.ones(len(user), bool)
            kept[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
        else:
            item = history.search_clicks.padded(torch.arange(len(user)), 1)[:, 0].numpy()
            query, kept = history.search_queries.numpy(), np.ones(len(user), bool)
        told = {"user": user, "time": time, "item": item, "query": query, "place": place}
        told["is_search"] = np.full(len(user), kind == "search")
        for name, values in told.items():
            parts[name].append(values[kept])
    flat = {name: np.concatenate(values) for name, values in parts.items()}
    order = np.lexsort((flat["place"], flat["user"]))
    user_E, time_E, item_E, query_E = (flat[name][order] for name in ("user", "time", "item", "query"))
    return Log(user_E, time_E, flat["is_search"][order].astype(bool), item_E, query_E)


def with_interval(sums_UM: Floats, figure: Callable[[Floats], Floats], seed: int = 0) -> dict[str, float | None]:
    """A figure of sums over users, and its interval: {"value", "low", "high"}; None where it is not defined.

    Args:
        figure: takes sums [..., M] and gives the figure of each row.
    """
    sums_UM = sums_UM[sums_UM.any(1)]
    if not len(sums_UM):
        return {"value": None, "low": None, "high": None}
    rng, parts = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        times_U = np.bincount(rng.integers(len(sums_UM), size=len(sums_UM)), minlength=len(sums_UM))
        parts.append(times_U @ sums_UM)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, resampled_R = float(figure(sums_UM.sum(0))), figure(np.stack(parts))
    resampled_R = resampled_R[np.isfinite(resampled_R)]
    if not np.isfinite(value) or not len(resampled_R):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(resampled_R, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def user_sums(user: Ints, num_users: int, *columns: npt.NDArray[Any]) -> Floats:
    """Sums of the columns over each user's rows, [U, M]."""
    return np.stack([np.bincount(user, column.astype(np.float64), num_users) for column in columns], 1)


def transitions(dataset: Dataset, utc_offset_min: int) -> dict[str, Any]:
    """The matrix of transitions with intervals, its days and hours, times between, and the rate of searches without a click."""
    log, users = log_of(dataset.history), len(dataset.users) + 1
    first = log.pairs
    code = 2 * log.is_search_E[first] + log.is_search_E[first + 1]
    counts_U4 = user_sums(log.user_E[first], users, *(code == one for one in range(4)))
    feeds_U, searches_U = np.bincount(log.user_E, ~log.is_search_E, users), np.bincount(log.user_E, log.is_search_E, users)
    events_U = np.maximum(feeds_U + searches_U, 1)
    mixed_U = feeds_U * searches_U / events_U  # of a random order of the user's events
    expected_U4 = np.stack([feeds_U * (feeds_U - 1) / events_U, mixed_U, mixed_U, searches_U * (searches_U - 1) / events_U], 1)
    sums = np.concatenate([counts_U4, expected_U4], 1)
    matrix = []
    for at, name in enumerate(TRANSITIONS):
        told_of = _transition(sums, at)
        matrix.append({"transition": name, "count": int(counts_U4[:, at].sum())} | told_of)
    told: dict[str, Any] = {"matrix": matrix}
    if dataset.manifest["clock"] == "utc":
        local = log.time_E[first + 1] + utc_offset_min * 60_000
        told["by_day"] = _by((local // DAY_MS + 3) % 7, code, DAYS, "day")
        told["by_hour"] = _by(local // HOUR_MS % 24, code, tuple(range(24)), "hour")
        gap_s = (log.time_E[first + 1] - log.time_E[first]) / 1000
        told["between"] = [_between(name, gap_s[code == at]) for at, name in enumerate(TRANSITIONS)]
    silent = log.is_search_E & (log.item_E == 0)
    rates = user_sums(log.user_E, users, silent, log.is_search_E)
    told["zero_click"] = {
        "searches": int(log.is_search_E.sum()),
        "without_click": int(silent.sum()),
        "rate": with_interval(rates, lambda s: s[..., 0] / s[..., 1]),
    }
    return told


def _transition(sums: Floats, at: int) -> dict[str, Any]:
    """The figures of one transition of sums [U, 8]: counts, then what is expected of each."""
    begins = at // 2 * 2  # of the transitions that begin with the same kind

    def share(s: Floats) -> Floats:
        part: Floats = s[..., at] / s[..., :4].sum(-1)
        return part

    def of_first(s: Floats) -> Floats:
        part: Floats = s[..., at] / s[..., begins : begins + 2].sum(-1)
        return part

    def expected(s: Floats) -> Floats:
        part: Floats = s[..., 4 + at] / s[..., :4].sum(-1)
        return part

    def excess(s: Floats) -> Floats:
        return share(s) - expected(s)

    return {figure.__name__: with_interval(sums, figure) for figure in (share, of_first, expected, excess)}


def _by(where: Ints, code: Ints, names: tuple[Any, ...], what: str) -> list[dict[str, Any]]:
    counts = np.bincount(where * 4 + code, minlength=4 * len(names)).reshape(-1, 4)
    return [{what: name} | dict(zip(TRANSITIONS, row.tolist(), strict=True)) for name, row in zip(names, counts, strict=True)]


def _between(name: str, gap_s: Floats) -> dict[str, Any]:
    quarters = np.percentile(gap_s, [25, 50, 75]).tolist() if len(gap_s) else [None] * 3
    return {"transition": name, "count": len(gap_s)} | dict(zip(("p25_s", "median_s", "p75_s"), quarters, strict=True))
