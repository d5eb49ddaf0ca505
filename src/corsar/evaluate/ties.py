"""Places of targets among their candidates when scores tie: in expectation over random order within the tie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from corsar.errors import DataError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def check_finite(scores_BC: Floats) -> None:
    """Nothing; DataError if a score is NaN or infinite, since such a score has no place."""
    bad_B = np.atleast_1d(~np.isfinite(scores_BC).all(axis=1))
    if bad_B.any():
        raise DataError(
            f"{int(bad_B.sum())} of {len(bad_B)} cases of a batch have scores that are not finite; "
            "mend the model, or if it cannot score empty histories evaluate with --evaluate.subset both_histories."
        )


def sigmoid(scores_BC: Floats) -> Floats:
    """The logistic function in float32, as published code ranks by it: large scores become ties."""
    x = scores_BC.astype(np.float32)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def places(scores_BC: Floats, allowed_BC: Bools | None = None) -> tuple[Ints, Ints]:
    """Candidates strictly better than the target, and candidates tied with it (the target included), both [B].

    Args:
        scores_BC: column 0 is the target.
        allowed_BC: candidates that count; the target always does.
    """
    check_finite(scores_BC)
    target_B1, others = scores_BC[:, :1], scores_BC[:, 1:]
    better, tied = others > target_B1, others == target_B1
    if allowed_BC is not None:
        better &= allowed_BC[:, 1:]
        tied &= allowed_BC[:, 1:]
    return better.sum(1, dtype=np.int64), tied.sum(1, dtype=np.int64) + 1


def break_ties(better_N: Ints, tied_N: Ints, rule: str) -> tuple[Ints, Ints]:
    """Places under the rule: `expected` keeps the tie, `target_first` puts the target before all that tie with it."""
    if rule == "target_first":
        return better_N, np.ones_like(tied_N)
    return better_N, tied_N
