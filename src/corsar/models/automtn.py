"""AutoMTN: the next place from two streams of check-ins, places and their categories, that exchange what recurs in them.

Paper
    Qin, Wang, Zhang, Xu, "Next Point-of-Interest Recommendation with Auto-Correlation Enhanced Multi-Modal Transformer
    Network", SIGIR 2022.

Differs from the paper
    `predictor = "text"` is the paper's: y_c = sum over positions of softmax(<e_c, h_l> + D(c, l)) <e_c, h_l>, with D a learned
    decreasing function of kilometres. `predictor = "code"` is the published copy's: <e_c, h_l> times a factor that falls with
    the distance, the positions mixed by one learned weight each.

Differs from the published code
    Its traps stand behind keys that `preset = "paper"` sets: `lags = "paper_short"` (the inverse FFT without its length knows
    24 lags for 25 check-ins; "paper_code" has them all; both choose the lags from the batch mean in training), `distance =
    "batch_range"` (the scale is that of the distances in the batch, so that batch mates change a score), `lengths = "fixed"`
    (pads enter as check-ins do). There is no matrix of all places with all places here. An empty history is one check-in at no
    place, so that somebody new has scores, and a check-in at an unknown place is near everywhere. `residual` adds what the copy
    lacks: each layer's input and a layer norm.

Cost
    Auto-Correlation over `history_len` check-ins, then a product of each of them with each candidate, and their distance.

Shape suffixes: B cases, L check-ins of the window, D channels, C candidates, R item rows of a step, K categories.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from corsar.batch import SearchRecommendBatch, Sizes
from corsar.geo import distance_km
from corsar.models.base import Model, Terms
from corsar.models.compared import PlaceLoss, compared_rows, cross_entropy
from corsar.nn.autocorrelation import AutoCorrelation
from corsar.places import PlaceBatch


@dataclass(frozen=True)
class Window:
    """The newest check-ins of each case, and what the layers made of them."""

    places_BL: Tensor  # item rows, 0 pads
    is_real_BL: Tensor  # what counts: at least one a case
    weight_BL: Tensor  # of each check-in, 0 for what does not count
    points_BL3: Tensor  # where they are
    scale_km: Tensor  # what a distance is divided by
    place_BLD: Tensor
    category_BLD: Tensor


class ShortLags(AutoCorrelation):
    """Auto-Correlation of the published copy: of an odd length L, its inverse FFT gives the numbers of L - 1 lags."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads, lags="paper_code", direction="paper", normalise=False)

    def forward(self, query_BLD: Tensor, key_BLD: Tensor, value_BLD: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        """The reading of each check-in, [B, L, D]; in training, lags are those of the mean over the batch."""
        q_BLD, k_BLD, v_BLD = self.query_map(query_BLD), self.key_map(key_BLD), self.value_map(value_BLD)
        score_BT = torch.fft.irfft((torch.fft.rfft(q_BLD, dim=1) * torch.fft.rfft(k_BLD, dim=1).conj()).mean(2), dim=1)
        length = q_BLD.shape[1]
        chosen_BT = score_BT.mean(0, keepdim=True) if self.training else score_BT
        lag_BM = chosen_BT.topk(int(math.log(length)), 1).indices.expand(len(score_BT), -1)
        from_BML = (torch.arange(length, device=lag_BM.device) + lag_BM[..., None]) % length  # rolled around L all the same
        at_BMLD = from_BML[..., None].expand(-1, -1, -1, v_BLD.shape[2])
        parts_BMLD = v_BLD[:, None].expand(-1, lag_BM.shape[1], -1, -1).gather(2, at_BMLD)
        out_BLD: Tensor = self.out_map((score_BT.gather(1, lag_BM).softmax(1)[..., None, None] * parts_BMLD).sum(1))
        return out_BLD


class Stream(nn.Module):
    """User + place or category + hour + weekday of each check-in, added up."""

    def __init__(self, num_users: int, num_values: int, dim: int) -> None:
        super().__init__()
        sizes = (num_users, num_values, 24, 7)
        tables = [nn.Embedding(size + 1, dim, padding_idx=0) for size in sizes]
        self.user, self.value, self.hour, self.weekday = tables
        with torch.no_grad():
            for table in tables:
                table.weight *= dim**-0.5

    def forward(self, user_B: Tensor, values_BL: Tensor, hours_BL: Tensor) -> Tensor:
        """[B, L, D] of values and local hours of the week (1 to 168, 0 unknown)."""
        hour_BL = torch.where(hours_BL > 0, (hours_BL - 1) % 24 + 1, 0)
        weekday_BL = (hours_BL + 23) // 24
        sum_BLD: Tensor = self.user(user_B)[:, None] + self.value(values_BL) + self.hour(hour_BL) + self.weekday(weekday_BL)
        return sum_BLD


class Layer(nn.Module):
    """Auto-Correlation within each stream, then from each stream to the other."""

    def __init__(self, dim: int, make: Callable[[], nn.Module], residual: bool, dropout: float) -> None:
        super().__init__()
        self.place_self, self.category_self, self.place_cross, self.category_cross = (make() for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4 if residual else 0))
        self.drop = nn.Dropout(dropout)

    def forward(self, place_BLD: Tensor, category_BLD: Tensor, length_B: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both streams, [B, L, D] each; beyond a row's length undefined."""

        def mixed(number: int, layer: nn.Module, x_BLD: Tensor, other_BLD: Tensor) -> Tensor:
            out_BLD: Tensor = self.drop(layer(x_BLD, other_BLD, other_BLD, lengths=length_B))
            if len(self.norms):
                out_BLD = self.norms[number](x_BLD + out_BLD)
            return out_BLD

        place_BLD = mixed(0, self.place_self, place_BLD, place_BLD)
        category_BLD = mixed(1, self.category_self, category_BLD, category_BLD)
        place_BLD = mixed(2, self.place_cross, place_BLD, category_BLD)
        return place_BLD, mixed(3, self.category_cross, category_BLD, place_BLD)


class AutoMTNNet(Model):
    """The bare module: flat check-ins in, logits of places out."""

    class Config(Model.Config):
        """Sizes of AutoMTN, and its choices."""

        name: str = "automtn"
        dim: int = Field(64, ge=1)
        layers: int = Field(2, ge=1)
        heads: int = Field(2, ge=1)
        history_len: int = Field(25, ge=1)  # check-ins of a window, the newest
        dropout: float = Field(0.2, ge=0, lt=1)
        predictor: Literal["code", "text"] = "code"
        lags: Literal["exact", "paper_code", "paper_short"] = "exact"
        lengths: Literal["exact", "fixed"] = "exact"
        distance: Literal["kilometres", "batch_range"] = "kilometres"
        scale_km: float = Field(10.0, gt=0)  # where the factor of a distance is 1/e
        residual: bool = True
        category_weight: float = Field(0.5, ge=0)

    config: Config
    tasks = ("next_place",)

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        dim, num_categories = config.dim, (*sizes.category_sizes, 0)[0]
        self.places = Stream(sizes.num_users, sizes.num_items, dim)
        self.categories = Stream(sizes.num_users, num_categories, dim)
        self.blocks = nn.ModuleList(
            Layer(dim, lambda: _mixer(config), config.residual, config.dropout) for _ in range(config.layers)
        )
        self.mix = nn.Linear(config.history_len, 1) if config.predictor == "code" else None
        self.decay = nn.Parameter(torch.zeros(2)) if config.predictor == "text" else None
        self.drop = nn.Dropout(config.dropout)
        if self.mix is not None:
            nn.init.constant_(self.mix.weight, config.history_len**-0.5)

    def score(self, batch: SearchRecommendBatch) -> Tensor:
        """Logits of the candidates, [B, C]."""
        return self.scorer(batch, batch.candidates_BC)(batch.candidates_BC)

    def scorer(self, batch: SearchRecommendBatch, items_R: Tensor) -> Callable[[Tensor], Tensor]:
        """What gives the logits of candidates [B, C] of the same cases; the histories are encoded once."""
        assert isinstance(batch, PlaceBatch)
        window, table = self.encode(batch), self.places.value.weight
        return lambda candidates_BC: self.place_logits(
            window, F.embedding(candidates_BC, table), F.embedding(candidates_BC, batch.points_I3)
        )

    def loss(self, batch: SearchRecommendBatch, place_loss: PlaceLoss = cross_entropy) -> Terms:
        """place, and category where there is one: cross-entropy of the target among the catalogue, or the part drawn."""
        assert isinstance(batch, PlaceBatch)
        window, target_B = self.encode(batch), batch.candidates_BC[:, 0]
        compared = compared_rows(self.sizes.num_items, target_B, batch.drawn_N)
        items_RD = F.embedding(compared.rows_R, self.places.value.weight)
        place_B = place_loss(self.place_logits(window, items_RD, batch.points_I3[compared.rows_R]), compared, batch)
        if not any(self.sizes.category_sizes[:1]):
            return {"place": batch.gather(place_B).mean()}
        wanted_B = _first_category(batch)[target_B]
        category_B = F.cross_entropy(self.category_logits(window), wanted_B, ignore_index=0, reduction="none")
        known = batch.gather((wanted_B > 0).to(category_B.dtype)).sum().clamp(min=1)
        return {"place": batch.gather(place_B).mean(), "category": batch.gather(category_B).sum() / known}

    def term_weights(self) -> dict[str, float]:
        """The category loss weighs `category_weight`."""
        return {"category": self.config.category_weight}

    def encode(self, batch: PlaceBatch) -> Window:
        """The newest `history_len` check-ins of each case after all layers."""
        config, is_fixed = self.config, self.config.lengths == "fixed"
        count_B = batch.feed_is_real_BF.sum(1).clamp(max=config.history_len)
        width = config.history_len if is_fixed else max(1, int(count_B.max()))
        at_BL = (batch.feed_is_real_BF.sum(1) - count_B)[:, None] + torch.arange(width, device=count_B.device)
        is_real_BL = torch.arange(width, device=count_B.device) < count_B[:, None]
        at_BL = torch.where(is_real_BL, at_BL, 0)
        places_BL, hours_BL = (torch.where(is_real_BL, x.gather(1, at_BL), 0) for x in (batch.feed_items_BF, batch.hours_BF))
        length_B = count_B.clamp(min=1)
        is_real_BL = torch.arange(width, device=count_B.device) < (width if is_fixed else length_B[:, None])
        place_BLD = self.drop(self.places(batch.user_B, places_BL, hours_BL))
        category_BLD = self.drop(self.categories(batch.user_B, _first_category(batch)[places_BL], hours_BL))
        for block in self.blocks:
            place_BLD, category_BLD = block(place_BLD, category_BLD, None if is_fixed else length_B)
        points_BL3 = batch.points_I3[places_BL]
        if config.distance == "kilometres":
            scale_km = torch.tensor(config.scale_km, device=count_B.device)
        else:
            far = distance_km(points_BL3[:, :, None], batch.points_I3[1:])
            scale_km = far.max() - far.min()
        weight_BL = is_real_BL.to(place_BLD.dtype).expand(len(batch), -1)
        if self.mix is not None:  # the newest check-in has the last weight
            slot_BL = torch.arange(width, device=count_B.device) + (0 if is_fixed else config.history_len - length_B[:, None])
            slot_BL = slot_BL.clamp(max=config.history_len - 1)
            weight_BL = weight_BL * F.embedding(slot_BL, self.mix.weight.T).squeeze(-1)
        return Window(places_BL, is_real_BL.expand_as(places_BL), weight_BL, points_BL3, scale_km, place_BLD, category_BLD)

    def place_logits(self, window: Window, items_CD: Tensor, points_C3: Tensor) -> Tensor:
        """Logits of candidates given by embeddings and points, [C, …] for all cases or [B, C, …]; [B, C]."""
        dots_BLC = window.place_BLD @ items_CD.mT
        km_BLC = distance_km(window.points_BL3[:, :, None], points_C3[..., None, :, :])
        return self._predicted(window, dots_BLC, torch.where(window.places_BL[..., None] > 0, km_BLC, 0.0))

    def category_logits(self, window: Window) -> Tensor:
        """Logits of all categories, [B, K + 1]; column 0 stands for none."""
        logits_BK = self._predicted(window, window.category_BLD @ self.categories.value.weight.T, None)
        return torch.cat([torch.full_like(logits_BK[:, :1], -torch.inf), logits_BK[:, 1:]], 1)

    def nearness(self, window: Window, km_BLC: Tensor) -> Tensor:
        """What a distance does to a pair: a factor ("code"), or what is added before the softmax ("text"); falls with it."""
        if self.decay is None:
            return (-km_BLC / window.scale_km).exp()
        slope, scale = F.softplus(self.decay)
        added_BLC: Tensor = -slope * torch.log1p(km_BLC / (scale * window.scale_km))
        return added_BLC

    def _predicted(self, window: Window, dots_BLC: Tensor, km_BLC: Tensor | None) -> Tensor:
        if self.mix is not None:
            pairs_BLC = dots_BLC if km_BLC is None else dots_BLC * self.nearness(window, km_BLC)
            return (window.weight_BL[:, None] @ pairs_BLC).squeeze(1) + self.mix.bias
        logits_BLC = dots_BLC if km_BLC is None else dots_BLC + self.nearness(window, km_BLC)
        share_BLC = logits_BLC.masked_fill(~window.is_real_BL[..., None], -torch.inf).softmax(1)
        return (share_BLC * dots_BLC).sum(1)

    def item_vectors(self, batch: SearchRecommendBatch, rows_R: Tensor) -> Tensor:
        """The embeddings of the item rows, [R, D]."""
        return F.embedding(rows_R, self.places.value.weight)


def _mixer(config: AutoMTNNet.Config) -> AutoCorrelation:
    if config.lags == "exact":
        return AutoCorrelation(config.dim, config.heads)
    if config.lags == "paper_code":
        return AutoCorrelation(config.dim, config.heads, lags="paper_code", direction="paper", normalise=False)
    return ShortLags(config.dim, config.heads)


def _first_category(batch: PlaceBatch) -> Tensor:
    """The first category column of all item rows, [items + 1]; zeros where there is none."""
    table = batch.catalogue.item_categories
    return table[:, 0] if table.shape[1] else table.new_zeros(len(table))
