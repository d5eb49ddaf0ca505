"""Ask a run for the next place of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corsar.api.answers import Question, answer_one
from corsar.artifact import Artifact, open_artifact

File = Path | str


def next_place(
    run: File | Artifact,
    *,
    user: str | int | None = None,
    at: str | int | None = None,
    k: int = 10,
    exclude_seen: bool = False,
) -> dict[str, Any]:
    """The `k` likeliest next places of a person: {"items": rows of rank, item_id, score, text, km, visits; "notes": sentences}.

    Args:
        run: A run, an artifact, or an opened artifact, trained on check-ins.
        user: An id of the logs; one that they do not hold has an empty history.
        at: The moment of the question, as ISO 8601 (UTC where it says nothing else) or in milliseconds: check-ins at or after
            it are not history. A model that may know the hour (`data.target_time`) is told its hour too.
        exclude_seen: Leave out the places that the person has been to.

    Example:
        >>> import corsar
        >>> check_ins, places = corsar.example_check_ins()
        >>> artifact = corsar.Popularity().fit(corsar.Dataset.from_frames(check_ins, items=places)).artifact
        >>> told = corsar.next_place(artifact, user="u1", at="2012-04-20T12:00", k=2)
        >>> [one["rank"] for one in told["items"]]
        [1, 2]
    """
    artifact = run if isinstance(run, Artifact) else open_artifact(Path(run))
    return answer_one(artifact, Question("next_place", user, at=at, k=k, exclude_seen=exclude_seen))
