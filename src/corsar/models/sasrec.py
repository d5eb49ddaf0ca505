"""SASRec: the next item from one causal transformer over the merged history.

Paper
    Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

Differs from the paper
    Pre-norm blocks with a GELU feed-forward. The loss stands at the case's position alone, over the case's negatives, so that
    every model here learns from the same cases by the same loop. Feed events and searches form one sequence; a search enters
    as the mean of its clicked items and its query is not read, in its history and in the search task alike.

Differs from the published code
    Positions count back from the newest event, so that a longer window changes nothing for a short history. An empty history
    scores by one learned vector. `mixer` puts Auto-Correlation (causal, but for `lags="paper_code"`), a learned filter, or
    nothing but each place itself where attention stands.

Cost
    Attention over at most feed_len + search_len positions.

Shape suffixes: B cases, L merged slots, C candidates, D channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from corsar.batch import SearchRecommendBatch, Sizes
from corsar.models.base import Model, Terms
from corsar.nn.autocorrelation import Which
from corsar.nn.dropout import Dropout
from corsar.nn.embeddings import id_embedding
from corsar.nn.mixers import MixerName, sequence_mixer
from corsar.nn.packing import CHUNK


class SASRecNet(Model):
    """The bare module: item ids in one sequence, dot products out."""

    class Config(Model.Config):
        """Sizes of SASRec."""

        name: str = "sasrec"
        dim: int = Field(64, ge=1)
        blocks: int = Field(2, ge=1)
        heads: int = Field(2, ge=1)
        dropout: float = Field(0.2, ge=0, lt=1)
        mixer: MixerName = "attention"
        lags: Which = "exact"  # of Auto-Correlation
        lag_factor: float = Field(1.0, gt=0)

    config: Config
    tasks = ("recommend", "search", "next_place")

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        dim = config.dim
        self.item = id_embedding(sizes.num_items, dim)
        self.item_bias = id_embedding(sizes.num_items, 1)
        self.position = nn.Embedding(sizes.feed_len + sizes.search_len + 1, dim)
        self.start = nn.Parameter(torch.zeros(dim))  # stands before the oldest event
        self.blocks: Blocks | nn.TransformerEncoder
        if config.mixer == "attention":
            block = nn.TransformerEncoderLayer(
                dim, config.heads, 4 * dim, config.dropout, F.gelu, batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(block, config.blocks, nn.LayerNorm(dim), enable_nested_tensor=False)
        else:
            self.blocks = Blocks(config, sizes.feed_len + sizes.search_len + 1)
        self.drop = Dropout(config.dropout)
        with torch.no_grad():
            for table in (self.item, self.position):
                nn.init.normal_(table.weight, std=dim**-0.5)
            self.item.weight[0] = 0
            nn.init.zeros_(self.item_bias.weight)
            for name, parameter in self.blocks.named_parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Dot product of the history's state and each candidate, plus the candidate's bias, [B, C]."""
        return self.scorer(batch, batch.candidates_BC)(batch.candidates_BC)

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What scores candidates [B, C] of the same cases; the histories are encoded once."""
        state_BD1 = self.encode(batch).unsqueeze(-1)

        def score(candidates_BC: Tensor) -> Tensor:
            items_BCD: Tensor = self.item(candidates_BC)
            return (items_BCD @ state_BD1).squeeze(-1) + F.embedding(candidates_BC, self.item_bias.weight).squeeze(-1)

        return score

    def loss(self, batch: SearchRecommendBatch) -> Terms:
        """click: binary cross-entropy, the target against the mean of its negatives."""
        logits_BC = batch.gather(self.score(batch))
        return {"click": F.softplus(-logits_BC[:, 0]).mean() + F.softplus(logits_BC[:, 1:]).mean()}

    def encode(self, batch: SearchRecommendBatch) -> Tensor:
        """The state after the newest event, [B, D]; rows go by chunks of like length, so that pads cost little."""
        length_B = batch.feed_is_real_BF.sum(1) + batch.search_is_real_BS.sum(1)
        order_B = length_B.argsort(stable=True)
        parts = [self._encode(batch.take(rows)) for rows in torch.split(order_B, CHUNK)]
        return torch.cat(parts)[order_B.argsort()]

    def _encode(self, batch: SearchRecommendBatch) -> Tensor:
        merged_BLD, length_B = self._merge(batch)
        slots = torch.arange(merged_BLD.shape[1], device=length_B.device)
        age_BL = (length_B[:, None] - slots).clamp(min=0)
        x_BLD = self.drop(merged_BLD + self.position(age_BL))
        if isinstance(self.blocks, Blocks):
            x_BLD = self.blocks(x_BLD, length_B + 1)
        else:
            causal = torch.ones(len(slots), len(slots), dtype=torch.bool, device=length_B.device).triu(1)
            x_BLD = self.blocks(x_BLD, mask=causal, is_causal=True)  # pads stand last, so that no real slot reads one
        state_BD: Tensor = x_BLD.gather(1, length_B[:, None, None].expand(-1, 1, x_BLD.shape[2])).squeeze(1)
        return state_BD

    def _merge(self, batch: SearchRecommendBatch) -> tuple[Tensor, Tensor]:
        """Both kinds in time order behind the start vector, [B, L, D], and the number of events of each row."""
        feed_BFD = self.item(batch.feed_items_BF)
        clicks_BSKD = self.item(batch.search_clicks_BSK)
        count_BS1 = (batch.search_clicks_BSK != 0).sum(-1, keepdim=True).clamp(min=1)
        events = torch.cat([feed_BFD, clicks_BSKD.sum(2) / count_BS1], 1)
        is_real = torch.cat([batch.feed_is_real_BF, batch.search_is_real_BS], 1)
        slots = torch.cat([batch.feed_slots_BF, batch.search_slots_BS], 1) + 1
        width = events.shape[1] + 1
        slots = torch.where(is_real, slots, width)  # pads go to one slot more, which is cut off
        merged = events.new_zeros(len(batch), width + 1, events.shape[2])
        merged = merged.scatter(1, slots[..., None].expand_as(events), events)[:, :width]
        start = F.one_hot(torch.zeros(1, dtype=torch.int64, device=slots.device), width).to(events.dtype)
        merged = merged + start[..., None] * self.start
        length_B = is_real.sum(1)
        return merged[:, : int(length_B.max()) + 1], length_B

    def item_vectors(self, batch: SearchRecommendBatch, rows_R: Tensor) -> Tensor:
        """The embeddings of the item rows, [R, D]."""
        return F.embedding(rows_R, self.item.weight)


class Blocks(nn.Module):
    """Pre-norm blocks as torch's, with another mixer in the place of attention."""

    def __init__(self, config: SASRecNet.Config, max_len: int) -> None:
        super().__init__()
        dim, kind = config.dim, (config.mixer, config.dim, config.heads, max_len, config.lags, config.lag_factor)
        self.mixers = nn.ModuleList(sequence_mixer(*kind) for _ in range(config.blocks))
        self.linear1 = nn.ModuleList(nn.Linear(dim, 4 * dim) for _ in range(config.blocks))
        self.linear2 = nn.ModuleList(nn.Linear(4 * dim, dim) for _ in range(config.blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 * config.blocks + 1))
        self.drop = Dropout(config.dropout)
        self.knows_lengths = config.lags == "exact" or config.mixer != "autocorrelation"

    def forward(self, x_BLD: Tensor, length_B: Tensor) -> Tensor:
        """[B, L, D]; padding stands last."""
        lengths = {"lengths": length_B} if self.knows_lengths else {}
        for i, (mixer, up, down) in enumerate(zip(self.mixers, self.linear1, self.linear2, strict=True)):
            x_BLD = x_BLD + self.drop(mixer(self.norms[2 * i](x_BLD), **lengths))
            x_BLD = x_BLD + self.drop(down(self.drop(F.gelu(up(self.norms[2 * i + 1](x_BLD))))))
        out_BLD: Tensor = self.norms[-1](x_BLD)
        return out_BLD
