"""Which part of the data an entry belongs to: train, valid or test. In no split does a user go back in time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from corsar.errors import DataError
from corsar.vocab import Rows

SplitName = Literal["given", "leave_last", "time", "last_fraction"]
RULES: dict[str, str] = {
    "given": "the column split of the events",
    "leave_last": "the last clicked entry of each user is test, the second last is valid, what is before is train",
    "time": "the last test_ms of the log are test for all users, the valid_ms before them are valid",
    "last_fraction": "the last 20 % of each user's clicked entries are test, the 10 % before them valid",
}


def _by_position(user_E: Rows, has_click_E: Rows, split: str, valid: bool) -> Rows:
    """Splits by the number of clicked entries that still follow; entries without a click go with the next earlier one."""
    if not len(user_E):
        return np.zeros(0, dtype=np.int64)
    num_U = np.bincount(user_E, weights=has_click_E).astype(np.int64)
    before_U = np.concatenate([[0], np.cumsum(num_U)])[:-1]
    place_E = np.cumsum(has_click_E) - before_U[user_E]  # 1 for the first clicked entry
    if split == "leave_last":
        num_test_U = np.minimum(num_U, 1)
        num_held_U = np.minimum(num_U, 2)
    else:
        num_test_U, num_held_U = num_U * 2 // 10, num_U * 3 // 10
    if not valid:
        num_held_U = num_test_U
    is_test_E = place_E > (num_U - num_test_U)[user_E]
    is_held_E = place_E > (num_U - num_held_U)[user_E]
    split_E: Rows = is_held_E.astype(np.int64) + is_test_E
    return split_E


def assign_splits(
    user_E: Rows,
    time_E: Rows,
    has_click_E: Rows,
    given_E: Rows | None,
    *,
    split: SplitName,
    clock: str,
    valid_ms: int | None,
    test_ms: int | None,
    valid: bool = True,
    last_ms: int | None = None,
) -> tuple[Rows, dict[str, Any]]:
    """Split of each entry (0 train, 1 valid, 2 test), and the parameters to be written into the manifest.

    Args:
        user_E: user of each entry; entries are sorted by user, then time, then place in the file.
        given_E: the split that the events carry, for `given`.
        valid_ms, test_ms: lengths of the held-out spans at the end of the log, for `time`.
        valid: whether `leave_last` and `last_fraction` hold out a valid part; else all before the test part is train.
        last_ms: the end of the log, where the entries are some users' only.
    """
    if split not in RULES:
        raise DataError(f"unknown split '{split}'; choose one of {', '.join(RULES)}")
    params: dict[str, Any] = {"name": split, "rule": RULES[split]}
    if split != "time" and (valid_ms is not None or test_ms is not None):
        raise DataError(f"split '{split}' takes no held-out days; leave them out, or choose the split 'time'")
    if not valid and split in ("given", "time"):
        raise DataError(f"split '{split}' says itself what is valid; leave that out of it, or choose 'leave_last'")
    if split == "given":
        if given_E is None:
            raise DataError("split 'given' needs a column 'split' in the events; add it or choose the split 'leave_last'")
        split_E = given_E
        order = np.lexsort((split_E, time_E, user_E))
        back = (np.diff(split_E[order]) < 0) & (np.diff(user_E[order]) == 0)
        if back.any():
            raise DataError(
                f"{len(np.unique(user_E[order][1:][back]))} users have training events after held-out ones;"
                " give each user's events splits in the order train, valid, test"
            )
    elif split == "time":
        if clock != "utc":
            raise DataError("the times are positions, not dates; choose the split 'leave_last' instead of 'time'")
        if not test_ms or test_ms < 0 or (valid_ms or 0) < 0:
            raise DataError("split 'time' needs the held-out spans in days; set test_days above 0 and valid_days")
        last = last_ms if last_ms is not None else int(time_E.max()) if len(time_E) else 0
        test_from = last - test_ms + 1
        valid_from = test_from - (valid_ms or 0)
        split_E = (time_E >= valid_from).astype(np.int64) + (time_E >= test_from)
        params |= {"valid_ms": valid_ms or 0, "test_ms": test_ms}
        params |= {"valid_from_ms": valid_from, "test_from_ms": test_from}
    else:
        split_E = _by_position(user_E, has_click_E, split, valid)
        params |= {} if valid else {"valid": False}
    return split_E, params
