"""Item co-visits: candidates that stood near the last history items in the training sequences of all users.

    score(x) = Σ over the last history items y of C(y, x) / √(1 + popularity of y)

C(y, x) counts how often x stands within `reach` places of y in a user's training sequence, whatever the kind of the two
events. Popularity times `tie_weight` breaks ties, and alone ranks for an empty history. The query is not read.

Cost
    One number for each pair of items that were near each other; a score looks up history_len · candidates of them.

Shape suffixes: B cases, F feed slots, S search slots, K clicks of a search, L merged slots, R history items, C candidates.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model
from corsar.models.popularity import item_counts
from corsar.nn.sparse import sum_rows


def count_pairs(events: TrainEvents, width: int, reach: int) -> tuple[Tensor, Tensor]:
    """Sorted keys `y * width + x` of the pairs that stand within `reach` places, and how often they do (float32)."""
    user_E, item_E = events.user_E, events.item_E
    parts = []
    for step in range(1, reach + 1):
        same = user_E[step:] == user_E[:-step]
        earlier, later = item_E[:-step][same], item_E[step:][same]
        parts += [earlier * width + later, later * width + earlier]
    keys, counts = torch.unique(torch.cat(parts), return_counts=True)
    return keys, counts.float()


def last_items(batch: SearchRecommendBatch, history_len: int) -> Tensor:
    """Items of the last `history_len` entries of the merged history, a search by its clicked items; 0 pads, [B, R]."""
    clicks_BSK = batch.search_clicks_BSK
    clicks_per = clicks_BSK.shape[2]
    feed_BFK = torch.nn.functional.pad(batch.feed_items_BF[..., None], (0, clicks_per - 1))
    items_BLK = torch.cat([feed_BFK, clicks_BSK], 1)
    is_real_BL = torch.cat([batch.feed_is_real_BF, batch.search_is_real_BS], 1)
    slots_BL = torch.cat([batch.feed_slots_BF, batch.search_slots_BS], 1)
    # place among the last entries, the oldest of them at 0; what is older or padding goes to one place more
    place_BL = slots_BL - (is_real_BL.sum(1, keepdim=True) - history_len).clamp(min=0)
    place_BL = torch.where(is_real_BL & (place_BL >= 0), place_BL, history_len)
    last = items_BLK.new_zeros(len(batch), history_len + 1, clicks_per)
    last.scatter_(1, place_BL[..., None].expand_as(items_BLK), items_BLK)
    return last[:, :history_len].flatten(1)


def covisit_scores(keys: Tensor, values: Tensor, counts: Tensor, batch: SearchRecommendBatch, history_len: int) -> Tensor:
    """The co-visit score of each candidate without the breaking of ties, [B, C] float64."""
    items_BR = last_items(batch, history_len)
    weights_BR = torch.where(items_BR != 0, (1 + counts[items_BR]).rsqrt(), 0)
    return sum_rows(keys, values, len(counts), items_BR, weights_BR, batch.candidates_BC)


def covisits(keys: Tensor, values: Tensor, counts: Tensor, rows_B: Tensor) -> Tensor:
    """How often all items stood near the given ones, [B, items + 1] float64; popularity, times 1e-6, breaks ties."""
    columns_BI = torch.arange(len(counts), device=rows_B.device).expand(len(rows_B), -1)
    near_BI = sum_rows(keys, values, len(counts), rows_B[:, None], torch.ones_like(rows_B)[:, None], columns_BI)
    return near_BI + 1e-6 * counts


class CoVisit(Model):
    """Scores are weighted co-visit counts with the last history items."""

    class Config(Model.Config):
        """What counts as near, and as recent."""

        name: str = "covisit"
        history_len: int = Field(10, ge=1)  # last history entries that are looked at
        reach: int = Field(5, ge=1)  # places between two items that count as near
        tie_weight: float = Field(1e-6, ge=0)  # weight of popularity

    config: Config
    trained = False
    counts: Tensor
    pair_keys: Tensor
    pair_values: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, dtype=torch.float64))
        self.register_buffer("pair_keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("pair_values", torch.zeros(0))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count items and near pairs of the training part."""
        self.counts = item_counts(events, catalogue.num_items)
        self.pair_keys, self.pair_values = count_pairs(events, catalogue.num_items + 1, self.config.reach)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Co-visits with the last history items, [B, C] float64."""
        near_BC = covisit_scores(self.pair_keys, self.pair_values, self.counts, batch, self.config.history_len)
        return near_BC + self.config.tie_weight * self.counts[batch.candidates_BC]

    def similar(self, rows_B: Tensor, catalogue: Catalogue) -> Tensor:
        """Co-visit counts with the given items, [B, items + 1]."""
        return covisits(self.pair_keys, self.pair_values, self.counts, rows_B)
