"""Ask a run for the next place of a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from corsar.api.engine import People, best_items, place_batch, stored_people
from corsar.api.questions import rows_of
from corsar.artifact import Artifact, open_artifact
from corsar.errors import ConfigError
from corsar.geo import distance_km
from corsar.models.markov import last_places
from corsar.places import hour_of_week

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
    notes: list[str] = []
    row = 0 if user is None else int(rows_of(artifact.users, [user], "a user")[0])
    if user is not None and not row:
        notes.append(f"user {user} is not in the logs, so nothing is known of their history")
    people = people_at(artifact, stored_people(artifact, torch.tensor([row])), at)
    found, scores = best_items(artifact, "next_place", people, None, k, exclude_seen=exclude_seen)
    batch = place_batch(artifact, people)
    places_F = batch.feed_items_BF[0][batch.feed_is_real_BF[0]]
    if row and not len(places_F):
        notes.append(f"user {user} has no check-in before {at}")
    last = last_places(batch)[0, 0]
    rows = found[0][found[0] > 0]
    km = distance_km(batch.points_I3[last], batch.points_I3[rows])
    columns = (
        artifact.items.ids(rows.tolist()).to_list(),
        scores[0].tolist()[: len(rows)],
        artifact.item_text(rows.tolist()),
        [round(one, 2) for one in km.tolist()] if int(last) else [None] * len(rows),
        [int((places_F == one).sum()) for one in rows],
    )
    names = ("rank", "item_id", "score", "text", "km", "visits")
    items = [dict(zip(names, line, strict=True)) for line in zip(range(1, len(rows) + 1), *columns, strict=True)]
    return {"items": items, "notes": notes}


def people_at(artifact: Artifact, people: People, at: str | int | None) -> People:
    """The same people with what they did before the moment; all of it where none is told."""
    if at is None or people.places is None:
        return people
    past, moment, ends = people.history, read_moment(at), []
    for row in people.owner_B.tolist():
        start, end = (int(past.feed_offsets[row + one]) for one in (0, 1))
        ends.append(start + int(torch.searchsorted(past.feed_times[start:end].contiguous(), moment)))
    end_B = torch.tensor(ends, dtype=torch.int64)
    offsets_min, people = people.places.offsets_min, replace(people, end_B=end_B)
    if not artifact.config.data.target_time or not len(offsets_min):
        return people
    offset_B = offsets_min[(end_B - 1).clamp(min=0)]  # the clock of the newest check-in
    hour_B = hour_of_week(torch.full_like(end_B, moment), offset_B)
    return replace(people, hour_B=torch.where(end_B > past.feed_offsets[people.owner_B], hour_B, 0))


def read_moment(at: str | int) -> int:
    """UTC milliseconds of a moment; ConfigError where it is none."""
    text = str(at).strip()
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no moment; write it as 2012-04-03T18:00, or in milliseconds") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1000)
