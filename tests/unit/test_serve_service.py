"""The service under load: reloads drop nothing, what is too much is refused at once, memory does not grow."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import SMALL, Client, client_of, make_runs

import corsar
from corsar.errors import OutputError
from corsar.serve.batcher import Limits
from corsar.serve.engine import Engine


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_runs(tmp_path_factory.mktemp("runs"))


def _items(told: Any) -> list[Any]:
    return [one["item_id"] for one in told["items"]]


def test_reload_under_load_drops_no_request(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    events, items = corsar.example_logs()
    other = corsar.UniSAR(**SMALL | {"seed": 7}).fit(corsar.Dataset.from_frames(events, items=items))
    body = {"user_id": "u1", "k": 12}
    expected = [_items(corsar.recommend(model, user="u1", k=12)) for model in (run, other.artifact)]
    assert expected[0] != expected[1]

    async def ask_on(client: Client, told: list[Any], done: asyncio.Event) -> None:
        while not done.is_set():
            told.append(await client.ask("POST", "/v1/recommend", body))

    async def load(client: Client) -> list[Any]:
        told: list[Any] = []
        done = asyncio.Event()
        askers = [asyncio.ensure_future(ask_on(client, told, done)) for _ in range(4)]
        await asyncio.sleep(0.1)
        for turn in range(4):
            shutil.rmtree(run)
            shutil.copytree(runs[0] / "artifact" if turn % 2 else other.artifact.path, run)
            reloaded = await client.ask("POST", "/v1/reload")
            assert reloaded.status == 200, reloaded
            now = await client.ask("POST", "/v1/recommend", body)
            assert _items(now.json) == expected[0 if turn % 2 else 1]
        done.set()
        await asyncio.gather(*askers)
        return told

    with client_of([run], tmp_path / "events.sqlite") as client:
        told = client.runner.run(load(client))
    assert len(told) > 8
    assert {one.status for one in told} == {200}
    assert {expected.index(_items(one.json)) for one in told} == {0, 1}


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_corrupt_artifact_is_refused_and_the_old_model_goes_on(runs: list[Path], tmp_path: Path, harm: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    with client_of([run], tmp_path / "events.sqlite") as client:
        before = client("POST", "/v1/recommend", {"user_id": "u1"}).json
        fingerprint = client("GET", "/version").json["fingerprint"]
        weights = run / "artifact" / "weights.safetensors"
        raw = bytearray(weights.read_bytes())
        raw[len(raw) // 2] ^= 1
        if harm == "remove":
            weights.unlink()
        else:
            weights.write_bytes(bytes(raw) if harm == "flip" else bytes(raw[:-8]))
        told = client("POST", "/v1/reload")
        assert told.status == 409
        assert told.json["error"].startswith("the old model goes on: ")
        assert "copy" in told.json["error"]
        assert client("POST", "/v1/recommend", {"user_id": "u1"}).json == before
        assert client("GET", "/version").json["fingerprint"] == fingerprint
        assert b"corsar_refused_reloads 1.0" in client("GET", "/metrics").body


def test_one_reload_goes_on_at_a_time(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(runs[1:], tmp_path / "events.sqlite") as client:
        gate, opened = threading.Event(), Engine.open

        def slowly(*told: Any) -> Engine:
            gate.wait(10)
            return opened(*told)

        monkeypatch.setattr(Engine, "open", slowly)

        async def twice() -> list[Any]:
            first = asyncio.ensure_future(client.ask("POST", "/v1/reload"))
            await asyncio.sleep(0.05)
            second = await client.ask("POST", "/v1/reload")
            gate.set()
            return [await first, second]

        first, second = client.runner.run(twice())
        assert first.status == 200
        assert second.status == 409
        assert "a reload is under way" in second.json["error"]


def test_overload_is_answered_503_at_once_with_when_to_come_back(runs: list[Path], tmp_path: Path) -> None:
    limits = Limits(batch=1, waiting=2)
    with client_of(runs[1:], tmp_path / "events.sqlite", limits) as client:
        service, gate = client.app.state.service, threading.Event()
        answer = service.engine.answer

        def slowly(*told: Any) -> Any:
            gate.wait(10)
            return answer(*told)

        service.engine.answer = slowly

        async def crowd() -> list[Any]:
            asked = [asyncio.ensure_future(client.ask("POST", "/v1/next-place", {"k": 1})) for _ in range(10)]
            done, _ = await asyncio.wait(asked, timeout=1)
            assert len(done) >= 7  # refused while the thread is held
            gate.set()
            return await asyncio.gather(*asked)

        told = client.runner.run(crowd())
        refused = [one for one in told if one.status == 503]
        assert 7 <= len(refused) <= 8
        assert {one.status for one in told} == {200, 503}
        assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
        assert all(one.json["error"].startswith("there is no room now; come back in") for one in refused)


def test_store_that_cannot_write_is_told_and_questions_go_on(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(runs[1:], tmp_path / "events.sqlite") as client:
        body = {"events": [{"user_id": "u1", "kind": "checkin", "item_id": 1}]}

        def full(requests: Any) -> Any:
            raise OutputError("cannot write events.sqlite: disk is full; see to the disk and its rights, and try again")

        monkeypatch.setattr(client.app.state.service.writes, "_run", full)
        told = client("POST", "/v1/events", body)
        assert told.status == 503
        assert "disk is full" in told.json["error"]
        assert told.headers["retry-after"] == "1"
        assert client("POST", "/v1/next-place", {"user_id": "u1", "k": 1}).status == 200


def test_question_that_breaks_something_is_answered_and_the_next_goes_on(runs: list[Path], tmp_path: Path) -> None:
    with client_of(runs[1:], tmp_path / "events.sqlite") as client:
        refused = client("POST", "/v1/recommend", {"k": 1})
        assert refused.status == 422
        assert refused.json["error"] == "no served model answers recommend; serve a run that was trained for it"
        assert client("POST", "/v1/next-place", {"k": 1}).status == 200


def test_service_that_is_closed_answers_what_waits(runs: list[Path], tmp_path: Path) -> None:
    with client_of(runs[1:], tmp_path / "events.sqlite") as client:

        async def ask_and_close() -> list[Any]:
            asked = [asyncio.ensure_future(client.ask("POST", "/v1/next-place", {"k": 1})) for _ in range(5)]
            await asyncio.sleep(0)
            await asyncio.to_thread(client.app.state.service.close)
            return await asyncio.gather(*asked)

        assert {one.status for one in client.runner.run(ask_and_close())} <= {200, 503}
