"""Returns and discoveries: a mixture of what a person repeats and what a model finds, in one softmax over all places.

    exp(z_c) = exp(s_c) + sum over check-ins j of the history at place c of exp(a_j)

s is the model's logit plus a learned bias of the place; a_j is a small network over what is known of check-in j and of the
history: how old it is, in check-ins and in hours; how often and how lately its place was visited; its hour of the day; whether
the places, the category and the hour before it were those of now; how long the history is and how often it repeated itself.
With a_j = 0 the places visited share their mass by counts, with an a_j that falls with age by recency, and with one that looks
at the place before by transitions.

Source
    The copy mode of Gu et al., "Incorporating Copying Mechanism in Sequence-to-Sequence Learning" (ACL 2016), on the split of
    Ren et al., "RepeatNet" (AAAI 2019), into repeating and exploring. Here the person's own check-ins are what is copied.

Cost
    The network runs over the whole history that the batch holds.

Shape suffixes: B cases, F slots of the history, C candidates, I item rows, X things known of a check-in.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.places import HOUR_MS, WEEK_HOURS, PlaceBatch

KNOWN, HIDDEN = 27, 32
CHUNK = 16  # rows whose check-ins are weighed at once
NOWHERE = -1e4  # the logit of what is not there: its exponential is 0, and no difference of two is undefined


Masses = tuple[Tensor, Tensor]  # exp(logit - shift) of the check-ins at each place, [B, I], and the shift, [B, 1]


class ReturnHead(nn.Module):
    """Adds what a person repeats to a model's logits."""

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(num_items + 1, 1, padding_idx=0)
        self.inner, self.outer = nn.Linear(KNOWN, HIDDEN), nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, logits_BC: Tensor, candidates_BC: Tensor, masses: Masses) -> Tensor:
        """Logits of the mixture, [B, C]."""
        logits_BC = logits_BC + self.bias(candidates_BC).squeeze(-1)
        mass_BC = masses[0].gather(1, candidates_BC)
        was_there = mass_BC > 0
        repeated_BC = torch.where(was_there, mass_BC, 1.0).log() + masses[1]
        return torch.logaddexp(logits_BC, torch.where(was_there, repeated_BC, NOWHERE))

    def loss(self, logits_BR: Tensor, rows_R: Tensor, extra_R: Tensor, target_B: Tensor, batch: PlaceBatch) -> Tensor:
        """Minus the log-likelihood of the targets, which stand at `target_B` among the rows, [B].

        The sum over all places is one over places and check-ins; `extra_R` is for places of which the rows are a part.
        """
        logits_BR = logits_BR + self.bias(rows_R).squeeze(-1)
        weight_BF = self.weigh(batch)
        is_target_BF = batch.feed_items_BF == rows_R[target_B][:, None]
        all_B = torch.logaddexp((logits_BR + extra_R).logsumexp(1), weight_BF.logsumexp(1))
        own_B = torch.where(is_target_BF, weight_BF, NOWHERE).logsumexp(1)
        return all_B - torch.logaddexp(logits_BR.gather(1, target_B[:, None]).squeeze(1), own_B)

    def masses(self, batch: PlaceBatch) -> Masses:
        """The mass of each place of each history, [B, items + 1], and the shift that keeps it in range."""
        logits_BF = self.weigh(batch)
        shift_B1 = logits_BF.detach().amax(1, keepdim=True)
        mass_BF = torch.where(_is_visit(batch), (logits_BF - shift_B1).clamp(min=-80).exp(), 0.0)
        mass_BI = mass_BF.new_zeros(len(batch), len(self.bias.weight))
        return mass_BI.scatter_add(1, batch.feed_items_BF, mass_BF), shift_B1

    def weigh(self, batch: PlaceBatch) -> Tensor:
        """The logit of each check-in of the history, [B, F]; NOWHERE for pads and unknown places."""
        count_B, slots = batch.feed_is_real_BF.sum(1), batch.feed_items_BF.shape[1]
        order_B, parts = count_B.argsort(stable=True), []
        for rows in torch.split(order_B, CHUNK):  # rows of like length, so that few pads are looked at
            part = _cut(batch.take(rows), max(1, int(count_B[rows[-1]])))
            known_BFX = known_of(part).to(self.inner.weight.dtype)
            logits_BF = self.outer(torch.tanh(self.inner(known_BFX))).squeeze(-1)
            logits_BF = torch.where(_is_visit(part), logits_BF, NOWHERE)
            parts.append(F.pad(logits_BF, (0, slots - logits_BF.shape[1]), value=NOWHERE))
        return torch.cat(parts)[order_B.argsort()]


def _cut(batch: PlaceBatch, width: int) -> PlaceBatch:
    """The first `width` slots of the window, behind which there are pads alone."""
    cut = {f.name: getattr(batch, f.name)[:, :width] for f in dataclasses.fields(batch) if f.name.endswith("_BF")}
    return dataclasses.replace(batch, **cut)


def _is_visit(batch: PlaceBatch) -> Tensor:
    return batch.feed_is_real_BF & (batch.feed_items_BF > 0)


def known_of(batch: PlaceBatch) -> Tensor:
    """What is known of each check-in, [B, F, X], of the size of 1; pads hold nothing of use.

    `now` is the newest check-in; where the hour of the target is told, hours are compared with that.
    """
    places_BF, hours_BF, real_BF = batch.feed_items_BF, batch.hours_BF, batch.feed_is_real_BF
    count_B1 = real_BF.sum(1, keepdim=True)
    newest_B1 = (count_B1 - 1).clamp(min=0)
    age_BF = (newest_B1 - torch.arange(places_BF.shape[1], device=places_BF.device)).clamp(min=0)

    def now(x_BF: Tensor) -> Tensor:
        return x_BF.gather(1, newest_B1)

    def before(x_BF: Tensor) -> Tensor:
        return F.pad(x_BF[:, :-1], (1, 0))

    table = batch.catalogue.item_categories
    category_BF = table[:, 0][places_BF] if table.shape[1] else torch.zeros_like(places_BF)
    is_told_B1 = batch.hour_B[:, None] > 0
    asked_BF = torch.where(is_told_B1, hours_BF, before(hours_BF))
    wanted_B1 = torch.where(is_told_B1, batch.hour_B[:, None], now(hours_BF))
    is_known_BF = (asked_BF > 0) & (wanted_B1 > 0)
    apart_BF = (asked_BF - wanted_B1) * is_known_BF

    def turn(period: int) -> Tensor:
        return torch.cos(2 * math.pi / period * apart_BF) * is_known_BF

    count_BF, is_new_BF, is_last_BF, since_BF = visits_of(places_BF, real_BF)
    was_here_BF, is_pair_BF = before(places_BF) == now(places_BF), before(before(places_BF)) == now(before(places_BF))
    weekend_BF, clock_B1 = (hours_BF - 1) % WEEK_HOURS >= 5 * 24, 2 * math.pi / 24 * now(hours_BF)
    clock_BF = 2 * math.pi / 24 * (hours_BF - wanted_B1)
    hours_ago_BF = (now(batch.times_BF) - batch.times_BF).clamp(min=0) / HOUR_MS
    gap_B1 = (now(batch.times_BF) - now(before(batch.times_BF))).clamp(min=0) / HOUR_MS * (count_B1 > 1)
    own = [
        torch.log1p(age_BF) / 4, torch.log1p(hours_ago_BF) / 4, age_BF == 0, turn(24), turn(WEEK_HOURS),
        places_BF == now(places_BF), was_here_BF, is_pair_BF, is_pair_BF & was_here_BF, places_BF == now(before(places_BF)),
        before(category_BF) == now(category_BF), category_BF == now(category_BF), before(weekend_BF) == now(weekend_BF),
        torch.log1p(count_BF) / 4, count_BF / count_B1.clamp(min=1), is_last_BF, torch.log1p(since_BF) / 4,
        *((clock_BF - 2 * math.pi / 24 * later).cos() * (hours_BF > 0) for later in (1, 4, 10)),
    ]  # fmt: skip
    whole = [
        torch.log1p(count_B1) / 4, is_new_BF.sum(1, keepdim=True) / count_B1.clamp(min=1), now(is_new_BF),
        torch.log1p(gap_B1) / 4, clock_B1.sin(), clock_B1.cos(), now(weekend_BF),
    ]  # fmt: skip
    return torch.stack([x.float().expand_as(places_BF) for x in (*own, *whole)], -1)


def visits_of(places_BF: Tensor, real_BF: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each check-in, [B, F]: visits of its place in the row, whether it is the first and the last, and the age of that."""
    own_BF = torch.where(real_BF, places_BF, -1)
    at_BF = own_BF.sort(dim=1, stable=True)
    starts_BF = F.pad(at_BF.values[:, 1:] != at_BF.values[:, :-1], (1, 0), value=True)
    group_BF = torch.zeros_like(own_BF).scatter(1, at_BF.indices, starts_BF.cumsum(1) - 1)  # places of a row, numbered
    slot_BF = torch.arange(places_BF.shape[1], device=places_BF.device).expand_as(own_BF)
    count_BG = torch.zeros_like(own_BF).scatter_add(1, group_BF, torch.ones_like(own_BF))
    last_BF = torch.zeros_like(own_BF).scatter_reduce(1, group_BF, slot_BF, "amax").gather(1, group_BF)
    is_new_BF = torch.zeros_like(starts_BF).scatter(1, at_BF.indices, starts_BF) & real_BF
    newest_B1 = (real_BF.sum(1, keepdim=True) - 1).clamp(min=0)
    return count_BG.gather(1, group_BF).float(), is_new_BF, last_BF == slot_BF, (newest_B1 - last_BF).clamp(min=0).float()
