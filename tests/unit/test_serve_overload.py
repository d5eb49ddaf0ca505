"""More than can be answered: refusals are immediate, those who are served wait no longer, and nothing piles up."""

from __future__ import annotations

import asyncio
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corsar

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import SMALL, Answered, Client, client_of
from starlette.responses import JSONResponse

from corsar.serve.batcher import Batcher, Limits
from corsar.serve.guard import Guard

PATH, EACH_S, PATIENCE_S, ASKED, RATE = "/v1/recommend", 0.02, 0.06, 200, 400


def _answer(numbers: Sequence[int]) -> Sequence[int | Exception]:
    time.sleep(EACH_S * len(numbers))
    return numbers


def test_overload_is_refused_at_once_and_the_served_do_not_wait_longer() -> None:
    batcher = Batcher(_answer, Limits(patience_s=PATIENCE_S), "test")
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await JSONResponse(await batcher.ask(1))(scope, receive, send)

    counted: list[tuple[str, int]] = []
    guard = Guard(app, key=None, hosts=None, saw=lambda *told: counted.append(told[:2]), full_s={PATH: batcher.full_s})
    client = Client(guard)  # type: ignore[arg-type]

    async def one(number: int, start: float) -> tuple[Answered, float]:
        await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
        sent = time.perf_counter()
        return await client.ask("POST", PATH, {}), time.perf_counter() - sent

    async def load() -> list[tuple[Answered, float]]:
        await client.ask("POST", PATH, {})  # the batcher learns how long one takes
        start = time.perf_counter()
        return await asyncio.gather(*(one(number, start) for number in range(ASKED)))

    told = client.runner.run(load())
    client.runner.close()
    batcher.close()
    served = sorted(seconds for answered, seconds in told if answered.status == 200)
    refused = sorted(seconds for answered, seconds in told if answered.status == 503)
    assert len(served) + len(refused) == ASKED
    assert 3 <= len(served) < ASKED / 4  # a tenth or so of what is asked can be answered
    assert refused[len(refused) // 2] < EACH_S / 2
    assert served[-1] < 5 * PATIENCE_S  # all of them one after the other would take 4 s
    assert len(reached) <= len(served) + 10  # the others went no further than the guard
    assert {answered.headers["retry-after"] for answered, _ in told if answered.status == 503} == {"1"}
    assert all("come back in 1 s" in answered.json["error"] for answered, _ in told if answered.status == 503)
    assert {route for route, status in counted if status == 503} == {PATH}


def test_batcher_has_room_again_when_it_is_done() -> None:
    batcher = Batcher(_answer, Limits(batch=1, patience_s=0.001), "test")

    async def ask() -> list[float | None]:
        first = asyncio.ensure_future(batcher.ask(1))
        found = [batcher.full_s()]
        await first
        taken = asyncio.ensure_future(batcher.ask(2))
        await asyncio.sleep(EACH_S / 4)  # the thread has it now
        waiting = asyncio.ensure_future(batcher.ask(3))
        await asyncio.sleep(0)
        found.append(batcher.full_s())
        await asyncio.gather(taken, waiting)
        return [*found, batcher.full_s()]

    before, full, after = asyncio.run(ask())
    batcher.close()
    assert before is None
    assert after is None
    assert full is not None
    assert 0 < full < 1


def test_memory_is_bounded_over_many_requests(tmp_path: Path) -> None:
    events, items = corsar.example_logs()
    corsar.UniSAR(**SMALL).fit(corsar.Dataset.from_frames(events, items=items), run_dir=tmp_path / "run")
    with client_of([tmp_path / "run"], tmp_path / "events.sqlite") as client:

        def ask(times: int) -> None:
            for number in range(times):
                user = f"somebody {number}" if number % 3 else "u1"
                assert client("POST", "/v1/recommend", {"user_id": user}).status == 200
                assert client("POST", "/v1/search", {"query": f"red shoe {number}", "user_id": user}).status == 200

        ask(100)
        tracemalloc.start()
        ask(20)
        before, _ = tracemalloc.get_traced_memory()
        ask(200)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert after - before < 100_000  # 250 bytes a request
