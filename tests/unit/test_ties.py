"""Places under ties, and scores that have none."""

import numpy as np
import pytest

from corsar.errors import DataError
from corsar.evaluate.ties import break_ties, places, sigmoid


def test_places_count_better_and_tied() -> None:
    better, tied = places(np.array([[2.0, 3.0, 2.0, 1.0], [5.0, 1.0, 2.0, 3.0], [0.0, 1.0, 1.0, 1.0]]))
    assert better.tolist() == [1, 0, 3]
    assert tied.tolist() == [2, 1, 1]


def test_places_leave_out_what_is_not_allowed() -> None:
    scores = np.array([[2.0, 3.0, 2.0, 2.0]])
    better, tied = places(scores, np.array([[False, False, True, False]]))
    assert (better.tolist(), tied.tolist()) == ([0], [2])  # the target counts whatever is allowed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 2])
def test_places_refuse_scores_that_are_not_finite(bad: float, column: int) -> None:
    scores = np.zeros((4, 3))
    scores[1, column] = bad
    with pytest.raises(DataError, match="1 of 4 cases"):
        places(scores)


def test_target_first_puts_the_target_before_its_ties() -> None:
    better, tied = break_ties(*places(np.zeros((1, 5))), "target_first")
    assert (better.tolist(), tied.tolist()) == ([0], [1])


def test_sigmoid_saturates_into_ties() -> None:
    scores = np.array([[30.0, 40.0, 10.0, -200.0]])
    assert places(scores)[1].tolist() == [1]
    better, tied = places(sigmoid(scores))
    assert (better.tolist(), tied.tolist()) == ([0], [2])
    assert sigmoid(scores).dtype == np.float32
    np.testing.assert_allclose(sigmoid(np.array([0.0, 1.0])), [0.5, 1 / (1 + np.exp(-1))], rtol=1e-6)
