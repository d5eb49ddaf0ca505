"""Whether what is counted for training is of the training part: events, words and queries.

Legend: U users, E training events, S searches, W words, Q queries.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from corsar.data.audit_leaks import AllCases, Auditor, owners
from corsar.vocab import Rows

KEY = ["user", "item", "is_search"]


def count_leaks(auditor: Auditor, cases: AllCases) -> None:
    """Training events, words and queries that are of the valid or test part."""
    dataset = auditor.dataset
    history, events = dataset.history, dataset.train_events()
    held_U = np.full(len(dataset.users) + 1, np.iinfo(np.int64).max)
    for (split, _), one in cases.items():
        if split != "train":
            np.minimum.at(held_U, one.user_N.numpy(), one.time_N.numpy())
    held_from = dataset.manifest["split"].get("valid_from_ms", np.iinfo(np.int64).max)

    def is_late(user: Rows, time: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        late: np.ndarray[tuple[int], np.dtype[np.bool_]] = (time > held_U[user]) | (time >= held_from)
        return late

    feed_user, search_user = owners(history.feed_offsets), owners(history.search_offsets)
    search_K = owners(history.search_clicks.offsets)
    feeds = {"user": feed_user, "item": history.feed_items.numpy(), "time": history.feed_times.numpy()}
    clicks = {"user": search_user[search_K], "item": history.search_clicks.values.numpy()}
    clicks["time"] = history.search_times.numpy()[search_K]
    both = pl.concat(pl.DataFrame(one).with_columns(is_search=pl.lit(one is clicks)) for one in (feeds, clicks))
    counted = {"user": events.user_E.numpy(), "item": events.item_E.numpy(), "is_search": events.is_search_E.numpy()}
    rank = pl.int_range(pl.len()).over(KEY)
    found = (
        pl.DataFrame(counted)
        .with_columns(rank=rank)
        .join(both.with_columns(rank=rank), on=[*KEY, "rank"], how="left", maintain_order="left")
    )
    time = found["time"].fill_null(np.iinfo(np.int64).max).to_numpy()
    wrong = found["time"].is_null().to_numpy() | is_late(counted["user"], time)
    auditor.leak("train events", wrong, {"user": counted["user"], "item": counted["item"], "time_ms": time})

    trained = int(dataset.manifest["counts"]["train_queries"])
    queries = history.queries
    known_W = np.zeros(len(dataset.words) + 1, dtype=bool)
    known_W[dataset.catalogue.item_words.values.numpy()] = True
    known_W[queries.values[: int(queries.offsets[trained + 1])].numpy()] = True
    known_W[0] = True
    auditor.leak("held-out words", ~known_W, {"word": np.arange(len(known_W))})
    asked = history.search_queries.numpy()
    in_training = np.zeros(len(queries), dtype=bool)
    in_training[asked[~is_late(search_user, history.search_times.numpy())]] = True
    in_training[0] = True
    auditor.leak("held-out queries", ~in_training[: trained + 1], {"query": np.arange(trained + 1)})
