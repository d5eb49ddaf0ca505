"""Returns and discoveries: a mixture of what a person repeats and what is new to them, in one softmax over all places.

    exp(z_c) = sum over check-ins j of the history at place c of exp(a_j) / n        (n check-ins: what the person repeats)
             + exp(t) / 2 * share of c among the transitions from the last place     (where people went from here)
             + exp(s_c + b_c) * POPULAR * share of c among all check-ins      (what is new: the model's logit s_c)

a_j is a small network over what is known of check-in j and of the history: how old it is, in check-ins and in hours; how often
and how lately its place was visited; its hour of the day and week; whether the places, the category and the hour before it were
those of now; how long the history is and how often it repeated itself. t is linear in what is known of the history.

It begins at a_j, t, b_c and s_c of nearly 0, where the mixture is the rule of visits_markov.py (its `tie_weight` is POPULAR
over all check-ins); training, whose L2 pulls towards that point, moves on from the best rule that nobody trains. Transitions
and popularity are counts of the training part. A training case is in them itself, so in training it is taken out of them.

Source
    The copy mode of Gu et al., "Incorporating Copying Mechanism in Sequence-to-Sequence Learning" (ACL 2016), on the split of
    Ren et al., "RepeatNet" (AAAI 2019), into repeating and exploring. Here the person's own check-ins are what is copied.

Cost
    The network runs over the whole history that the batch holds; one number for each pair of places that followed each other.

Shape suffixes: B cases, F slots of the history, C candidates, R item rows of a step, I item rows, X things known of a check-in.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corsar.batch import Catalogue, TrainEvents
from corsar.models.compared import Compared
from corsar.models.counted import item_counts
from corsar.models.markov import count_transitions, last_places, transitions, transitions_out
from corsar.places import HOUR_MS, WEEK_HOURS, PlaceBatch

OWN, WHOLE, HIDDEN = 22, 5, 32
CHUNK = 16  # rows whose check-ins are weighed at once
NOWHERE = -1e4  # the logit of what is not there: its exponential is 0, and no difference of two is undefined
POPULAR = 0.05  # the mass of what is new, before training
UNSEEN = 0.5  # added to all counts of popularity, so that a place without any can be found
LATER = 1e-6  # what the place of its last visit adds to a place, by which equals are ordered
SMALL = 1e-3  # of the first weights that are multiplied: at 0, those before them would get no gradient

Masses = tuple[Tensor, Tensor]  # exp(logit - shift) of what each place has without the model, [B, I], and the shift, [B, 1]


class ReturnHead(nn.Module):
    """Adds what a person repeats, and where people went from here, to a model's logits."""

    pair_keys: Tensor
    pair_values: Tensor
    popularity: Tensor

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(num_items + 1, 1, padding_idx=0)
        self.inner, self.outer = nn.Linear(OWN + WHOLE, HIDDEN), nn.Linear(HIDDEN, 1)
        self.moved = nn.Linear(WHOLE + 1, 1)
        nn.init.normal_(self.outer.weight, std=SMALL)
        for zero in (self.bias.weight, self.outer.bias, self.moved.weight, self.moved.bias):
            nn.init.zeros_(zero)
        self.register_buffer("pair_keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("pair_values", torch.zeros(0))
        self.register_buffer("popularity", torch.zeros(num_items + 1))

    def count(self, events: TrainEvents, catalogue: Catalogue) -> None:
        """Count transitions and popularity of the training part."""
        self.popularity = item_counts(events, catalogue.num_items).float()
        self.pair_keys, self.pair_values = count_transitions(events, len(self.popularity))

    def forward(self, logits_BC: Tensor, candidates_BC: Tensor, masses: Masses) -> Tensor:
        """Logits of the mixture, [B, C]."""
        mass_BC = masses[0].gather(1, candidates_BC)
        was_there = mass_BC > 0
        known_BC = torch.where(was_there, mass_BC, 1.0).log() + masses[1]
        return torch.logaddexp(self._new(logits_BC, candidates_BC), torch.where(was_there, known_BC, NOWHERE))

    def loss(self, logits_BR: Tensor, compared: Compared, batch: PlaceBatch) -> Tensor:
        """Minus the log-likelihood of the target of each case, [B].

        The sum over all places is one over places, check-ins and transitions. In training, the target itself is taken out of
        the counts.
        """
        at_B1, place_B1 = compared.at_B[:, None], compared.rows_R[compared.at_B][:, None]
        self_B1 = torch.ones_like(place_B1).float() * self.training
        logits_BR = self._new(logits_BR, compared.rows_R.expand(len(batch), -1))
        counted_B1 = self.popularity[place_B1] + UNSEEN
        without_B1 = ((counted_B1 - self_B1).clamp(min=UNSEEN) / counted_B1).log()
        logits_BR = logits_BR.scatter_add(1, at_B1, without_B1)
        times_B1 = transitions(self.pair_keys, self.pair_values, len(self.popularity), last_places(batch), place_B1)
        self_B1 = self_B1 * (times_B1 > 0)
        weight_BF, (gate_B1, _, out_B1) = self.weigh(batch), self._moves(batch, self_B1)
        share_B1 = ((times_B1 - self_B1) / out_B1.clamp(min=1)).to(gate_B1.dtype)
        moved_B1 = torch.where(out_B1 > 0, gate_B1, NOWHERE)
        to_target_B1 = torch.where(share_B1 > 0, gate_B1 + torch.where(share_B1 > 0, share_B1, 1.0).log(), NOWHERE)
        is_target_BF = batch.feed_items_BF == place_B1
        own_BF = torch.where(is_target_BF, weight_BF, NOWHERE)
        all_B = torch.cat([logits_BR + compared.extra_R, weight_BF, moved_B1], 1).logsumexp(1)
        return all_B - torch.cat([logits_BR.gather(1, at_B1), own_BF, to_target_B1], 1).logsumexp(1)

    def masses(self, batch: PlaceBatch) -> Masses:
        """The mass of each place of each history, [B, items + 1], and the shift that keeps it in range."""
        logits_BF, (gate_B1, last_B1, out_B1) = self.weigh(batch), self._moves(batch)
        shift_B1 = torch.maximum(logits_BF.detach().amax(1, keepdim=True), gate_B1.detach())
        mass_BF = torch.where(_is_visit(batch), (logits_BF - shift_B1).clamp(min=-80).exp(), 0.0)
        every_BI = torch.arange(len(self.popularity), device=last_B1.device).expand(len(batch), -1)
        moved_BI = transitions(self.pair_keys, self.pair_values, len(self.popularity), last_B1, every_BI) / out_B1.clamp(min=1)
        mass_BI = moved_BI.to(mass_BF.dtype) * (gate_B1 - shift_B1).exp()
        return mass_BI.scatter_add(1, batch.feed_items_BF, mass_BF), shift_B1

    def weigh(self, batch: PlaceBatch) -> Tensor:
        """The logit of each check-in of the history, [B, F]; NOWHERE for pads and unknown places."""
        count_B, slots = batch.feed_is_real_BF.sum(1), batch.feed_items_BF.shape[1]
        order_B, parts = count_B.argsort(stable=True), []
        for rows in torch.split(order_B, CHUNK):  # rows of like length, so that few pads are looked at
            part = _cut(batch.take(rows), max(1, int(count_B[rows[-1]])))
            visits_B1 = _is_visit(part).sum(1, keepdim=True).clamp(min=1)
            known_BFX, later_BF = known_of(part)
            logits_BF = self.outer(torch.tanh(self.inner(known_BFX.to(self.inner.weight.dtype)))).squeeze(-1)
            logits_BF = logits_BF + torch.log1p(LATER * visits_B1 * later_BF) - visits_B1.log()
            logits_BF = torch.where(_is_visit(part), logits_BF, NOWHERE)
            parts.append(F.pad(logits_BF, (0, slots - logits_BF.shape[1]), value=NOWHERE))
        return torch.cat(parts)[order_B.argsort()]

    def _new(self, logits_BC: Tensor, candidates_BC: Tensor) -> Tensor:
        counted_I = self.popularity + UNSEEN
        prior_I = (POPULAR * counted_I / self.popularity.sum().clamp(min=1)).log() + self.bias.weight.squeeze(-1)
        return logits_BC + prior_I[candidates_BC]

    def _moves(self, batch: PlaceBatch, less_B1: Tensor | float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Logit of all that people did from the last place, that place, and how often they went anywhere from it, [B, 1]."""
        last_B1 = last_places(batch)
        out_B1 = transitions_out(self.pair_keys, self.pair_values, len(self.popularity), last_B1) - less_B1
        newest_BX = torch.cat([whole_of(batch), torch.log1p(out_B1).float() / 4], 1)
        return self.moved(newest_BX.to(self.moved.weight.dtype)) - math.log(2), last_B1, out_B1


def _cut(batch: PlaceBatch, width: int) -> PlaceBatch:
    """The first `width` slots of the window, behind which there are pads alone."""
    cut = {f.name: getattr(batch, f.name)[:, :width] for f in dataclasses.fields(batch) if f.name.endswith("_BF")}
    return dataclasses.replace(batch, **cut)


def _is_visit(batch: PlaceBatch) -> Tensor:
    return batch.feed_is_real_BF & (batch.feed_items_BF > 0)


def whole_of(batch: PlaceBatch) -> Tensor:
    """What is known of each history, [B, X]: how long it is, how long the newest step took, the hour and the day of now."""
    hours_BF, times_BF, count_B1 = batch.hours_BF, batch.times_BF, batch.feed_is_real_BF.sum(1, keepdim=True)
    newest_B1 = (count_B1 - 1).clamp(min=0)
    gap_B1 = times_BF.gather(1, newest_B1) - times_BF.gather(1, (newest_B1 - 1).clamp(min=0))
    hour_B1 = hours_BF.gather(1, newest_B1)
    clock_B1 = 2 * math.pi / 24 * hour_B1
    return torch.cat([
        torch.log1p(count_B1) / 4, torch.log1p(gap_B1.clamp(min=0) / HOUR_MS) / 4,
        clock_B1.sin(), clock_B1.cos(), _is_weekend(hour_B1).float(),
    ], 1)  # fmt: skip


def known_of(batch: PlaceBatch) -> tuple[Tensor, Tensor]:
    """What is known of each check-in, [B, F, X], of the size of 1; and its place in the history where it is its place's last.

    `now` is the newest check-in; where the hour of the target is told, hours are compared with that. Pads hold nothing of use.
    """
    places_BF, hours_BF, real_BF = batch.feed_items_BF, batch.hours_BF, batch.feed_is_real_BF
    count_B1 = real_BF.sum(1, keepdim=True)
    newest_B1 = (count_B1 - 1).clamp(min=0)
    slot_BF = torch.arange(places_BF.shape[1], device=places_BF.device).expand_as(places_BF)
    age_BF = (newest_B1 - slot_BF).clamp(min=0)

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
    weekend_BF, clock_BF = _is_weekend(hours_BF), 2 * math.pi / 24 * (hours_BF - wanted_B1)
    hours_ago_BF = (now(batch.times_BF) - batch.times_BF).clamp(min=0) / HOUR_MS
    known = [
        torch.log1p(age_BF) / 4, torch.log1p(hours_ago_BF) / 4, age_BF == 0, turn(24), turn(WEEK_HOURS),
        places_BF == now(places_BF), was_here_BF, is_pair_BF, is_pair_BF & was_here_BF, places_BF == now(before(places_BF)),
        before(category_BF) == now(category_BF), category_BF == now(category_BF), before(weekend_BF) == now(weekend_BF),
        torch.log1p(count_BF) / 4, count_BF / count_B1.clamp(min=1), is_last_BF, torch.log1p(since_BF) / 4,
        *((clock_BF - 2 * math.pi / 24 * later).cos() * (hours_BF > 0) for later in (1, 4, 10)),
        is_new_BF.sum(1, keepdim=True) / count_B1.clamp(min=1), now(is_new_BF), *whole_of(batch).T[..., None],
    ]  # fmt: skip
    return torch.stack([x.float().expand_as(places_BF) for x in known], -1), (slot_BF + 1) * is_last_BF


def _is_weekend(hours: Tensor) -> Tensor:
    return (hours - 1) % WEEK_HOURS >= 5 * 24


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
