"""What somebody did, event by event, as rows of an artifact: stored, told, or lived since; all become the same tables.

An event on an item that the catalogue does not know keeps its place with row 0, as it does in a dataset directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from corsar.api.engine import People
from corsar.artifact import Artifact
from corsar.batch import Ragged
from corsar.places import UNKNOWN_MIN, Places
from corsar.windows import History


class Entry(NamedTuple):
    """One event: something of the feed, a check-in, or a search with what was clicked in it."""

    items: tuple[int, ...]  # item rows: one of the feed, 0 where unknown; of a search the known ones that were clicked
    words: tuple[int, ...] | None = None  # word rows of the query; None for what is no search
    time_ms: int | None = None
    offset_min: int = UNKNOWN_MIN  # of the local clock

    @property
    def is_search(self) -> bool:
        """Whether somebody searched."""
        return self.words is not None


Past = list[Entry]  # the oldest first


def stored_past(artifact: Artifact, user_row: int) -> Past:
    """The newest events of each kind that the artifact holds of a user, in the order in which they happened."""
    past = artifact.history
    (feed, feed_end), (search, search_end) = (
        offsets[user_row : user_row + 2].tolist() for offsets in (past.feed_offsets, past.search_offsets)
    )
    items, times = (flat[feed:feed_end].tolist() for flat in (past.feed_items, past.feed_times))
    clock = artifact.places.offsets_min[feed:feed_end].tolist() if artifact.places is not None else [UNKNOWN_MIN] * len(items)
    feeds = [Entry((item,), None, time, offset) for item, time, offset in zip(items, times, clock, strict=True)]
    at = torch.arange(search, search_end)
    clicks, words = lists_of(past.search_clicks.select(at)), lists_of(past.queries.select(past.search_queries[at]))
    times = past.search_times[search:search_end].tolist()
    searches = [Entry(*parts) for parts in zip(clicks, words, times, strict=True)]
    merged: Past = []
    for number, before in enumerate(past.feed_others[feed:feed_end].tolist()):
        merged += searches[len(merged) - number : before]
        merged.append(feeds[number])
    return merged + searches[len(merged) - len(feeds) :]


def lists_of(rows: Ragged) -> list[tuple[int, ...]]:
    """The rows as lists that do not change."""
    values, ends = rows.values.tolist(), rows.offsets.tolist()
    return [tuple(values[start:end]) for start, end in pairwise(ends)]


def people_of(artifact: Artifact, pasts: Sequence[Past], user_B: Tensor, seen: Sequence[Iterable[int]] | None = None) -> People:
    """Questions with these pasts.

    Args:
        seen: Item rows that each of them has had; those of the past where they are not told.
    """
    feeds: list[Entry] = []
    searches: list[Entry] = []
    feed_others: list[int] = []
    search_others: list[int] = []
    offsets, had = [(0, 0), (0, 0)], [[]]  # type: list[tuple[int, int]], list[list[int]]
    for past in pasts:
        for entry in past:
            if entry.is_search:
                search_others.append(len(feeds) - offsets[-1][0])
                searches.append(entry)
            else:
                feed_others.append(len(searches) - offsets[-1][1])
                feeds.append(entry)
        offsets.append((len(feeds), len(searches)))
        had.append(sorted({item for entry in past for item in entry.items if item}))
    if seen is not None:
        had[1:] = [sorted(set(items) - {0}) for items in seen]
    ends = torch.tensor(offsets, dtype=torch.int64)
    history = History(
        feed_items=_flat(entry.items[0] for entry in feeds),
        feed_times=_flat(at if entry.time_ms is None else entry.time_ms for at, entry in enumerate(feeds)),
        feed_others=_flat(feed_others),
        feed_offsets=ends[:, 0].contiguous(),
        search_queries=torch.arange(1, len(searches) + 1),
        search_clicks=Ragged.of([list(entry.items) for entry in searches]),
        search_times=_flat(at if entry.time_ms is None else entry.time_ms for at, entry in enumerate(searches)),
        search_others=_flat(search_others),
        search_offsets=ends[:, 1].contiguous(),
        queries=Ragged.of([[], *(list(entry.words or ()) for entry in searches)]),
    )
    places = artifact.places
    if places is not None:
        places = Places(places.lat_lon_deg, _flat(entry.offset_min for entry in feeds))
    return People(user_B, history, torch.arange(1, len(pasts) + 1), Ragged.of(had), places)


def _flat(numbers: Iterable[int]) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.int64)
