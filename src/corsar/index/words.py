"""The items whose texts hold the words of a query: BM25 by its posting lists.

Shape suffixes: B queries, C candidates.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from corsar.batch import Catalogue, Ragged
from corsar.index.postings import best_columns, largest_of_rows
from corsar.models.counted import count_words
from corsar.nn.sparse import sum_rows

COMMON = 5000  # items of a word that are looked at, at most


class WordIndex:
    """BM25 over the texts of a catalogue, with the constants that are usual (k1 = 1.2, b = 0.75)."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._width = catalogue.num_items + 1
        self._keys, self._values = count_words(catalogue, k1=1.2, b=0.75)
        self._shorter = largest_of_rows(self._keys, self._values, self._width, COMMON)

    def scores(self, queries: Ragged, candidates_BC: Tensor) -> Tensor:
        """BM25 of the candidates (item rows), [B, C] float64; 0 where no word is held."""
        words_BR = queries.padded(torch.arange(len(queries)), max(1, int(queries.lengths.max())))
        return sum_rows(self._keys, self._values, self._width, words_BR, words_BR != 0, candidates_BC)

    def best(self, queries: Ragged, num: int) -> Tensor:
        """Rows of the `num` best items of each query that hold a word of it, 0 behind the last, [B, num].

        Of a word that more than `COMMON` items hold, it looks at those alone that score most for it.
        """
        found = torch.zeros(len(queries), min(num, self._width), dtype=torch.int64)
        for b, (start, end) in enumerate(pairwise(queries.offsets.tolist())):
            words = queries.values[start:end]
            best = best_columns(*self._shorter, self._width, words, torch.ones(len(words)), found.shape[1])
            found[b, : len(best)] = best
        return found
