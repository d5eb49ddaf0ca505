"""BM25 with binary match: which candidates hold the words of the query, rare words first.

    score(x) = Σ over the query's words w that x holds of idf(w) · (k1 + 1) / (1 + k1 · (1 − b + b · len(x) / mean len))
    idf(w) = ln(1 + (N − n + ½) / (n + ½)), n of the N items holding w

An item's document is the set of its words, and its length the number of them. A word that the query repeats counts again. The
history is not read.

Paper
    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.

Differs from the paper
    A word of a document counts once, however often it stands there; ½ inside the logarithm keeps every idf positive.

Cost
    One number for each (word, item) pair; a score looks up query words · candidates of them.

Shape suffixes: B cases, R query words, C candidates.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model
from corsar.models.counted import count_words, query_words
from corsar.nn.sparse import sum_rows


class BM25(Model):
    """Scores are BM25 of query and item words."""

    class Config(Model.Config):
        """The two constants of BM25."""

        name: str = "bm25"
        k1: float = Field(1.2, ge=0)
        b: float = Field(0.75, ge=0, le=1)

    config: Config
    trained = False
    tasks = ("search",)
    word_keys: Tensor
    word_values: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("word_keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("word_values", torch.zeros(0))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Weigh the words of the catalogue's items; events are not read."""
        self.word_keys, self.word_values = count_words(catalogue, self.config.k1, self.config.b)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """BM25 of each candidate for the query, [B, C] float64."""
        words_BR = query_words(batch)
        width = batch.catalogue.num_items + 1
        return sum_rows(self.word_keys, self.word_values, width, words_BR, words_BR != 0, batch.candidates_BC)

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """BM25 with the words of the given items as the query, [B, items + 1]."""
        lengths_B = catalogue.item_words.lengths[rows_B]
        words_BR = catalogue.item_words.padded(rows_B, max(1, int(lengths_B.max())))
        columns_BI = torch.arange(catalogue.num_items + 1, device=rows_B.device).expand(len(rows_B), -1)
        return sum_rows(self.word_keys, self.word_values, catalogue.num_items + 1, words_BR, words_BR != 0, columns_BI)
