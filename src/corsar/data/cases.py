"""Cases: one for each clicked item, with the ends of its histories, its query and what was clicked with it.

Legend: E entries (sorted by user, time, place in the file), K clicks (each a case, known item or not).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.batch import Ragged, Task
from corsar.data.candidates import match_candidates
from corsar.data.entries import Entries
from corsar.data.growing import Growing
from corsar.data.store import SPLITS
from corsar.vocab import Rows, Vocab


def history_ends(entries: Entries) -> tuple[Rows, Rows]:
    """For each entry, the first feed event and the first search that are not strictly before it: positions, [E] each.

    A search with a later click hides itself, and the searches that begin after it, from what comes before that click:
    a history is a stretch of the user's searches, and it must hold nothing that had not happened yet.
    """
    # one sortable number for (user, time): times become their ranks, so that nothing can overflow
    times = np.unique(np.concatenate([entries.time_E, entries.latest_E]))
    base_E = entries.user_E * np.int64(len(times) + 1)
    key_E = base_E + np.searchsorted(times, entries.time_E)
    latest_E = np.maximum.accumulate(base_E + np.searchsorted(times, entries.latest_E))[entries.is_search_E]
    feed_end_E = np.searchsorted(key_E[~entries.is_search_E], key_E)
    # entries of users before this one have smaller keys whatever their times, so positions are those of the whole array
    search_end_E = np.searchsorted(latest_E, key_E)
    return feed_end_E, search_end_E


def click_groups(entries: Entries, item_K: Rows) -> tuple[Rows, Ragged]:
    """Row of each click's group, 0 = alone, and the items of the groups: of one search, or of one page of the feed."""
    is_search_E = entries.is_search_E
    feeds = np.flatnonzero(~is_search_E)
    turns = (np.diff(entries.user_E[feeds], prepend=-1) != 0) | (np.diff(entries.time_E[feeds], prepend=-1) != 0)
    unit_E = np.arange(len(is_search_E))
    unit_E[feeds] = feeds[np.flatnonzero(turns)][np.cumsum(turns) - 1] if len(feeds) else feeds
    known = np.flatnonzero(item_K > 0)
    unit = unit_E[entries.entry_K[known]]
    order = known[np.argsort(unit, kind="stable")]
    length = np.unique(unit, return_counts=True)[1]
    number = np.where(length > 1, np.cumsum(length > 1), 0)
    group_K = np.zeros(len(item_K), dtype=np.int64)
    group_K[order] = np.repeat(number, length)
    values = item_K[order][np.repeat(length > 1, length)]
    offsets = np.concatenate([[0, 0], np.cumsum(length[length > 1])]).astype(np.int64)
    return group_K, Ragged(torch.from_numpy(values), torch.from_numpy(offsets))


def _hash(matrix: Rows) -> str:
    return hashlib.sha256(np.ascontiguousarray(matrix).tobytes()).hexdigest()


class CaseFiles:
    """The cases of each split and task, written part by part of the users; at the end their counts."""

    def __init__(self, arrays: Growing, tasks: tuple[Task, ...]) -> None:
        """Write into the folder `cases` of `arrays`."""
        self._arrays, self._tasks = arrays, tasks
        self._num = Counter({(split, task): 0 for split in SPLITS for task in tasks})
        self._unknown = Counter(self._num)
        self._same_time: Counter[str] = Counter(dict.fromkeys(SPLITS, 0))
        self.candidates: dict[str, Any] = {}  # number and hash of those given

    def append(
        self,
        entries: Entries,
        split_E: Rows,
        item_K: Rows,
        query_E: Rows,
        items: Vocab,
        before: tuple[int, int],
        candidates: pl.DataFrame | None,
    ) -> None:
        """Add the cases of users that follow those that were added.

        Args:
            before: feed events and searches of the users before these, which positions count too.
            candidates: given ones, of the cases of these users.
        """
        entry_K = entries.entry_K
        feed_end_E, search_end_E = history_ends(entries)
        group_K, groups = click_groups(entries, item_K)
        num_groups = max(0, self._arrays.length("cases/groups/offsets") - 2)
        split_K, is_search_K, known_K = split_E[entry_K], entries.is_search_E[entry_K], item_K > 0
        columns = {
            "user_N": entries.user_E[entry_K],
            "item_N": item_K,
            "time_N": entries.time_E[entry_K],
            "feed_end_N": feed_end_E[entry_K] + before[0],
            "search_end_N": search_end_E[entry_K] + before[1],
            "query_N": query_E[entry_K],
            "group_N": np.where(group_K > 0, group_K + num_groups, 0),
        }
        given = {}
        if candidates is not None:
            given = _given(candidates, entries, columns, split_K, items)
        lengths = np.diff(groups.offsets.numpy())
        # row 0, the empty one, is that of the first part
        self._arrays.append_ragged(
            "cases/groups", lengths[1 if self._arrays.length("cases/groups/offsets") else 0 :], groups.values.numpy()
        )
        for number, split in enumerate(SPLITS):
            in_split_K = split_K == number
            for task in self._tasks:
                of_task_K = in_split_K & (is_search_K == (task == "search"))
                keep_K = of_task_K & known_K
                for name, values in columns.items():
                    self._arrays.append(f"cases/{split}_{task}/{name}", values[keep_K])
                if split in given:
                    self._arrays.append(f"cases/{split}_{task}/negatives_NC", given[split][keep_K[in_split_K]])
                self._num[split, task] += int(keep_K.sum())
                self._unknown[split, task] += int((of_task_K & ~known_K).sum())
            if split in given:
                self.candidates[split] = {"negatives": given[split].shape[1], "sha256": _hash(given[split])}
        self._same_time.update(_same_time(entries, split_E))

    def counts(self) -> dict[str, Any]:
        """How many cases each split and task has, and how many entries share their moment."""
        cases = {split: {task: self._num[split, task] for task in self._tasks} for split in SPLITS}
        return {"cases": cases, "same_time": dict(self._same_time)}

    def funnel(self) -> list[dict[str, Any]]:
        """The clicks that are no cases."""
        return [
            {"table": "cases", "stage": "rejected", "rows": rows, "reason": f"unknown item ({split}, {task})"}
            for (split, task), rows in self._unknown.items()
            if rows
        ]


def _given(
    candidates: pl.DataFrame, entries: Entries, columns: dict[str, Rows], split_K: Rows, items: Vocab
) -> dict[str, Rows]:
    table = pl.DataFrame(
        {
            "case": np.arange(len(entries.entry_K)),
            "user_id": entries.users.ids(columns["user_N"]),
            "time_ms": columns["time_N"],
            "split": pl.Series(np.array(SPLITS)[split_K]),
            "item_id": entries.item_K,
            "session_id": entries.session_E.gather(entries.entry_K),
            "item": columns["item_N"],
            "group": columns["group_N"],
            "scored": columns["item_N"] > 0,
        }
    )
    return match_candidates(candidates, table, items)


def _same_time(entries: Entries, split_E: Rows) -> dict[str, int]:
    """Entries of each split that share user and time with another one, which therefore is not their history."""
    turns = (np.diff(entries.user_E, prepend=-1) != 0) | (np.diff(entries.time_E, prepend=-1) != 0)
    moment_E = np.cumsum(turns) - 1
    shared_E = np.bincount(moment_E)[moment_E] > 1 if len(moment_E) else moment_E > 0
    return {split: int((shared_E & (split_E == number)).sum()) for number, split in enumerate(SPLITS)}
