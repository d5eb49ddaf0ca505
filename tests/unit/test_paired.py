"""The randomisation test against all tosses there are, its level under no difference, and Holm's correction."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from corsar.evaluate.paired import holm, randomisation_test, user_sums


def all_tosses(values: np.ndarray, user: np.ndarray) -> float:
    """p by every one of the 2 ** users tosses."""
    sums = np.array([values[user == one].sum() for one in np.unique(user)])
    tossed = np.abs(np.array(list(product((1, -1), repeat=len(sums)))) @ sums)
    return float(np.mean(tossed >= abs(sums.sum()) - 1e-12))


@pytest.mark.parametrize("seed", range(3))
def test_randomisation_test_counts_all_tosses_of_users(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, 9, 40)) * 7
    values = np.round(rng.normal(0.15, 0.6, (40, 2)), 1)  # rounded: some sums are equal
    found = randomisation_test(values, user, draws=40_000)
    for column, p in zip(values.T, found, strict=True):
        assert p == pytest.approx(all_tosses(column, user), abs=0.01)
    by_user = user_sums(values, user)
    oracle = stats.permutation_test((by_user[:, 0],), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert found[0] == pytest.approx(oracle, abs=0.01)


def test_cases_of_a_user_are_tossed_together() -> None:
    """Of one user's hundred cases no more can be said than of one case."""
    ones = np.ones((100, 1))
    assert randomisation_test(ones, np.zeros(100, dtype=np.int64)) == pytest.approx(1)
    assert randomisation_test(ones, np.arange(100), draws=999) == pytest.approx(0.001)


def test_no_difference_is_found_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (60, 400)) * rng.gamma(1, 1, (60, 1))
    p = randomisation_test(values, np.arange(60), draws=500)
    assert 0.02 < (p < 0.05).mean() < 0.09
    assert randomisation_test(np.zeros((5, 1)), np.arange(5)) == 1


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(0.1, 1, (70, 1))
    whole = randomisation_test(values, np.arange(70), draws=1000)
    monkeypatch.setattr("corsar.evaluate.paired.AT_ONCE", 70 * 9)
    assert randomisation_test(values, np.arange(70), draws=1000) == whole


def test_holm_corrects_step_by_step() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 3 * .01, max(2 * .03, 1 * .04), 2 * .03, 4 * .005
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert len(holm(np.array([]))) == 0
