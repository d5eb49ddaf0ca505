"""corsar's own model: it starts as the rule, leaves a case out of its own counts, and draws near misses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from corsar.batch import Catalogue, Ragged, SearchRecommendBatch, Sizes, Task, TrainEvents
from corsar.models.blend import Blend
from corsar.models.corsar import CorsarNet
from corsar.windows import History, make_batch

NUM_ITEMS = 12
WORDS = [[], [1, 2], [2], [3, 3, 1], [4], [], [1, 2, 3, 4], [2, 3], [5], [5, 1], [2, 4], [3], [1]]
FEEDS = {1: [3, 4, 3, 5, 6, 7, 8], 2: [1, 2, 3, 4], 3: [9, 8, 7], 4: [2, 6, 6, 10, 11, 12, 1, 3]}
NOTHING = torch.zeros(NUM_ITEMS + 1, 0, dtype=torch.int64)
SIZES = Sizes(4, NUM_ITEMS, 5, feed_len=8, search_len=4)


def catalogue() -> Catalogue:
    categories = torch.arange(NUM_ITEMS + 1)[:, None] % 3
    return Catalogue(Ragged.of(WORDS), categories, NOTHING[:5])


def events(feeds: dict[int, list[int]]) -> TrainEvents:
    user = [user for user, items in feeds.items() for _ in items]
    item = [item for items in feeds.values() for item in items]
    return TrainEvents(torch.tensor(user), torch.tensor(item), torch.zeros(len(item), dtype=torch.bool))


def batch(candidates: list[list[int]], task: Task = "recommend", less: int = 1) -> SearchRecommendBatch:
    """Users 1 to 4, all but the last `less` of their feed events before them; the query of a search holds words 1 and 2."""
    lengths = torch.tensor([0, *map(len, FEEDS.values())])
    ends = lengths.cumsum(0)
    history = History(
        feed_items=torch.tensor([item for items in FEEDS.values() for item in items]),
        feed_times=torch.arange(int(ends[-1])), feed_others=torch.zeros(int(ends[-1]), dtype=torch.int64),
        feed_offsets=torch.nn.functional.pad(ends, (1, 0)), search_queries=torch.zeros(0, dtype=torch.int64),
        search_clicks=Ragged.of([]), search_times=torch.zeros(0, dtype=torch.int64),
        search_others=torch.zeros(0, dtype=torch.int64), search_offsets=torch.zeros(6, dtype=torch.int64),
        queries=Ragged.of([[], [1, 2]]),
    )  # fmt: skip
    users = torch.tensor([1, 2, 3, 4])
    query = torch.ones(4, dtype=torch.int64) if task == "search" else None
    told = (task, history, catalogue(), users, history.feed_offsets[users + 1] - less, history.search_offsets[users + 1])
    return make_batch(*told, torch.tensor(candidates), query, feed_len=8, search_len=4)


def model(feeds: dict[int, list[int]] = FEEDS, **options: Any) -> CorsarNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = CorsarNet(CorsarNet.Config(dim=8, id_dim=4, word_dim=4, heads=1, head=(8,), dropout=0.0, **options), SIZES)
    net.count(events(feeds), catalogue())
    return net


EVERY = [list(range(1, NUM_ITEMS + 1))] * 4


@pytest.mark.parametrize("task", ["recommend", "search"])
def test_before_training_it_is_the_blend(task: Task) -> None:
    rule = Blend(Blend.Config(), SIZES)
    rule.count(events(FEEDS), catalogue())
    asked = batch(EVERY, task)
    torch.testing.assert_close(model().eval().score(asked), rule.score(asked).float(), atol=0.02, rtol=0.0)


def test_a_training_case_is_taken_out_of_the_counts_that_it_is_in() -> None:
    targets = [items[-1] for items in FEEDS.values()]
    for user, target in zip(FEEDS, targets, strict=True):
        without = {u: items[:-1] if u == user else items for u, items in FEEDS.items()}
        asked = batch([[target]] * 4)
        inside = model().known(asked, leave_out=True)[user - 1, 0]
        outside = model(without).known(asked, leave_out=False)[user - 1, 0]
        torch.testing.assert_close(inside, outside, atol=1e-6, rtol=1e-6)
    seen = model().known(batch([[target] for target in targets]), leave_out=False)
    left_out = model().known(batch([[target] for target in targets]), leave_out=True)
    assert (seen[:, 0, 2] > left_out[:, 0, 2]).all()  # the test above could fail


def test_other_candidates_keep_their_counts() -> None:
    asked = batch(EVERY)
    torch.testing.assert_close(model().known(asked, True)[:, 1:], model().known(asked, False)[:, 1:])


@pytest.mark.parametrize("task", ["recommend", "search"])
def test_near_misses_stood_near_the_past_or_hold_a_word_and_are_not_the_target(task: Task) -> None:
    net = model(hard_share=0.5)
    targets = [items[-1] for items in FEEDS.values()]
    asked = batch([[target, *[0] * 8] for target in targets], task)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = torch.cat([net._harder(asked) for _ in range(20)], 1)
    assert (drawn != torch.tensor(targets)[:, None]).all()
    for user, row in enumerate(drawn.view(4, 20, 8).tolist()):
        for one in row:
            assert one[4:] == [0] * 4  # the other half is as it was drawn
        past = FEEDS[user + 1][:-1]
        near = {
            FEEDS[u][j] for u in FEEDS for i in range(len(FEEDS[u])) for j in range(len(FEEDS[u]))
            if FEEDS[u][i] in past and 0 < abs(i - j) <= 5
        }  # fmt: skip
        holders = {item for item, words in enumerate(WORDS) if {1, 2} & set(words)}
        found = {item for one in row for item in one[:4]} - {0}
        assert found
        assert found <= (holders if task == "search" else near)


def test_parts_can_be_switched_off() -> None:
    asked = batch(EVERY, "search")
    whole, rules, net = (model(**told).eval().score(asked) for told in ({}, {"net": False}, {"rules": False}))
    torch.testing.assert_close(whole, rules + net, atol=1e-5, rtol=1e-5)
    assert net.abs().max() > 0
    longer = model(gate=True)
    torch.nn.init.constant_(longer.gate.weight, 1.0)
    assert (longer.eval().score(asked) - model(gate=False).eval().score(asked)).abs().max() > 0.1


def test_the_loss_is_a_softmax_over_the_target_and_its_negatives() -> None:
    net = model(hard_share=0.0, leave_out=False).eval()
    asked = batch([[1, 2, 3, 4]] * 4)
    expected = torch.nn.functional.cross_entropy(net.score(asked), torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(net.loss(dataclasses.replace(asked))["click"], expected)
