"""Cases: one for each clicked item, with the ends of its histories, its query and what was clicked with it.

Legend: E entries (sorted by user, time, place in the file), K clicks (each a case, known item or not).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.batch import Ragged, Task
from corsar.data.candidates import match_candidates
from corsar.data.entries import Entries
from corsar.data.store import SPLITS, save_array, save_ragged
from corsar.errors import writing
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


def save_cases(
    folder: Path,
    entries: Entries,
    split_E: Rows,
    item_K: Rows,
    query_E: Rows,
    items: Vocab,
    candidates: pl.DataFrame | None,
    funnel: list[dict[str, Any]],
    tasks: tuple[Task, ...],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the cases of each split and task; what comes back are their counts, and number and hash of given candidates."""
    entry_K = entries.entry_K
    feed_end_E, search_end_E = history_ends(entries)
    group_K, groups = click_groups(entries, item_K)
    split_K, is_search_K, known_K = split_E[entry_K], entries.is_search_E[entry_K], item_K > 0
    columns = {
        "user_N": entries.user_E[entry_K],
        "item_N": item_K,
        "time_N": entries.time_E[entry_K],
        "feed_end_N": feed_end_E[entry_K],
        "search_end_N": search_end_E[entry_K],
        "query_N": query_E[entry_K],
        "group_N": group_K,
    }
    given = {}
    if candidates is not None:
        table = pl.DataFrame(
            {
                "case": np.arange(len(entry_K)),
                "user_id": entries.users.ids(columns["user_N"]),
                "time_ms": columns["time_N"],
                "split": pl.Series(np.array(SPLITS)[split_K]),
                "item_id": entries.item_K,
                "session_id": entries.session_E.gather(entry_K),
                "item": item_K,
                "group": group_K,
                "scored": known_K,
            }
        )
        given = match_candidates(candidates, table, items)
    save_ragged(groups, folder / "groups")
    counts: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for number, split in enumerate(SPLITS):
        in_split_K = split_K == number
        counts[split] = {}
        for task in tasks:
            of_task_K = in_split_K & (is_search_K == (task == "search"))
            keep_K = of_task_K & known_K
            where = folder / f"{split}_{task}"
            with writing(where):
                where.mkdir(parents=True)
                for name, values in columns.items():
                    save_array(where / f"{name}.npy", values[keep_K])
                if split in given:
                    save_array(where / "negatives_NC.npy", given[split][keep_K[in_split_K]])
            counts[split][task] = int(keep_K.sum())
            unknown = int(of_task_K.sum()) - counts[split][task]
            if unknown:
                reason = f"unknown item ({split}, {task})"
                funnel.append({"table": "cases", "stage": "rejected", "rows": unknown, "reason": reason})
        if split in given:
            told[split] = {"negatives": given[split].shape[1], "sha256": _hash(given[split])}
    return {"cases": counts, "same_time": _same_time(entries, split_E)}, told


def _same_time(entries: Entries, split_E: Rows) -> dict[str, int]:
    """Entries of each split that share user and time with another one, which therefore is not their history."""
    turns = (np.diff(entries.user_E, prepend=-1) != 0) | (np.diff(entries.time_E, prepend=-1) != 0)
    moment_E = np.cumsum(turns) - 1
    shared_E = np.bincount(moment_E)[moment_E] > 1 if len(moment_E) else moment_E > 0
    return {split: int((shared_E & (split_E == number)).sum()) for number, split in enumerate(SPLITS)}
