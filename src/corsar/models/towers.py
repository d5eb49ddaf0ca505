"""Two towers beside a model, for the first of two stages: a user's vector and an item's, whose product says what to score.

Paper
    Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019 (softmax over the
    batch, corrected by how likely an item stands in it); Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural
    Networks in Recommendations", WWW 2020 (uniformly drawn items beside those of the batch).

Differs from the paper
    Items enter by the vectors that the model beside gives them, through which no gradient flows back: the model learns what it
    learns without the towers. How often an item is a target is counted once over the training part, not estimated from the
    stream. Vectors are not normalised; in their place stands a bias of each item and task.

Differs from the published code
    There is none for this use.

Cost
    Linear in the events of the windows, and cases times twice as many items for the softmax.

Shape suffixes: B cases, F feed slots, S search slots, L slots of either, K clicks, D channels of the model's items, W channels
of words, H pools, R distinct items, Q distinct queries, N items of the softmax, E channels of a tower, T tasks, I item rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.batch import SearchRecommendBatch, Sizes, Task, TrainEvents
from corsar.errors import CorsarError
from corsar.models.base import Model
from corsar.nn.embeddings import id_embedding

TOWERS = "two_tower."  # how the names of their weights begin, beside those of the model
ASKED: tuple[Task, ...] = ("recommend", "search")
FADES = (0.0, 0.1, 0.4, 2.0)  # how fast each pool forgets at the start: its weights fall by exp(-fade) from event to event


class TwoTower(nn.Module):
    """A tower for items, one for users a task, and the bias of each item."""

    share_TI: Tensor

    def __init__(self, sizes: Sizes, item_dim: int, dim: int = 64, word_dim: int = 64, hidden: int = 256) -> None:
        super().__init__()
        self.dim, pools = dim, len(FADES)
        self.words = id_embedding(sizes.num_words, word_dim)
        lengths = {"feed": sizes.feed_len, "search": sizes.search_len}
        fades_H1 = torch.tensor(FADES)[:, None]
        self.ages = nn.ParameterDict({name: nn.Parameter(-fades_H1 * torch.arange(size)) for name, size in lengths.items()})
        width = pools * (2 * item_dim + word_dim) + word_dim
        self.users = nn.ModuleDict({task: Tower(width, hidden, dim) for task in ASKED})
        self.items = Tower(item_dim, hidden, dim)
        self.item_bias = id_embedding(sizes.num_items, len(ASKED))
        nn.init.zeros_(self.item_bias.weight)
        nn.init.normal_(self.words.weight, std=word_dim**-0.5)
        with torch.no_grad():
            self.words.weight[0] = 0
        self.register_buffer("share_TI", torch.zeros(len(ASKED), sizes.num_items + 1), persistent=False)

    def count(self, events: TrainEvents) -> None:
        """Count how often each item is the target of either task; training needs it, answers do not."""
        for at, is_search in enumerate((False, True)):
            counts_I = torch.bincount(events.item_E[events.is_search_E == is_search], minlength=self.share_TI.shape[1])
            self.share_TI[at] = counts_I / counts_I.sum().clamp(min=1)

    def loss(self, model: Model, batch: SearchRecommendBatch) -> Tensor:
        """Cross-entropy of each target among the targets of the batch and one drawn item a case; scalar.

        The items are drawn in equal parts from the targets and from the catalogue; logits are corrected by the logarithm of
        that chance. No gradient reaches `model`.
        """
        asked_B2 = batch.candidates_BC[:, :2]
        known = Known.of(model, batch, [asked_B2])
        items_B2E = self.item_vectors(asked_B2, known(asked_B2))
        users_BE = batch.gather(self._users(batch, known))
        items_NE = torch.cat([batch.gather(items_B2E[:, at]) for at in range(2)])
        item_N = torch.cat([batch.gather(asked_B2[:, at]) for at in range(2)])
        chance_N = self.share_TI[ASKED.index(batch.task), item_N] + 1 / batch.catalogue.num_items
        logits_BN = users_BE @ items_NE.T - chance_N.log()
        case_B = torch.arange(len(users_BE), device=item_N.device)
        is_target_BN = item_N == item_N[: len(case_B), None]
        is_target_BN[case_B, case_B] = False
        return F.cross_entropy(logits_BN.masked_fill(is_target_BN, -torch.inf), case_B)

    def learn(self, model: Model, batch: SearchRecommendBatch) -> float:
        """Add the gradients of the loss to those of the towers; the loss.

        Raises:
            CorsarError: It is not finite.
        """
        loss = self.loss(model, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise CorsarError(f"the loss of the two towers is {value}; lower train.learning_rate or leave train.two_tower out")
        loss.backward()  # type: ignore[no-untyped-call]
        return value

    def user_vectors(self, model: Model, batch: SearchRecommendBatch) -> Tensor:
        """What the items' vectors are multiplied by, [B, E + T]."""
        return self._users(batch, Known.of(model, batch, []))

    def item_vectors(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """Of item rows of any shape with the model's vectors for them, [..., D]: [..., E + T]."""
        found: Tensor = torch.cat([self.items(vectors), self.item_bias(rows)], -1)
        return found

    def _users(self, batch: SearchRecommendBatch, known: Known) -> Tensor:
        words = batch.queries
        table = self.words
        queries_QW = F.embedding_bag(
            words.values, table.weight, words.offsets, mode="mean", sparse=table.sparse, include_last_offset=True, padding_idx=0
        )
        clicks_BSD = known(batch.search_clicks_BSK).sum(2) / (batch.search_clicks_BSK != 0).sum(2, keepdim=True).clamp(min=1)
        searches_BSX = torch.cat([clicks_BSD, F.embedding(batch.search_queries_BS, queries_QW)], -1)
        query_BW = F.embedding(batch.query_B, queries_QW)
        if batch.task == "recommend":
            query_BW = torch.zeros_like(query_BW)
        parts = [self._pools("feed", known(batch.feed_items_BF), batch.feed_is_real_BF)]
        parts += [self._pools("search", searches_BSX, batch.search_is_real_BS), query_BW]
        users_BE = self.users[batch.task](torch.cat(parts, -1))
        task_BT = users_BE.new_tensor([[float(task == batch.task) for task in ASKED]]).expand(len(users_BE), -1)
        return torch.cat([users_BE, task_BT], -1)

    def _pools(self, kind: str, events_BLD: Tensor, is_real_BL: Tensor) -> Tensor:
        """Weighted means of the events, the weights by how many came after; zeros where there is none, [B, H * D]."""
        length_B1 = is_real_BL.sum(1, keepdim=True)
        age_BL = (length_B1 - 1 - torch.arange(is_real_BL.shape[1], device=length_B1.device)).clamp(min=0)
        logits_BHL = self.ages[kind][:, age_BL].transpose(0, 1).masked_fill(~is_real_BL[:, None], -1e9)
        weights_BHL = logits_BHL.softmax(-1) * (length_B1 > 0)[:, None]
        pooled_BX: Tensor = (weights_BHL @ events_BLD).flatten(1)
        return pooled_BX


@dataclass(frozen=True)
class Known:
    """The model's vectors of some items."""

    rows_R: Tensor  # sorted, each once
    vectors_RD: Tensor

    @staticmethod
    def of(model: Model, batch: SearchRecommendBatch, more: list[Tensor]) -> Known:
        """Of the items of the histories and of `more`."""
        parts = [batch.feed_items_BF, batch.search_clicks_BSK, *more]
        rows_R = torch.unique(torch.cat([part.flatten() for part in parts]))
        with torch.no_grad():
            return Known(rows_R, model.item_vectors(batch, rows_R).detach().float())

    def __call__(self, rows: Tensor) -> Tensor:
        """Those of item rows of any shape, [..., D]."""
        return F.embedding(torch.searchsorted(self.rows_R, rows.contiguous()), self.vectors_RD)


class Tower(nn.Module):
    """A linear map and a hidden layer beside it."""

    def __init__(self, width: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.straight, self.up, self.down = nn.Linear(width, dim), nn.Linear(width, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., dim]."""
        out: Tensor = self.straight(x) + self.down(F.relu(self.up(x)))
        return out


def two_tower_of(model: nn.Module) -> TwoTower | None:
    """The towers beside a model, where it has some."""
    found = getattr(model, "two_tower", None)
    return found if isinstance(found, TwoTower) else None


def vector_dim(model: Model) -> int:
    """Channels of the model's vectors of items; 0 where it has none, or neither recommends nor searches."""
    knows = type(model).item_vectors is not Model.item_vectors and bool(set(ASKED) & set(model.tasks))
    return int(getattr(model.config, "dim", 0)) if knows else 0
