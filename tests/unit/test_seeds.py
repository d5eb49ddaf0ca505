"""Contrasts over seeds: their value, both parts of their interval, and how often it holds the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from corsar.errors import DataError
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.metrics import ndcg, user_intervals
from corsar.evaluate.report import PLACES
from corsar.evaluate.seeds import contrast, t975

USERS = np.repeat(np.arange(20), 3)


def run(better: np.ndarray, users: np.ndarray = USERS) -> Evaluated:
    """An evaluated run whose targets stand behind so many candidates."""
    size = len(better)
    columns = {"task": ["search"] * size, "case": np.arange(size), "user_row": users, "better": better, "tied": [1] * size}
    report = {"config": {"evaluate": {"bootstrap": 60}}, "seeds": {"bootstrap": 0}, "metrics": {"search": {}}}
    return Evaluated("run", Path("run"), report, pl.DataFrame(columns, schema=PLACES), [])


def draws(seed: int, num: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 15, len(USERS)) for _ in range(num)]


def gain(better: np.ndarray) -> np.ndarray:
    return ndcg(better, np.ones_like(better), 10)


@pytest.mark.parametrize("freedom", [1, 2, 4, 10, 11, 15, 40])
def test_student_t(freedom: int) -> None:
    assert t975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1.5e-3)


def test_contrast_is_the_mean_over_seeds_and_cases_with_both_spreads() -> None:
    own, base = draws(1, 3), draws(2, 3)
    found = contrast([(1.0, [run(one) for one in own]), (-1.0, [run(one) for one in base])], "search", "NDCG@10")
    by_seed = [float((gain(one) - gain(two)).mean()) for one, two in zip(own, base, strict=True)]
    assert found.by_seed == pytest.approx(by_seed)
    assert found.value == pytest.approx(np.mean(by_seed))
    mean = np.mean([gain(one) - gain(two) for one, two in zip(own, base, strict=True)], 0)
    low, high = user_intervals(mean[:, None], USERS, 60)
    assert (found.users_low, found.users_high) == pytest.approx((low[0], high[0]))
    half = stats.t.ppf(0.975, 2) * stats.sem(by_seed)
    assert found.high - found.value == pytest.approx(np.hypot(high[0] - found.value, half), rel=1e-3)
    assert found.value - found.low == pytest.approx(np.hypot(found.value - low[0], half), rel=1e-3)


def test_one_seed_leaves_the_users_alone_and_one_run_goes_with_every_seed() -> None:
    own, rule = draws(3, 2), draws(4, 1)
    alone = contrast([(1.0, [run(own[0])]), (-1.0, [run(rule[0])])], "search", "NDCG@10")
    assert (alone.low, alone.high) == pytest.approx((alone.users_low, alone.users_high))
    both = contrast([(1.0, [run(one) for one in own]), (-1.0, [run(rule[0])])], "search", "NDCG@10")
    assert both.by_seed == pytest.approx([float((gain(one) - gain(rule[0])).mean()) for one in own])


def test_mask_takes_its_cases_alone() -> None:
    own, base = draws(5, 2), draws(6, 2)
    mask = np.arange(len(USERS)) % 2 == 0
    parts = [(1.0, [run(one) for one in own]), (-1.0, [run(one) for one in base])]
    cut = [(weight, [run(one.places["better"].to_numpy()[mask], USERS[mask]) for one in runs]) for weight, runs in parts]
    assert contrast(parts, "search", "MRR", mask) == contrast(cut, "search", "MRR")


def test_runs_of_other_cases_are_refused() -> None:
    one = run(draws(7, 1)[0])
    other = replace(one, places=one.places.with_columns(pl.col("case") + 1))
    with pytest.raises(DataError, match="not asked the same cases"):
        contrast([(1.0, [one]), (-1.0, [other])], "search", "MRR")


def test_interval_holds_the_truth_where_users_and_seeds_both_vary() -> None:
    """Without the part of the seeds it would do so far less often than 95 times in 100."""
    rng = np.random.default_rng(8)

    def world(seeds: int, users: int) -> np.ndarray:
        score = 30 + rng.normal(0, 2, (seeds, 1)) + rng.normal(0, 5, users) + rng.normal(0, 3, (seeds, users))
        return np.rint(score).astype(np.int64).clip(min=0)

    truth = (1 / (1 + world(3000, 500))).mean()
    held = held_by_users = 0
    for _ in range(80):
        found = contrast([(1.0, [run(better, np.arange(60)) for better in world(3, 60)])], "search", "MRR")
        held += found.low <= truth <= found.high
        held_by_users += found.users_low <= truth <= found.users_high
    assert held >= 72
    assert held_by_users < 60
