"""Ask a run: the best items for a user, or for a query of a user."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from corsar.artifact import Artifact, open_artifact
from corsar.batch import History, Ragged, Task
from corsar.errors import ConfigError
from corsar.text import words
from corsar.windows import make_batch

AT_ONCE = 4096  # candidates that a model scores in one batch
File = Path | str


def recommend(
    run: File | Artifact, *, user: str | int | None = None, history: Iterable[str | int] | None = None, k: int = 10
) -> dict[str, Any]:
    """The `k` best items for a user: {"items": rows of rank, item_id, score, text; "notes": sentences}.

    Args:
        run: A run, an artifact, or an opened artifact.
        user: An id of the logs; one that they do not hold has an empty history.
        history: Item ids, the oldest first, in place of what is stored.
    """
    return _answer(run, "recommend", "", user, history, k)


def search(
    run: File | Artifact,
    query: str,
    *,
    user: str | int | None = None,
    history: Iterable[str | int] | None = None,
    k: int = 10,
) -> dict[str, Any]:
    """The `k` best items for a query of a user; arguments and result are those of `recommend`."""
    return _answer(run, "search", query, user, history, k)


def _answer(
    run: File | Artifact, task: Task, query: str, user: str | int | None, history: Iterable[str | int] | None, k: int
) -> dict[str, Any]:
    if k < 1:
        raise ConfigError(f"k is {k}; ask for at least one item")
    artifact = run if isinstance(run, Artifact) else open_artifact(Path(run))
    if task not in artifact.model.tasks or task not in artifact.config.train.tasks:
        raise ConfigError(f"this {artifact.config.model['name']} was not trained for {task}; name a run that was")
    notes: list[str] = []
    user_row = 0
    if user is not None:
        user_row = int(artifact.users.rows([user], missing="pad")[0])
        if not user_row:
            notes.append(f"user {user} is not in the logs, so nothing is known of their history")
    past = artifact.history if history is None else _past(artifact, user_row, list(history), notes)
    user_B = torch.tensor([user_row])
    feed_end_B, search_end_B = past.feed_offsets[user_B + 1], past.search_offsets[user_B + 1]
    if artifact.config.data.history == "own":
        if task == "recommend":
            search_end_B = past.search_offsets[user_B]
        else:
            feed_end_B = past.feed_offsets[user_B]
    query_B, queries = None, None
    if task == "search":
        found = artifact.words.rows(words(query), missing="pad").tolist()
        known = [row for row in found if row]
        if not known:
            notes.append("no word of the query is in the logs, so the items are ranked by the history alone")
        elif len(known) < len(found):
            notes.append(f"{len(found) - len(known)} of {len(found)} words of the query are not in the logs")
        query_B, queries = torch.zeros(1, dtype=torch.int64), Ragged.of([known])
    ends = user_B, feed_end_B, search_end_B
    feed_len, search_len, count = artifact.sizes.feed_len, artifact.sizes.search_len, artifact.catalogue.num_items
    scores = []
    with torch.inference_mode():
        for first in range(1, count + 1, AT_ONCE):
            some = torch.arange(first, min(first + AT_ONCE, count + 1))[None]
            batch = make_batch(
                task, past, artifact.catalogue, *ends, some, query_B, feed_len=feed_len, search_len=search_len, queries=queries
            )
            scores.append(artifact.model.score(batch)[0])
    best = torch.cat(scores).topk(min(k, count))
    rows = (best.indices + 1).tolist()
    columns = (artifact.items.ids(rows).to_list(), best.values.tolist(), artifact.item_text(rows))
    items = [
        {"rank": rank, "item_id": item, "score": score, "text": text}
        for rank, (item, score, text) in enumerate(zip(*columns, strict=True), 1)
    ]
    return {"items": items, "notes": notes}


def _past(artifact: Artifact, user_row: int, items: list[str | int], notes: list[str]) -> History:
    """A history in which `user_row` owns these feed events and nothing else."""
    rows = artifact.items.rows(items, missing="pad").tolist() if items else []
    known = torch.tensor([row for row in rows if row], dtype=torch.int64)
    if len(known) < len(rows):
        notes.append(f"{len(rows) - len(known)} of {len(rows)} items of the history are not in the catalogue")
    owners = torch.arange(len(artifact.history.feed_offsets))
    none = torch.zeros(0, dtype=torch.int64)
    return History(
        feed_items=known,
        feed_times=torch.arange(len(known)),
        feed_others=torch.zeros_like(known),
        feed_offsets=torch.where(owners > user_row, len(known), 0),
        search_queries=none,
        search_clicks=Ragged.of([]),
        search_times=none,
        search_others=none,
        search_offsets=torch.zeros_like(owners),
        queries=Ragged.of([[]]),
    )
