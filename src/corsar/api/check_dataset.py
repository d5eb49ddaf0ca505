"""A look at a dataset directory: whether it is what prepare wrote, and what is odd in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from corsar.data.store import SPLITS, Dataset, open_dataset
from corsar.errors import DataError
from corsar.sources.findings import EARLIEST_MS, LATEST_MS, Finding, of_funnel
from corsar.vocab import Rows


def check_dataset(folder: Path) -> list[Finding]:
    """What is found in a dataset directory; `corsar data audit` looks for cases that see ahead."""
    try:
        dataset = open_dataset(folder)
        dataset.verify()
    except DataError as error:
        return [Finding("malformed", "manifest.json", "", 1, "", f"does not fit the files: {error}")]
    counts = dataset.manifest["counts"]
    found = [
        Finding("note", "manifest.json", "", int(counts[name]), "", name)
        for name in ("users", "items", "feed_events", "searches")
    ]
    found += of_funnel(dataset.manifest["funnel"], "manifest.json")
    for kind in ("feed", "search"):
        found += _times(dataset, kind)
    lengths = dataset.history.search_clicks.lengths.numpy()
    if silent := int((lengths == 0).sum()):
        found.append(Finding("note", "history", "search_clicks", silent, "", f"of {len(lengths)} searches got no click"))
    return found + _cases(dataset)


def _times(dataset: Dataset, kind: str) -> list[Finding]:
    """Whether the entries of each user rise in time, and which share theirs."""
    file = f"history/{kind}_times.npy"
    times: Rows = getattr(dataset.history, f"{kind}_times").numpy()
    offsets: Rows = getattr(dataset.history, f"{kind}_offsets").numpy()
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    mine = owner[1:] == owner[:-1]
    step = np.diff(times)
    odd = [
        ("malformed", mine & (step < 0), "lies before the entry that it follows"),
        ("note", mine & (step == 0), "shares its user and time with the entry before: no history of each other"),
    ]
    found = []
    if dataset.manifest["clock"] == "utc":
        outside = (times < EARLIEST_MS) | (times > LATEST_MS)
        odd.append(("suspicious", outside, "before 1995 or after 2100: was the time unit right?"))
    for level, holds, what in odd:
        if rows := int(holds.sum()):
            at = int(holds.argmax()) + (len(holds) < len(times))
            found.append(Finding(level, file, "", rows, f"entry {at}: user {dataset.users.ids(owner[at : at + 1])[0]}", what))
    return found


def _cases(dataset: Dataset) -> list[Finding]:
    found = []
    history = dataset.history
    for split in SPLITS:
        for task in dataset.manifest["counts"]["cases"][split]:
            cases, file = dataset.cases(split, task), f"cases/{split}_{task}"
            if not len(cases):
                found.append(Finding("suspicious", file, "", 0, "", "is empty: there is nothing to train on or to measure"))
                continue
            past = (
                cases.feed_end_N
                - history.feed_offsets[cases.user_N]
                + cases.search_end_N
                - history.search_offsets[cases.user_N]
            )
            for level, holds, what in (
                ("suspicious", cases.item_N == 0, f"of {len(cases)} targets are unknown items, which no model can name"),
                ("note", past == 0, f"of {len(cases)} cases have no history"),
            ):
                if rows := int(holds.sum()):
                    found.append(Finding(level, file, "", rows, f"case {int(holds.int().argmax())}", what))
    return found
