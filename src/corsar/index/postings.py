"""The best columns of a weighted sum of a few rows of a large sparse matrix (nn/sparse.py), without a look at the others."""

from __future__ import annotations

import torch
from torch import Tensor

from corsar.nn.sparse import row_bounds


def best_columns(keys: Tensor, values: Tensor, width: int, rows_R: Tensor, weights_R: Tensor, num: int) -> Tensor:
    """The `num` columns with the largest sums, the best first, of equal sums the smaller column first; only those above zero.

    Args:
        keys: Sorted `row * width + column`.
        rows_R: Rows to add up, each times its weight.
    """
    starts, ends = row_bounds(keys, rows_R, width)
    lengths = ends - starts
    owner = torch.repeat_interleave(torch.arange(len(rows_R)), lengths)
    at = torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner] + starts[owner]
    added = values[at].double() * weights_R.double()[owner]
    columns = keys[at] % width
    if len(columns) * 8 < width:
        columns, place = torch.unique(columns, return_inverse=True)
        sums = torch.zeros(len(columns), dtype=torch.float64).index_add_(0, place, added)
    else:  # so many entries that an array of all columns costs less than their sorting
        sums = torch.zeros(width, dtype=torch.float64).index_add_(0, columns, added)
        columns = sums.nonzero()[:, 0]
        sums = sums[columns]
    sums = sums.float()
    if len(sums) > 4 * num:
        near_enough = sums >= sums.topk(num).values[-1]
        columns, sums = columns[near_enough], sums[near_enough]
    best = sums.sort(descending=True, stable=True)
    return columns[best.indices[best.values > 0][:num]]


def largest_of_rows(keys: Tensor, values: Tensor, width: int, most: int) -> tuple[Tensor, Tensor]:
    """The matrix with no more than `most` entries in a row: the largest, of equal ones those of smaller columns."""
    _, counts = torch.unique_consecutive(keys // width, return_counts=True)
    if not (counts > most).any():
        return keys, values
    ends = counts.cumsum(0)
    kept = torch.ones(len(keys), dtype=torch.bool)
    for long in (counts > most).nonzero()[:, 0].tolist():
        start, end = int(ends[long] - counts[long]), int(ends[long])
        kept[start + values[start:end].sort(descending=True, stable=True).indices[most:]] = False
    return keys[kept], values[kept]
