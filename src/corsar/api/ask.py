"""Ask a run: the best items for a user, or for a query of a user."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from corsar.api.engine import best_items, stored_people
from corsar.api.questions import query_rows, read_histories, rows_of, told_people
from corsar.artifact import Artifact, open_artifact
from corsar.batch import Ragged, Task

File = Path | str


def recommend(
    run: File | Artifact,
    *,
    user: str | int | None = None,
    history: Iterable[Any] | None = None,
    k: int = 10,
    exclude_seen: bool = False,
) -> dict[str, Any]:
    """The `k` best items for a user: {"items": rows of rank, item_id, score, text; "notes": sentences}.

    Args:
        run: A run, an artifact, or an opened artifact.
        user: An id of the logs; one that they do not hold has an empty history.
        history: Item ids, the oldest first, in place of what is stored.
        exclude_seen: Leave out the items that the user has had.

    Example:
        >>> import corsar
        >>> events, _ = corsar.example_logs()
        >>> artifact = corsar.Popularity().fit(events).artifact
        >>> [one["rank"] for one in corsar.recommend(artifact, user="u1", k=2)["items"]]
        [1, 2]
    """
    return _answer(run, "recommend", None, user, history, k, exclude_seen)


def search(
    run: File | Artifact,
    query: str,
    *,
    user: str | int | None = None,
    history: Iterable[Any] | None = None,
    k: int = 10,
) -> dict[str, Any]:
    """The `k` best items for a query of a user; arguments and result are those of `recommend`.

    Example:
        >>> import corsar
        >>> events, items = corsar.example_logs()
        >>> artifact = corsar.BM25().fit(corsar.Dataset.from_frames(events, items=items)).artifact
        >>> corsar.search(artifact, "red shoe", k=1)["items"][0]["text"]
        'red shoe'
    """
    return _answer(run, "search", query, user, history, k, False)


def _answer(
    run: File | Artifact,
    task: Task,
    query: str | None,
    user: str | int | None,
    history: Iterable[Any] | None,
    k: int,
    exclude_seen: bool,
) -> dict[str, Any]:
    artifact = run if isinstance(run, Artifact) else open_artifact(Path(run))
    notes: list[str] = []
    user_row = 0 if user is None else int(rows_of(artifact.users, [user], "a user")[0])
    if user is not None and not user_row:
        notes.append(f"user {user} is not in the logs, so nothing is known of their history")
    people = stored_people(artifact, torch.tensor([user_row]))
    if history is not None:
        histories, _ = read_histories(history)
        people, unknown = told_people(artifact, histories[:1], people.user_B)
        if unknown:
            given = sum(len(event["items"]) for event in histories[0])
            notes.append(f"{unknown} of {given} items of the history are not in the catalogue")
    queries: Ragged | None = None
    if query is not None:
        queries, [(known, given)] = query_rows(artifact, [query])
        if not known:
            notes.append("no word of the query is in the logs, so the items are ranked by the history alone")
        elif known < given:
            notes.append(f"{given - known} of {given} words of the query are not in the logs")
    found, scores = best_items(artifact, task, people, queries, k, exclude_seen=exclude_seen)
    rows = [row for row in found[0].tolist() if row]
    columns = (artifact.items.ids(rows).to_list(), scores[0].tolist()[: len(rows)], artifact.item_text(rows))
    items = [
        {"rank": rank, "item_id": item, "score": score, "text": text}
        for rank, (item, score, text) in enumerate(zip(*columns, strict=True), 1)
    ]
    return {"items": items, "notes": notes}
