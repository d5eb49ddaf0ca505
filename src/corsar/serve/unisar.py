"""UniSAR while it is served: the same scores as `UniSARNet.score`, sooner (equal to rounding, tested).

Its weights stay as they are, so that the vectors of all items are made once and kept. Each question is read alone: its events
have no padding, and each attention is one call. What is the same for all candidates is made once a question, and what the
experts make of a history is made before the candidates weigh it: their map of a weighed sum is the weighed sum of their map.

Memory: four bytes a channel and item, 172 MB for 673,415 items of 64 channels.

Shape suffixes: B questions, L events of one kind, M events of both, D channels, C candidates, H heads, E channels a head,
X outputs of all experts and gates, W weights over events of both kinds and channels of an item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.api.engine import question_batch, stored_people
from corsar.artifact import Artifact
from corsar.batch import SearchRecommendBatch
from corsar.models.unisar import UniSARNet
from corsar.nn.attention import MultiHeadAttention
from corsar.nn.experts import TaskExperts
from corsar.nn.layers import DecoderLayer, EncoderLayer, FeedForward, Mixer

AT_ONCE = 1 << 14  # items whose vectors are made at once


def served(artifact: Artifact) -> Artifact:
    """The same artifact with the twin that is served in the place of its model, where there is one for it."""
    model = artifact.model
    if type(model) is not UniSARNet or model.config.mixer != "attention" or model.config.empty_history != "zero":
        return artifact
    nobody = stored_people(artifact, torch.zeros(1, dtype=torch.int64))
    return replace(artifact, model=ServedUniSAR.of(model, question_batch(artifact, "recommend", nobody, None)))


class _Case(NamedTuple):
    """What one question has ready for its candidates."""

    keys_DM: Tensor
    bias_M: Tensor  # of the query
    feeds: int  # events of the feed, the first among the M
    maps_WX: Tensor  # from weights over events, and the item, to experts and gates
    bias_X: Tensor


class ServedUniSAR(UniSARNet):
    """A twin of a model that shares its weights; whoever changes those makes another twin."""

    items_ID: Tensor
    maps: dict[str, tuple[Tensor, Tensor]]  # of each task: all experts and gates, [inputs, X], and their bias, [X]

    @classmethod
    def of(cls, model: UniSARNet, batch: SearchRecommendBatch) -> ServedUniSAR:
        """The twin.

        Args:
            batch: any of the catalogue.
        """
        twin = cls.__new__(cls)
        twin.__dict__.update(model.__dict__)
        rows_I = torch.arange(model.sizes.num_items + 1)
        with torch.inference_mode():
            twin.items_ID = torch.cat([model.embed_items(batch, some) for some in torch.split(rows_I, AT_ONCE)])
            twin.maps = {task: _all_maps(model.experts, task) for task in model.tasks}
        return twin

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives the logits of candidates [B, C], any of the catalogue."""
        with torch.inference_mode():
            queries_QD = self.words(batch.queries.values, batch.queries.offsets)
            user_BD = self.embed_users(batch)
            cases = [self._case(batch, b, queries_QD, user_BD[b]) for b in range(len(batch))]

        def scores(candidates_BC: Tensor) -> Tensor:
            with torch.inference_mode():
                logits = [self._scores(batch.task, case, rows_C) for case, rows_C in zip(cases, candidates_BC, strict=True)]
                return torch.stack(logits)

        return scores

    def _case(self, batch: SearchRecommendBatch, b: int, queries_QD: Tensor, user_D: Tensor) -> _Case:
        feed_LD, search_LD = self._read(batch, b, queries_QD)
        task, dim = batch.task, self.config.dim
        feed, search = self.feed_interest.weight, self.search_interest.weight
        keys_MD = torch.cat([feed_LD @ feed, search_LD @ search])
        bias_M = keys_MD.new_zeros(len(keys_MD))
        query_D = self.no_query[0]
        if task == "search":
            query_D = queries_QD[int(batch.query_B[b])]
            if self.config.query_in_attention:
                bias_M = keys_MD @ query_D
        map_IX, bias_X = self.maps[task]
        of_feed, of_search, of_item, of_case = (map_IX[start * dim : end * dim] for start, end in pairwise((0, 1, 2, 3, 5)))
        maps_WX = torch.cat([feed_LD @ of_feed, search_LD @ of_search, of_item])
        return _Case(keys_MD.T, bias_M, len(feed_LD), maps_WX, bias_X + torch.cat([user_D, query_D]) @ of_case)

    def _scores(self, task: str, case: _Case, rows_C: Tensor) -> Tensor:
        items_CD = F.embedding(rows_C, self.items_ID)
        weights_CM = torch.addmm(case.bias_M, items_CD, case.keys_DM)
        parts = [weights_CM[:, : case.feeds].softmax(1), weights_CM[:, case.feeds :].softmax(1), items_CD]
        mapped_CX = torch.addmm(case.bias_X, torch.cat(parts, 1), case.maps_WX)
        split = mapped_CX.shape[1] // (self.experts.expert_dim + 1) * self.experts.expert_dim  # a gate for each expert
        experts_CXD = mapped_CX[:, :split].relu_().view(len(rows_C), -1, self.experts.expert_dim)
        mixed_CD = (mapped_CX[:, split:].softmax(1).unsqueeze(1) @ experts_CXD).squeeze(1)
        logits: Tensor = self.heads[task](self.towers[task](mixed_CD))
        return logits.squeeze(1)

    def _read(self, batch: SearchRecommendBatch, b: int, queries_QD: Tensor) -> tuple[Tensor, Tensor]:
        """Both kinds of events after their fusion, [L, D] each."""
        feeds, searches = int(batch.feed_is_real_BF[b].sum()), int(batch.search_is_real_BS[b].sum())
        feed_LD = F.embedding(batch.feed_items_BF[b, :feeds], self.items_ID)
        clicks_LD = F.embedding_bag(batch.search_clicks_BSK[b, :searches], self.items_ID, mode="mean", padding_idx=0)
        search_LD = F.embedding(batch.search_queries_BS[b, :searches], queries_QD) + clicks_LD
        merged = self.merged_position.weight
        both_MD = torch.cat(
            [feed_LD + merged[batch.feed_slots_BF[b, :feeds]], search_LD + merged[batch.search_slots_BS[b, :searches]]]
        )
        own_feed_LD = _encode(self.feed_encoder, feed_LD + self.feed_position.weight[:feeds])
        own_search_LD = _encode(self.search_encoder, search_LD + self.search_position.weight[:searches])
        other_feed_LD, other_search_LD = _between(self.cross_encoder, both_MD, feeds)
        feed_LD = _decode(self.feed_decoder, own_feed_LD, other_feed_LD)
        return feed_LD, _decode(self.search_decoder, own_search_LD, other_search_LD)


def _all_maps(experts: TaskExperts, task: str) -> tuple[Tensor, Tensor]:
    """Experts of the task, shared ones, and their gates side by side, as in `TaskExperts.forward`."""
    maps = [one for one in (experts.own[task], experts.shared, experts.gates[task]) if isinstance(one, nn.Linear)]
    return torch.cat([one.weight for one in maps]).T.contiguous(), torch.cat([one.bias for one in maps])


def _encode(layer: EncoderLayer, x_LD: Tensor) -> Tensor:
    return _finish(layer, x_LD, _read_own(_attention(layer.attention), x_LD))


def _between(layer: EncoderLayer, both_MD: Tensor, feeds: int) -> tuple[Tensor, Tensor]:
    """Each event reads those of the other kind."""
    attention = _attention(layer.attention)
    q, k, v = _projected(attention, both_MD)
    feed_LD = _attend(attention, q[:, :feeds], k[:, feeds:], v[:, feeds:])
    search_LD = _attend(attention, q[:, feeds:], k[:, :feeds], v[:, :feeds])
    out_MD = _finish(layer, both_MD, torch.cat([feed_LD, search_LD]))
    return out_MD[:feeds], out_MD[feeds:]


def _decode(layer: DecoderLayer, x_LD: Tensor, memory_LD: Tensor) -> Tensor:
    own, cross = _attention(layer.self_attention), _attention(layer.cross_attention)
    x_LD = _norm(layer.norm1, x_LD + _linear(own.out_proj, _read_own(own, x_LD)))
    k_HLE, v_HLE = _to_heads(cross, cross.memory(memory_LD)).chunk(2)
    read_LD = _attend(cross, _to_heads(cross, cross.queries(x_LD)), k_HLE, v_HLE)
    x_LD = _norm(layer.norm2, x_LD + _linear(cross.out_proj, read_LD))
    return _norm(layer.norm3, x_LD + _feed_forward(layer.feed_forward, x_LD))


def _finish(layer: EncoderLayer, x_LD: Tensor, read_LD: Tensor) -> Tensor:
    x_LD = _norm(layer.norm1, x_LD + _linear(_attention(layer.attention).out_proj, read_LD))
    return _norm(layer.norm2, x_LD + _feed_forward(layer.feed_forward, x_LD))


def _attention(mixer: Mixer) -> MultiHeadAttention:
    assert isinstance(mixer, MultiHeadAttention)
    return mixer


def _read_own(attention: MultiHeadAttention, x_LD: Tensor) -> Tensor:
    return _attend(attention, *_projected(attention, x_LD))


def _projected(attention: MultiHeadAttention, x_LD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, [H, L, E] each."""
    q_HLE, k_HLE, v_HLE = _to_heads(attention, _linear(attention.in_proj, x_LD)).chunk(3)
    return q_HLE, k_HLE, v_HLE


def _to_heads(attention: MultiHeadAttention, x_LX: Tensor) -> Tensor:
    """What stands side by side, as one after the other, [parts of H, L, E]."""
    size = attention.dim // attention.heads
    return x_LX.reshape(len(x_LX), x_LX.shape[1] // size, size).transpose(0, 1)


def _attend(attention: MultiHeadAttention, q_HLE: Tensor, k_HLE: Tensor, v_HLE: Tensor) -> Tensor:
    """What each event reads, [L, D]; zeros where there is nothing to read."""
    length = q_HLE.shape[1]
    if not length or not k_HLE.shape[1]:
        return q_HLE.new_zeros(length, attention.dim)
    read = F.scaled_dot_product_attention(q_HLE[None], k_HLE[None], v_HLE[None])
    return read[0].transpose(0, 1).reshape(length, -1)


def _feed_forward(layer: FeedForward, x_LD: Tensor) -> Tensor:
    return _linear(layer.linear2, _linear(layer.linear1, x_LD).relu_())


def _linear(linear: nn.Linear, x_LD: Tensor) -> Tensor:
    return F.linear(x_LD, linear.weight, linear.bias)


def _norm(norm: nn.LayerNorm, x_LD: Tensor) -> Tensor:
    return F.layer_norm(x_LD, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
