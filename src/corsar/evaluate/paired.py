"""Is a difference more than chance? A randomisation test by user, and the correction for asking many times. numpy alone.

Two runs were asked the same cases. Were they equally good, it would be a toss which of them each user's cases went better
with: the test draws that toss anew for each user, all cases of a user together, and counts how often the mean difference is at
least as far from zero as the one that was found.

Shape suffixes: N cases, M comparisons, R draws, U users.

Sources
    randomisation test: Smucker, Allan and Carterette, "A comparison of statistical significance tests for information
    retrieval evaluation" (CIKM 2007), here with users in the place of queries; one is added to both counts, so that the test
    holds its level whatever the number of draws (Phipson and Smyth, 2010).
    Holm, "A simple sequentially rejective multiple test procedure" (1979).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DRAWS = 10_000
AT_ONCE = 1 << 22  # tosses held in memory at once


def user_sums(values_NM: Floats, user_N: Ints) -> Floats:
    """The sum of each user's cases, [U, M]."""
    users, owner_N = np.unique(user_N, return_inverse=True)
    return np.stack([np.bincount(owner_N, column, len(users)) for column in values_NM.T], 1)


def randomisation_test(values_NM: Floats, user_N: Ints, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Two-sided p of each column's mean being zero, [M]: the sign of each user's part is tossed `draws` times.

    Args:
        values_NM: the difference of each case, one column a comparison; all columns share the tosses.
        user_N: whose case it is.
    """
    sums_UM = user_sums(values_NM, user_N)
    found_M, slack_M = np.abs(sums_UM.sum(0)), 1e-9 * np.abs(sums_UM).sum(0)  # equal sums may be added in another order
    rng, num_users = np.random.default_rng(seed), len(sums_UM)
    far_M = np.zeros(sums_UM.shape[1], dtype=np.int64)
    size = max(1, AT_ONCE // max(1, num_users))
    for start in range(0, draws, size):
        words = rng.integers(0, 2**64, size=(min(size, draws - start), -(-num_users // 64)), dtype=np.uint64)
        heads_RU = np.unpackbits(words.view(np.uint8), axis=1, count=num_users)
        tossed_RM = 2 * (heads_RU.astype(np.float64) @ sums_UM) - sums_UM.sum(0)
        far_M += (np.abs(tossed_RM) >= found_M - slack_M).sum(0)
    return np.asarray((1 + far_M) / (1 + draws))


def holm(p_M: Floats) -> Floats:
    """The same p, corrected for their number after Holm: below 0.05, the whole family errs with a chance of 5 % at most."""
    order = np.argsort(p_M, kind="stable")
    stepped = np.maximum.accumulate(p_M[order] * np.arange(len(p_M), 0, -1)) if len(p_M) else p_M
    corrected_M = np.empty_like(p_M)
    corrected_M[order] = np.minimum(stepped, 1.0)
    return corrected_M
