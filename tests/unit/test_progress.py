"""The progress display: a bar on a terminal, lines now and then elsewhere, nothing when quiet."""

import io

import pytest

from corsar.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        with progress.task("train", 4) as task:
            task.advance(3, "loss .5")
            progress.bars.refresh()
        progress.say("epoch [1] done")
    assert "3/4" in stream.getvalue()
    assert "loss .5" in stream.getvalue()
    assert "epoch [1] done" in stream.getvalue()


def test_progress_writes_a_line_now_and_then_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("corsar.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress(stream=stream) as progress, progress.task("train", 100) as task:
        for _ in range(40):
            now[0] += 1
            task.advance(1, "loss .5")
    assert stream.getvalue().splitlines() == [
        "train 15/100, 85 s left, 1.0/s, loss .5",
        "train 30/100, 70 s left, 1.0/s, loss .5",
        "train 40/100 in 40 s",
    ]


def test_progress_gives_the_items_and_is_silent_when_quiet() -> None:
    stream = Terminal()
    with Progress(quiet=True, stream=stream) as progress:
        assert list(progress.track("abc", "letters")) == ["a", "b", "c"]
        progress.say("nothing")
    assert stream.getvalue() == ""
