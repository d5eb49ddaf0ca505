"""Places of the targets of cases among their candidates, scored batch by batch so that memory is bounded.

Shape suffixes: B cases, C candidates, I item rows of the catalogue, N all cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from corsar.batch import History, SearchRecommendBatch
from corsar.config import DataSection
from corsar.data.loader import case_batches
from corsar.data.store import Cases, Dataset
from corsar.evaluate.ties import Ints, places, sigmoid
from corsar.models.base import Model

PAIRS = 1 << 15  # (case, candidate) pairs scored at once
MAX_CASES = 1024  # cases scored at once, however few their candidates


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
    pairs: int = PAIRS,
    advance: Callable[[int], None] | None = None,
) -> tuple[Ints, Ints]:
    """For each case the candidates strictly better than its target and those tied with it (itself included), [N] each.

    Args:
        negatives_NC: candidates beside the target, 0 pads; None for all items but the session mates.
        score: sigmoid ranks by the float32 logistic of the scores.
        exclude_seen: the items that the user had before a recommend case are no candidates of it; whole catalogue alone.
        advance: told how many cases are done.
    """
    whole = negatives_NC is None
    candidates_NC = cases.item_N[:, None] if negatives_NC is None else torch.cat([cases.item_N[:, None], negatives_NC], 1)
    columns = dataset.catalogue.num_items if whole else candidates_NC.shape[1]
    size = max(1, min(MAX_CASES, pairs // max(1, columns)))
    seen_by = dataset.history if exclude_seen and cases.task == "recommend" else None
    batches = case_batches(dataset, cases, candidates_NC, data, size, model_device(model))
    better, tied = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for at, batch in enumerate(batches):
                rows = torch.arange(at * size, at * size + len(batch))
                if whole:
                    allowed_BI = _allowed(cases.take(rows), seen_by, dataset.catalogue.num_items)
                    found = _whole_catalogue(model, batch, allowed_BI, score, max(1, pairs // len(batch)))
                else:
                    found = places(_scores(model, batch, score), (candidates_NC[rows] != 0).numpy())
                better.append(found[0])
                tied.append(found[1])
                if advance is not None:
                    advance(len(batch))
    finally:
        model.train(was_training)
    return np.concatenate(better), np.concatenate(tied)


def _scores(model: Model, batch: SearchRecommendBatch, score: str) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
    scores_BC = model.score(batch)
    if scores_BC.dtype == torch.bfloat16:
        scores_BC = scores_BC.float()
    found = scores_BC.cpu().numpy()
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


def _whole_catalogue(
    model: Model, batch: SearchRecommendBatch, allowed_BI: Tensor, score: str, chunk: int
) -> tuple[Ints, Ints]:
    """Places among all allowed items; the target is scored anew with each chunk, so that equal items tie exactly."""
    target_B1 = batch.candidates_BC
    better_B, tied_B = np.zeros(len(batch), dtype=np.int64), np.ones(len(batch), dtype=np.int64)
    for start in range(1, allowed_BI.shape[1], chunk):
        items_C = torch.arange(start, min(start + chunk, allowed_BI.shape[1]), device=target_B1.device)
        candidates_BC = torch.cat([target_B1, items_C.expand(len(batch), -1)], 1)
        is_other_BC = (candidates_BC != target_B1).cpu()
        is_other_BC[:, 1:] &= allowed_BI[:, start : start + chunk]
        more, ties = places(_scores(model, replace(batch, candidates_BC=candidates_BC), score), is_other_BC.numpy())
        better_B += more
        tied_B += ties - 1
    return better_B, tied_B
