"""Whether a search is about what was just watched, and what is watched about what was just searched.

*Related* are two events whose items share a category, or a query and an item that share a word. *Expected* is the same share
for other, earlier events of the user in place of the last one. *Strength* is the part s of events that copy the topic of the
last event of the other kind, as in `obs = s + (1 - s) b` and `expected = s c + (1 - s) b`, where b is how often an event that
copies nothing has that topic by chance, and c how often the last event and the earlier one share theirs: s = (obs - expected)
/ (1 - c). A chain search → feed → search on one topic may be one kind's own persistence; so only those events count for s
whose topic is that of none of the two events which the compared ones could themselves have copied.

Legend: T events that follow, O events of the other kind before them, K earlier events that each is compared with, U users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corsar.data.store import Dataset
from corsar.evaluate.transitions import Floats, Ints, Log, log_of, user_sums, with_interval

COMPARED = 32  # earlier events that the last one is compared with
COMPARED_WORDS = 8
AT_ONCE = 100_000
MOST_SEARCHES = 100_000  # whose words are looked at; evenly spread
DIRECTIONS = ("search after feed", "feed after search")


def related(dataset: Dataset, category: str | None) -> list[dict[str, Any]]:
    """Rows of share, expected, excess and, for a category, strength; each with its interval.

    Args:
        category: A category column of the items; None for words alone.
    """
    log, users = log_of(dataset.history), len(dataset.users) + 1
    rows = []
    if category is not None:
        at = [column["name"] for column in dataset.manifest["categories"]].index(category)
        topic_E = dataset.catalogue.item_categories[:, at].numpy()[log.item_E]
        for name in DIRECTIONS:
            rows.append({"direction": name, "by": category} | _by_topic(log, topic_E, name == DIRECTIONS[0], users))
    if len(dataset.words):
        rows.append({"direction": DIRECTIONS[0], "by": "words"} | _by_words(dataset, log, users))
    return rows


def _last(log: Log, of_E: npt.NDArray[np.bool_]) -> Ints:
    """For each event, the last one of `of_E` before it of the same user, -1 where there is none, [E]."""
    at = np.where(of_E, np.arange(len(of_E)), -1)
    last = np.maximum.accumulate(np.concatenate([[-1], at]))[:-1]
    return np.where((last >= 0) & (log.user_E[last] == log.user_E), last, -1)


def _shares(sums: Floats) -> dict[str, Any]:
    """Share, expected and excess of sums [U, 3]: observed, expected, cases."""
    return {
        "cases": int(sums[:, 2].sum()),
        "share": with_interval(sums, lambda s: s[..., 0] / s[..., 2]),
        "expected": with_interval(sums, lambda s: s[..., 1] / s[..., 2]),
        "excess": with_interval(sums, lambda s: (s[..., 0] - s[..., 1]) / s[..., 2]),
    }


def _by_topic(log: Log, topic_E: Ints, search_after: bool, users: int) -> dict[str, Any]:
    is_after_E = log.is_search_E == search_after
    last_other_E, last_same_E = _last(log, ~is_after_E), _last(log, is_after_E)
    seen_E = topic_E > 0
    after = np.flatnonzero(is_after_E & seen_E & (last_other_E >= 0))
    after = after[seen_E[last_other_E[after]]]

    # of an event of the other kind: the topic that it could have copied; -1 none, 0 not known
    copyable_E = np.where(last_same_E >= 0, topic_E[last_same_E], -1)
    fresh_E = ~is_after_E & seen_E & (copyable_E != 0) & (copyable_E != topic_E)

    def compared(targets: Ints, pool_E: npt.NDArray[np.bool_], is_strict: bool) -> Iterator[tuple[Ints, Floats]]:
        pool = np.flatnonzero(pool_E)
        for start in range(0, len(targets), AT_ONCE):
            some_T = targets[start : start + AT_ONCE]
            last_T = last_other_E[some_T]
            place_T = np.searchsorted(pool, last_T)
            at_TK = place_T[:, None] - 1 - np.arange(COMPARED)
            other_TK = pool[np.maximum(at_TK, 0)]
            good_TK = (at_TK >= 0) & (log.user_E[other_TK] == log.user_E[some_T][:, None])
            if is_strict:
                good_TK &= topic_E[last_T][:, None] != copyable_E[other_TK]
                good_TK &= topic_E[other_TK] != copyable_E[last_T][:, None]
            num_T = good_TK.sum(1)
            same_TK = (topic_E[some_T][:, None] == topic_E[other_TK]) & good_TK
            like_TK = (topic_E[last_T][:, None] == topic_E[other_TK]) & good_TK
            used = num_T > 0
            observed_T = topic_E[some_T] == topic_E[last_T]
            shares = [part.sum(1)[used] / num_T[used] for part in (same_TK, like_TK)]
            yield log.user_E[some_T][used], np.stack([observed_T[used], shares[0], used[used], shares[1]], 1).astype(np.float64)

    def summed(targets: Ints, pool_E: npt.NDArray[np.bool_], is_strict: bool) -> Floats:
        total = np.zeros((users, 4))
        for user, values in compared(targets, pool_E, is_strict):
            total += user_sums(user, users, *values.T)
        return total

    plain = summed(after, ~is_after_E & seen_E, False)
    strict = summed(after[fresh_E[last_other_E[after]]], fresh_E, True)
    strength = with_interval(strict, lambda s: (s[..., 0] - s[..., 1]) / (s[..., 2] - s[..., 3]))
    return _shares(plain[:, :3]) | {"strength": strength, "strength_cases": int(strict[:, 2].sum())}


def _by_words(dataset: Dataset, log: Log, users: int) -> dict[str, Any]:
    last_E = _last(log, ~log.is_search_E)
    feeds = np.flatnonzero(~log.is_search_E)
    after = np.flatnonzero(log.is_search_E & (log.query_E > 0) & (last_E >= 0))
    if len(after) > MOST_SEARCHES:
        after = after[np.linspace(0, len(after) - 1, MOST_SEARCHES).astype(np.int64)]
    at_TK = np.searchsorted(feeds, last_E[after])[:, None] - np.arange(COMPARED_WORDS + 1)  # the first is the last event itself
    other_TK = feeds[np.maximum(at_TK, 0)]
    good_TK = (at_TK >= 0) & (log.user_E[other_TK] == log.user_E[after][:, None])
    owner, place = good_TK.nonzero()
    hits_TK = np.zeros(good_TK.shape, dtype=bool)
    hits_TK[owner, place] = _share_a_word(dataset, log.query_E[after[owner]], log.item_E[other_TK[owner, place]])
    num_T = good_TK[:, 1:].sum(1)
    used = num_T > 0
    expected = hits_TK[used, 1:].sum(1) / num_T[used]
    sums = user_sums(log.user_E[after][used], users, hits_TK[used, 0], expected, np.ones(used.sum()))
    return _shares(sums)


def _share_a_word(dataset: Dataset, query_P: Ints, item_P: Ints) -> npt.NDArray[np.bool_]:
    """Whether the query and the item of each pair have a word in common."""
    pairs, number_P = np.unique(np.stack([query_P, item_P], 1), axis=0, return_inverse=True)
    wide, keys = len(dataset.words) + 1, []
    for table, rows in ((dataset.history.queries, pairs[:, 0]), (dataset.catalogue.item_words, pairs[:, 1])):
        words = table.select(torch.from_numpy(np.ascontiguousarray(rows)))
        keys.append(torch.repeat_interleave(words.lengths).numpy() * wide + words.values.numpy())
    common = np.intersect1d(*keys) // wide
    is_hit = np.zeros(len(pairs), dtype=bool)
    is_hit[common] = True
    return is_hit[number_P.ravel()]
