"""Parts of the cases that are reported apart: by what is known of the user, and of the target."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from corsar.batch import TrainEvents
from corsar.data.store import Cases
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
    return {name: np.asarray(masks[name], dtype=bool) for name in SEGMENTS}
