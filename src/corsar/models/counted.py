"""What is counted once of the training part and the catalogue, and read by rules and nets alike: items, near pairs, words.

Shape suffixes: B cases, F feed slots, S search slots, K clicks of a search, L merged slots, R history items or query words,
C candidates, E events.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Model
from corsar.nn.sparse import sum_rows


def item_counts(events: TrainEvents, num_items: int) -> Tensor:
    """How often each item row stands in the training part, [items + 1] float64; 0 for the padding row."""
    counts = torch.bincount(events.item_E, minlength=num_items + 1).double()
    counts[0] = 0
    return counts


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


def count_words(catalogue: Catalogue, k1: float, b: float) -> tuple[Tensor, Tensor]:
    """Sorted keys `word * (items + 1) + item`, and what the word adds to the item's score (float32)."""
    words, num_items = catalogue.item_words, catalogue.num_items
    width = num_items + 1
    owner = torch.repeat_interleave(words.lengths)
    keys = torch.unique(words.values * width + owner)
    keys = keys[(keys >= width) & (keys % width != 0)]  # no padding word, no padding item
    word, item = keys // width, keys % width
    holders = torch.bincount(word).double()
    lengths = torch.bincount(item, minlength=width).double()
    idf = torch.log1p((num_items - holders + 0.5) / (holders + 0.5))
    mean_length = max(float(lengths.sum()) / max(1, num_items), 1e-9)
    values = idf[word] * (k1 + 1) / (1 + k1 * (1 - b + b * lengths[item] / mean_length))
    return keys, values.float()


def query_words(batch: SearchRecommendBatch) -> Tensor:
    """The words of each case's query, repeats kept, 0 behind them, [B, R]."""
    lengths_B = batch.queries.lengths[batch.query_B]
    return batch.queries.padded(batch.query_B, max(1, int(lengths_B.max())) if len(lengths_B) else 1)


class Counted(Model):
    """Base of the models that hold all of these counts."""

    counts: Tensor  # of items, [items + 1]
    pair_keys: Tensor
    pair_values: Tensor
    word_keys: Tensor
    word_values: Tensor

    def __init__(self, config: Model.Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items + 1, dtype=torch.float64))
        for name in ("pair", "word"):
            self.register_buffer(f"{name}_keys", torch.zeros(0, dtype=torch.int64))
            self.register_buffer(f"{name}_values", torch.zeros(0))

    def count_all(self, events: TrainEvents, catalogue: Catalogue, reach: int, k1: float = 1.2, b: float = 0.75) -> None:
        """Count items and near pairs of the training part, and weigh the words of the catalogue's items."""
        self.counts = item_counts(events, catalogue.num_items)
        self.pair_keys, self.pair_values = count_pairs(events, catalogue.num_items + 1, reach)
        self.word_keys, self.word_values = count_words(catalogue, k1, b)
