"""Metrics against slow definitions, against ir-measures, and their intervals."""

from typing import Any

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, R, ScoredDoc, Success, nDCG

from corsar.evaluate.metrics import (
    average_precision,
    case_metrics,
    hit_rate,
    ndcg,
    reciprocal_rank,
    summary,
    user_intervals,
)
from corsar.evaluate.ties import places

ORACLE: dict[str, Any] = {"HR": Success, "NDCG": nDCG, "Recall": R, "MAP": AP}


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_ir_measures_without_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases, width, ks = 50, (100, 30, 12, 7, 250)[seed], (1, 3, 5, 10, 20)
    scores = rng.permuted(np.tile(np.arange(float(width)), (cases, 1)), axis=1) / 7 - 3
    names, values = case_metrics(*places(scores), ks)
    qrels = {f"q{q}": {"d0": 1} for q in range(cases)}
    run = [ScoredDoc(f"q{q}", f"d{d}", float(scores[q, d])) for q in range(cases) for d in range(width)]
    oracle = {f"{name}@{k}": measure @ k for name, measure in ORACLE.items() for k in ks} | {"MRR": RR}
    assert sorted(names) == sorted(oracle)
    of_case = {(one.query_id, one.measure): one.value for one in ir_measures.iter_calc(oracle.values(), qrels, run)}
    for name, measure in oracle.items():
        expected = [of_case[f"q{q}", measure] for q in range(cases)]
        assert np.abs(values[:, names.index(name)] - expected).max() < 1e-6, name


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_metrics_are_means_over_the_places_of_a_tie(better: int, tied: int, k: int) -> None:
    where = np.arange(better + 1, better + tied + 1)
    b, t = np.array([better]), np.array([tied])
    assert hit_rate(b, t, k)[0] == pytest.approx((where <= k).mean())
    assert ndcg(b, t, k)[0] == pytest.approx(np.where(where <= k, 1 / np.log2(where + 1), 0).mean())
    assert average_precision(b, t, k)[0] == pytest.approx(np.where(where <= k, 1 / where, 0).mean())
    assert reciprocal_rank(b, t)[0] == pytest.approx((1 / where).mean())


def test_constant_scores_are_chance_and_perfect_ones_are_1() -> None:
    names, chance = case_metrics(*places(np.zeros((3, 100))), (1, 5, 10))
    assert chance[:, names.index("HR@10")] == pytest.approx(0.1)
    assert chance[:, names.index("NDCG@10")] == pytest.approx(0.0454, abs=5e-5)
    _, perfect = case_metrics(*places(np.eye(1, 100).repeat(3, 0)), (1, 5, 10))
    assert (perfect == 1).all()


def test_intervals_resample_users_not_cases() -> None:
    rng = np.random.default_rng(0)
    of_user = rng.normal(size=200)
    user = np.repeat(np.arange(200), 25)  # the cases of a user are all alike, so they tell no more than one of them does
    low, high = user_intervals(of_user[user][:, None], user, 1000)
    alone_low, alone_high = user_intervals(of_user[:, None], np.arange(200), 1000)
    assert high - low == pytest.approx(alone_high - alone_low)
    assert (high - low)[0] == pytest.approx(2 * 1.96 * of_user.std() / 200**0.5, rel=0.15)
    assert low[0] < of_user.mean() < high[0]


def test_intervals_weigh_users_by_their_cases() -> None:
    values, user = np.array([0.0, 1.0, 1.0, 1.0])[:, None], np.array([7, 9, 9, 9])
    low, high = user_intervals(values, user, 500)
    assert (low[0], high[0]) == (0.0, 1.0)
    again = user_intervals(values, user, 500)
    assert (again[0] == low).all()
    assert (again[1] == high).all()


def test_summary_has_no_interval_without_resamples_and_is_empty_without_cases() -> None:
    one, none = np.array([0]), np.array([], dtype=np.int64)
    assert summary(one, one + 1, one, (10,), 0)["HR@10"] == {"value": 1.0}
    assert summary(one, one + 1, one, (10,), 10)["MRR"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert summary(none, none, none, (10,), 10) == {}
