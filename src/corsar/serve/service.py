"""The engine, the store and the threads that work for both: all of the service but HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from corsar.api.answers import Answer, Question
from corsar.errors import ConfigError, CorsarError, DataError
from corsar.serve.batcher import Batcher, Limits
from corsar.serve.engine import CANDIDATES, Engine
from corsar.serve.store import Added, EventStore, LiveEvent, SQLiteStore

Asked = tuple[Engine, Question]


class Service:
    """Answers questions and takes events; a reload puts another engine in the place of this one."""

    def __init__(
        self, runs: Sequence[Path], store: EventStore, limits: Limits | None = None, candidates: int = CANDIDATES
    ) -> None:
        self.runs, self.store, self._candidates = list(runs), store, candidates
        self.engine = Engine.open(self.runs, candidates)
        self.loaded_at, self.reloads, self.refused_reloads, self.events = time.time(), 0, 0, 0
        self._reloading = threading.Lock()
        self.questions: Batcher[Asked, Answer] = Batcher(self._answer, limits or Limits(), "questions")
        writes = Limits(batch=64, waiting=1024, patience_s=5.0)
        self.writes: Batcher[Sequence[LiveEvent], Added] = Batcher(self.store.add, writes, "events")

    @classmethod
    def open(cls, runs: Sequence[Path], state: Path, limits: Limits, candidates: int = CANDIDATES) -> Service:
        """The service of these runs, with the events of the file at `state`, which is made where there is none."""
        store = SQLiteStore(state)
        try:
            return cls(runs, store, limits, candidates)
        except BaseException:
            store.close()
            raise

    async def ask(self, question: Question) -> Answer:
        """The answer by the engine that serves now, whatever is loaded before it is given.

        Raises:
            CorsarError: The question cannot be answered.
            Overloaded: There is no room for it now.
        """
        return await self.questions.ask((self.engine, question))

    async def add(self, events: Sequence[LiveEvent]) -> Added:
        """What became of the events; those that are stored are on the disk.

        Raises:
            DataError: A key was given to another event before; none of the events is stored.
            OutputError: The disk does not take them.
            Overloaded: There is no room for them now.
        """
        added = await self.writes.ask(events)
        self.events += added.stored
        return added

    def reload(self) -> Engine:
        """The engine that serves from now on, opened anew from the same paths.

        Raises:
            ArtifactError: A run is missing or damaged; the old engine goes on.
            ConfigError: A reload is under way.
        """
        if not self._reloading.acquire(blocking=False):
            raise ConfigError("a reload is under way; wait for its end")
        try:
            engine = Engine.open(self.runs, self._candidates)
        except CorsarError:
            self.refused_reloads += 1
            raise
        finally:
            self._reloading.release()
        self.engine, self.loaded_at, self.reloads = engine, time.time(), self.reloads + 1
        return engine

    def close(self) -> None:
        """Answer and store what waits, and end."""
        self.questions.close()
        self.writes.close()
        self.store.close()

    def _answer(self, asked: Sequence[Asked]) -> Sequence[Answer | Exception]:
        told: list[Answer | Exception] = [DataError("")] * len(asked)
        for engine in dict.fromkeys(engine for engine, _ in asked):  # two of them while one takes the place of the other
            places = [place for place, (one, _) in enumerate(asked) if one is engine]
            answers = engine.answer([asked[place][1] for place in places], self.store)
            for place, answer in zip(places, answers, strict=True):
                told[place] = answer
        return told
