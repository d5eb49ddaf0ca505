"""A service over small models, and a client that calls its app without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI

import corsar
from corsar.serve.app import create_app
from corsar.serve.batcher import Limits
from corsar.serve.service import Service
from corsar.serve.store import SQLiteStore

SMALL = {"dim": 8, "id_dim": 8, "word_dim": 8, "epochs": 1, "feed_len": 4, "search_len": 2, "embedding_std": 0.3}


def make_runs(folder: Path) -> list[Path]:
    """Runs of UniSAR on a shop and of visits in a city."""
    events, items = corsar.example_logs()
    corsar.UniSAR(**SMALL).fit(corsar.Dataset.from_frames(events, items=items), run_dir=folder / "unisar")
    check_ins, places = corsar.example_check_ins()
    corsar.api.Visits().fit(corsar.Dataset.from_frames(check_ins, items=places), run_dir=folder / "visits")
    return [folder / "unisar", folder / "visits"]


def near(told: Any) -> Any:
    """The answer, equal to one whose scores differ by rounding: the service adds in another order."""
    return told | {"items": [one | {"score": pytest.approx(one["score"], abs=1e-6)} for one in told["items"]]}


class Answered(NamedTuple):
    """What a request was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls an app in one event loop, as a server would."""

    def __init__(self, app: FastAPI) -> None:
        self.app, self.runner = app, asyncio.Runner()

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answered:
        return self.runner.run(self.ask(method, path, body, headers))

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answered:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        told = {"host": "localhost:8000", "content-type": "application/json", "content-length": str(len(raw))} | (headers or {})
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in told.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {},
        }  # fmt: skip
        sent: list[Any] = []
        parts = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive() -> Any:
            return parts.pop() if parts else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        headers_out = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answered(sent[0]["status"], headers_out, b"".join(message.get("body", b"") for message in sent[1:]))


@contextmanager
def client_of(runs: list[Path], state: Path, limits: Limits | None = None, **app: Any) -> Iterator[Client]:
    """A client of a service over the runs, which ends with the block."""
    service = Service(runs, SQLiteStore(state), limits)
    client = Client(create_app(service, **app))
    try:
        yield client
    finally:
        client.runner.close()
        service.close()
