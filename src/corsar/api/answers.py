"""From questions to answers: one path for the command line, for Python and for the service.

A batch of questions is scored together, and each is answered as if it had been alone. Shape suffixes: B questions,
C candidates, K answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from corsar.api.check_ins import people_at, read_check_ins, told_check_ins
from corsar.api.engine import People, best_items, best_of, place_batch, question_batch, require_task
from corsar.api.explain import MOST, method_of, reasons
from corsar.api.past import Past, people_of, stored_past
from corsar.api.questions import allowed_items, plain, query_rows, read_histories, rows_of, told_pasts
from corsar.artifact import Artifact
from corsar.batch import Ragged, SearchRecommendBatch, Task
from corsar.errors import ArtifactError, ConfigError, CorsarError, DataError
from corsar.geo import distance_km
from corsar.index.words import WordIndex
from corsar.models.markov import last_places

Channel = Literal["feed", "search"]
Answer = dict[str, Any]  # items: rows of rank, item_id, score, text; notes: sentences; with `explain` more, see _explained
MIXED = 200  # items of either order among which a mixture is ranked, at least


@dataclass(frozen=True)
class Question:
    """Who asks for what."""

    task: Task
    user: str | int | None = None  # an id of the logs; one that they do not hold has an empty history
    query: str | None = None  # for search
    history: Any = None  # in place of what is stored
    since: Sequence[Any] = ()  # events after what is stored
    had: Sequence[Any] = ()  # more items that count as seen
    at: str | int | None = None  # the moment of the question, for next_place
    k: int = 10
    exclude_seen: bool = False
    allow: Iterable[Any] | None = None
    exclude: Iterable[Any] | None = None
    without: tuple[Channel, ...] = ()  # kinds of events that are left out of the past
    mix: float = 0.0  # weight of the words' order in a search: 0 = the model alone, 1 = BM25 alone
    explain: bool = False  # why each item is there, and what rank it has without either kind of events
    about: Sequence[Any] | None = None  # items whose ranks among all are told, in place of the k best


class FirstStage(Protocol):
    """What chooses the items that are worth scoring."""

    def candidates(
        self, task: Task, pasts: list[list[int]], queries: Ragged | None, batch: SearchRecommendBatch | None
    ) -> Tensor:
        """Item rows for each question, each once a question, 0 pads, [B, C]; `pasts` are item rows, the oldest first."""
        ...


@dataclass
class _Asked:
    """A question in rows of the artifact."""

    question: Question
    user_row: int
    past: Past
    seen: set[int]
    words: list[int]
    banned: set[int]
    allowed_I: Tensor | None
    notes: list[str]


def answer(
    artifact: Artifact, questions: Sequence[Question], *, first: FirstStage | None = None, words: WordIndex | None = None
) -> list[Answer | CorsarError]:
    """What each question is answered, or why it cannot be: {"items": rows of rank, item_id, score, text; "notes": sentences}.

    Args:
        first: chooses the items that are scored; without it, all are.
        words: the order of the words, for questions that mix it in.
    """
    told: list[Answer | CorsarError | None] = [None] * len(questions)
    groups: dict[object, list[tuple[int, _Asked]]] = {}
    for place, question in enumerate(questions):
        try:
            asked = _read(artifact, question)
        except CorsarError as error:
            told[place] = error
            continue
        # questions with a list, a mixture or an explanation of their own are scored by themselves
        alone = asked.allowed_I is not None or question.mix or question.explain or question.about is not None
        key = place if alone else question.task
        groups.setdefault(key, []).append((place, asked))
    for group in groups.values():
        try:
            found = _found(artifact, [asked for _, asked in group], first, words)
        except CorsarError as error:
            if len(group) == 1:
                told[group[0][0]] = error
                continue
            each = [answer(artifact, [asked.question], first=first, words=words)[0] for _, asked in group]
            found_or_not: Sequence[Answer | CorsarError] = each
        else:
            found_or_not = found
        for (place, _), one in zip(group, found_or_not, strict=True):
            told[place] = one
    return [one for one in told if one is not None]


def answer_one(artifact: Artifact, question: Question) -> Answer:
    """What the question is answered; the CorsarError is raised where it cannot be."""
    (told,) = answer(artifact, [question], words=WordIndex(artifact.catalogue) if question.mix else None)
    if isinstance(told, CorsarError):
        raise told
    return told


def _read(artifact: Artifact, question: Question) -> _Asked:
    if question.k < 1:
        raise ConfigError(f"k is {question.k}; ask for at least one item")
    require_task(artifact, question.task)
    if question.explain and question.task == "next_place":
        raise ConfigError("a next place has no explanation; ask for one of recommend or search")
    if question.explain and question.about is None and question.k > MOST:
        raise ConfigError(f"k is {question.k}; ask for at most {MOST} items where they are explained")
    notes: list[str] = []
    user = question.user
    row = 0 if user is None else int(rows_of(artifact.users, [user], "a user")[0])
    if user is not None and not row and not question.since:
        notes.append(f"user {user} is not in the logs, so nothing is known of their history")
    if question.history is None:
        past = stored_past(artifact, row) + _told(artifact, question.task, question.since, [])
        if row and artifact.seen is None and question.exclude_seen:
            raise ArtifactError(f"{artifact.path} does not hold what users have seen; train again with this version of corsar")
        seen = set() if artifact.seen is None else set(artifact.seen.select(torch.tensor([row])).values.tolist())
    else:
        past, seen = _told(artifact, question.task, question.history, notes), set()
    seen |= {item for entry in past for item in entry.items}
    if question.had:
        seen |= set(rows_of(artifact.items, question.had, "seen items").tolist())
    past = [entry for entry in past if ("search" if entry.is_search else "feed") not in question.without]
    words = [] if question.query is None else _words(artifact, question.query, notes)
    banned = seen if question.exclude_seen else set()
    if question.exclude is not None:
        banned = banned | set(rows_of(artifact.items, plain(question.exclude), "excluded items").tolist())
    allowed_I = None if question.allow is None else allowed_items(artifact, question.allow, None)
    if question.about is not None and not (rows := rows_of(artifact.items, question.about, "items")).all():
        raise DataError(f"the catalogue does not know the item {question.about[int(rows.argmin())]!r}; check its id")
    return _Asked(question, row, past, seen, words, banned - {0}, allowed_I, notes)


def _told(artifact: Artifact, task: Task, events: Any, notes: list[str]) -> Past:
    if task == "next_place":
        histories, _ = read_check_ins(events)
        [past, *_] = told_check_ins(artifact, histories[:1] or [[]])
        given, unknown = len(past), sum(entry.items == (0,) for entry in past)
    else:
        told, _ = read_histories(events)
        [past, *_], unknown = told_pasts(artifact, told[:1] or [[]])
        given = sum(len(event["items"]) for event in told[0]) if told else 0
    if unknown:
        notes.append(f"{unknown} of {given} items of the history are not in the catalogue")
    return past


def _words(artifact: Artifact, query: str, notes: list[str]) -> list[int]:
    rows, [(known, given)] = query_rows(artifact, [query])
    if not known:
        notes.append("no word of the query is in the logs, so the items are ranked by the history alone")
    elif known < given:
        notes.append(f"{given - known} of {given} words of the query are not in the logs")
    found: list[int] = rows.values.tolist()
    return found


def _found(artifact: Artifact, group: list[_Asked], first: FirstStage | None, words: WordIndex | None) -> list[Answer]:
    answers: list[Answer] = []
    for asked, (people, rows_K, scores_K) in zip(group, _ranked(artifact, group, first, words), strict=True):
        told = _shown(artifact, people, asked, rows_K, scores_K)
        answers.append(_explained(artifact, asked, told, first, words) if asked.question.explain else told)
    return answers


def _ranked(
    artifact: Artifact, group: list[_Asked], first: FirstStage | None, words: WordIndex | None
) -> list[tuple[People, Tensor, Tensor]]:
    """Each question by itself, its best item rows, [K], and their scores."""
    task, question = group[0].question.task, group[0].question
    user_B = torch.tensor([asked.user_row for asked in group])
    people = people_of(artifact, [asked.past for asked in group], user_B, [asked.seen for asked in group])
    if task == "next_place":
        parts = [people_at(artifact, people.take(torch.tensor([b])), asked.question.at) for b, asked in enumerate(group)]
    else:
        parts = [people]
    queries = Ragged.of([asked.words for asked in group]) if task == "search" else None
    banned = Ragged.of([sorted(asked.banned) for asked in group])
    ranked: list[tuple[People, Tensor, Tensor]] = []
    for part in parts:
        some = group[len(ranked) : len(ranked) + len(part.user_B)]
        left_out = banned.select(torch.arange(len(ranked), len(ranked) + len(part.user_B)))
        k = len(artifact.items) if question.about is not None else max(asked.question.k for asked in some)
        wide = max(k, MIXED) if question.mix else k
        if first is None or some[0].allowed_I is not None:
            rows_BK, scores_BK = best_items(artifact, task, part, queries, wide, allowed_I=some[0].allowed_I, banned=left_out)
        else:
            pasts = [[item for entry in asked.past for item in entry.items] for asked in some]
            batch = question_batch(artifact, task, part, queries)
            candidates_BC = _without(first.candidates(task, pasts, queries, batch), left_out)
            rows_BK, scores_BK = best_of(artifact, task, part, queries, candidates_BC, batch)
        if question.mix and queries is not None and words is not None:
            rows_BK, scores_BK = _mixed(artifact, part, queries, rows_BK, some[0], words)
        ranked += [(part.take(torch.tensor([b])), rows_BK[b], scores_BK[b]) for b in range(len(some))]
    return ranked


def _explained(artifact: Artifact, asked: _Asked, told: Answer, first: FirstStage | None, words: WordIndex | None) -> Answer:
    """The answer with `method`, and for each item `why` (see api.explain) and `without`: its rank without either kind.

    A rank is None where there is no such event to leave out, or where the first stage then does not choose the item.
    """
    question = asked.question
    rows = rows_of(artifact.items, [one["item_id"] for one in told["items"]], "items").tolist()
    why = reasons(artifact, question.task, asked.user_row, asked.past, asked.words, rows)
    ranks: dict[Channel, dict[int, int]] = {"feed": {}, "search": {}}
    for channel, found in ranks.items():
        past = [entry for entry in asked.past if entry.is_search == (channel == "feed")]
        if rows and len(past) < len(asked.past):
            switched = replace(asked, past=past, question=replace(question, about=()))  # all are ranked
            [(_, rows_K, _)] = _ranked(artifact, [switched], first, words)
            found.update((row, rank) for rank, row in enumerate(rows_K.tolist(), 1))
    for one, row, events in zip(told["items"], rows, why, strict=True):
        one |= {"why": events, "without": {channel: found.get(row) for channel, found in ranks.items()}}
    return told | {"method": method_of(artifact)}


def _without(candidates_BC: Tensor, banned: Ragged) -> Tensor:
    for b, length in enumerate(banned.lengths.tolist()):
        if length:
            gone_C = torch.isin(candidates_BC[b], banned.values[banned.offsets[b] : banned.offsets[b + 1]])
            candidates_BC[b] = candidates_BC[b].masked_fill(gone_C, 0)
    return candidates_BC


def _mixed(
    artifact: Artifact, people: People, queries: Ragged, rows_BK: Tensor, asked: _Asked, words: WordIndex
) -> tuple[Tensor, Tensor]:
    """The best by the model and the best by the words of one question, by the weighted sum of both, each from 0 to 1."""
    lexical = {row for row in words.best(queries, MIXED)[0].tolist() if asked.allowed_I is None or asked.allowed_I[row]}
    rows = sorted((set(rows_BK[0].tolist()) | lexical) - asked.banned - {0})
    if not rows:
        return rows_BK, torch.full(rows_BK.shape, -torch.inf)
    rows_1C, scores_1C = best_of(artifact, "search", people, queries, torch.tensor([rows]))
    held_1C, scores_1C = words.scores(queries, rows_1C), scores_1C.double()
    lowest = scores_1C.min()
    personal_1C = (scores_1C - lowest) / (scores_1C.max() - lowest).clamp(min=1e-9)
    mixed_1C = (1 - asked.question.mix) * personal_1C + asked.question.mix * held_1C / held_1C.max().clamp(min=1e-9)
    best = mixed_1C.sort(dim=1, descending=True, stable=True)
    return rows_1C.gather(1, best.indices), best.values


def _shown(artifact: Artifact, people: People, asked: _Asked, rows_K: Tensor, scores_K: Tensor) -> Answer:
    is_told_K = rows_K > 0
    if asked.question.about is None:
        is_told_K[asked.question.k :] = False
    else:
        is_told_K &= torch.isin(rows_K, torch.from_numpy(rows_of(artifact.items, asked.question.about, "items")))
    at_K = is_told_K.nonzero().squeeze(1)
    rows_K = rows_K[at_K]
    rows: list[int] = rows_K.tolist()
    columns: dict[str, list[Any]] = {
        "rank": (1 + at_K).tolist(),
        "item_id": artifact.items.ids(rows).to_list(),
        "score": scores_K[at_K].tolist(),
        "text": artifact.item_text(rows),
    }
    notes = list(asked.notes)
    if asked.question.task == "next_place":
        batch = place_batch(artifact, people)
        places_F = batch.feed_items_BF[0][batch.feed_is_real_BF[0]]
        if asked.user_row and not len(places_F):
            before = "" if asked.question.at is None else f" before {asked.question.at}"
            notes.append(f"user {asked.question.user} has no check-in{before}")
        last = last_places(batch)[0, 0]
        km = distance_km(batch.points_I3[last], batch.points_I3[rows_K])
        columns["km"] = [round(one, 2) for one in km.tolist()] if int(last) else [None] * len(rows)
        columns["visits"] = [int((places_F == row).sum()) for row in rows]
    lines = zip(*columns.values(), strict=True)
    return {"items": [dict(zip(columns, line, strict=True)) for line in lines], "notes": notes}
