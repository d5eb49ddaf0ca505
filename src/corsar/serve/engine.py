"""One model, or one a set of tasks, opened and ready to answer. An engine never changes: a reload makes another one.

All that it answers from lies in memory, so that nothing done to the files of an artifact reaches one that is serving.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corsar.api.answers import Answer, FirstStage, Question, answer
from corsar.api.engine import can_answer, item_vectors, nearest_items, similar_rows
from corsar.artifact import Artifact, open_artifact
from corsar.batch import TASKS, Task
from corsar.errors import ConfigError, CorsarError
from corsar.index.first import Candidates
from corsar.index.queries import Found, QueryIndex
from corsar.index.words import WordIndex
from corsar.serve.store import EventStore, LiveEvent
from corsar.serve.unisar import served

EXACT = 20_000  # items that are all scored for every question
CANDIDATES = 1000


class Engine:
    """Answers questions, each by the first of its models that was trained for the task."""

    def __init__(self, artifacts: Sequence[Artifact], candidates: int = CANDIDATES) -> None:
        """Make all indexes.

        Args:
            candidates: Items that the model scores of a catalogue that has more than `EXACT`.
        """
        self._artifacts = [served(in_memory(artifact)) for artifact in artifacts]
        self.by_task: dict[Task, Artifact] = {}
        for artifact in self._artifacts:
            for task in TASKS:
                if can_answer(artifact, task):
                    self.by_task.setdefault(task, artifact)
        if not self.by_task:
            raise ConfigError("none of the runs answers anything; serve a run that was trained for a task")
        self._main = next(self.by_task[task] for task in TASKS if task in self.by_task)
        self._asked = next((self.by_task[task] for task in ("search", "recommend") if task in self.by_task), self._main)
        self._queries = QueryIndex(self._asked.history, self._asked.words)
        self._words = WordIndex(self.by_task["search"].catalogue) if "search" in self.by_task else None
        self._vectors = item_vectors(self._main) if self._main.model.trained else None
        self._first: dict[Task, FirstStage] = {}
        nearest = {id(one): nearest_items(one) for one in self._artifacts if len(one.items) > EXACT}
        for task, artifact in self.by_task.items():
            if len(artifact.items) > EXACT and task != "next_place":  # where people were is most of where they go
                of_task = self._words if task == "search" else None
                of_towers = nearest[id(artifact)]
                self._first[task] = Candidates(artifact.history, len(artifact.items), of_task, candidates, of_towers)
        self.fingerprint = hashlib.sha256(json.dumps(self.about(), sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def open(cls, runs: Sequence[Path], candidates: int = CANDIDATES) -> Engine:
        """The engine of these runs or artifacts, which has answered a question of each task.

        Raises:
            ArtifactError: One of them is missing, damaged or of another version.
            ConfigError: None of them answers anything, or one cannot answer somebody unknown.
        """
        engine = cls([open_artifact(run) for run in runs], candidates)
        for task in engine.by_task:
            (told,) = engine.answer([Question(task, query="" if task == "search" else None, k=1)])
            if isinstance(told, CorsarError):
                raise told
        return engine

    def answer(self, questions: Sequence[Question], store: EventStore | None = None) -> list[Answer | CorsarError]:
        """What each question is answered, or why it cannot be.

        Args:
            store: what users did since; where it is told, it becomes a part of the past of users without a told history.
        """
        told: list[Answer | CorsarError] = [ConfigError("")] * len(questions)
        for task in dict.fromkeys(question.task for question in questions):
            places = [place for place, question in enumerate(questions) if question.task == task]
            some = [questions[place] for place in places]
            for place, one in zip(places, self._answer(task, some, store), strict=True):
                told[place] = one
        return told

    def _answer(self, task: Task, questions: Sequence[Question], store: EventStore | None) -> Sequence[Answer | CorsarError]:
        if task not in self.by_task:
            refusal = ConfigError(f"no served model answers {task}; serve a run that was trained for it")
            return [refusal] * len(questions)
        artifact = self.by_task[task]
        if store is not None:
            questions = [_with_live_events(artifact, question, store) for question in questions]
        return answer(artifact, questions, first=self._first.get(task), words=self._words)

    def similar(self, item_id: str, k: int) -> Answer | None:
        """The items most like one: rows of rank, item_id, score, text; None where the catalogue does not know it."""
        artifact = self._main
        row = int(artifact.items.rows([item_id], missing="pad")[0])
        if not row:
            return None
        rows_1K, scores_1K = similar_rows(artifact, torch.tensor([row]), k, self._vectors)
        rows = rows_1K[0].tolist()
        columns = (artifact.items.ids(rows).to_list(), scores_1K[0].tolist(), artifact.item_text(rows))
        names = ("rank", "item_id", "score", "text")
        items = [dict(zip(names, line, strict=True)) for line in zip(range(1, len(rows) + 1), *columns, strict=True)]
        return {"items": items, "notes": []}

    def queries_after(self, item_id: str, k: int) -> Found | None:
        """What people searched for right after an event on the item; None where the catalogue does not know it."""
        row = int(self._asked.items.rows([item_id], missing="pad")[0])
        return self._queries.after(row, k) if row else None

    def complete(self, prefix: str, k: int) -> Found:
        """The most frequent queries that begin so."""
        return self._queries.complete(prefix, k)

    def about(self) -> list[dict[str, Any]]:
        """What is served: of each model its name, tasks, sizes, and the hashes of its files and of its dataset."""
        return [
            {
                "model": artifact.config.model["name"],
                "tasks": [task for task in TASKS if self.by_task.get(task) is artifact],
                "items": len(artifact.items),
                "users": len(artifact.users),
                "stages": 2 if any(self.by_task.get(task) is artifact for task in self._first) else 1,
                "artifact": hashlib.sha256(json.dumps(artifact.manifest["files"], sort_keys=True).encode()).hexdigest(),
                "dataset": artifact.manifest["dataset"].get("data_hash"),
            }
            for artifact in self._artifacts
        ]


def in_memory(artifact: Artifact) -> Artifact:
    """The same artifact with nothing left in files, which others may cut short or write over."""
    for module in artifact.model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())
    for parameter in artifact.model.parameters():
        parameter.data = parameter.data.clone()
        parameter.requires_grad_(False)
    parts = {name: _copied(getattr(artifact, name)) for name in ("catalogue", "history", "seen", "places")}
    return dataclasses.replace(artifact, **parts)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _copied(getattr(value, field.name)) for field in dataclasses.fields(value)})
    return value


def _with_live_events(artifact: Artifact, question: Question, store: EventStore) -> Question:
    """The question with what its user did since the logs of the model end."""
    if question.user is None or question.history is not None:
        return question
    user_id, sizes = str(question.user), artifact.sizes
    events = store.newest(user_id, sizes.feed_len, sizes.search_len)
    if not events:
        return question
    logged = logged_until(artifact, user_id)
    since = [event for event in events if logged is None or event.time_ms > logged]
    had = store.items(user_id) if question.exclude_seen else ()
    is_place = question.task == "next_place"
    return dataclasses.replace(question, since=_check_ins(since) if is_place else _events(since), had=had)


def logged_until(artifact: Artifact, user_id: str) -> int | None:
    """Time of the newest event that the artifact holds of the user; None where it holds none, or knows no time."""
    row = int(artifact.users.rows([user_id], missing="pad")[0])
    if not row or artifact.manifest["dataset"].get("clock") != "utc":
        return None
    past, times = artifact.history, []
    for flat, offsets in ((past.feed_times, past.feed_offsets), (past.search_times, past.search_offsets)):
        start, end = offsets[row : row + 2].tolist()
        times += flat[max(start, end - 1) : end].tolist()
    return max(times, default=None)


def _check_ins(events: Sequence[LiveEvent]) -> list[dict[str, Any]]:
    return [
        {"item_id": event.item_id, "time_ms": event.time_ms, "utc_offset_min": event.utc_offset_min}
        for event in events
        if event.kind == "checkin"
    ]


def _events(events: Sequence[LiveEvent]) -> list[dict[str, Any]]:
    """Events as a history tells them; those of one search session are one search, at the earliest of them."""
    told: list[dict[str, Any]] = []
    sessions: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.kind == "feed":
            told.append({"item_id": event.item_id})
        elif event.kind == "search":
            search = sessions.get(event.session_id or "")
            if search is None:
                search = {"kind": "search", "query": None, "item_id": []}
                told.append(search)
                if event.session_id:
                    sessions[event.session_id] = search
            search["query"] = search["query"] or event.query
            search["item_id"] += [event.item_id] if event.item_id is not None else []
    return told
