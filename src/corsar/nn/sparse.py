"""A sparse matrix as two flat arrays, which an untrained model stores as its weights: sorted keys, and a value for each.

The key of an entry is `row * width + column`; `width` is the number of columns. Shape suffixes: B cases, R rows that are
summed for a case, C columns asked for.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_CELLS = 1 << 23  # cells of one chunk of intermediate results: 64 MB of float64


def row_bounds(keys: Tensor, rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Where the entries of each row start and end in `keys`; both of the shape of `rows`."""
    return torch.searchsorted(keys, rows * width), torch.searchsorted(keys, (rows + 1) * width)


def sum_rows(keys: Tensor, values: Tensor, width: int, rows_BR: Tensor, weights_BR: Tensor, columns_BC: Tensor) -> Tensor:
    """For each case the weighted sum of its rows, read at its columns: [B, C] float64.

    Few columns are looked up one by one; many are read from a dense sum, which costs the entries of the rows and `width`
    cells a case. Both add in the order of the rows; the result is rounded to float32, so that equal sums are equal numbers.
    """
    num_columns = columns_BC.shape[1]
    if len(keys) == 0 or rows_BR.shape[1] == 0:
        return torch.zeros(columns_BC.shape, dtype=torch.float64, device=columns_BC.device)
    dense = num_columns * 8 > width
    way = _dense if dense else _looked_up
    cells = width if dense else rows_BR.shape[1] * num_columns
    size = max(1, MAX_CELLS // max(1, cells))
    parts = [
        way(keys, values, width, rows, weights, columns)
        for rows, weights, columns in zip(
            *(torch.split(x, size) for x in (rows_BR, weights_BR.double(), columns_BC)), strict=True
        )
    ]
    return torch.cat(parts).float().double()


def _looked_up(keys: Tensor, values: Tensor, width: int, rows: Tensor, weights: Tensor, columns: Tensor) -> Tensor:
    case, place = weights.nonzero(as_tuple=True)  # rows that weigh nothing are not looked up
    wanted = rows[case, place][:, None] * width + columns[case]
    at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    found = torch.where(keys[at] == wanted, values[at], 0).double() * weights[case, place][:, None]
    return torch.zeros(columns.shape, dtype=torch.float64, device=columns.device).index_add_(0, case, found)


def _dense(keys: Tensor, values: Tensor, width: int, rows: Tensor, weights: Tensor, columns: Tensor) -> Tensor:
    starts, ends = row_bounds(keys, rows.reshape(-1), width)
    lengths = ends - starts
    owner = torch.repeat_interleave(lengths)
    before = lengths.cumsum(0) - lengths
    at = torch.arange(len(owner), device=rows.device) - before[owner] + starts[owner]
    cell = (owner // rows.shape[1]) * width + keys[at] % width
    sums = torch.zeros(len(rows) * width, dtype=torch.float64, device=rows.device)
    sums.index_add_(0, cell, values[at].double() * weights.reshape(-1)[owner])
    return sums.view(len(rows), width).gather(1, columns)
