"""Distinct rows embedded once: ids, words and the few that a batch needs of a large table.

Shape suffixes: R distinct rows, D channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def distinct(parts: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """The distinct rows of `parts` with row 0 first, [R], and where each row of a table of `size` stands among them, [size].

    Linear in the number of entries, where sorting would not be.
    """
    mark = torch.zeros(size, dtype=torch.bool, device=parts[0].device)
    mark[0] = True
    for part in parts:
        mark[part.reshape(-1)] = True
    rows_R = mark.nonzero().squeeze(1)
    place = torch.zeros(size, dtype=torch.int64, device=mark.device)
    place[rows_R] = torch.arange(len(rows_R), device=mark.device)
    return rows_R, place


def id_embedding(num_rows: int, dim: int) -> nn.Embedding:
    """A table with a zero row 0 in front that gets no gradient."""
    return nn.Embedding(num_rows + 1, dim, padding_idx=0)


class WordsEncoder(nn.Module):
    """tanh(linear(mean of word embeddings)): one encoder for the words of items and of queries."""

    def __init__(self, num_words: int, word_dim: int, dim: int) -> None:
        super().__init__()
        self.embedding = id_embedding(num_words, word_dim)
        self.linear = nn.Linear(word_dim, dim)

    def forward(self, values: Tensor, offsets: Tensor) -> Tensor:
        """[R, D] of R word lists given as flat values and R + 1 offsets; word 0 is left out of the mean."""
        table = self.embedding
        mean = F.embedding_bag(
            values, table.weight, offsets, mode="mean", sparse=table.sparse, include_last_offset=True, padding_idx=0
        )
        return torch.tanh(self.linear(mean))
