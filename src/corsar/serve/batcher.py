"""Questions of many requests, taken together by a thread of their own, with a bound on how long anybody waits.

A thread takes all that waits, up to a limit, as soon as it is free: nobody waits for a batch to fill. A question that would
wait too long is refused at once, with how long it is until there is room.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
NEW = 0.2  # weight of the newest batch in the running mean of seconds a question


class Overloaded(Exception):
    """There is no room now; `retry_s` says when to come back."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(f"come back in {retry_s:.1f} s")
        self.retry_s = retry_s


class Limits(NamedTuple):
    """How much may wait, and how long."""

    batch: int = 8  # questions taken together, at most
    waiting: int = 256  # questions that wait, at most
    patience_s: float = 0.5  # a question that would wait longer is refused, but for the first of the next batch
    timeout_s: float = 30.0  # from the question to its answer


class Batcher(Generic[Q, A]):
    """Answers questions in batches; `run` gives for each question an answer, or the error that is its answer."""

    def __init__(self, run: Callable[[Sequence[Q]], Sequence[A | Exception]], limits: Limits, name: str) -> None:
        self._run, self.limits = run, limits
        self._waiting: deque[tuple[Q, asyncio.Future[A], asyncio.AbstractEventLoop]] = deque()
        self._wake = threading.Condition()
        self._closed, self._busy = False, 0
        self.seconds_each = 0.0
        self.batches = self.questions = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Questions that wait or are being answered."""
        return len(self._waiting) + self._busy

    def full_s(self) -> float | None:
        """Seconds until there may be room for one more question; None where there is room now."""
        wait_s = len(self) * self.seconds_each
        is_full = len(self._waiting) >= self.limits.waiting or (self._waiting and wait_s > self.limits.patience_s)
        return max(wait_s - self.limits.patience_s, self.seconds_each) if self._closed or is_full else None

    async def ask(self, question: Q) -> A:
        """The answer.

        Raises:
            Overloaded: It would take too long, or took too long.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        with self._wake:
            full_s = self.full_s()
            if full_s is not None:
                raise Overloaded(full_s)
            self._waiting.append((question, future, loop))
            self._wake.notify()
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                return await future
        except TimeoutError:
            raise Overloaded(self.limits.timeout_s) from None

    def close(self) -> None:
        """Answer what waits, and take no more."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._busy = 0
                while not self._waiting and not self._closed:
                    self._wake.wait()
                if not self._waiting:
                    return
                taken = [self._waiting.popleft() for _ in range(min(self.limits.batch, len(self._waiting)))]
                taken = [one for one in taken if not one[1].done()]  # nobody waits any more for the others
                self._busy = len(taken)
            if taken:
                self._answer(taken)

    def _answer(self, taken: list[tuple[Q, asyncio.Future[A], asyncio.AbstractEventLoop]]) -> None:
        start = time.perf_counter()
        answers: Sequence[A | Exception]
        try:
            answers = self._run([question for question, _, _ in taken])
        except Exception as error:  # the thread goes on; those who asked are told
            answers = [error] * len(taken)
        each = (time.perf_counter() - start) / len(taken)
        with self._wake:
            self.seconds_each += (NEW if self.batches else 1.0) * (each - self.seconds_each)
            self.batches, self.questions = self.batches + 1, self.questions + len(taken)
        for (_, future, loop), answer in zip(taken, answers, strict=True):
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, future, answer)


def _tell(future: asyncio.Future[A], answer: A | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
