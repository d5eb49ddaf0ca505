"""Untrained models: against slow definitions, and the reference figures on Toys."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from corsar.batch import Catalogue, Ragged, SearchRecommendBatch, Sizes, TrainEvents
from corsar.config import Config, EvaluateSection, TrainSection
from corsar.models.base import Model
from corsar.models.blend import Blend
from corsar.models.bm25 import BM25
from corsar.models.counted import count_pairs, last_items
from corsar.models.covisit import CoVisit
from corsar.models.popularity import Popularity
from corsar.nn import sparse
from corsar.windows import History, make_batch

NUM_ITEMS = 12
WORDS = [[], [1, 2], [2], [3, 3, 1], [4], [], [1, 2, 3, 4], [2, 3], [5], [5, 1], [2, 4], [3], [1]]
QUERIES = [[], [1, 2], [2], [5, 5], [4, 1]]
SEQUENCES = {1: [3, 4, 3, 5, 6, 7, 8], 2: [1, 2], 3: [9], 4: [2, 6, 6, 10, 11, 12, 1, 3]}


def small() -> tuple[Catalogue, TrainEvents, Sizes]:
    user = [user for user, items in SEQUENCES.items() for _ in items]
    item = [item for items in SEQUENCES.values() for item in items]
    events = TrainEvents(torch.tensor(user), torch.tensor(item), torch.zeros(len(item), dtype=torch.bool))
    nothing = torch.zeros(NUM_ITEMS + 1, 0, dtype=torch.int64)
    return Catalogue(Ragged.of(WORDS), nothing, nothing[:6]), events, Sizes(5, NUM_ITEMS, 5)


def batch() -> SearchRecommendBatch:
    """Users 1 (feed 3 4, search {5, 6}, feed 7), 2 (search {2}) and 5 (nothing), all items as candidates."""
    history = History(
        feed_items=torch.tensor([3, 4, 7]), feed_times=torch.tensor([0, 1, 3]), feed_others=torch.tensor([0, 0, 1]),
        feed_offsets=torch.tensor([0, 0, 3, 3, 3, 3, 3]), search_queries=torch.tensor([1, 2]),
        search_clicks=Ragged.of([[5, 6], [2]]), search_times=torch.tensor([2, 0]), search_others=torch.tensor([2, 0]),
        search_offsets=torch.tensor([0, 0, 1, 2, 2, 2, 2]), queries=Ragged.of(QUERIES),
    )  # fmt: skip
    users = torch.tensor([1, 2, 5])
    return make_batch(
        "search", history, small()[0], users, history.feed_offsets[users + 1], history.search_offsets[users + 1],
        torch.arange(NUM_ITEMS + 1).expand(3, -1), torch.tensor([1, 3, 4]), feed_len=30, search_len=30,
    )  # fmt: skip


def counted(model: Model) -> Model:
    catalogue, events, _ = small()
    model.count(events, catalogue)
    return model


def slow_covisit(history: list[int]) -> list[float]:
    popularity = Counter(item for items in SEQUENCES.values() for item in items)
    pairs = Counter(
        (y, x)
        for items in SEQUENCES.values()
        for i, y in enumerate(items)
        for j, x in enumerate(items)
        if i != j and abs(i - j) <= 5
    )
    return [sum(pairs[y, x] / math.sqrt(1 + popularity[y]) for y in history) for x in range(NUM_ITEMS + 1)]


def slow_bm25(query: list[int]) -> list[float]:
    documents = [set(words) for words in WORDS]
    mean = sum(map(len, documents)) / NUM_ITEMS
    scores = []
    for document in documents:
        score = 0.0
        for word in query:
            holders = sum(word in other for other in documents)
            if word in document:
                idf = math.log(1 + (NUM_ITEMS - holders + 0.5) / (holders + 0.5))
                score += idf * 2.2 / (1 + 1.2 * (1 - 0.75 + 0.75 * len(document) / mean))
        scores.append(score)
    return scores


def close(found: Tensor, wanted: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_last_items_are_those_of_the_last_merged_entries() -> None:
    assert [sorted(set(row) - {0}) for row in last_items(batch(), 10).tolist()] == [[3, 4, 5, 6, 7], [2], []]
    assert [sorted(set(row) - {0}) for row in last_items(batch(), 2).tolist()] == [[5, 6, 7], [2], []]
    assert [sorted(set(row) - {0}) for row in last_items(batch(), 1).tolist()] == [[7], [2], []]


def test_popularity_counts_the_training_part() -> None:
    scores = counted(Popularity(Popularity.Config(), small()[2])).score(batch())
    assert scores[0].tolist() == [0, 2, 2, 3, 1, 1, 3, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("dense", [False, True])
def test_covisit_equals_a_slow_definition(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not dense:
        monkeypatch.setattr(sparse, "_dense", sparse._looked_up)
    monkeypatch.setattr(sparse, "MAX_CELLS", 20)  # several chunks
    model = counted(CoVisit(CoVisit.Config(tie_weight=0), small()[2]))
    close(model.score(batch()), [slow_covisit(items) for items in ([3, 4, 5, 6, 7], [2], [])])


def test_covisit_ranks_by_popularity_where_nothing_else_tells() -> None:
    scores = counted(CoVisit(CoVisit.Config(), small()[2])).score(batch())[2]
    assert scores.tolist() == pytest.approx([1e-6 * n for n in [0, 2, 2, 3, 1, 1, 3, 1, 1, 1, 1, 1, 1]])


def test_bm25_equals_a_slow_definition() -> None:
    model = counted(BM25(BM25.Config(), small()[2]))
    close(model.score(batch()), [slow_bm25(QUERIES[row]) for row in (1, 3, 4)])


@pytest.mark.parametrize("match", ["bm25", "all_words"])
def test_blend_adds_match_covisit_and_popularity(match: str) -> None:
    popularity = Counter(item for items in SEQUENCES.values() for item in items)
    wanted = []
    for items, query in zip([[3, 4, 5, 6, 7], [2], []], [QUERIES[1], QUERIES[3], QUERIES[4]], strict=True):
        all_words = [100.0 * (set(query) <= set(words)) for words in WORDS]
        words = slow_bm25(query) if match == "bm25" else all_words
        near = slow_covisit(items)
        wanted.append([words[x] + near[x] + 0.1 * math.log(1 + popularity[x]) for x in range(NUM_ITEMS + 1)])
    close(counted(Blend(Blend.Config(match=match), small()[2])).score(batch()), wanted)


def test_lookup_and_dense_sum_agree() -> None:
    g = torch.Generator().manual_seed(0)
    width, keys = 50, torch.randperm(30 * 50, generator=g)[:400].sort().values
    values, weights = torch.rand(400, generator=g), torch.rand(9, 7, generator=g, dtype=torch.float64)
    rows, columns = torch.randint(30, (9, 7), generator=g), torch.randint(50, (9, 20), generator=g)
    plain = sparse._looked_up(keys, values, width, rows, weights, columns)
    torch.testing.assert_close(sparse._dense(keys, values, width, rows, weights, columns), plain)
    torch.testing.assert_close(sparse.sum_rows(keys, values, width, rows, weights, columns), plain, rtol=1e-6, atol=0)


def test_equal_sums_of_many_terms_are_equal_numbers() -> None:
    keys = torch.cat([torch.arange(40) * 100 + column for column in range(3, 90)]).sort().values
    rows, weights = torch.arange(40)[None], torch.rand(1, 40, generator=torch.Generator().manual_seed(1))
    for columns in (torch.arange(3, 10)[None], torch.arange(3, 90)[None]):
        sums = sparse.sum_rows(keys, torch.ones(len(keys)), 100, rows, weights, columns)
        assert len(sums.unique()) == 1


def test_pairs_do_not_cross_users() -> None:
    events = TrainEvents(torch.tensor([1, 1, 2]), torch.tensor([4, 5, 6]), torch.zeros(3, dtype=torch.bool))
    keys, counts = count_pairs(events, 10, 5)
    assert (keys.tolist(), counts.tolist()) == ([45, 54], [1, 1])


# (model, settings) -> NDCG@10 and HR@10 of each task, in thousandths; design: Toys, test, cases with both histories
TOYS = [
    (Popularity, {}, {"recommend": (".1303", ".2442"), "search": (".1282", ".2396")}, None),
    (CoVisit, {}, {"recommend": (".2705", ".3973"), "search": (".2715", ".3994")}, None),
    (BM25, {}, {"search": (".7344", ".9146")}, (".5700", ".7550")),
    (Blend, {"match": "all_words"}, {"search": (".7980", ".9357")}, (".5488", ".6981")),
    (Blend, {}, {"search": (".8019", ".9385")}, (".6515", ".8156")),
]


@pytest.mark.real
@pytest.mark.slow
def test_untrained_rows_of_toys_come_out_to_three_decimals(shared_data: Path, tmp_path: Path) -> None:
    from corsar.data.build import build_dataset
    from corsar.data.store import open_dataset
    from corsar.evaluate.protocol import evaluate
    from corsar.sources.tables import read_tables

    folder = shared_data / "toys_search_feed"
    columns = tomllib.loads((Path(__file__).parents[2] / "configs" / "toys_columns.toml").read_text(encoding="utf-8"))
    rules = EvaluateSection(subset="both_histories", bootstrap=0)
    for events in ("events", "events_noisy"):
        tables = read_tables(
            folder / f"{events}.parquet", folder / "items.parquet", None, folder / "candidates.parquet", columns
        )
        dataset = open_dataset(build_dataset(tables, tmp_path / events, split="given"))
        for cls, settings, figures, noisy in TOYS:
            if events == "events_noisy":
                if noisy is None:
                    continue
                figures = {"search": noisy}
            model = cls(cls.Config(**settings), dataset.sizes(30, 30))
            model.count(dataset.train_events(), dataset.catalogue)
            config = Config(model={"name": model.config.name}, train=TrainSection(tasks=tuple(figures)), evaluate=rules)
            found = evaluate(model, dataset, config).metrics
            for task, (ndcg, hit_rate) in figures.items():
                for name, wanted in (("NDCG@10", ndcg), ("HR@10", hit_rate)):
                    value = found[task][name]["value"]
                    assert abs(value - float(wanted)) < 6e-5, (events, cls.__name__, settings, task, name, value)
