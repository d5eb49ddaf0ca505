"""Words, co-visits and popularity added up: the strongest rule without training.

    score(x) = match(query, x) + co-visit(history, x) + popularity_weight · ln(1 + popularity of x)

`match` is BM25, or a large bonus for items that hold all words of the query. Recommend has no query: match is 0.

Cost
    The sum of bm25.py and covisit.py.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, TrainEvents
from corsar.models.counted import Counted, covisit_scores, covisits, query_words
from corsar.nn.sparse import sum_rows


class Blend(Counted):
    """Scores are match + co-visit + popularity."""

    class Config(Counted.Config):
        """How words match, and the settings of the three parts."""

        name: str = "blend"
        match: Literal["bm25", "all_words"] = "bm25"
        match_bonus: float = Field(100.0, gt=0)  # of an item that holds all words, where match is all_words
        popularity_weight: float = Field(0.1, ge=0)
        history_len: int = Field(10, ge=1)
        reach: int = Field(5, ge=1)
        k1: float = Field(1.2, ge=0)
        b: float = Field(0.75, ge=0, le=1)

    config: Config
    trained = False

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count items and near pairs of the training part, and weigh the words of the catalogue's items."""
        self.count_all(events, catalogue, self.config.reach, self.config.k1, self.config.b)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Match + co-visit + popularity of each candidate, [B, C] float64."""
        near_BC = covisit_scores(self.pair_keys, self.pair_values, self.counts, batch, self.config.history_len)
        popularity_BC = torch.log1p(self.counts)[batch.candidates_BC]
        return self._match(batch) + near_BC + self.config.popularity_weight * popularity_BC

    def _match(self, batch: SearchRecommendBatch) -> Tensor:
        words_BR = query_words(batch)
        is_word_BR, width = words_BR != 0, len(self.counts)
        if self.config.match == "bm25":
            return sum_rows(self.word_keys, self.word_values, width, words_BR, is_word_BR, batch.candidates_BC)
        ones = torch.ones_like(self.word_values)
        held_BC = sum_rows(self.word_keys, ones, width, words_BR, is_word_BR, batch.candidates_BC)
        asked_B1 = is_word_BR.sum(1, keepdim=True)
        return torch.where((held_BC == asked_B1) & (asked_B1 > 0), self.config.match_bonus, 0.0).double()

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """Co-visit counts with the given items, [B, items + 1]."""
        return covisits(self.pair_keys, self.pair_values, self.counts, rows_B)
