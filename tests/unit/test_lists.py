"""What stands first, against a slow definition; and the metrics of such lists."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corsar.config import DataSection, EvaluateSection, load_config
from corsar.data.store import open_dataset
from corsar.evaluate.candidates import choose
from corsar.evaluate.lists import average_popularity, coverage, gini, list_metrics, novelty, popularity_lift
from corsar.evaluate.protocol import evaluate
from corsar.evaluate.ranking import best_columns, rank_targets
from corsar.models.covisit import CoVisit
from corsar.models.popularity import Popularity

COUNTS = np.array([0, 8, 4, 0, 4])  # of four items; row 0 is padding
TOP = np.array([[1, 2], [1, 3], [4, 0]])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 12), st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_best_columns_are_those_of_a_stable_sort(seed: int, width: int, num: int, levels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (6, width)).astype(np.float32)
    scores[0, : width // 2] = -np.inf
    assert (best_columns(scores, num) == np.argsort(-scores, axis=1, kind="stable")[:, :num]).all()


def test_list_metrics_equal_their_definitions_by_hand() -> None:
    assert coverage(TOP, 4) == 1
    assert coverage(TOP[:1], 4) == 0.5
    assert average_popularity(TOP, COUNTS) == pytest.approx((6 + 4 + 4) / 3)
    bits = [1, 2, 4, 2]  # -log2 of 8/16, 4/16, 1/16 (never seen counts as once), 4/16
    assert novelty(TOP, COUNTS) == pytest.approx(((bits[0] + bits[1]) / 2 + (bits[0] + bits[2]) / 2 + bits[3]) / 3)
    assert popularity_lift(TOP, np.array([2, 4, 2]), COUNTS) == pytest.approx((14 / 3) / 4 - 1)
    assert math.isnan(popularity_lift(TOP, np.array([3]), COUNTS))  # nothing to compare with
    assert math.isclose(gini(np.array([[1], [1]]), 4), 1)
    assert gini(np.array([[1, 2], [3, 4]]), 4) == 0
    shown = [0, 1, 2, 5]
    pairs = sum(abs(one - two) for one in shown for two in shown) / (2 * 4 * 3 * np.mean(shown))
    assert gini(np.repeat([[2], [3], [4]], [1, 2, 5], 0), 4) == pytest.approx(pairs)


def test_a_metric_without_a_value_is_left_out() -> None:
    assert list(list_metrics(TOP, np.array([1, 2, 3]), COUNTS)) == [
        "coverage@2", "novelty@2", "ARP@2", "popularity lift@2", "Gini@2",
    ]  # fmt: skip
    assert "popularity lift@2" not in list_metrics(TOP, np.array([3, 3, 3]), COUNTS)


@pytest.mark.parametrize("candidates", ["full", "sampled:9"])
@pytest.mark.parametrize("kind", [Popularity, CoVisit])
def test_top_items_equal_a_sort_of_all_scores(kind: type[Popularity | CoVisit], candidates: str, tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    model, data = kind(kind.Config(), dataset.sizes(5, 5)), DataSection(feed_len=5, search_len=5)
    model.count(dataset.train_events(), dataset.catalogue)
    num_items = dataset.catalogue.num_items
    for task in ("recommend", "search"):
        chosen = choose(dataset, task, EvaluateSection(candidates=candidates))
        cases = chosen.cases
        every = torch.arange(1, num_items + 1).expand(len(cases), -1)
        top = rank_targets(model, dataset, cases, chosen.negatives_NC, data, top=6, block=(2, 5)).top_NK
        for n in range(len(cases)):
            one = cases.take(torch.tensor([n]))
            scores = [_score(model, dataset, one, item, data) for item in every[n].tolist()]
            mates = set(one.mates.values.tolist())
            items = [item for item in every[n].tolist() if item not in mates]
            if chosen.negatives_NC is not None:
                listed = {int(one.item_N[0]), *chosen.negatives_NC[n].tolist()} - {0}
                items = [item for item in items if item in listed]
            expected = sorted(items, key=lambda item: (-scores[item - 1], item))[:6]
            assert top[n].tolist() == expected + [0] * (6 - len(expected))


def _score(model: Popularity | CoVisit, dataset: object, case: object, item: int, data: DataSection) -> float:
    from corsar.data.loader import case_batches

    batch = next(case_batches(dataset, case, torch.tensor([[item]]), data, 1))  # type: ignore[arg-type]
    return float(model.score(batch)[0, 0])


def test_report_holds_lists_and_popularity_is_the_most_popular(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    lists = {}
    for kind in (Popularity, CoVisit):
        model = kind(kind.Config(), dataset.sizes(5, 5))
        model.count(dataset.train_events(), dataset.catalogue)
        flags = {"evaluate.candidates": "full", "evaluate.ks": "[1, 3]", "evaluate.bootstrap": "0"}
        lists[kind] = evaluate(model, dataset, load_config(None, flags)).lists["recommend"]
    assert set(lists[Popularity]) == {"coverage@3", "novelty@3", "ARP@3", "popularity lift@3", "Gini@3"}
    for name, sign in (("coverage@3", -1), ("novelty@3", -1), ("ARP@3", 1), ("Gini@3", 1)):
        assert sign * lists[Popularity][name] > sign * lists[CoVisit][name], name
