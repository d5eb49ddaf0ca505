"""UniSAR: one model for search and feed, by modelling how a user moves from one to the other.

Paper
    Shi et al., "UniSAR: Modeling User Transition Behaviors between Search and Recommendation", SIGIR 2024.

Differs from the paper
    Nothing that is known. Where the paper is silent (widths, norms, positions) the published code decides.

Differs from the published code
    `empty_history="nan"` gives its NaN where one side of the history is empty; here a missing side reads as zeros and takes no
    part in the transition alignment. `query_in_attention=False` gives its target attention that does not see the query; here
    the query is added to the candidate. Temperatures are kept at or above .01. Scores are logits, not sigmoids. Any number
    of category columns, user attributes and clicks a search.

Cost
    Every step is linear in the real events, but for attention (squares of the window) and the query-item alignment
    (distinct queries and items times the drawn negatives). Each distinct item and query of a batch is embedded once.

Shape suffixes: B cases, F feed slots, S search slots, C candidates, D channels, R distinct items, Q distinct queries,
T real feed positions, U real search positions, P (query, clicked item) pairs, N drawn negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from corsar.batch import SearchRecommendBatch, Sizes
from corsar.models.base import Model, Terms
from corsar.nn.attention import Empty, TargetAttention
from corsar.nn.autocorrelation import Which
from corsar.nn.contrastive import Bilinear, pair_loss, view_loss
from corsar.nn.embeddings import WordsEncoder, distinct, id_embedding
from corsar.nn.experts import TaskExperts, tower
from corsar.nn.layers import DecoderLayer, EncoderLayer, Mixer
from corsar.nn.mixers import MixerName, packed_mixer
from corsar.nn.packing import Packing, chunks_of


@dataclass
class Encoded:
    """What the model knows of a batch before it looks at candidates."""

    items_RD: Tensor
    item_place: Tensor  # item row -> its place among the R
    queries_QD: Tensor
    user_BD: Tensor
    feed: Packing
    search: Packing
    feed_event_TD: Tensor  # before positions
    search_event_UD: Tensor
    feed_to_feed_TD: Tensor
    search_to_feed_TD: Tensor
    search_to_search_UD: Tensor
    feed_to_search_UD: Tensor
    feed_TD: Tensor  # after fusion
    search_UD: Tensor


class UniSARNet(Model):
    """The bare module; `corsar train` wraps it in data, training and evaluation."""

    class Config(Model.Config):
        """Sizes and options of UniSAR; defaults are the published settings on KuaiSAR, corrected."""

        name: str = "unisar"
        dim: int = Field(64, ge=1)
        id_dim: int = Field(32, ge=1)  # item ids, user ids, attributes and categories
        word_dim: int = Field(32, ge=1)
        heads: int = Field(2, ge=1)
        dropout: float = Field(0.1, ge=0, lt=1)
        own_experts: int = Field(4, ge=1)
        shared_experts: int = Field(4, ge=1)
        expert_dim: int = Field(64, ge=1)
        tower: tuple[int, ...] = (128, 64)
        head: tuple[int, ...] = (200, 80)
        embedding_std: float | None = Field(None, gt=0)  # of ids and words at the start; None: Xavier-normal, as published
        item_text: bool = True  # captions and categories of items; False: ids alone
        item_query_temperature: float = Field(0.5, gt=0)
        item_query_weight: float = Field(0.001, ge=0)
        transition_temperature: float = Field(0.1, gt=0)
        transition_weight: float = Field(0.1, ge=0)
        query_in_attention: bool = True
        empty_history: Empty = "zero"
        mixer: MixerName = "attention"  # of every encoder and decoder
        lags: Which = "exact"  # of Auto-Correlation
        lag_factor: float = Field(1.0, gt=0)

        def mix(self, length: int) -> Mixer:
            """A sequence layer for merged rows of at most `length` events."""
            size = (self.dim, self.heads, self.dropout, self.empty_history, length)
            return packed_mixer(self.mixer, *size, self.lags, self.lag_factor)

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        dim, ids, dropout, empty = config.dim, config.id_dim, config.dropout, config.empty_history
        length = sizes.feed_len + sizes.search_len
        self.words = WordsEncoder(sizes.num_words, config.word_dim, dim)
        self.item_id = id_embedding(sizes.num_items, ids)
        categories = sizes.category_sizes if config.item_text else ()
        self.categories = nn.ModuleList(id_embedding(size, ids) for size in categories)
        self.item_linear = nn.Linear(ids * (1 + len(categories)) + (dim if config.item_text else 0), dim)
        self.user_id = id_embedding(sizes.num_users, ids)
        self.attributes = nn.ModuleList(id_embedding(size, ids) for size in sizes.attribute_sizes)
        self.user_linear = nn.Linear(ids * (1 + len(sizes.attribute_sizes)), dim)
        self.no_query = nn.Parameter(torch.empty(1, dim))  # stands in the query's place for recommend
        self.feed_position = nn.Embedding(sizes.feed_len, dim)
        self.search_position = nn.Embedding(sizes.search_len, dim)
        self.merged_position = nn.Embedding(length, dim)
        self.feed_encoder = EncoderLayer(config.mix(length), dim, dim, dropout)
        self.search_encoder = EncoderLayer(config.mix(length), dim, dim, dropout)
        self.cross_encoder = EncoderLayer(config.mix(length), dim, dim, dropout)
        self.feed_decoder = DecoderLayer(config.mix(length), config.mix(length), dim, dim, dropout)
        self.search_decoder = DecoderLayer(config.mix(length), config.mix(length), dim, dim, dropout)
        self.feed_interest, self.search_interest = TargetAttention(dim, empty), TargetAttention(dim, empty)
        self.experts = TaskExperts(self.tasks, 5 * dim, config.own_experts, config.shared_experts, config.expert_dim, dropout)
        self.towers = nn.ModuleDict({t: tower([config.expert_dim, *config.tower], dropout, False) for t in self.tasks})
        head = [config.tower[-1], *config.head, 1]
        self.heads = nn.ModuleDict({t: tower(head, dropout, True) for t in self.tasks})
        self.item_query = Bilinear(dim, config.item_query_temperature)
        self.feed_transition = Bilinear(dim, config.transition_temperature)
        self.search_transition = Bilinear(dim, config.transition_temperature)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            for table in self.modules():
                if isinstance(table, nn.Embedding) and table.padding_idx is not None:
                    if config.embedding_std:
                        nn.init.normal_(table.weight, std=config.embedding_std)
                    table.weight[table.padding_idx] = 0

    def term_weights(self) -> dict[str, float]:
        """Weights of the alignment terms; click weighs 1."""
        return {"item_query": self.config.item_query_weight, "transition": self.config.transition_weight}

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Logits of the candidates, [B, C]."""
        return self.scorer(batch, batch.candidates_BC)(batch.candidates_BC)

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives the logits of candidates [B, C] out of `items_R`; histories and items are encoded once."""
        order_B = self._by_length(batch)
        batch = batch.take(order_B)
        encoded = self.encode(replace(batch, candidates_BC=items_R))
        return lambda candidates_BC: self._logits(replace(batch, candidates_BC=candidates_BC[order_B]), encoded)[
            order_B.argsort()
        ]

    def loss(self, batch: SearchRecommendBatch) -> Terms:
        """click: binary cross-entropy over the target and its negatives; item_query and transition: the alignments."""
        batch = batch.take(self._by_length(batch))
        encoded = self.encode(batch)
        logits_BC = batch.gather(self._logits(batch, encoded))
        is_target_BC = torch.zeros_like(logits_BC)
        is_target_BC[:, 0] = 1
        terms = {"click": F.binary_cross_entropy_with_logits(logits_BC, is_target_BC)}
        if self.config.item_query_weight:
            terms["item_query"] = self._item_query_loss(batch, encoded)
        if self.config.transition_weight:
            terms["transition"] = self._transition_loss(batch, encoded)
        return terms

    def encode(self, batch: SearchRecommendBatch) -> Encoded:
        """Embeddings, the four transitions and their fusion."""
        feed_B, search_B = batch.feed_is_real_BF.sum(1), batch.search_is_real_BS.sum(1)
        rows = chunks_of(torch.maximum(feed_B, search_B))
        feed = Packing(batch.feed_is_real_BF, rows, batch.feed_slots_BF, feed_B + search_B)
        search = Packing(batch.search_is_real_BS, rows, batch.search_slots_BS, feed_B + search_B)
        parts = [batch.feed_items_BF, batch.search_clicks_BSK, batch.candidates_BC]
        if batch.align_items_N is not None:
            parts.append(batch.align_items_N)
        rows_R, item_place = distinct(parts, self.sizes.num_items + 1)
        captions = batch.catalogue.item_words.select(rows_R if self.config.item_text else rows_R[:0])
        texts = captions.then(batch.queries)  # one look-up for both, so that the gradient of the large table is made once
        captions_RD, queries_QD = self.words(texts.values, texts.offsets).split([len(captions), len(batch.queries)])
        items_RD = self.embed_items(batch, rows_R, captions_RD)
        user_BD = self.embed_users(batch)

        feed_TD = F.embedding(item_place[feed.pack(batch.feed_items_BF[..., None])[:, 0]], items_RD)
        clicks_UK = item_place[search.pack(batch.search_clicks_BSK)]
        search_UD = F.embedding(search.pack(batch.search_queries_BS[..., None])[:, 0], queries_QD)
        search_UD = search_UD + F.embedding_bag(clicks_UK, items_RD, mode="mean", padding_idx=0)
        merged_feed_TD = feed_TD + self.merged_position(feed.pack(batch.feed_slots_BF[..., None])[:, 0])
        merged_search_UD = search_UD + self.merged_position(search.pack(batch.search_slots_BS[..., None])[:, 0])
        feed_to_feed_TD = self.feed_encoder(feed_TD + self.feed_position(feed.at_T % feed.shape[1]), feed)
        search_at_U = search.at_T % search.shape[1]
        search_to_search_UD = self.search_encoder(search_UD + self.search_position(search_at_U), search)
        search_to_feed_TD, feed_to_search_UD = self.cross_encoder.between(merged_feed_TD, merged_search_UD, feed, search)
        return Encoded(
            items_RD=items_RD,
            item_place=item_place,
            queries_QD=queries_QD,
            user_BD=user_BD,
            feed=feed,
            search=search,
            feed_event_TD=feed_TD,
            search_event_UD=search_UD,
            feed_to_feed_TD=feed_to_feed_TD,
            search_to_feed_TD=search_to_feed_TD,
            search_to_search_UD=search_to_search_UD,
            feed_to_search_UD=feed_to_search_UD,
            feed_TD=self.feed_decoder(feed_to_feed_TD, search_to_feed_TD, feed, feed),
            search_UD=self.search_decoder(search_to_search_UD, feed_to_search_UD, search, search),
        )

    def embed_items(self, batch: SearchRecommendBatch, rows_R: Tensor, captions_RD: Tensor | None = None) -> Tensor:
        """tanh(W [id, words, categories]) of the given item rows, [R, D]; row 0 gives zeros."""
        parts = [self.item_id(rows_R)]
        if self.config.item_text:
            if captions_RD is None:
                words = batch.catalogue.item_words.select(rows_R)
                captions_RD = self.words(words.values, words.offsets)
            parts.append(captions_RD)
            values_RC = batch.catalogue.item_categories[rows_R]
            parts += [table(values_RC[:, c]) for c, table in enumerate(self.categories)]
        items_RD = torch.tanh(self.item_linear(torch.cat(parts, -1)))
        return items_RD * (rows_R != 0).unsqueeze(1)

    def embed_users(self, batch: SearchRecommendBatch) -> Tensor:
        """tanh(W [id, attributes]), [B, D]; an unknown user has zeros for what is not known."""
        values_BA = batch.catalogue.user_attributes[batch.user_B]
        parts = [self.user_id(batch.user_B)] + [t(values_BA[:, a]) for a, t in enumerate(self.attributes)]
        return torch.tanh(self.user_linear(torch.cat(parts, -1)))

    def interests(self, batch: SearchRecommendBatch, encoded: Encoded, items_BCD: Tensor) -> tuple[Tensor, Tensor]:
        """One interest vector a candidate from the feed side and one from the search side, each [B, C, D]."""
        target_BCD = items_BCD
        if batch.task == "search" and self.config.query_in_attention:
            target_BCD = items_BCD + F.embedding(batch.query_B, encoded.queries_QD)[:, None]
        feed_BCD = self.feed_interest(encoded.feed_TD, encoded.feed, target_BCD)
        return feed_BCD, self.search_interest(encoded.search_UD, encoded.search, target_BCD)

    @staticmethod
    def _by_length(batch: SearchRecommendBatch) -> Tensor:
        """Cases in order of the longer history, so that rows that attend together are about as long, [B]."""
        return torch.maximum(batch.feed_is_real_BF.sum(1), batch.search_is_real_BS.sum(1)).argsort(stable=True)

    def _logits(self, batch: SearchRecommendBatch, encoded: Encoded) -> Tensor:
        items_BCD = F.embedding(encoded.item_place[batch.candidates_BC], encoded.items_RD)
        feed_BCD, search_BCD = self.interests(batch, encoded, items_BCD)
        if batch.task == "search":
            query_BD = F.embedding(batch.query_B, encoded.queries_QD)
        else:
            query_BD = self.no_query.expand(len(batch), -1)
        candidate_BCI = torch.cat([feed_BCD, search_BCD, items_BCD], -1)
        mixed_BCX = self.experts(batch.task, candidate_BCI, torch.cat([encoded.user_BD, query_BD], -1))
        logits: Tensor = self.heads[batch.task](self.towers[batch.task](mixed_BCX)).squeeze(-1)
        return logits

    def _item_query_loss(self, batch: SearchRecommendBatch, encoded: Encoded) -> Tensor:
        if batch.align_items_N is None or batch.align_queries_N is None:  # nobody searches in these logs
            return encoded.items_RD.new_zeros(())
        clicks_BSK = batch.search_clicks_BSK
        is_pair_BSK = clicks_BSK != 0
        query_P = batch.search_queries_BS[..., None].expand_as(clicks_BSK)[is_pair_BSK]
        pairs = (self.item_query, encoded.queries_QD, encoded.items_RD, query_P, encoded.item_place[clicks_BSK[is_pair_BSK]])
        negative_queries_ND = F.embedding(batch.align_queries_N, encoded.queries_QD)
        negative_items_ND = F.embedding(encoded.item_place[batch.align_items_N], encoded.items_RD)
        loss_P = batch.gather(pair_loss(*pairs, negative_queries_ND, negative_items_ND))
        return loss_P.sum() / max(1, len(loss_P))

    def _transition_loss(self, batch: SearchRecommendBatch, encoded: Encoded) -> Tensor:
        feed, search = encoded.feed, encoded.search
        sides = (
            (self.feed_transition, feed, encoded.search_to_feed_TD, encoded.feed_to_feed_TD),
            (self.search_transition, search, encoded.feed_to_search_UD, encoded.search_to_search_UD),
        )
        total = encoded.user_BD.new_zeros(())
        has_both_B = (feed.length_B > 0) & (search.length_B > 0)
        for scorer, at, cross, own in sides:
            views = [at.mean(cross), at.mean(own)]
            if self.config.empty_history == "zero":  # a missing side says nothing of a transition
                views = [view[has_both_B] for view in views]
            total = total + view_loss(scorer, *map(batch.gather, views))
        return total

    item_vectors = embed_items
