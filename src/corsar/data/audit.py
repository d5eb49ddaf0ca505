"""The look-ahead audit: whether a case of a dataset directory could know what had not happened yet.

All is read from the directory and counted anew from the times; nothing is taken over from how it was prepared. What the
directory does not hold cannot be seen: a search stands at its first row, and when its later clicks came is not kept.

Legend: N cases, F feed events, S searches, K clicks of searches.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from corsar.data.audit_batches import batch_leaks, negative_leaks
from corsar.data.audit_counts import count_leaks
from corsar.data.audit_leaks import AllCases, Auditor, Leak, owners, told_columns
from corsar.data.store import SPLITS, Cases, Dataset
from corsar.vocab import Rows
from corsar.windows import History

KEY = ["user", "time", "item"]


def audit_dataset(dataset: Dataset) -> tuple[list[Leak], dict[str, int]]:
    """What could look ahead in the dataset, nothing where all is clean; and how many entries share a user and a time.

    Entries that share a time are no leak, since none of them is the history of another: they tell how much the rule costs.
    """
    auditor, history = Auditor(dataset), dataset.history
    _orders(auditor, history)
    if any(one.check == "history order" for one in auditor.leaks):
        return auditor.leaks, {}  # what follows searches in sorted times
    cases: AllCases = {(split, task): dataset.cases(split, task) for split in SPLITS for task in dataset.tasks}
    for one in cases.values():
        _histories(auditor, history, one)
    for task in dataset.tasks:
        _own_events(auditor, history, [cases[split, task] for split in SPLITS])
    _parts(auditor, cases)
    count_leaks(auditor, cases)
    negative_leaks(auditor, cases)
    batch_leaks(auditor, cases)
    return auditor.leaks, _shared(history)


def _orders(auditor: Auditor, history: History) -> None:
    sides = {}
    for kind in ("feed", "search"):
        times, offsets = getattr(history, f"{kind}_times").numpy(), getattr(history, f"{kind}_offsets")
        sides[kind] = (owners(offsets), times, offsets.numpy(), getattr(history, f"{kind}_others").numpy())
        user = sides[kind][0]
        back = np.flatnonzero((np.diff(times) < 0) & (np.diff(user) == 0)) + 1
        auditor.leak("history order", back, {"user": user, "time_ms": times}, kind=kind)
    for kind, other in (("feed", "search"), ("search", "feed")):
        (user, times, _, others), (_, other_times, offsets, _) = sides[kind], sides[other]
        if not len(user):
            continue
        at = offsets[user] + others  # the first entry of the other kind that is not before
        inside = (others >= 0) & (at <= offsets[user + 1])
        before, after = _at(other_times, at - 1), _at(other_times, at)
        late = (others > 0) & (before > times)
        early = (at < offsets[user + 1]) & (after < times)
        auditor.leak("merged order", ~inside | late | early, {"user": user, "time_ms": times}, kind=kind)


def _at(values: Rows, at: Rows) -> Rows:
    return values[np.clip(at, 0, len(values) - 1)] if len(values) else np.zeros(len(at), dtype=np.int64)


def _histories(auditor: Auditor, history: History, cases: Cases) -> None:
    """The last entry of each history must lie before the case; the ones before it do, since times rise."""
    user_N, time_N = cases.user_N.numpy(), cases.time_N.numpy()
    outside = np.zeros(len(cases), dtype=bool)
    for kind in ("feed", "search"):
        times, offsets = getattr(history, f"{kind}_times").numpy(), getattr(history, f"{kind}_offsets").numpy()
        end_N = getattr(cases, f"{kind}_end_N").numpy()
        own = (end_N >= offsets[user_N]) & (end_N <= offsets[user_N + 1])
        outside |= ~own
        last_N = _at(times, end_N - 1)
        late = own & (end_N > offsets[user_N]) & (last_N >= time_N)
        told = told_columns(cases) | {f"{kind}_time_ms": last_N}
        auditor.leak(f"future {kind}", late, told, split=cases.split, task=cases.task)
    auditor.leak("other user", outside, told_columns(cases), split=cases.split, task=cases.task)


def _own_events(auditor: Auditor, history: History, parts: list[Cases]) -> None:
    """Each case must have an event of its own, and that must not be in its history."""
    kind = "search" if parts[0].task == "search" else "feed"
    if kind == "feed":
        entry, item = np.arange(len(history.feed_items)), history.feed_items.numpy()
    else:
        entry, item = owners(history.search_clicks.offsets), history.search_clicks.values.numpy()
    user, times = owners(getattr(history, f"{kind}_offsets")), getattr(history, f"{kind}_times").numpy()
    events = pl.DataFrame({"user": user[entry], "time": times[entry], "item": item, "entry": entry})
    events = events.with_columns(rank=pl.int_range(pl.len()).over(KEY))
    asked = pl.concat(
        pl.DataFrame(
            {"user": one.user_N.numpy(), "time": one.time_N.numpy(), "item": one.item_N.numpy(), "part": np.full(len(one), at),
             "case": np.arange(len(one)), "end": getattr(one, f"{kind}_end_N").numpy()}
        )
        for at, one in enumerate(parts)
    ).with_columns(rank=pl.int_range(pl.len()).over(KEY))  # fmt: skip
    found = asked.join(events, on=[*KEY, "rank"], how="left", maintain_order="left")
    for at, cases in enumerate(parts):
        here = found.filter(part=at)
        told = {"split": cases.split, "task": cases.task}
        auditor.leak("no event", here["entry"].is_null().to_numpy(), told_columns(cases), **told)
        auditor.leak("own event", (here["entry"] < here["end"]).fill_null(False).to_numpy(), told_columns(cases), **told)


def _parts(auditor: Auditor, cases: AllCases) -> None:
    """No user goes from a later part back to an earlier one."""
    for earlier, later, check in (
        ("train", ("valid", "test"), "train after held-out"),
        ("valid", ("test",), "test before valid"),
    ):
        first = np.full(len(auditor.dataset.users) + 1, np.iinfo(np.int64).max)
        for (split, _), one in cases.items():
            if split in later:
                np.minimum.at(first, one.user_N.numpy(), one.time_N.numpy())
        for (split, task), one in cases.items():
            if split == earlier:
                late = one.time_N.numpy() > first[one.user_N.numpy()]
                auditor.leak(check, late, told_columns(one), split=split, task=task)


def _shared(history: History) -> dict[str, int]:
    """Entries of each kind that share user and time with another entry of either kind."""
    moments = [
        pl.DataFrame({"user": owners(getattr(history, f"{kind}_offsets")), "time": getattr(history, f"{kind}_times").numpy()})
        .with_columns(kind=pl.lit(kind))
        for kind in ("feed", "search")
    ]  # fmt: skip
    shared = pl.concat(moments).filter(pl.len().over("user", "time") > 1)
    return {kind: shared.filter(kind=kind).height for kind in ("feed", "search")}
