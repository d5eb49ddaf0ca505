"""Batches of questions: everybody is answered, or refused at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from corsar.serve.batcher import Batcher, Limits, Overloaded


class Gate:
    """Doubles numbers, once it is open; remembers the batches."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.open, self.batches, self.seconds = threading.Event(), [], seconds  # type: threading.Event, list[list[int]], float
        self.open.set()

    def __call__(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.open.wait(10)
        time.sleep(self.seconds)
        self.batches.append(list(numbers))
        if 1300 in numbers:
            raise ArithmeticError("thirteen hundred")
        return [ValueError(str(one)) if one < 0 else 2 * one for one in numbers]


def test_batcher_answers_everybody_his_own() -> None:
    gate = Gate()
    batcher = Batcher(gate, Limits(batch=4), "test")

    async def ask() -> list[int]:
        return await asyncio.gather(*(batcher.ask(one) for one in range(100)))

    assert asyncio.run(ask()) == [2 * one for one in range(100)]
    assert [one for batch in gate.batches for one in batch] == list(range(100))
    assert max(len(batch) for batch in gate.batches) == 4
    assert (batcher.questions, batcher.batches) == (100, len(gate.batches))
    batcher.close()


def test_batcher_tells_errors_to_those_who_asked_alone() -> None:
    batcher = Batcher(Gate(), Limits(batch=1), "test")

    async def ask() -> list[object]:
        return await asyncio.gather(*(batcher.ask(one) for one in (1, -2, 1300, 4)), return_exceptions=True)

    one, two, three, four = asyncio.run(ask())
    assert (one, four) == (2, 8)
    assert isinstance(two, ValueError)
    assert isinstance(three, ArithmeticError)
    batcher.close()


def test_batcher_refuses_at_once_what_does_not_fit() -> None:
    gate = Gate()
    gate.open.clear()
    batcher = Batcher(gate, Limits(batch=2, waiting=3), "test")

    async def ask() -> tuple[list[object], float]:
        first = [asyncio.ensure_future(batcher.ask(one)) for one in range(2)]
        await asyncio.sleep(0.05)  # the thread has taken these
        waiting = [asyncio.ensure_future(batcher.ask(one)) for one in range(3)]
        await asyncio.sleep(0)
        start = time.perf_counter()
        with pytest.raises(Overloaded):
            await batcher.ask(9)
        took = time.perf_counter() - start
        gate.open.set()
        return await asyncio.gather(*first, *waiting), took

    told, took = asyncio.run(ask())
    assert told == [0, 2, 0, 2, 4]
    assert took < 0.02
    batcher.close()


def test_batcher_refuses_what_would_wait_too_long() -> None:
    batcher = Batcher(Gate(seconds=0.02), Limits(batch=1, patience_s=0.05), "test")

    async def ask() -> tuple[list[object], list[float]]:
        await batcher.ask(0)  # learns how long one takes
        start = time.perf_counter()
        told = await asyncio.gather(*(timed(one, start) for one in range(20)), return_exceptions=True)
        return told, [one for one in told if isinstance(one, float)]

    async def timed(one: int, start: float) -> float:
        await batcher.ask(one)
        return time.perf_counter() - start

    told, took = asyncio.run(ask())
    refused = [one for one in told if isinstance(one, Overloaded)]
    assert len(took) + len(refused) == 20
    assert len(took) >= 2
    assert refused
    assert all(0 < one.retry_s < 1 for one in refused)
    batcher.close()


def test_batcher_gives_up_after_its_time_and_skips_what_nobody_waits_for() -> None:
    gate = Gate()
    gate.open.clear()
    batcher = Batcher(gate, Limits(batch=1, timeout_s=0.05), "test")

    async def ask() -> list[object]:
        told = await asyncio.gather(*(batcher.ask(one) for one in (1, 2, 3)), return_exceptions=True)
        gate.open.set()
        return [*told, await batcher.ask(4)]

    *late, last = asyncio.run(ask())
    assert all(isinstance(one, Overloaded) for one in late)
    assert last == 8
    assert gate.batches == [[1], [4]]
    batcher.close()


def test_batcher_that_is_closed_answers_what_waits_and_takes_no_more() -> None:
    gate = Gate(seconds=0.01)
    batcher = Batcher(gate, Limits(batch=1), "test")

    async def ask() -> list[object]:
        waiting = [asyncio.ensure_future(batcher.ask(one)) for one in range(5)]
        await asyncio.sleep(0)
        await asyncio.to_thread(batcher.close)
        with pytest.raises(Overloaded):
            await batcher.ask(9)
        return await asyncio.gather(*waiting)

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8]
