"""Why an item is here: how much each past event has to do with its score, beside what the score loses without the event.

Shape suffixes: B pasts, C items, E past events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from corsar.api.engine import best_of, question_batch
from corsar.api.past import Entry, Past, people_of
from corsar.artifact import Artifact
from corsar.batch import Ragged, SearchRecommendBatch, Task
from corsar.models.unisar import UniSARNet
from corsar.nn.attention import TargetAttention, masked_softmax
from corsar.nn.packing import Packing

TOP = 5  # events that are told of an item
NEWEST = 20  # events that are left out one by one, of a model without attention
MOST = 20  # items that are explained at once

Why = list[dict[str, Any]]  # events: kind, item_id, query, text, weight, drop; the largest weight first


def method_of(artifact: Artifact) -> str:
    """How the weights of `reasons` come about with this model: "attention" or "left out"."""
    return "attention" if isinstance(artifact.model, UniSARNet) else "left out"


def reasons(artifact: Artifact, task: Task, user_row: int, past: Past, words: Sequence[int], rows: Sequence[int]) -> list[Why]:
    """For each item row the past events with the largest weights, at most `TOP` of those whose weight is not 0.

    `drop` is what the item's score (a logit) loses when this one event is left out of the past and all else stays: exact, and
    below 0 where the event speaks against the item. Drops of several events do not add up to that of all of them.

    `weight`, of a model with target attention (UniSAR): how the candidate weighs the events of its two histories. Each side's
    attention sums to 1; where both have events, each counts one half, so that the weights of all events sum to 1. It is what
    the model looks at, after every event has taken up something of its neighbours. It is no proof of cause: an event with
    a large weight may change nothing, for the sides are not worth the same and what is read may not matter to the score.

    `weight`, of any other model: the drop of the event, divided by the sum of the drops of the newest `NEWEST` events, all
    without their signs; the signs are kept.

    Args:
        words: word rows of the query, for search.
    """
    if not past or not rows:
        return [[] for _ in rows]
    weights_CE = attention(artifact, task, user_row, past, words, rows)
    if weights_CE is None:
        looked_at = list(range(max(0, len(past) - NEWEST), len(past)))
        drops_CE = left_out(artifact, task, user_row, past, words, rows, looked_at)
        weights_CE = drops_CE / drops_CE.abs().sum(1, keepdim=True).clamp(min=torch.finfo(drops_CE.dtype).tiny)
        largest_CT = _largest(weights_CE)
    else:
        largest_CT = _largest(weights_CE)
        looked_at = torch.unique(largest_CT).tolist()
        drops_CE = left_out(artifact, task, user_row, past, words, rows, looked_at)
    return [
        [_shown(artifact, past[e], float(weights_CE[c, e]), float(drops_CE[c, e])) for e in events if weights_CE[c, e]]
        for c, events in enumerate(largest_CT.tolist())
    ]


def attention(
    artifact: Artifact, task: Task, user_row: int, past: Past, words: Sequence[int], rows: Sequence[int]
) -> Tensor | None:
    """How each item weighs the past events, [C, E], each row of sum 1; None of a model without target attention.

    Events before the window that the model reads have 0, and all have where it reads none of them.
    """
    model = artifact.model
    if not isinstance(model, UniSARNet):
        return None
    people = people_of(artifact, [past], torch.tensor([user_row]))
    queries = Ragged.of([list(words)]) if task == "search" else None
    with torch.inference_mode():
        batch = replace(question_batch(artifact, task, people, queries), candidates_BC=torch.tensor([list(rows)]))
        feed_BCF, search_BCS = target_attention(model, batch)
    weights_CE = feed_BCF.new_zeros(len(rows), len(past))
    is_search_E = torch.tensor([entry.is_search for entry in past])
    for side_CL, is_real_BL, of_side_E in (
        (feed_BCF[0], batch.feed_is_real_BF, ~is_search_E),
        (search_BCS[0], batch.search_is_real_BS, is_search_E),
    ):
        num = int(is_real_BL.sum())
        at = of_side_E.nonzero().squeeze(1)
        weights_CE[:, at[len(at) - num :]] = side_CL[:, :num]
    return weights_CE / weights_CE.sum(1, keepdim=True).clamp(min=1)


def target_attention(model: UniSARNet, batch: SearchRecommendBatch) -> tuple[Tensor, Tensor]:
    """What `UniSARNet.interests` weighs feed events and searches by, [B, C, F] and [B, C, S]; 0 at padding."""
    encoded = model.encode(batch)
    target_BCD = F.embedding(encoded.item_place[batch.candidates_BC], encoded.items_RD)
    if batch.task == "search" and model.config.query_in_attention:
        target_BCD = target_BCD + F.embedding(batch.query_B, encoded.queries_QD)[:, None]
    sides = ((model.feed_interest, encoded.feed_TD, encoded.feed), (model.search_interest, encoded.search_UD, encoded.search))
    feed_BCF, search_BCS = (_weights(side, history_TD, at, target_BCD) for side, history_TD, at in sides)
    return feed_BCF, search_BCS


def _weights(side: TargetAttention, history_TD: Tensor, at: Packing, target_BCD: Tensor) -> Tensor:
    logits_BCL = target_BCD @ at.unpack(history_TD @ side.weight).transpose(1, 2)
    is_real_B1L = at.is_real_BL[:, None]
    return masked_softmax(logits_BCL, is_real_B1L, "zero") * is_real_B1L


def left_out(
    artifact: Artifact,
    task: Task,
    user_row: int,
    past: Past,
    words: Sequence[int],
    rows: Sequence[int],
    events: Sequence[int],
) -> Tensor:
    """What the score of each item loses without each of the given events, [C, E]; 0 for the other events."""
    pasts = [past, *([*past[:event], *past[event + 1 :]] for event in events)]
    people = people_of(artifact, pasts, torch.full((len(pasts),), user_row))
    queries = Ragged.of([list(words)] * len(pasts)) if task == "search" else None
    found_BC, scores_BC = best_of(artifact, task, people, queries, torch.tensor([list(rows)] * len(pasts)))
    scores_BC = scores_BC.gather(1, found_BC.argsort(1))[:, torch.tensor(rows).argsort().argsort()]
    drops_CE = scores_BC.new_zeros(len(rows), len(past))
    drops_CE[:, list(events)] = (scores_BC[0] - scores_BC[1:]).T
    return drops_CE


def _largest(weights_CE: Tensor) -> Tensor:
    """The events with the largest weights whatever their signs, the newest first among equal ones, [C, TOP]."""
    newest_first = weights_CE.abs().flip(1).sort(dim=1, descending=True, stable=True).indices[:, :TOP]
    return weights_CE.shape[1] - 1 - newest_first


def _shown(artifact: Artifact, entry: Entry, weight: float, drop: float) -> dict[str, Any]:
    known = [item for item in entry.items if item]
    ids, texts = artifact.items.ids(known).to_list(), artifact.item_text(known)
    items = ", ".join(text or str(item) for text, item in zip(texts, ids, strict=True))
    told: dict[str, Any] = {"kind": "search" if entry.is_search else "feed"}
    if ids:
        told["item_id"] = ids[0]
    if entry.words is not None:
        told["query"] = " ".join(artifact.words.ids(entry.words).to_list())
        items = f"{told['query']} → {items}" if items else told["query"]
    return told | {"text": items, "weight": weight, "drop": drop}
