"""Metrics of the lists that a model would show, beside how often it is right. numpy alone.

A list is the first k of a case's candidates, so with given or sampled candidates it is a choice among those, the target among
them; over the whole catalogue it is what a person would see. Of items with equal scores the smaller item row comes first.
Popularity is how often an item stands in the training part.

Shape suffixes: N cases, K places of a list, I items.

Sources
    coverage: Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy" (RecSys 2010), catalogue coverage.
    novelty: Zhou et al., "Solving the apparent diversity-accuracy dilemma" (PNAS 2010), self-information.
    ARP: Yin et al., "Challenging the long tail recommendation" (VLDB 2012), average recommendation popularity.
    popularity lift: Abdollahpouri et al., "The connection between popularity bias, calibration, and fairness" (RecSys 2020),
    with the targets in the place of the users' profiles.
    Gini: Shani and Gunawardana, "Evaluating recommendation systems" (Recommender Systems Handbook, 2011).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def coverage(top_NK: Ints, num_items: int) -> float:
    """The share of the catalogue that stands in at least one list."""
    return len(np.unique(top_NK[top_NK > 0])) / num_items


def novelty(top_NK: Ints, counts_I: Ints) -> float:
    """The mean of -log2 of an item's share of the training part, over each list, then over lists; higher is less known.

    An item that is nowhere in the training part counts as one that is there once.
    """
    share_I = np.maximum(counts_I, 1) / max(1, int(counts_I[1:].sum()))
    return _mean_over_lists(-np.log2(share_I), top_NK)


def average_popularity(top_NK: Ints, counts_I: Ints) -> float:
    """ARP: the mean training count of the items of a list, then over lists."""
    return _mean_over_lists(counts_I.astype(np.float64), top_NK)


def popularity_lift(top_NK: Ints, target_N: Ints, counts_I: Ints) -> float:
    """How much more popular the lists are than what people took, as a share: 0 is no bias, 1 is twice as popular.

    NaN where no target is in the training part.
    """
    of_targets = float(counts_I[target_N].mean())
    return average_popularity(top_NK, counts_I) / of_targets - 1 if of_targets else float("nan")


def gini(top_NK: Ints, num_items: int) -> float:
    """Inequality of how often items are shown: 0 where all are shown alike, 1 where one item is all that is shown."""
    shown_I = np.sort(np.bincount(top_NK[top_NK > 0], minlength=num_items + 1)[1:])
    weights_I = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float(weights_I @ shown_I / shown_I.sum() / max(1, num_items - 1))


def list_metrics(top_NK: Ints, target_N: Ints, counts_I: Ints) -> dict[str, float]:
    """All of them at k = the width of the lists, by name; one that has no value is left out.

    Args:
        top_NK: item rows, the best first, 0 behind the last; each list holds at least one item.
        target_N: item row of each case's target.
        counts_I: training count of each item row; row 0 is padding.
    """
    k, num_items = top_NK.shape[1], len(counts_I) - 1
    told = {
        f"coverage@{k}": coverage(top_NK, num_items),
        f"novelty@{k}": novelty(top_NK, counts_I),
        f"ARP@{k}": average_popularity(top_NK, counts_I),
        f"popularity lift@{k}": popularity_lift(top_NK, target_N, counts_I),
        f"Gini@{k}": gini(top_NK, num_items),
    }
    return {name: value for name, value in told.items() if np.isfinite(value)}


def _mean_over_lists(values_I: Floats, top_NK: Ints) -> float:
    real_NK = top_NK > 0
    return float(((values_I[top_NK] * real_NK).sum(1) / real_NK.sum(1)).mean())
