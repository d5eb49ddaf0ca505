from __future__ import annotations

import random

import pytest
import torch

from corsar.batch import Catalogue, Ragged
from corsar.windows import History, make_batch, window

Entry = tuple[bool, int, list[int]]  # is a search, item or query row, clicks


def draw_users(seed: int, num_users: int = 12) -> list[list[Entry]]:
    """Merged histories of random lengths; some users have one kind only, or nothing."""
    rng = random.Random(seed)
    users = []
    for user in range(num_users):
        share = (0.5, 0.0, 1.0, 0.8)[user % 4]
        entries: list[Entry] = []
        for _ in range(rng.randrange(0, 16)):
            if rng.random() < share:
                entries.append((True, rng.randint(1, 5), [rng.randint(1, 9) for _ in range(rng.randrange(0, 4))]))
            else:
                entries.append((False, rng.randint(1, 9), []))
        users.append(entries)
    return users


def tables(users: list[list[Entry]]) -> tuple[History, Catalogue]:
    feed, feed_others, feed_offsets = [], [], [0, 0]
    queries, clicks, search_others, search_offsets = [], [], [], [0, 0]
    for entries in users:
        for at, (is_search, what, clicked) in enumerate(entries):
            searches = sum(one[0] for one in entries[:at])
            if is_search:
                queries.append(what)
                clicks.append(clicked)
                search_others.append(at - searches)
            else:
                feed.append(what)
                feed_others.append(searches)
        feed_offsets.append(len(feed))
        search_offsets.append(len(queries))
    t = torch.tensor
    history = History(
        t(feed), t(range(len(feed))), t(feed_others), t(feed_offsets),
        t(queries), Ragged.of(clicks), t(range(len(queries))), t(search_others), t(search_offsets),
        Ragged.of([[], [1], [2, 3], [4], [5, 6, 7], [8]]),
    )  # fmt: skip
    empty = torch.zeros(1, 0, dtype=torch.int64)
    return history, Catalogue(Ragged.of([[]] * 10), empty.expand(10, 0), empty.expand(len(users) + 1, 0))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("feed_len", "search_len"), [(1, 1), (3, 2), (2, 7), (40, 40)])
def test_batch_slots_equal_a_brute_force_merge(seed: int, feed_len: int, search_len: int) -> None:
    users = draw_users(seed)
    history, catalogue = tables(users)
    rng = random.Random(seed)
    cuts = [rng.randint(0, len(entries)) for entries in users]  # a case stands after so many entries of its user
    past = [entries[:cut] for entries, cut in zip(users, cuts, strict=True)]
    user = torch.arange(1, len(users) + 1)
    feed_end = history.feed_offsets[user] + torch.tensor([sum(not e[0] for e in entries) for entries in past])
    search_end = history.search_offsets[user] + torch.tensor([sum(e[0] for e in entries) for entries in past])
    batch = make_batch(
        "recommend", history, catalogue, user, feed_end, search_end, torch.ones(len(users), 2, dtype=torch.int64),
        feed_len=feed_len, search_len=search_len,
    )  # fmt: skip
    for row, entries in enumerate(past):
        feeds = [at for at, entry in enumerate(entries) if not entry[0]][-feed_len:]
        searches = [at for at, entry in enumerate(entries) if entry[0]][-search_len:]
        merged = sorted(feeds + searches)
        real, found = batch.feed_is_real_BF[row], batch.search_is_real_BS[row]
        assert real.tolist() == [True] * len(feeds) + [False] * (len(real) - len(feeds))
        assert batch.feed_items_BF[row][real].tolist() == [entries[at][1] for at in feeds]
        assert batch.feed_slots_BF[row][real].tolist() == [merged.index(at) for at in feeds]
        assert batch.search_slots_BS[row][found].tolist() == [merged.index(at) for at in searches]
        words = [batch.queries.values[batch.queries.offsets[q] : batch.queries.offsets[q + 1]].tolist()
                 for q in batch.search_queries_BS[row][found].tolist()]  # fmt: skip
        stored = history.queries
        assert words == [
            stored.values[stored.offsets[entries[at][1]] : stored.offsets[entries[at][1] + 1]].tolist() for at in searches
        ]
        clicks = batch.search_clicks_BSK[row][found].tolist()
        assert [[c for c in one if c] for one in clicks] == [entries[at][2] for at in searches]
        pads = [batch.feed_items_BF[row][~real], batch.search_queries_BS[row][~found], batch.feed_slots_BF[row][~real]]
        assert all(not pad.any() for pad in pads)


def test_window_of_an_empty_history_is_all_padding() -> None:
    at, real = window(torch.tensor([4]), torch.tensor([4]), 3)
    assert at.shape == real.shape == (1, 3)
    assert not real.any()


def test_batch_is_built_where_nobody_searched() -> None:
    history, catalogue = tables([[(False, 3, [])], []])
    user = torch.tensor([1, 2])
    batch = make_batch(
        "recommend", history, catalogue, user, history.feed_offsets[user + 1], history.search_offsets[user + 1],
        torch.ones(2, 1, dtype=torch.int64), feed_len=5, search_len=5,
    )  # fmt: skip
    assert batch.feed_items_BF.tolist() == [[3], [0]]
    assert not batch.search_is_real_BS.any()
    assert not batch.search_clicks_BSK.any()


def test_batch_has_each_query_once_with_the_empty_one_first() -> None:
    history, catalogue = tables([[(True, 2, [1]), (True, 4, [2]), (True, 2, [])]])
    one = torch.tensor([1])
    batch = make_batch(
        "search", history, catalogue, one, history.feed_offsets[one], torch.tensor([3]),
        torch.tensor([[7, 8]]), torch.tensor([4]), feed_len=5, search_len=5, align_queries_N=torch.tensor([5, 2]),
        align_items_N=torch.tensor([1]),
    )  # fmt: skip
    assert batch.queries.lengths.tolist() == [0, 2, 3, 1]
    assert batch.search_queries_BS.tolist() == [[1, 2, 1]]
    assert batch.query_B.tolist() == [2]
    assert batch.align_queries_N is not None
    assert batch.align_queries_N.tolist() == [3, 1]


def test_batch_takes_queries_that_the_history_does_not_hold() -> None:
    history, catalogue = tables([[(True, 2, [1])]])
    one = torch.tensor([1])
    batch = make_batch(
        "search", history, catalogue, one, history.feed_offsets[one], torch.tensor([1]), torch.tensor([[7]]),
        torch.tensor([0]), feed_len=2, search_len=2, queries=Ragged.of([[9, 8, 7]]),
    )  # fmt: skip
    row = int(batch.query_B[0])
    assert batch.queries.values[batch.queries.offsets[row] : batch.queries.offsets[row + 1]].tolist() == [9, 8, 7]
    assert batch.search_queries_BS.tolist() == [[1]]


def test_ragged_select_and_padded_agree_with_lists() -> None:
    lists = [[], [5, 6], [7], [], [8, 9, 10]]
    ragged = Ragged.of(lists)
    chosen = ragged.select(torch.tensor([4, 0, 1]))
    assert [chosen.values[a:b].tolist() for a, b in zip(chosen.offsets, chosen.offsets[1:], strict=False)] == [
        lists[4],
        lists[0],
        lists[1],
    ]
    assert ragged.padded(torch.tensor([[4, 0], [1, 2]]), 2).tolist() == [[[8, 9], [0, 0]], [[5, 6], [7, 0]]]
