"""Metrics from places, one value a case, and their intervals by resampling users. numpy alone.

A place is (better, tied): how many candidates are strictly better than the target, and how many tie with it, itself included.
Each metric is its expectation over random order within the tie, so a constant model scores exactly as chance. A case has one
target, so Recall@k equals HR@k, and MAP@k equals MRR cut at k; both are named still, since tables elsewhere have them.

Shape suffixes: N cases, M metrics, R resamplings, U users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RESAMPLED_AT_ONCE = 1 << 22  # draws held in memory at once


def hit_rate(better_N: Ints, tied_N: Ints, k: int) -> Floats:
    """HR@k: the probability that the target is among the first k."""
    return np.clip((k - better_N) / tied_N, 0.0, 1.0)


def ndcg(better_N: Ints, tied_N: Ints, k: int) -> Floats:
    """NDCG@k with one relevant candidate: the mean of 1 / log2(place + 1) over the tie, 0 beyond place k."""
    gains = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    first, last = np.minimum(better_N, k), np.minimum(better_N + tied_N, k)
    return np.asarray((gains[last] - gains[first]) / tied_N)


def reciprocal_rank(better_N: Ints, tied_N: Ints) -> Floats:
    """MRR: the mean of 1 / place over the tie."""
    most = int((better_N + tied_N).max(initial=0))
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, most + 1))])
    return np.asarray((sums[better_N + tied_N] - sums[better_N]) / tied_N)


def average_precision(better_N: Ints, tied_N: Ints, k: int) -> Floats:
    """MAP@k with one relevant candidate: the mean of 1 / place over the tie, 0 beyond place k."""
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, k + 1))])
    first, last = np.minimum(better_N, k), np.minimum(better_N + tied_N, k)
    return np.asarray((sums[last] - sums[first]) / tied_N)


CUT: dict[str, Callable[[Ints, Ints, int], Floats]] = {
    "HR": hit_rate,
    "NDCG": ndcg,
    "Recall": hit_rate,
    "MAP": average_precision,
}


def case_metric(name: str, better_N: Ints, tied_N: Ints) -> Floats:
    """One metric by its name in a report ("NDCG@10", "MRR"), its value for each case, [N]."""
    kind, _, k = name.partition("@")
    return CUT[kind](better_N, tied_N, int(k)) if k else reciprocal_rank(better_N, tied_N)


def case_metrics(better_N: Ints, tied_N: Ints, ks: Sequence[int]) -> tuple[list[str], Floats]:
    """Names of the metrics, and their value for each case, [N, M]: HR, NDCG, Recall and MAP at each k, then MRR."""
    names = [f"{kind}@{k}" for kind in CUT for k in dict.fromkeys(ks)] + ["MRR"]
    return names, np.stack([case_metric(name, better_N, tied_N) for name in names], 1)


def user_intervals(values_NM: Floats, user_N: Ints, resamples: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Low and high end of the 95 % interval of each metric's mean over cases, both [M]; users are resampled.

    A resampling draws as many users as there are, with repeats; each brings all its cases. NaN where `resamples` is 0.
    """
    num_metrics = values_NM.shape[1]
    if resamples == 0 or len(values_NM) == 0:
        return np.full(num_metrics, np.nan), np.full(num_metrics, np.nan)
    _, owner_N, cases_U = np.unique(user_N, return_inverse=True, return_counts=True)
    num_users = len(cases_U)
    sums_UM = np.stack([np.bincount(owner_N, column, num_users) for column in values_NM.T], 1)
    totals = np.concatenate([sums_UM, cases_U[:, None]], 1)
    rng = np.random.default_rng(seed)
    parts = []
    size = max(1, RESAMPLED_AT_ONCE // num_users)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn_RU = rng.integers(num_users, size=(rows, num_users)) + np.arange(rows)[:, None] * num_users
        times_RU = np.bincount(drawn_RU.ravel(), minlength=rows * num_users).reshape(rows, num_users)
        parts.append(times_RU.astype(np.float64) @ totals)
    all_RM = np.concatenate(parts)
    means_RM = all_RM[:, :-1] / all_RM[:, -1:]
    low, high = np.percentile(means_RM, [2.5, 97.5], axis=0)
    return low, high


def summary(
    better_N: Ints, tied_N: Ints, user_N: Ints, ks: Sequence[int], resamples: int, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Each metric's mean over the cases with its interval: {name: {"value", "low", "high"}}; no interval for 0 resamples."""
    if len(better_N) == 0:
        return {}
    names, values_NM = case_metrics(better_N, tied_N, ks)
    means, (low, high) = values_NM.mean(0), user_intervals(values_NM, user_N, resamples, seed)
    told = {name: {"value": float(means[m])} for m, name in enumerate(names)}
    if resamples:
        for m, name in enumerate(names):
            told[name] |= {"low": float(low[m]), "high": float(high[m])}
    return told
