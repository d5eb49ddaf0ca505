"""The first of two stages: what it chooses, and that the second one answers as if it had scored everything."""

from __future__ import annotations

import sys
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from world import NUM_ITEMS, world

import corsar
from corsar.api.answers import Question
from corsar.batch import Ragged
from corsar.index.first import Candidates, _in_turn, events_of
from corsar.index.postings import best_columns, largest_of_rows
from corsar.index.words import WordIndex
from corsar.models.counted import count_pairs
from corsar.nn.sparse import sum_rows
from corsar.serve import engine as engines
from corsar.serve.engine import Engine


@pytest.mark.parametrize("entries", [40, 4000])
def test_best_columns_are_those_of_the_whole_sum(entries: int) -> None:
    g, width = torch.Generator().manual_seed(entries), 3000
    keys = torch.randint(0, 50 * width, (entries * 5,), generator=g).unique()
    values = torch.randint(1, 4, (len(keys),), generator=g).float()
    rows, weights = torch.tensor([3, 17, 3, 40]), torch.tensor([1.0, 0.5, 2.0, 0.25])
    whole = sum_rows(keys, values, width, rows[None], weights[None], torch.arange(width)[None])[0]
    expected = [at for at in whole.sort(descending=True, stable=True).indices.tolist() if whole[at] > 0]
    for num in (1, 7, 5000):
        assert best_columns(keys, values, width, rows, weights, num).tolist() == expected[:num]
    assert best_columns(keys, values, width, rows[:0], weights[:0], 3).tolist() == []


def test_largest_of_rows_keeps_the_largest_of_each_row() -> None:
    g, width = torch.Generator().manual_seed(1), 40
    keys = torch.randint(0, 6 * width, (90,), generator=g).unique()
    values = torch.randint(1, 5, (len(keys),), generator=g).float()
    told = dict(zip(keys.tolist(), values.tolist(), strict=True))
    for most in (1, 3, 1000):
        expected = []
        for row in range(6):
            of_row = [key for key in told if key // width == row]
            expected += sorted(sorted(of_row, key=lambda key: (-told[key], key))[:most])
        kept, worth = largest_of_rows(keys, values, width, most)
        assert kept.tolist() == expected
        assert worth.tolist() == [told[key] for key in expected]


def test_lists_in_turn_are_those_of_a_plain_loop() -> None:
    g = torch.Generator().manual_seed(2)
    for lengths in ([5, 0, 9], [3, 12, 12, 1], [0, 0, 20]):
        lists = [torch.randint(0, 15, (length,), generator=g) for length in lengths]
        plain: list[int] = []
        for turn in zip_longest(*(one.tolist() for one in lists), fillvalue=0):
            plain += [row for row in dict.fromkeys(turn) if row and row not in plain]
        for num in (1, 6, 30):
            assert _in_turn(lists, num).tolist() == plain[:num]


def test_events_of_histories_stand_in_the_merged_order() -> None:
    history, _, events = world()
    found = events_of(history)
    for name in ("user_E", "item_E", "is_search_E"):
        assert torch.equal(getattr(found, name), getattr(events, name)), name


def test_candidates_come_from_neighbours_words_past_and_popularity() -> None:
    history, catalogue, events = world()
    words = WordIndex(catalogue)
    stage = Candidates(history, NUM_ITEMS, words, 8)
    popular = torch.bincount(events.item_E, minlength=NUM_ITEMS + 1)
    [nobody] = stage.candidates("recommend", [[]], None).tolist()
    assert [int(popular[row]) for row in nobody] == sorted(popular.tolist(), reverse=True)[:8]
    keys, near = count_pairs(events, NUM_ITEMS + 1, 5)
    best = int(near[keys // (NUM_ITEMS + 1) == 4].argmax())
    neighbour = int(keys[keys // (NUM_ITEMS + 1) == 4][best]) % (NUM_ITEMS + 1)
    some = stage.candidates("recommend", [[4], [0, 4]], None)
    assert {4, neighbour, nobody[0]} <= set(some[0].tolist())
    assert torch.equal(some[0], some[1])
    queries = Ragged.of([[3], []])
    found = stage.candidates("search", [[4], [4]], queries)
    assert int(words.best(queries, 1)[0, 0]) in found[0].tolist()
    assert torch.equal(found[1], some[0])
    for row in [*found.tolist(), *some.tolist()]:
        assert len(set(row)) == len(row)


def test_two_stages_with_room_for_everything_answer_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    events, items = corsar.example_logs()
    small = {"dim": 8, "id_dim": 8, "word_dim": 8, "epochs": 1, "feed_len": 4, "search_len": 2, "embedding_std": 0.3}
    model = corsar.UniSAR(**small).fit(corsar.Dataset.from_frames(events, items=items))
    exact = Engine([model.artifact])
    monkeypatch.setattr(engines, "EXACT", 5)
    whole, few = Engine([model.artifact], candidates=12), Engine([model.artifact], candidates=3)
    assert [one.about()[0]["stages"] for one in (exact, whole, few)] == [1, 2, 2]
    questions = [
        Question("recommend", "u1", k=12),
        Question("search", "u2", "red shoe", k=5),
        Question("recommend", "u3", k=4, exclude=[1, 2], exclude_seen=True),
        Question("recommend", k=3, allow=[3, 4]),
        Question("search", "u1", "blue", k=4, mix=0.5),
    ]
    for one, other, short in zip(exact.answer(questions), whole.answer(questions), few.answer(questions), strict=True):
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        assert isinstance(short, dict)
        assert [line["item_id"] for line in one["items"]] == [line["item_id"] for line in other["items"]]
        assert [line["score"] for line in one["items"]] == pytest.approx([line["score"] for line in other["items"]], abs=1e-5)
    assert len(few.answer(questions[:1])[0]["items"]) == 3  # type: ignore[index]
