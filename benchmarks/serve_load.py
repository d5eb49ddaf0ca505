"""The load of `serve.py`, a process of its own with the standard library alone: requests at random moments of a mean rate.

    python benchmarks/serve_load.py ADDRESS QUESTIONS: a case a line of JSON in, what became of its requests a line of JSON out

The loop is open: when a request is sent does not depend on any answer, and its time counts from the moment at which it was to
be sent. Moments are those of a Poisson process, which is harder on the tail than one request every so many milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple


class Told(NamedTuple):
    """What a request was answered."""

    status: int  # 0: the connection broke
    retry_after: str | None = None


class Client:
    """Connections that are kept and used again."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, path: str, body: dict[str, Any]) -> Told:
        """One request; it is sent once more where a connection that was kept had ended meanwhile."""
        raw = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        while True:
            kept = bool(self._idle)
            try:
                both = self._idle.pop() if kept else await asyncio.open_connection(self.host, self.port)
                both[1].write(head.encode() + raw)
                told = await self._read(both[0])
                self._idle.append(both)
                return told
            except (OSError, asyncio.IncompleteReadError):
                if not kept:
                    return Told(0)

    async def _read(self, reader: asyncio.StreamReader) -> Told:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", 0)))
        return Told(int(first.split()[1]), headers.get("retry-after"))


def questions(tasks: list[str], told: dict[str, Any], draw: random.Random) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Task, path and body of one request after the other, the tasks in turn; users, queries and items at random."""
    number = 0
    while True:
        task, user = tasks[number % len(tasks)], str(draw.randrange(told["users"]))
        number += 1
        if task == "events":
            yield task, "/v1/events", {"events": [{"user_id": user, "kind": "feed", "item_id": draw.choice(told["items"])}]}
        else:
            query = {"query": draw.choice(told["queries"])} if task == "search" else {}
            yield task, f"/v1/{task}", {"user_id": user, "k": 10, **query}


class Seen:
    """Milliseconds of the requests of each outcome."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = {}
        self.refused: list[float] = []
        self.late: list[float] = []
        self.errors: dict[str, int] = {}
        self.retry_after: set[str] = set()

    def saw(self, task: str, told: Told, seconds: float) -> None:
        if told.status == 200:
            self.ms.setdefault(task, []).append(1000 * seconds)
        elif told.status == 503:
            self.refused.append(1000 * seconds)
            self.retry_after.add(told.retry_after or "none")
        else:
            self.errors[str(told.status)] = self.errors.get(str(told.status), 0) + 1

    def summary(self, seconds: float) -> dict[str, Any]:
        """Percentiles in milliseconds and counts."""
        answered = [one for ms in self.ms.values() for one in ms]
        sent = len(answered) + len(self.refused) + sum(self.errors.values())
        return {
            "sent": sent, "rate": sent / seconds, "answered": len(answered), "answered_rate": len(answered) / seconds,
            "p50": at(answered, 0.5), "p99": at(answered, 0.99), "most": max(answered, default=None),
            "tasks": {task: {"p50": at(ms, 0.5), "p99": at(ms, 0.99), "answered": len(ms)} for task, ms in self.ms.items()},
            "refused": len(self.refused), "refused_p50": at(self.refused, 0.5), "refused_p99": at(self.refused, 0.99),
            "retry_after": sorted(self.retry_after), "errors": sum(self.errors.values()), "statuses": self.errors,
            "late_p99": at(self.late, 0.99), "seconds": seconds,
        }  # fmt: skip


def at(ms: list[float], share: float) -> float | None:
    """The smallest number that at least this share is no larger than."""
    return sorted(ms)[min(len(ms) - 1, int(share * len(ms)))] if ms else None


async def open_loop(client: Client, case: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Requests of each stream of the case, {"tasks", "rate"}, for so many seconds."""
    draw, seen = random.Random(case.get("seed", 0)), Seen()

    async def one(task: str, path: str, body: dict[str, Any], due: float) -> None:
        seen.late.append(1000 * (time.perf_counter() - due))
        told = await client.ask(path, body)
        seen.saw(task, told, time.perf_counter() - due)

    async def stream(tasks: list[str], rate: float, start: float) -> None:
        waiting: set[asyncio.Task[None]] = set()
        asked, due = questions(tasks, told, draw), start + draw.expovariate(rate)
        while due < start + case["seconds"]:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            waiting.add(made := asyncio.create_task(one(*next(asked), due)))
            made.add_done_callback(waiting.discard)
            due += draw.expovariate(rate)
        await asyncio.gather(*waiting)

    start = time.perf_counter()
    await asyncio.gather(*(stream(each["tasks"], each["rate"], start) for each in case["streams"]))
    return seen.summary(case["seconds"])


async def closed_loop(client: Client, case: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """So many requests as fast as they are answered, a few at a time."""
    asked = islice(questions(case["tasks"], told, random.Random(1)), case["requests"])
    seen, start = Seen(), time.perf_counter()

    async def one_after_the_other() -> None:
        for task, path, body in asked:
            sent = time.perf_counter()
            seen.saw(task, await client.ask(path, body), time.perf_counter() - sent)

    await asyncio.gather(*(one_after_the_other() for _ in range(case["at_once"])))
    return seen.summary(time.perf_counter() - start)


async def main() -> None:
    """The cases, one after the other."""
    host, _, port = sys.argv[1].removeprefix("http://").rpartition(":")
    told, client = json.loads(Path(sys.argv[2]).read_text()), Client(host, int(port))
    for line in sys.stdin:
        case = json.loads(line)
        found = await (closed_loop if "requests" in case else open_loop)(client, case, told)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
