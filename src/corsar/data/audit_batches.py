"""Whether what the pipeline makes of a dataset keeps to the rules: the negatives that it draws, and the batches that it cuts.

The batches are cut by the very code that training, evaluation and serving use, from a history in which each entry's item and
query is its own place: what a batch shows is where it looked.

Legend: B cases of a batch, C candidates, F feed slots, S search slots.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corsar.batch import Ragged, SearchRecommendBatch
from corsar.config import DataSection
from corsar.data.audit_leaks import AllCases, Auditor, told_columns
from corsar.data.loader import case_batches
from corsar.data.negatives import Negatives
from corsar.data.store import Cases, Dataset
from corsar.errors import DataError
from corsar.windows import History

MOST_CASES = 20_000  # of each split and task whose draws and batches are looked at; evenly spread
CASES_AT_ONCE = 4096
DRAWN = 4


def negative_leaks(auditor: Auditor, cases: AllCases) -> None:
    """Stored candidates that are positives, and drawn negatives that the user had in the training part."""
    dataset = auditor.dataset
    for (split, task), one in cases.items():
        told = {"split": split, "task": task}
        if one.negatives_NC is not None:
            auditor.leak("positive negatives", _positives(dataset, one, one.negatives_NC), told_columns(one), **told)
        for file in sorted((dataset.path / "candidates").glob(f"{split}_{task}_sampled_*.npy")):
            try:
                stored = torch.from_numpy(np.load(file, allow_pickle=False).astype(np.int64))
            except (OSError, ValueError) as error:
                raise DataError(f"'{file}' cannot be read; delete it, and it is drawn again") from error
            auditor.leak("positive negatives", _positives(dataset, one, stored), told_columns(one), file=file.name, **told)
    events, wide = dataset.train_events(), dataset.catalogue.num_items + 1
    if "next_place" in dataset.tasks or wide < 3:
        return  # a place that a person knows may be a negative
    draws = Negatives.of(events.user_E, events.item_E, len(dataset.users), wide - 1)
    had = np.unique(events.user_E.numpy() * wide + events.item_E.numpy())
    is_full = np.bincount(had // wide, minlength=len(dataset.users) + 1) >= wide - 1  # nothing else is left to draw
    for (split, task), one in cases.items():
        if split == "train":
            rows = _spread(len(one))
            some = one.take(rows)
            drawn = draws.draw(rows, some.user_N, some.item_N, DRAWN, 0, some.mates).numpy()
            user_N = some.user_N.numpy()
            hit = np.isin(user_N[:, None] * wide + drawn, had) | (drawn == some.item_N.numpy()[:, None])
            wrong = hit.any(1) & ~is_full[user_N]
            auditor.leak("training negatives", rows.numpy()[wrong], told_columns(one), split=split, task=task)


def _positives(dataset: Dataset, cases: Cases, negatives_NC: Tensor) -> npt.NDArray[np.bool_]:
    """Cases whose candidates hold the target or a session mate, as a bool for each."""
    wide, mates = dataset.catalogue.num_items + 1, cases.mates
    negatives = negatives_NC.numpy()
    if negatives.shape[:1] != (len(cases),):
        raise DataError(f"the candidates of {cases.split} {cases.task} do not fit its cases; draw or prepare them again")
    owner = torch.repeat_interleave(mates.lengths).numpy()
    positive = np.concatenate([np.arange(len(cases)) * wide + cases.item_N.numpy(), owner * wide + mates.values.numpy()])
    keys = np.arange(len(cases))[:, None] * wide + negatives
    wrong_N: npt.NDArray[np.bool_] = np.any(np.isin(keys, positive) & (negatives > 0), axis=1)
    return wrong_N


def batch_leaks(auditor: Auditor, cases: AllCases) -> None:
    """Cases whose batch shows an entry that is not their user's, or at or after their time."""
    dataset, history = auditor.dataset, auditor.dataset.history
    marked = copy.copy(dataset)
    marked.__dict__["history"] = _marked(history)
    for (split, task), one in cases.items():
        rows = _spread(len(one))
        some = one.take(rows)
        late = [torch.zeros(0, dtype=torch.bool)]
        for number, batch in enumerate(case_batches(marked, some, some.item_N[:, None], DataSection(), CASES_AT_ONCE)):
            time_B1 = some.time_N[number * CASES_AT_ONCE :][: len(batch), None]
            late.append(_looks_ahead(history, batch, time_B1))
        auditor.leak("batches", rows.numpy()[torch.cat(late).numpy()], told_columns(one), split=split, task=task)


def _spread(num: int) -> Tensor:
    """At most MOST_CASES row numbers, evenly spread."""
    return torch.arange(num) if num <= MOST_CASES else torch.linspace(0, num - 1, MOST_CASES).long()


def _marked(history: History) -> History:
    """The history with the place of each entry, counted from 1, as its item or query, and no clicks."""
    searches = len(history.search_times)
    places, none = torch.arange(searches + 1), torch.zeros(searches + 1, dtype=torch.int64)
    return dataclasses.replace(
        history,
        feed_items=torch.arange(1, len(history.feed_times) + 1),
        search_queries=places[1:],
        search_clicks=Ragged(none[:0], none),
        queries=Ragged(places[1:], torch.cat([none[:1], places])),
    )


def _looks_ahead(history: History, batch: SearchRecommendBatch, time_B1: Tensor) -> Tensor:
    """Whether each case of the batch sees what it must not, [B]."""
    places_BS = batch.queries.padded(batch.search_queries_BS, 1)[..., 0]
    wrong_B = torch.zeros(len(batch), dtype=torch.bool)
    for kind, places_BL, is_real_BL in (
        ("feed", batch.feed_items_BF, batch.feed_is_real_BF),
        ("search", places_BS, batch.search_is_real_BS),
    ):
        times, offsets = getattr(history, f"{kind}_times"), getattr(history, f"{kind}_offsets")
        if len(times):
            at_BL = (places_BL - 1).clamp(min=0)
            start_B1, end_B1 = offsets[batch.user_B][:, None], offsets[batch.user_B + 1][:, None]
            wrong_BL = (at_BL < start_B1) | (at_BL >= end_B1) | (times[at_BL] >= time_B1)
            wrong_B |= (wrong_BL & is_real_BL).any(1)
    return wrong_B
