"""Given candidates: each row of the table belongs to exactly one case."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from corsar.errors import DataError
from corsar.vocab import Vocab

Negatives = np.ndarray[Any, np.dtype[np.int64]]


def _keys(table: pl.DataFrame) -> list[str]:
    """Columns that say which case a row belongs to; optional ones count where they are filled."""
    optional = [name for name in ("item_id", "session_id") if name in table.columns]
    return ["user_id", "time_ms", "split", *(name for name in optional if table[name].null_count() < len(table))]


def _first(rows: pl.DataFrame) -> str:
    one = rows.row(0, named=True)
    return f"first: user {one['user_id']!r}, time {one['time_ms']}, split {one['split']!r}"


def match_candidates(table: pl.DataFrame, cases: pl.DataFrame, items: Vocab) -> dict[str, Negatives]:
    """Negatives of each split that has any: item rows [cases of that split, C], 0 where a case is not `scored`.

    Args:
        table: user_id, time_ms, split, negatives[, item_id, session_id].
        cases: case (0 … in order), user_id, time_ms, split, item_id, item (row), session_id, group (0 = alone), and
            scored: whether the case stays; a candidate row may also belong to one that does not.

    Raises:
        DataError: a row matches no case or several, two rows match one case, a case of a split that has candidates has
            none, numbers of negatives differ, a negative is unknown, or is the target or one of its session mates.
    """
    if not len(table):
        return {}
    if not table["split"].is_in(["valid", "test"]).all():
        raise DataError("candidates belong to the splits valid and test; leave out the rows of other splits")
    keys = _keys(table)
    table = table.with_columns(pl.col(key).cast(cases.schema[key]) for key in keys).with_row_index("line")
    found = table.join(cases.drop(set(cases.columns) - {*keys, "case"}), on=keys, how="left", nulls_equal=True)
    lost = found.filter(pl.col("case").is_null())
    if len(lost):
        raise DataError(f"{len(lost)} rows of candidates match no case ({_first(lost)}); use the events' ids and times")
    vague = found.filter(pl.col("line").is_duplicated())
    if len(vague):
        raise DataError(
            f"{vague['line'].n_unique()} rows of candidates match several cases ({_first(vague)}); add the column item_id"
            " or session_id to them"
        )
    twice = found.filter(pl.col("case").is_duplicated())
    if len(twice):
        raise DataError(f"{len(twice)} rows of candidates share a case ({_first(twice)}); keep one row for each case")

    matrices = {}
    for split in found["split"].unique().sort().to_list():
        here = cases.filter(pl.col("split") == split)
        both = here.join(found.select("case", "negatives"), on="case", how="left", maintain_order="left")
        missing = both.filter(pl.col("negatives").is_null() & pl.col("scored"))
        if len(missing):
            raise DataError(f"{len(missing)} of {len(here)} {split} cases have no candidates; give them for all, or none")
        if both["scored"].any():
            matrices[split] = _matrix(both, cases, split, items)
    return matrices


def _matrix(both: pl.DataFrame, cases: pl.DataFrame, split: str, items: Vocab) -> Negatives:
    filled = both.filter("scored")
    widths = filled["negatives"].list.len().unique()
    if len(widths) != 1 or widths[0] == 0:
        raise DataError(f"numbers of negatives of {split} cases differ or are 0; give each case the same number")
    flat = filled["negatives"].explode(empty_as_null=True)
    rows = items.rows(flat, missing="pad")
    if (rows == 0).any():
        some = flat.filter(rows == 0).unique(maintain_order=True)
        raise DataError(
            f"{len(some)} candidate items (first: {some[0]!r}) are neither in the items table nor in the training events;"
            " add them to the items table"
        )
    matrix = np.zeros((len(both), int(widths[0])), dtype=np.int64)
    matrix[both["scored"].to_numpy()] = rows.reshape(len(filled), -1)
    wrong = (matrix == both["item"].to_numpy()[:, None]) & both["scored"].to_numpy()[:, None]
    mates = filled.filter(pl.col("group") > 0).select("case", "group")
    if len(mates):
        members = cases.filter(pl.col("group") > 0).select("group", mate="item")
        at = np.searchsorted(both["case"].to_numpy(), mates["case"].to_numpy())
        wide = pl.DataFrame({"at": at, "group": mates["group"]}).join(members, on="group")
        hit = (matrix[wide["at"].to_numpy()] == wide["mate"].to_numpy()[:, None]).any(1)
        wrong[wide["at"].to_numpy()[hit], 0] = True
    if wrong.any():
        raise DataError(
            f"{wrong.any(1).sum()} {split} rows of candidates hold the target or an item clicked with it;"
            " take these out of the negatives"
        )
    return matrix
