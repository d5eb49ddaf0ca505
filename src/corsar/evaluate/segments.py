"""Parts of the cases that are reported apart: by what is known of the user, and of the target."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from corsar.batch import Task, TrainEvents
from corsar.data.store import Cases, Dataset, Split
from corsar.windows import History

Bools = npt.NDArray[np.bool_]

LONG = 10  # entries; more of them make a long history
SEGMENTS: dict[str, str] = {
    "both_histories": "feed events and searches before the case",
    "no_search_history": "feed events but no search before the case",
    "no_feed_history": "searches but no feed event before the case",
    "neither": "nothing before the case",
    "short_history": f"1 to {LONG} entries of both kinds together before the case",
    "long_history": f"more than {LONG} entries before the case",
    "new_items": "the target is nowhere in the training part",
}


PLACE_SEGMENTS: dict[str, str] = {
    "returns": "the target is in the person's history, however long ago",
    "discoveries": "the target is not in the person's history",
    **{name: SEGMENTS[name] for name in ("neither", "short_history", "long_history", "new_items")},
}


def segment_masks(cases: Cases, history: History, events: TrainEvents) -> dict[str, Bools]:
    """Which cases belong to each segment; segments may overlap."""
    feeds = (cases.feed_end_N - history.feed_offsets[cases.user_N]).numpy()
    searches = (cases.search_end_N - history.search_offsets[cases.user_N]).numpy()
    total = feeds + searches
    known = np.isin(cases.item_N.numpy(), events.item_E.numpy())
    masks = {
        "both_histories": (feeds > 0) & (searches > 0),
        "no_search_history": (feeds > 0) & (searches == 0),
        "no_feed_history": (feeds == 0) & (searches > 0),
        "neither": total == 0,
        "short_history": (total > 0) & (total <= LONG),
        "long_history": total > LONG,
        "new_items": ~known,
    }
    if cases.task == "next_place":
        masks["returns"] = is_return(cases, history)
        masks["discoveries"] = ~masks["returns"]
    names = PLACE_SEGMENTS if cases.task == "next_place" else SEGMENTS
    return {name: np.asarray(masks[name], dtype=bool) for name in names}


def is_return(cases: Cases, history: History) -> Bools:
    """Whether the person was at the target before: its first visit lies before the end of the history."""
    user = np.repeat(np.arange(len(history.feed_offsets) - 1), history.feed_offsets.diff().numpy())
    width = int(max(history.feed_items.max(), cases.item_N.max())) + 1 if len(cases) else 1
    keys, first = np.unique(user * width + history.feed_items.numpy(), return_index=True)
    wanted = cases.user_N.numpy() * width + cases.item_N.numpy()
    at = np.searchsorted(keys, wanted).clip(max=max(0, len(keys) - 1))
    return np.asarray((keys[at] == wanted) & (first[at] < cases.feed_end_N.numpy()))


def masks_of_rows(dataset: Dataset, split: Split, task: Task, rows_N: npt.NDArray[np.int64]) -> dict[str, Bools]:
    """Which of these cases of a split belong to each segment.

    Args:
        rows_N: numbers of cases, as a table of places has them.
    """
    cases = dataset.cases(split, task).take(torch.from_numpy(rows_N.copy()))
    return segment_masks(cases, dataset.history, dataset.train_events())
