"""The first of two stages: a thousand items that are worth the model's time, out of a catalogue of any size.

Five lists, each the best first, take turns until there are enough: what the two towers beside the model find (where it was
trained with them), what stood near the newest items of the past in the
histories of all users (weighed as in models/covisit.py), what holds the words of the query (BM25), the items of the past
itself, and what is popular. It reads the artifact alone, and for a question no more than the entries of its items and words.

Shape suffixes: B questions, C candidates, E events of all histories.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from corsar.batch import Ragged, SearchRecommendBatch, Task, TrainEvents
from corsar.index.postings import best_columns, largest_of_rows
from corsar.index.vectors import Nearest
from corsar.index.words import WordIndex
from corsar.models.counted import count_pairs
from corsar.windows import History

NEWEST = 10  # items of the past whose neighbours are looked at
REACH = 5  # places between two items that count as near
TURNS = 4  # of the towers in a round, where each other list has one; chosen in benchmarks/first_stage.py
NEAR = 1000  # neighbours of an item, at most: popular ones have a hundred times as many, most of them met once


class Candidates:
    """Chooses candidates for the questions of one artifact."""

    def __init__(
        self, history: History, num_items: int, words: WordIndex | None, num: int, nearest: Nearest | None = None
    ) -> None:
        """Count the histories.

        Args:
            words: for searches; without it they are treated as recommend is.
            num: candidates of a question, at most.
            nearest: the two towers of the model, where it has some.
        """
        self._nearest = nearest
        self._num, self._words, self._width = min(num, num_items), words, num_items + 1
        events = events_of(history)
        known = events.item_E > 0
        events = TrainEvents(events.user_E[known], events.item_E[known], events.is_search_E[known])
        self._counts = torch.bincount(events.item_E, minlength=self._width)
        pairs = count_pairs(events, self._width, REACH) if len(events.item_E) else _nothing()
        self._keys, self._near = largest_of_rows(*pairs, self._width, NEAR)
        popular = self._counts.clone()
        popular[0] = -1
        self._popular = popular.sort(descending=True, stable=True).indices[: self._num]

    def candidates(
        self, task: Task, pasts: list[list[int]], queries: Ragged | None, batch: SearchRecommendBatch | None = None
    ) -> Tensor:
        """Item rows for each question, each once a question, 0 pads, [B, C].

        Args:
            pasts: item rows of each past, the oldest first.
            batch: the same questions as the model gets them; without it the towers are not asked.
        """
        found = torch.zeros(len(pasts), self._num, dtype=torch.int64)
        by_words = self._words.best(queries, self._num) if self._words is not None and queries is not None else None
        by_towers = self._nearest.best(batch, self._num) if self._nearest is not None and batch is not None else None
        for b, past in enumerate(pasts):
            known = [row for row in past if row]
            own = torch.tensor(list(dict.fromkeys(reversed(known))), dtype=torch.int64)
            lists = [self._neighbours(known[-NEWEST:]), own, self._popular]
            if by_words is not None:
                lists.insert(0, by_words[b])
            if by_towers is not None:
                lists = [by_towers[b, turn::TURNS] for turn in range(TURNS)] + lists
            rows = _in_turn(lists, self._num)
            found[b, : len(rows)] = rows
        return found

    def _neighbours(self, newest: list[int]) -> Tensor:
        """Items that stood near these, the nearest first."""
        rows = torch.tensor(newest, dtype=torch.int64)
        weights = (1 + self._counts[rows]).double().rsqrt()
        return best_columns(self._keys, self._near, self._width, rows, weights, self._num)


def _in_turn(lists: list[Tensor], num: int) -> Tensor:
    """The first `num` distinct rows where the lists take turns, at most; zeros take none."""
    turns = np.zeros((max(map(len, lists)), len(lists)), dtype=np.int64)
    for column, rows in enumerate(lists):
        turns[: len(rows), column] = rows.numpy()
    flat = turns[turns > 0]
    _, first = np.unique(flat, return_index=True)
    return torch.from_numpy(flat[np.sort(first)[:num]])


def events_of(history: History) -> TrainEvents:
    """All entries of the histories as one sequence a user, in the merged order; a search by its clicked items."""
    users = len(history.feed_offsets) - 1
    feed_user = torch.repeat_interleave(torch.arange(users), history.feed_offsets.diff())
    search_user = torch.repeat_interleave(torch.arange(users), history.search_offsets.diff())
    feed_slot = torch.arange(len(feed_user)) - history.feed_offsets[feed_user] + history.feed_others
    search_slot = torch.arange(len(search_user)) - history.search_offsets[search_user] + history.search_others
    clicked = torch.repeat_interleave(torch.arange(len(search_user)), history.search_clicks.lengths)
    user = torch.cat([feed_user, search_user[clicked]])
    slot = torch.cat([feed_slot, search_slot[clicked]])
    item = torch.cat([history.feed_items, history.search_clicks.values])
    is_search = torch.arange(len(item)) >= len(feed_user)
    order = (user * (int(slot.max()) + 1) + slot).sort(stable=True).indices if len(slot) else slot
    return TrainEvents(user[order], item[order], is_search[order])


def _nothing() -> tuple[Tensor, Tensor]:
    return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
