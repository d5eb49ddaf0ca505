"""Ask a run: the best items for a user, or for a query of a user."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from corsar.api.answers import Question, answer_one
from corsar.artifact import Artifact, open_artifact
from corsar.batch import Task

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
    return answer_one(_opened(run), Question("recommend", user, history=history, k=k, exclude_seen=exclude_seen))


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
    return answer_one(_opened(run), Question("search", user, query, history, k=k))


def explain(
    run: File | Artifact,
    item: str | int,
    query: str | None = None,
    *,
    user: str | int | None = None,
    history: Iterable[Any] | None = None,
) -> dict[str, Any]:
    """Why an item has its rank for a user, or for a query of a user; arguments are those of `recommend` and `search`.

    Returns:
        rank (among all items), item_id, score, text; `why`: past events with kind, item_id, query, text, weight and drop, as
        `api.explain.reasons` tells; `without`: the rank without feed events, and without searches; method; notes.

    Raises:
        DataError: The catalogue does not know the item.

    Example:
        >>> import corsar
        >>> from corsar.api.ask import explain
        >>> events, _ = corsar.example_logs()
        >>> told = explain(corsar.CoVisit().fit(events).artifact, 1, history=[2, 7])
        >>> sum(abs(one["weight"]) for one in told["why"])
        1.0
    """
    task: Task = "recommend" if query is None else "search"
    told = answer_one(_opened(run), Question(task, user, query, history, explain=True, about=[item]))
    return {**told["items"][0], "method": told["method"], "notes": told["notes"]}


def _opened(run: File | Artifact) -> Artifact:
    return run if isinstance(run, Artifact) else open_artifact(Path(run))
