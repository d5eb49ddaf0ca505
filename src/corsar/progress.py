"""The one progress display: a bar with rate and time left on stderr; where that is no terminal, a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import IO, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.text import Text

T = TypeVar("T")
LINE_EVERY_S = 15.0  # between two lines of one task where stderr is no terminal
RATE_OF_S = 60.0  # the last seconds, by which a bar tells the time left


class RateColumn(ProgressColumn):
    """Units a second."""

    def render(self, task: Bar) -> Text:
        """The rate as text; empty while it is not known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s")


class Task:
    """One thing that goes on: `advance` it."""

    def __init__(self, progress: Progress, label: str, total: int | None) -> None:
        self._progress, self._label, self._total = progress, label, total
        self._done, self._start = 0, time.monotonic()
        self._told, self._shown = self._start, 0
        bars = progress.bars
        self._id = None if bars is None else bars.add_task(label, total=total, note="")

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Say that `amount` more is done; `note` is shown behind the bar."""
        self._done += amount
        bars = self._progress.bars
        if bars is not None and self._id is not None:
            bars.advance(self._id, amount)
            if note is not None:
                bars.update(self._id, note=note)
        elif time.monotonic() - self._told >= LINE_EVERY_S:
            self._told, self._shown = time.monotonic(), self._done
            self._progress.say(self._line(note))

    def _line(self, note: str | None) -> str:
        spent = self._told - self._start
        rate = self._done / spent
        text = f"{self._label} {self._done:,}"
        if self._total is not None:
            left = (self._total - self._done) / rate if rate else 0.0
            text += f"/{self._total:,}, {left:.0f} s left"
        return f"{text}, {rate:,.1f}/s" + (f", {note}" if note else "")

    def close(self) -> None:
        """Take the bar away; where there were lines, a last one says how far it came."""
        bars = self._progress.bars
        if bars is not None and self._id is not None:
            bars.remove_task(self._id)
        elif 0 < self._shown < self._done:
            end = "" if self._total is None else f"/{self._total:,}"
            self._progress.say(f"{self._label} {self._done:,}{end} in {time.monotonic() - self._start:.0f} s")


class Progress:
    """Shows tasks while it is entered as a context; `Progress(quiet=True)` shows nothing."""

    def __init__(self, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self.quiet = quiet
        self.bars: Bars | None = None
        self._stream = stream or sys.stderr

    def __enter__(self) -> Progress:
        console = Console(file=self._stream, highlight=False)
        if console.is_terminal and not self.quiet:
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            )  # fmt: skip
            self.bars = Bars(*columns, console=console, refresh_per_second=4, speed_estimate_period=RATE_OF_S)
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()
            self.bars = None

    def say(self, sentence: str) -> None:
        """One line of text, above the bars where there are some."""
        if self.quiet:
            return
        if self.bars is not None:
            self.bars.console.print(sentence, markup=False)
        else:
            self._stream.write(sentence + "\n")
            self._stream.flush()

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        """A task to advance by hand; its bar goes when the context ends."""
        task = Task(self, label, total)
        try:
            yield task
        finally:
            task.close()

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """The items, one by one, while their number is shown."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self.task(label, total) as task:
            for item in items:
                yield item
                task.advance()
