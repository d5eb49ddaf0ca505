"""What people search for: completion of what somebody types, and the searches that follow an item.

Only queries of at least two people are told, so that nobody reads what one person alone has typed.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from corsar.batch import Ragged
from corsar.text import words
from corsar.vocab import Rows, Vocab
from corsar.windows import History

PEOPLE = 2  # who must have searched for a query, at least
LAST = "\U0010ffff"  # behind all texts that begin alike
Found = list[dict[str, Any]]  # rows of query, count


class QueryIndex:
    """The queries of all histories, with how often each was searched for."""

    def __init__(self, history: History, vocab: Vocab) -> None:
        lengths = history.search_offsets.diff()
        user_S = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        query_S = history.search_queries
        pairs = torch.unique(user_S * len(history.queries) + query_S)
        people_Q = torch.bincount(pairs % len(history.queries), minlength=len(history.queries))
        told_Q = (people_Q >= PEOPLE) & (history.queries.lengths > 0)
        texts = _texts(history.queries.select(told_Q.nonzero()[:, 0]), vocab)
        order = sorted(range(len(texts)), key=texts.__getitem__)
        self._texts = [texts[at] for at in order]
        place_Q = torch.full((len(told_Q),), -1)
        place_Q[told_Q.nonzero()[order, 0]] = torch.arange(len(order))
        place_S = place_Q[query_S]
        self._counts = torch.bincount(place_S[place_S >= 0], minlength=len(order)).numpy()
        self._keys, self._after = _pairs(history, place_S, lengths, len(order))

    def complete(self, prefix: str, k: int) -> Found:
        """The `k` most frequent queries that begin so, the most frequent first."""
        wanted = " ".join(words(prefix)) + (" " if prefix[-1:].isspace() and prefix.strip() else "")
        start, end = bisect_left(self._texts, wanted), bisect_left(self._texts, wanted + LAST)
        return self._best(np.arange(start, end), self._counts[start:end], k)

    def after(self, item_row: int, k: int) -> Found:
        """The `k` queries that people most often searched for right after an event on the item."""
        width = max(1, len(self._texts))
        start, end = np.searchsorted(self._keys, [item_row * width, (item_row + 1) * width])
        return self._best(self._keys[start:end] % width, self._after[start:end], k)

    def _best(self, places: Rows, counts: Rows, k: int) -> Found:
        order = np.argsort(-counts, kind="stable")[:k]
        return [{"query": self._texts[places[at]], "count": int(counts[at])} for at in order.tolist()]


def _texts(queries: Ragged, vocab: Vocab) -> list[str]:
    every = vocab.ids(queries.values.numpy()).to_list()
    return [phrase(every[start:end]) for start, end in pairwise(queries.offsets.tolist())]


def phrase(cut: list[str]) -> str:
    """The words as one text again: bigrams of a run of characters lie over each other, others stand apart."""
    text = ""
    for before, word in zip(["", *cut], cut, strict=False):
        is_run = len(before) == len(word) == 2 and before[1] == word[0] and not word.isascii()
        text += word[1:] if is_run else f" {word}" if text else word
    return text


def _pairs(history: History, place_S: torch.Tensor, lengths: torch.Tensor, num: int) -> tuple[Rows, Rows]:
    """Sorted keys `item * num + query` of the events right before a search, and how often each pair stands there."""
    if not len(place_S):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    user_S, at_S = torch.repeat_interleave(torch.arange(len(lengths)), lengths), torch.arange(len(place_S))
    has_earlier_S = at_S > history.search_offsets[user_S]
    feeds_S = history.search_others
    feeds_before_S = torch.where(has_earlier_S, feeds_S[(at_S - 1).clamp(min=0)], 0)
    is_feed_S, told_S = feeds_S > feeds_before_S, place_S >= 0
    of_feed = (is_feed_S & told_S).nonzero()[:, 0]
    items = [history.feed_items[(history.feed_offsets[user_S] + feeds_S - 1)[of_feed]]]
    queries = [place_S[of_feed]]
    of_search = (~is_feed_S & has_earlier_S & told_S).nonzero()[:, 0]
    clicks = history.search_clicks.select(of_search - 1)
    items.append(clicks.values)
    queries.append(torch.repeat_interleave(place_S[of_search], clicks.lengths))
    item, query = torch.cat(items), torch.cat(queries)
    keys, counts = torch.unique((item * num + query)[item > 0], return_counts=True)
    return keys.numpy(), counts.numpy()
