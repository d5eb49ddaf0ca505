"""Places of the targets of cases among their candidates, and the first items, batch by batch so that memory is bounded.

Shape suffixes: B cases, C candidates, I item rows of the catalogue, K places of a list, N all cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from corsar.batch import SearchRecommendBatch
from corsar.config import DataSection
from corsar.data.loader import case_batches
from corsar.data.store import Cases, Dataset
from corsar.evaluate.ties import Bools, Floats, Ints, places, sigmoid
from corsar.models.base import Model
from corsar.windows import History

PAIRS = 1 << 15  # (case, candidate) pairs scored at once
MAX_CASES = 1024  # cases scored at once, however few their candidates
WHOLE = (64, 64)  # cases and items at once where all items are candidates: what a model makes of them stays in the cache


class Ranked(NamedTuple):
    """Where the targets stand, and what stands first."""

    better_N: Ints  # candidates strictly better than the target
    tied_N: Ints  # candidates tied with it, itself included
    top_NK: Ints  # item rows, the best first, of equal scores the smaller row first; 0 behind the last


def model_device(model: Model) -> torch.device:
    """Where the model lies."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def rank_targets(
    model: Model,
    dataset: Dataset,
    cases: Cases,
    negatives_NC: Tensor | None,
    data: DataSection,
    *,
    score: Literal["logit", "sigmoid"] = "logit",
    exclude_seen: bool = False,
    top: int = 0,
    block: tuple[int, int] = WHOLE,
    advance: Callable[[int], None] | None = None,
) -> Ranked:
    """For each case the place of its target, and the first `top` candidates.

    Args:
        negatives_NC: candidates beside the target, 0 pads; None for all items but the session mates.
        score: sigmoid ranks by the float32 logistic of the scores.
        exclude_seen: the items that the user had before a recommend case are no candidates of it; whole catalogue alone.
        block: cases and items scored at once, where all items are candidates.
        advance: told how many cases are done.
    """
    whole = negatives_NC is None
    candidates_NC = cases.item_N[:, None] if negatives_NC is None else torch.cat([cases.item_N[:, None], negatives_NC], 1)
    size = block[0] if whole else max(1, min(MAX_CASES, PAIRS // max(1, candidates_NC.shape[1])))
    seen_by = dataset.history if exclude_seen and cases.task == "recommend" else None
    batches = case_batches(dataset, cases, candidates_NC, data, size, model_device(model))
    none = np.zeros(0, dtype=np.int64)
    found = [Ranked(none, none, np.zeros((0, top), dtype=np.int64))]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for at, batch in enumerate(batches):
                rows = torch.arange(at * size, at * size + len(batch))
                if whole:
                    allowed_BI = _allowed(cases.take(rows), seen_by, dataset.catalogue.num_items)
                    found.append(_whole_catalogue(model, batch, allowed_BI, score, block[1], top))
                else:
                    found.append(_listed(_comparable(model.score(batch), score), candidates_NC[rows].numpy(), top))
                if advance is not None:
                    advance(len(batch))
    finally:
        model.train(was_training)
    return Ranked(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def best_columns(scores_BC: Floats, num: int) -> Ints:
    """Columns of the `num` highest scores, the best first, of equal ones the left first, [B, num or C if that is less].

    It keeps what is above the last score that gets in, then fills up from the left: no row is sorted as a whole.
    """
    num, last = min(num, scores_BC.shape[1]), max(0, scores_BC.shape[1] - num)
    if num == 0:
        return np.zeros((len(scores_BC), 0), dtype=np.int64)
    bound_B1 = np.partition(scores_BC, last, axis=1)[:, last, None]
    keep_BC, tied_BC = scores_BC > bound_B1, scores_BC == bound_B1
    room_B1 = num - keep_BC.sum(1, keepdims=True)
    if (tied_BC.sum(1, keepdims=True) > room_B1).any():
        tied_BC &= np.cumsum(tied_BC, 1) <= room_B1
    column_BK = np.nonzero(keep_BC | tied_BC)[1].reshape(-1, num)
    order_BK = np.argsort(-np.take_along_axis(scores_BC, column_BK, 1), axis=1, kind="stable")
    return np.take_along_axis(column_BK, order_BK, 1)


def _top(scores_BC: Floats, items_BC: Ints, allowed_BC: Bools, num: int) -> tuple[Floats, Ints]:
    """Scores and rows of the best allowed items, [B, num]; the columns of `items_BC` must ascend where scores are equal."""
    masked_BC = np.where(allowed_BC, scores_BC, -np.inf)
    column_BK = best_columns(masked_BC, num)
    best_BK, item_BK = np.take_along_axis(masked_BC, column_BK, 1), np.take_along_axis(items_BC, column_BK, 1)
    short = ((0, 0), (0, num - column_BK.shape[1]))
    return np.pad(best_BK, short, constant_values=-np.inf), np.pad(np.where(np.isneginf(best_BK), 0, item_BK), short)


def _listed(scores_BC: Floats, candidates_BC: Ints, top: int) -> Ranked:
    better_B, tied_B = places(scores_BC, candidates_BC != 0)
    order_BC = np.argsort(candidates_BC, axis=1, kind="stable") if top else np.zeros((len(candidates_BC), 0), dtype=np.int64)
    items_BC = np.take_along_axis(candidates_BC, order_BC, 1)
    _, top_BK = _top(np.take_along_axis(scores_BC, order_BC, 1), items_BC, items_BC != 0, top)
    return Ranked(better_B, tied_B, top_BK)


def _comparable(scores_BC: Tensor, score: str) -> Floats:
    if scores_BC.dtype == torch.bfloat16:
        scores_BC = scores_BC.float()
    found: Floats = scores_BC.cpu().numpy()
    return sigmoid(found) if score == "sigmoid" else found


def _allowed(cases: Cases, history: History | None, num_items: int) -> Tensor:
    """Which items are candidates beside the target, [B, I] bool: no session mates, and nothing of the history if given."""
    allowed_BI = torch.ones(len(cases), num_items + 1, dtype=torch.bool)
    allowed_BI[:, 0] = False
    mates = cases.mates
    allowed_BI[torch.repeat_interleave(mates.lengths), mates.values] = False
    if history is not None:
        feed_start = history.feed_offsets[cases.user_N].tolist()
        search_start = history.search_offsets[cases.user_N].tolist()
        ends = zip(cases.feed_end_N.tolist(), cases.search_end_N.tolist(), strict=True)
        clicks = history.search_clicks
        for row, (feed_end, search_end) in enumerate(ends):
            first, last = int(clicks.offsets[search_start[row]]), int(clicks.offsets[search_end])
            allowed_BI[row, history.feed_items[feed_start[row] : feed_end]] = False
            allowed_BI[row, clicks.values[first:last]] = False
    return allowed_BI


def _whole_catalogue(model: Model, batch: SearchRecommendBatch, allowed_BI: Tensor, score: str, chunk: int, top: int) -> Ranked:
    """Places among all allowed items; the target is scored anew with each chunk, so that equal items tie exactly."""
    target_B1 = batch.candidates_BC
    better_B, tied_B = np.zeros(len(batch), dtype=np.int64), np.ones(len(batch), dtype=np.int64)
    best: list[tuple[Floats, Ints]] = [(np.zeros((len(batch), 0)), np.zeros((len(batch), 0), dtype=np.int64))]
    rows_I = torch.arange(1, allowed_BI.shape[1], device=target_B1.device)
    scorer = model.scorer(batch, rows_I)
    for items_C in rows_I.split(chunk):  # type: ignore[no-untyped-call]
        candidates_BC = torch.cat([target_B1, items_C.expand(len(batch), -1)], 1)
        is_target_BC = (candidates_BC == target_B1).cpu().numpy()
        is_other_BC = ~is_target_BC
        is_other_BC[:, 1:] &= allowed_BI[:, items_C.cpu()].numpy()
        scores_BC = _comparable(scorer(candidates_BC), score)
        more, ties = places(scores_BC, is_other_BC)
        better_B += more
        tied_B += ties - 1
        if top:
            of_chunk = candidates_BC[:, 1:].cpu().numpy()
            best.append(_top(scores_BC[:, 1:], of_chunk, (is_target_BC | is_other_BC)[:, 1:], top))
    scores_BK, item_BK = (np.concatenate(parts, 1) for parts in zip(*best, strict=True))
    _, top_BK = _top(scores_BK, item_BK, item_BK != 0, top)  # chunks ascend, and so do equal scores within them
    return Ranked(better_B, tied_B, top_BK)
