"""KuaiSAR's raw rows, told whether their values can be what they should be, as they are read.

A value that can mean nothing (a word for an id, a time in seconds, a list without brackets) stops the reading: the file is not
what kuaisar.github.io publishes. An empty value does not: the reader rejects such rows, or does without, and counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from corsar.errors import DataError
from corsar.sources.files import Scan, read_blocks
from corsar.sources.findings import find
from corsar.sources.values import doubtful, empty, faults

KINDS = {
    "user_id": "id", "item_id": "id", "user_follow_id": "id", "search_session_id": "id", "author_id": "id",
    "timestamp": "time", "search_session_timestamp": "time", "keyword": "list", "caption": "list",
    "click": "flag", "click_cnt": "count", "onehot_feat1": "count", "onehot_feat2": "count",
    "search_active_level": "count", "rec_active_level": "count",
}  # fmt: skip
NEEDED = ("user_id", "item_id", "timestamp", "search_session_timestamp", "search_session_id", "click")  # else a row is rejected
MOST_EMPTY = 0.5  # of a column that is needed
REMEDY = "correct it, or fetch the file again from kuaisar.github.io"


def sound_blocks(path: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The blocks of `read_blocks`, each once its values are found sound or empty.

    Raises:
        DataError: naming file, column, line and value of the first that is neither, or a column that is mostly empty.
    """
    kinds = {column: KINDS[column] for column in columns if column in KINDS}
    rows, lost = 0, Counter[str]()
    for block in read_blocks(path, columns):
        scan = Scan(path.name, block.lazy(), block.columns)
        doubts = doubtful(scan, kinds)
        for one in find(
            scan, faults({column: kinds[column] for column, is_sound in doubts.items() if not is_sound}), "line", rows + 2
        ):
            raise DataError(f"{one.sentence()}; {REMEDY}.")
        for column in set(doubts) & set(NEEDED):
            lost[column] += int(block.select(empty(column).sum()).item())
        rows += len(block)
        yield block
    for column, count in lost.most_common(1):
        if count > MOST_EMPTY * rows:
            raise DataError(f"{path.name}: column '{column}' is empty in {count} of {rows} rows; {REMEDY}.")
