"""UniSAR as published, in plain PyTorch: what the speed of `corsar.models.unisar` is measured against.

`python benchmarks/twin_unisar.py GOLDEN.npz` compares scores, loss terms and gradients with the published numbers; it exits 1
where one is over its tolerance. Written from the paper and a description of what the published code computes, in that form:
padded histories of fixed width, one list of both kinds by time, each caption and query embedded wherever it stands, histories
repeated for each candidate, experts one by one, torch's own layers, dropout and autograd, dense gradients. One choice is in its
favour: the mean of the words is an embedding bag, as a tensor of all their embeddings would make it slower than published.

Why so long: a whole model and its check, apart from ours on purpose, so that a fault here cannot be a fault there.

Shape suffixes: B cases, L merged slots, F feed slots, S search slots, K clicks, W words, C candidates, M = B * C, P pairs,
N drawn negatives, D channels.
"""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.batch import SearchRecommendBatch, Sizes, Task
from corsar.models.unisar import UniSARNet


@dataclass(frozen=True)
class TwinBatch:
    """A batch in the published layout: both kinds in one list by time, pads at its end; every row holds F + S slots."""

    task: Task
    user_B: Tensor
    history_BL: Tensor  # item row of a feed event, row of the session tables of a search, 0 = padding
    is_feed_BL: Tensor  # bool
    session_words_VW: Tensor
    session_clicks_VK: Tensor
    candidates_BC: Tensor
    query_BW: Tensor | None
    align_items_N: Tensor
    align_queries_NW: Tensor

    @staticmethod
    def of(batch: SearchRecommendBatch, sizes: Sizes, words: int, clicks: int) -> TwinBatch:
        """From one of ours; `words` and `clicks` are the fixed widths of the tables."""
        assert batch.align_items_N is not None
        assert batch.align_queries_N is not None
        rows = len(batch)
        real_BS = batch.search_is_real_BS
        sessions_BS = torch.arange(1, real_BS.numel() + 1).view(real_BS.shape) * real_BS
        history_BL = torch.zeros(rows, sizes.feed_len + sizes.search_len, dtype=torch.int64)
        kind_BL = torch.zeros_like(history_BL)  # 0 = free, 1 = feed, 2 = search
        for kind, values, real, slots in (
            (1, batch.feed_items_BF, batch.feed_is_real_BF, batch.feed_slots_BF),
            (2, sessions_BS, real_BS, batch.search_slots_BS),
        ):
            row, at = real.nonzero(as_tuple=True)
            history_BL[row, slots[row, at]], kind_BL[row, slots[row, at]] = values[row, at], kind
        missing_B1 = sizes.feed_len - (kind_BL == 1).sum(1, keepdim=True)
        is_feed_BL = (kind_BL == 1) | ((kind_BL == 0) & ((kind_BL == 0).cumsum(1) <= missing_B1))
        queries_VW = batch.queries.padded(batch.search_queries_BS.reshape(-1), words)
        clicks_VK = batch.search_clicks_BSK.flatten(0, 1)
        return TwinBatch(
            task=batch.task,
            user_B=batch.user_B,
            history_BL=history_BL,
            is_feed_BL=is_feed_BL,
            session_words_VW=F.pad(queries_VW, (0, 0, 1, 0)),
            session_clicks_VK=F.pad(clicks_VK, (0, clicks - clicks_VK.shape[1], 1, 0)),
            candidates_BC=batch.candidates_BC,
            query_BW=batch.queries.padded(batch.query_B, words) if batch.task == "search" else None,
            align_items_N=batch.align_items_N,
            align_queries_NW=batch.queries.padded(batch.align_queries_N, words),
        )


class Words(nn.Module):
    """tanh(linear(mean of the words that are not padding))."""

    def __init__(self, num_words: int, word_dim: int, dim: int) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(num_words + 1, word_dim, padding_idx=0), nn.Linear(word_dim, dim)

    def forward(self, words: Tensor) -> Tensor:
        """[..., W] -> [..., D]."""
        mean = F.embedding_bag(words.flatten(0, -2), self.embedding.weight, mode="mean", padding_idx=0)
        return torch.tanh(self.linear(mean.view(*words.shape[:-1], -1)))


class Alignment(nn.Module):
    """A matrix and a temperature, both learned."""

    def __init__(self, dim: int, temperature: float) -> None:
        super().__init__()
        self.weight, self.temperature = nn.Parameter(torch.empty(dim, dim)), nn.Parameter(torch.tensor(temperature))

    def pairs(self, from_PD: Tensor, to_PD: Tensor, negative_ND: Tensor) -> Tensor:
        """InfoNCE in one direction."""
        mapped = from_PD @ self.weight
        logits = torch.cat([(mapped * to_PD).sum(1, keepdim=True), mapped @ negative_ND.T], 1)
        return F.cross_entropy(torch.tanh(logits) / self.temperature, torch.zeros(len(logits), dtype=torch.int64))

    def views(self, first_BD: Tensor, second_BD: Tensor) -> Tensor:
        """SimCLR over 2B rows."""
        both = torch.cat([first_BD, second_BD])
        logits = torch.tanh(both @ self.weight @ both.T) / self.temperature
        logits = logits.masked_fill(torch.eye(len(both), dtype=torch.bool), -torch.inf)
        return F.cross_entropy(logits, torch.arange(len(both)).roll(len(first_BD)))


def mlp(sizes: list[int], dropout: float, bare_end: bool = False) -> nn.Sequential:
    """Linear, ReLU and dropout; `bare_end` leaves the last linear map bare."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2] if bare_end else layers)


class TwinUniSAR(nn.Module):
    """The published formulation; built from the settings of ours and a catalogue of padded tables."""

    def __init__(self, config: UniSARNet.Config, sizes: Sizes, captions: Tensor, categories: Tensor, users: Tensor) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        self.captions, self.item_categories, self.user_attributes = captions, categories, users  # plain tables
        dim, ids, heads, drop = config.dim, config.id_dim, config.heads, config.dropout
        self.words = Words(sizes.num_words, config.word_dim, dim)
        self.item_id = nn.Embedding(sizes.num_items + 1, ids, padding_idx=0)
        self.categories = nn.ModuleList(nn.Embedding(n + 1, ids, padding_idx=0) for n in sizes.category_sizes)
        self.item_linear = nn.Linear(ids * (1 + len(sizes.category_sizes)) + dim, dim)
        self.user_id = nn.Embedding(sizes.num_users + 1, ids, padding_idx=0)
        self.attributes = nn.ModuleList(nn.Embedding(n + 1, ids, padding_idx=0) for n in sizes.attribute_sizes)
        self.user_linear = nn.Linear(ids * (1 + len(sizes.attribute_sizes)), dim)
        self.no_query = nn.Parameter(torch.empty(1, dim))
        self.feed_position = nn.Embedding(sizes.feed_len, dim)
        self.search_position = nn.Embedding(sizes.search_len, dim)
        self.merged_position = nn.Embedding(sizes.feed_len + sizes.search_len, dim)
        for name in ("feed", "search", "cross"):
            setattr(self, f"{name}_encoder", nn.TransformerEncoderLayer(dim, heads, dim, drop, batch_first=True))
        for name in ("feed", "search"):
            setattr(self, f"{name}_decoder", nn.TransformerDecoderLayer(dim, heads, dim, drop, batch_first=True))
        self.feed_interest, self.search_interest = (nn.Parameter(torch.empty(dim, dim)) for _ in range(2))
        sizes_of = [5 * dim, config.expert_dim]
        self.shared = nn.ModuleList(mlp(sizes_of, drop) for _ in range(config.shared_experts))
        self.own = nn.ModuleDict(
            {t: nn.ModuleList(mlp(sizes_of, drop) for _ in range(config.own_experts)) for t in UniSARNet.tasks}
        )
        self.gates = nn.ModuleDict({t: nn.Linear(5 * dim, config.own_experts + config.shared_experts) for t in UniSARNet.tasks})
        self.towers = nn.ModuleDict({t: mlp([config.expert_dim, *config.tower], drop) for t in UniSARNet.tasks})
        self.heads = nn.ModuleDict({t: mlp([config.tower[-1], *config.head, 1], drop, bare_end=True) for t in UniSARNet.tasks})
        self.item_query = Alignment(dim, config.item_query_temperature)
        self.feed_transition = Alignment(dim, config.transition_temperature)
        self.search_transition = Alignment(dim, config.transition_temperature)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def items(self, rows: Tensor) -> Tensor:
        """[..., D]; a padding item gives zeros."""
        categories = [table(self.item_categories[rows, c]) for c, table in enumerate(self.categories)]
        joined = torch.cat([self.item_id(rows), self.words(self.captions[rows]), *categories], -1)
        return torch.tanh(self.item_linear(joined)) * (rows != 0).unsqueeze(-1)

    def losses(self, batch: TwinBatch) -> tuple[dict[str, Tensor], Tensor]:
        """The loss terms, and the scores after the sigmoid, [B, C]."""
        is_feed_BL, rows = batch.is_feed_BL, len(batch.user_B)
        num = self.sizes.feed_len, self.sizes.search_len
        feed_BF = batch.history_BL[is_feed_BL].view(rows, num[0])
        session_BS = batch.history_BL[~is_feed_BL].view(rows, num[1])
        feed_pad, search_pad, pad = feed_BF == 0, session_BS == 0, batch.history_BL == 0

        query_BSD = self.words(batch.session_words_VW[session_BS])
        clicks_BSK = batch.session_clicks_VK[session_BS]
        clicks_BSKD = self.items(clicks_BSK)
        clicked_BSD = clicks_BSKD.sum(2) / (clicks_BSK != 0).sum(2, keepdim=True).clamp(min=1)
        feed_BFD, search_BSD = self.items(feed_BF), query_BSD + clicked_BSD
        merged_BLD = feed_BFD.new_zeros(*is_feed_BL.shape, self.config.dim)
        merged_BLD[is_feed_BL], merged_BLD[~is_feed_BL] = feed_BFD.flatten(0, 1), search_BSD.flatten(0, 1)

        own_feed = self.feed_encoder(feed_BFD + self.feed_position.weight, src_key_padding_mask=feed_pad)
        own_search = self.search_encoder(search_BSD + self.search_position.weight, src_key_padding_mask=search_pad)
        same_BLL = is_feed_BL[:, :, None] == is_feed_BL[:, None, :]
        same = same_BLL.repeat_interleave(self.config.heads, 0)
        cross = self.cross_encoder(merged_BLD + self.merged_position.weight, same, pad)
        to_feed = cross[is_feed_BL].view(rows, num[0], -1)  # search to feed
        to_search = cross[~is_feed_BL].view(rows, num[1], -1)
        masks = {"tgt_key_padding_mask": feed_pad, "memory_key_padding_mask": feed_pad}
        fused_feed = self.feed_decoder(own_feed, to_feed, **masks)
        masks = {"tgt_key_padding_mask": search_pad, "memory_key_padding_mask": search_pad}
        fused_search = self.search_decoder(own_search, to_search, **masks)

        candidates_BCD = self.items(batch.candidates_BC)
        repeats = candidates_BCD.shape[1]
        target_MD = candidates_BCD.flatten(0, 1)
        interests = [
            self._interest(weight, *(x.repeat_interleave(repeats, 0) for x in (encoded, is_pad)), target_MD)
            for weight, encoded, is_pad in (
                (self.feed_interest, fused_feed, feed_pad),
                (self.search_interest, fused_search, search_pad),
            )
        ]
        attributes_BA = self.user_attributes[batch.user_B]
        attributes = [table(attributes_BA[:, a]) for a, table in enumerate(self.attributes)]
        user_BD = torch.tanh(self.user_linear(torch.cat([self.user_id(batch.user_B), *attributes], -1)))
        query_BD = self.no_query.expand(rows, -1) if batch.query_BW is None else self.words(batch.query_BW)
        case = [x.repeat_interleave(repeats, 0) for x in (user_BD, query_BD)]
        scores_BC = self._head(batch.task, torch.cat([*interests, target_MD, *case], -1)).view(rows, repeats)
        is_target_BC = torch.zeros_like(scores_BC)
        is_target_BC[:, 0] = 1

        at = clicks_BSK != 0
        query_PD, item_PD = query_BSD.unsqueeze(2).expand_as(clicks_BSKD)[at], clicks_BSKD[at]
        items_ND, queries_ND = self.items(batch.align_items_N), self.words(batch.align_queries_NW)
        there, back = self.item_query.pairs(query_PD, item_PD, items_ND), self.item_query.pairs(item_PD, query_PD, queries_ND)
        feed_views = self._mean(to_feed, feed_pad), self._mean(own_feed, feed_pad)
        search_views = self._mean(to_search, search_pad), self._mean(own_search, search_pad)
        return {
            "click": F.binary_cross_entropy(scores_BC, is_target_BC),
            "item_query": (there + back) / 2,
            "transition": self.feed_transition.views(*feed_views) + self.search_transition.views(*search_views),
        }, scores_BC

    def total(self, batch: TwinBatch) -> Tensor:
        """The weighed sum of the loss terms of one task."""
        terms, _ = self.losses(batch)
        align = self.config.item_query_weight * terms["item_query"]
        return terms["click"] + align + self.config.transition_weight * terms["transition"]

    def _interest(self, weight: Tensor, history_MLD: Tensor, pad_ML: Tensor, target_MD: Tensor) -> Tensor:
        logits_ML = (history_MLD @ weight @ target_MD.unsqueeze(-1)).squeeze(-1)
        weights_ML = logits_ML.masked_fill(pad_ML, -torch.inf).softmax(-1)
        return (weights_ML.unsqueeze(-1) * history_MLD).sum(1)

    def _head(self, task: Task, inputs_MI: Tensor) -> Tensor:
        experts = torch.stack([expert(inputs_MI) for expert in [*self.own[task], *self.shared]], 1)
        gates = self.gates[task](inputs_MI).softmax(-1)
        mixed = (gates.unsqueeze(-1) * experts).sum(1)
        return torch.sigmoid(self.heads[task](self.towers[task](mixed)))

    @staticmethod
    def _mean(encoded: Tensor, pad: Tensor) -> Tensor:
        real = (~pad).unsqueeze(-1)
        return (encoded * real).sum(1) / real.sum(1).clamp(min=1)


def twin_of(ours: UniSARNet, words: int, captions: Tensor, categories: Tensor, users: Tensor) -> TwinUniSAR:
    """A twin with the weights of `ours`."""
    twin = TwinUniSAR(ours.config, ours.sizes, captions[:, :words], categories, users)
    state: dict[str, Tensor] = {}
    experts = {"own": ours.config.own_experts, "shared": ours.config.shared_experts}
    for name, value in ours.state_dict().items():
        parts = name.split(".")
        if parts[0] == "experts" and parts[1] in experts:  # stacked there, one by one here
            prefix = ".".join(parts[1:-1])
            for number, part in enumerate(value.chunk(experts[parts[1]])):
                state[f"{prefix}.{number}.0.{parts[-1]}"] = part
            continue
        for ours_has, twin_has in (
            ("experts.gates", "gates"), ("self_attention", "self_attn"), ("cross_attention", "multihead_attn"),
            ("attention", "self_attn"), ("in_proj.", "in_proj_"), ("feed_forward.", ""), ("interest.weight", "interest"),
        ):  # fmt: skip
            name = name.replace(ours_has, twin_has)
        state[name] = value
    twin.load_state_dict(state)
    return twin


def errors_of(path: Path) -> dict[str, tuple[float, float]]:
    """Relative error and tolerance of each quantity of a golden file."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "golden"))
    import check

    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    ours = check.unisar_model(arrays, json.loads(path.with_suffix(".json").read_text()))
    errors = {}
    for side in ("rec", "src"):
        batch = check.unisar_batch(arrays, side)
        words = arrays["table.item.caption"].shape[1]
        tables = torch.from_numpy(arrays["table.item.caption"]), batch.catalogue.item_categories
        twin = twin_of(ours, words, *tables, batch.catalogue.user_attributes).eval()
        twin_batch = TwinBatch.of(batch, ours.sizes, words, arrays["table.session.pos_items"].shape[1])
        terms, scores = twin.losses(twin_batch)
        total = twin.total(twin_batch)
        total.backward()
        for name, value, published, tolerance in (
            ("score", scores, "score", 1e-5),
            ("loss.click", terms["click"], "loss.click_loss", 1e-5),
            ("loss.item_query", terms["item_query"], "loss.q_i_cl_loss", 1e-5),
            ("loss.transition", terms["transition"], "loss.his_cl_loss", 1e-5),
            ("loss.total", total, "loss.total_loss", 1e-5),
            ("grad.item_id", twin.item_id.weight.grad, "grad.item_emb", 1e-4),
            ("grad.words", twin.words.embedding.weight.grad, "grad.word_emb", 1e-4),
        ):
            errors[f"{side}.{name}"] = (check.relative(value, arrays[f"{side}.{published}"]), tolerance)
    return errors


def main() -> int:
    """Print the errors; 1 where one is over its tolerance."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python benchmarks/twin_unisar.py GOLDEN.npz")
    errors = errors_of(Path(sys.argv[1]))
    for name, (error, tolerance) in errors.items():
        print(f"{name:20} {error:10.2e}  <= {tolerance:.0e}  {'ok' if error <= tolerance else 'OVER'}")
    return int(any(not error <= tolerance for error, tolerance in errors.values()))


if __name__ == "__main__":
    raise SystemExit(main())
