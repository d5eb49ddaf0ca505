"""corsar: a net that starts as the best rule nobody trains, and learns what the rule cannot know.

    score(x) = gate(case) · rule(case, x) + net(case, x)

`rule` is the sum of blend.py (BM25 + co-visits + popularity) at the start, with free weights and a small net over the same and
a few more counts: words shared with the history, categories shared with it, own returns. `net` reads one merged history of both
kinds by target attention that sees the query, over vectors of ids, words and categories; it starts near 0. The gate, 1 at the
start, sees how much is known: lengths of both histories, words of the query. The loss is a softmax over the target and its
negatives, some of which are hard: items that stood near the history, or that hold a word of the query.

Sources
    Zhou et al., "Deep Interest Network" (KDD 2018): target attention. The rules are those of blend.py.
    A training case is itself in the counts, so in training its own pairs and its own visit are taken out of them.

Cost
    The sum of blend.py, plus linear maps of candidates and events (dim^2 each), plus attention within the merged window.

Shape suffixes: B cases, F feed slots, S search slots, K clicks, L merged slots, C candidates, R distinct items, Q distinct
queries, T real positions, D channels, H items of the near past, X counts of a candidate.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from corsar.batch import Catalogue, SearchRecommendBatch, Sizes, TrainEvents
from corsar.models.base import Terms
from corsar.models.counted import Counted, last_items, query_words
from corsar.nn.attention import TargetAttention
from corsar.nn.autocorrelation import Which
from corsar.nn.dropout import Dropout
from corsar.nn.embeddings import WordsEncoder, distinct, id_embedding
from corsar.nn.layers import EncoderLayer
from corsar.nn.mixers import MixerName, packed_mixer
from corsar.nn.packing import Packing
from corsar.nn.sparse import row_bounds, sum_rows

KNOWN, CASE = 11, 5  # counts of a candidate, and things known of a case
PAST_WORDS = 8  # of each item of the near past
SMALL = 1e-3  # of the last weights of the nets at the start


class CorsarNet(Counted):
    """The bare module; `corsar train` wraps it in data, training and evaluation."""

    class Config(Counted.Config):
        """Sizes and parts of the model; each part can be switched off, to see what it is worth."""

        name: str = "corsar"
        dim: int = Field(64, ge=1)
        id_dim: int = Field(32, ge=1)
        word_dim: int = Field(32, ge=1)
        heads: int = Field(2, ge=1)
        dropout: float = Field(0.1, ge=0, lt=1)
        head: tuple[int, ...] = (128, 64)
        item_text: bool = True
        rules: bool = True  # False: the net alone
        net: bool = True  # False: the rules alone, with their weights learnt
        gate: bool = True  # False: the rules always weigh 1
        leave_out: bool = True  # take a training case out of the counts that it is in
        hard_share: float = Field(0.25, ge=0, le=1)  # of the negatives that are near misses
        history_len: int = Field(10, ge=1)  # items of the near past
        reach: int = Field(5, ge=1)  # places between two items that count as near
        popularity_weight: float = Field(0.1, ge=0)  # of the rule at the start
        mixer: MixerName | None = "attention"  # over the merged history; None: events are read as they are
        lags: Which = "exact"  # of Auto-Correlation
        lag_factor: float = Field(1.0, gt=0)

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        dim, ids, length = config.dim, config.id_dim, sizes.feed_len + sizes.search_len
        self.rule = nn.Linear(KNOWN, 1, bias=False)
        self.rule_net = _net_of([KNOWN + CASE, 32, 32, 1], 0.0)
        self.gate = nn.Linear(CASE, 1)
        self.words = WordsEncoder(sizes.num_words, config.word_dim, dim)
        self.item_id = id_embedding(sizes.num_items, ids)
        categories = sizes.category_sizes if config.item_text else ()
        self.categories = nn.ModuleList(id_embedding(size, ids) for size in categories)
        self.item_linear = nn.Linear(ids * (1 + len(categories)) + (dim if config.item_text else 0), dim)
        self.item_bias = id_embedding(sizes.num_items, 1)
        self.no_query = nn.Parameter(torch.zeros(1, dim))  # stands in the query's place for recommend
        self.kind = nn.Embedding(2, dim)
        self.age = nn.Embedding(length, dim)
        self.encoder = None
        if config.mixer is not None:
            mixer = packed_mixer(
                config.mixer, dim, config.heads, config.dropout, "zero", length, config.lags, config.lag_factor
            )
            self.encoder = EncoderLayer(mixer, dim, dim, config.dropout)
        self.interest = TargetAttention(dim)
        self.heads = nn.ModuleDict({t: _net_of([5 * dim + KNOWN + CASE, *config.head, 1], config.dropout) for t in self.tasks})
        self.drop = Dropout(config.dropout)
        self._start()

    def _start(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            for table in (self.item_id, self.words.embedding, *self.categories, self.kind, self.age):
                nn.init.normal_(table.weight, std=table.weight.shape[1] ** -0.5)
            for table in (self.item_id, self.words.embedding, *self.categories):
                table.weight[0] = 0
            nn.init.zeros_(self.item_bias.weight)
            nn.init.zeros_(self.gate.weight)
            for net in (self.rule_net, *self.heads.values()):
                nn.init.normal_([*net.parameters()][-1], std=SMALL)  # the last weights
            self.rule.weight.zero_()
            for at, weight in ((0, 1.0), (2, 1.0), (5, self.config.popularity_weight)):
                self.rule.weight[0, at] = weight

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count items and near pairs of the training part, and weigh the words of the catalogue's items."""
        self.count_all(events, catalogue, self.config.reach)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Logits of the candidates, [B, C]."""
        order_B = (batch.feed_is_real_BF.sum(1) + batch.search_is_real_BS.sum(1)).argsort(stable=True)
        return self._logits(batch.take(order_B), leave_out=False)[order_B.argsort()]

    def loss(self, batch: SearchRecommendBatch) -> Terms:
        """click: minus the log-likelihood of the target among its negatives."""
        batch = batch.take((batch.feed_is_real_BF.sum(1) + batch.search_is_real_BS.sum(1)).argsort(stable=True))
        batch = replace(batch, candidates_BC=torch.cat([batch.candidates_BC[:, :1], self._harder(batch)], 1))
        logits_BC = batch.gather(self._logits(batch, leave_out=self.config.leave_out))
        return {"click": (logits_BC.logsumexp(1) - logits_BC[:, 0]).mean()}

    def _logits(self, batch: SearchRecommendBatch, leave_out: bool) -> Tensor:
        known_BCX = self.known(batch, leave_out)
        case_BX = case_of(batch).to(known_BCX.dtype)
        small_BCX = torch.cat([torch.log1p(known_BCX.clamp(min=0)), _each(case_BX, known_BCX)], -1)
        logits_BC = torch.zeros_like(known_BCX[..., 0])
        if self.config.rules:
            logits_BC = (self.rule(known_BCX) + self.rule_net(small_BCX)).squeeze(-1)
            if self.config.gate:
                logits_BC = logits_BC * 2 * torch.sigmoid(self.gate(case_BX))
        return logits_BC + self._net(batch, small_BCX) if self.config.net else logits_BC

    def known(self, batch: SearchRecommendBatch, leave_out: bool) -> Tensor:
        """Counts of each candidate, [B, C, X], all of them 0 or more; with `leave_out` column 0 is taken out of its own."""
        counts, width, candidates_BC = self.counts, len(self.counts), batch.candidates_BC
        past_BH = last_items(batch, self.config.history_len)
        rank_BH = (past_BH != 0).flip(1).cumsum(1).flip(1) * (past_BH != 0)  # 1: the newest item
        weight_BH = torch.where(rank_BH > 0, (1 + counts[past_BH]).rsqrt(), 0.0)
        newest_BH = weight_BH * (rank_BH == 1)
        near = [self._near(past_BH, one, candidates_BC) for one in (weight_BH, newest_BH)]
        popular_BC = counts[candidates_BC]
        if leave_out:  # the case stands within reach of the newest items of its own past
            within_BH = (rank_BH > 0) & (rank_BH <= self.config.reach)
            own_BH = ((past_BH[..., None] == past_BH[:, None]) & within_BH[:, None]).sum(-1)  # of its pairs with each item
            for near_BC, one in zip(near, (weight_BH, newest_BH), strict=True):
                near_BC[:, 0] -= (one * own_BH).sum(1)
                near_BC.clamp_(min=0)
            popular_BC = popular_BC.clone()
            popular_BC[:, 0] = (popular_BC[:, 0] - 1).clamp(min=0)
        words_BR, catalogue = query_words(batch), batch.catalogue
        asked_BR = (words_BR != 0).double()
        held_BC = sum_rows(self.word_keys, torch.ones_like(self.word_values), width, words_BR, asked_BR, candidates_BC)
        past_words_BR = catalogue.item_words.padded(past_BH, PAST_WORDS).flatten(1)
        share_BR = (past_words_BR != 0) / (rank_BH > 0).sum(1, keepdim=True).clamp(min=1)
        is_same_BCH = (candidates_BC[..., None] == past_BH[:, None]) & (candidates_BC[..., None] != 0)
        known = [
            sum_rows(self.word_keys, self.word_values, width, words_BR, asked_BR, candidates_BC),
            held_BC / asked_BR.sum(1, keepdim=True).clamp(min=1),
            *near,
            near[0] * (1 + popular_BC).rsqrt(),
            torch.log1p(popular_BC),
            is_same_BCH.sum(-1),
            (is_same_BCH / rank_BH.clamp(min=1)[:, None]).amax(-1),
            *_shared_categories(catalogue.item_categories, candidates_BC, past_BH, rank_BH),
            sum_rows(self.word_keys, self.word_values, width, past_words_BR, share_BR, candidates_BC),
        ]
        return torch.stack([one.to(self.rule.weight.dtype) for one in known], -1)

    def _near(self, past_BH: Tensor, weight_BH: Tensor, candidates_BC: Tensor) -> Tensor:
        return sum_rows(self.pair_keys, self.pair_values, len(self.counts), past_BH, weight_BH, candidates_BC)

    def _net(self, batch: SearchRecommendBatch, small_BCX: Tensor) -> Tensor:
        parts = [batch.feed_items_BF, batch.search_clicks_BSK, batch.candidates_BC]
        rows_R, place = distinct(parts, self.sizes.num_items + 1)
        items_RD, queries_QD = self.item_vectors(batch, rows_R), self.words(batch.queries.values, batch.queries.offsets)
        history_TD, at = self._history(batch, items_RD, place, queries_QD)
        items_BCD = F.embedding(place[batch.candidates_BC], items_RD)
        query_BD = F.embedding(batch.query_B, queries_QD) if batch.task == "search" else self.no_query.expand(len(batch), -1)
        query_BCD = _each(query_BD, items_BCD)
        interest_BCD = self.interest(history_TD, at, items_BCD + query_BCD)
        seen = [interest_BCD, items_BCD, query_BCD, interest_BCD * items_BCD, query_BCD * items_BCD, small_BCX]
        logits_BC: Tensor = self.heads[batch.task](torch.cat(seen, -1)).squeeze(-1)
        return logits_BC + F.embedding(batch.candidates_BC, self.item_bias.weight).squeeze(-1)

    def _history(
        self, batch: SearchRecommendBatch, items_RD: Tensor, place: Tensor, queries_QD: Tensor
    ) -> tuple[Tensor, Packing]:
        """Both kinds in time order, [T, D]: an item, or a query with the mean of what was clicked."""
        clicks_BSK = batch.search_clicks_BSK
        clicks_BSD = F.embedding(place[clicks_BSK], items_RD).sum(2) / (clicks_BSK != 0).sum(-1, keepdim=True).clamp(min=1)
        search_BSD = clicks_BSD + F.embedding(batch.search_queries_BS, queries_QD) + self.kind.weight[1]
        events = torch.cat([F.embedding(place[batch.feed_items_BF], items_RD) + self.kind.weight[0], search_BSD], 1)
        is_real = torch.cat([batch.feed_is_real_BF, batch.search_is_real_BS], 1)
        slots, width = torch.cat([batch.feed_slots_BF, batch.search_slots_BS], 1), is_real.shape[1]
        slots = torch.where(is_real, slots, width)  # pads go to one slot more, which is cut off
        merged = events.new_zeros(len(batch), width + 1, events.shape[2])
        merged = merged.scatter(1, slots[..., None].expand_as(events), events)[:, :width]
        length_B1 = is_real.sum(1, keepdim=True)
        slot_L = torch.arange(width, device=slots.device)
        at = Packing(slot_L < length_B1)
        age_T = at.pack((length_B1 - 1 - slot_L).clamp(min=0)[..., None])[:, 0]
        history_TD = self.drop(at.pack(merged) + self.age(age_T))
        return (history_TD if self.encoder is None else self.encoder(history_TD, at)), at

    def item_vectors(self, batch: SearchRecommendBatch, rows_R: Tensor) -> Tensor:
        """tanh(W [id, words, categories]) of the given item rows, [R, D]; row 0 gives zeros."""
        parts = [self.item_id(rows_R)]
        if self.config.item_text:
            words, values_RC = batch.catalogue.item_words.select(rows_R), batch.catalogue.item_categories[rows_R]
            parts += [self.words(words.values, words.offsets), *(t(values_RC[:, c]) for c, t in enumerate(self.categories))]
        return torch.tanh(self.item_linear(torch.cat(parts, -1))) * (rows_R != 0).unsqueeze(1)

    def _harder(self, batch: SearchRecommendBatch) -> Tensor:
        """The negatives, a share of them exchanged for near misses, [B, C - 1]; the target is none of them.

        For recommend one is an item that stood near a drawn item of the past, for search one that holds a drawn query word.
        """
        drawn_BC, target_B1 = batch.candidates_BC[:, 1:], batch.candidates_BC[:, :1]
        num = round(self.config.hard_share * drawn_BC.shape[1])
        if not num:
            return drawn_BC
        is_search = batch.task == "search"
        from_BH = query_words(batch) if is_search else last_items(batch, self.config.history_len)
        keys = self.word_keys if is_search else self.pair_keys
        chosen_BC = torch.rand(len(batch), num, from_BH.shape[1], device=from_BH.device).masked_fill(
            (from_BH == 0)[:, None], -1.0
        )
        rows_BC = from_BH.gather(1, chosen_BC.argmax(-1))
        starts_BC, ends_BC = row_bounds(keys, rows_BC, len(self.counts))
        at_BC = starts_BC + (torch.rand(rows_BC.shape, device=rows_BC.device) * (ends_BC - starts_BC)).long()
        found_BC = keys[at_BC.clamp(max=max(0, len(keys) - 1))] % len(self.counts) if len(keys) else torch.zeros_like(at_BC)
        usable_BC = (rows_BC != 0) & (ends_BC > starts_BC) & (found_BC != target_B1) & (found_BC != 0)
        return torch.cat([torch.where(usable_BC, found_BC, drawn_BC[:, :num]), drawn_BC[:, num:]], 1)


def case_of(batch: SearchRecommendBatch) -> Tensor:
    """What is known of a case, [B, X], of the size of 1: lengths of both histories, the task, the words asked for."""
    asked_B = (query_words(batch) != 0).sum(1) if batch.task == "search" else torch.zeros_like(batch.user_B)
    feed_B, search_B = batch.feed_is_real_BF.sum(1), batch.search_is_real_BS.sum(1)
    is_search_B = torch.full_like(feed_B, batch.task == "search")
    return torch.stack([torch.log1p(x) / 4 for x in (feed_B, search_B, feed_B + search_B, asked_B)] + [is_search_B], 1)


def _net_of(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=False))  # what all candidates have says nothing


def _each(case_BX: Tensor, like_BCX: Tensor) -> Tensor:
    """The same for every candidate, [B, C, X]."""
    return case_BX[:, None].expand(-1, like_BCX.shape[1], -1)


def _shared_categories(table: Tensor, candidates_BC: Tensor, past_BH: Tensor, rank_BH: Tensor) -> list[Tensor]:
    """The share of the near past that has the candidate's category, and whether the newest has: means over columns, [B, C]."""
    own_BCA, past_BHA = table[candidates_BC], table[past_BH]
    if not table.shape[1]:
        return [torch.zeros_like(candidates_BC)] * 2
    is_same_BCH = ((own_BCA[:, :, None] == past_BHA[:, None]) & (own_BCA[:, :, None] != 0)).double().mean(-1)
    is_same_BCH = is_same_BCH * (rank_BH > 0)[:, None]
    past_B1 = (rank_BH > 0).sum(1, keepdim=True).clamp(min=1)
    return [is_same_BCH.sum(-1) / past_B1, (is_same_BCH * (rank_BH == 1)[:, None]).sum(-1)]
