"""Metrics against slow definitions, against ir-measures, and their intervals."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, ScoredDoc, Success, nDCG

from corsar.evaluate.metrics import case_metrics, hit_rate, ndcg, reciprocal_rank, summary, user_intervals
from corsar.evaluate.ties import places


def test_metrics_equal_ir_measures_without_ties() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(100.0), (50, 1)), axis=1)
    names, values = case_metrics(*places(scores), (1, 5, 10))
    qrels = {f"q{q}": {"d0": 1} for q in range(50)}
    run = [ScoredDoc(f"q{q}", f"d{d}", float(scores[q, d])) for q in range(50) for d in range(100)]
    oracle = {f"HR@{k}": Success @ k for k in (1, 5, 10)} | {f"NDCG@{k}": nDCG @ k for k in (1, 5, 10)} | {"MRR": RR}
    found = ir_measures.calc_aggregate(list(oracle.values()), qrels, run)
    for name, measure in oracle.items():
        assert abs(values[:, names.index(name)].mean() - found[measure]) < 1e-6, name


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_metrics_are_means_over_the_places_of_a_tie(better: int, tied: int, k: int) -> None:
    where = np.arange(better + 1, better + tied + 1)
    b, t = np.array([better]), np.array([tied])
    assert hit_rate(b, t, k)[0] == pytest.approx((where <= k).mean())
    assert ndcg(b, t, k)[0] == pytest.approx(np.where(where <= k, 1 / np.log2(where + 1), 0).mean())
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
