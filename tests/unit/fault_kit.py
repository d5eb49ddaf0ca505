"""What the tests of faults share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corsar.cli import main


def assert_one_sentence(capsys: pytest.CaptureFixture[str], sentence: str, *argv: str) -> str:
    """Run a command that must fail: exit code 2, one line beginning with "corsar: " that fits `sentence`, no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(argv))
    told = capsys.readouterr()
    assert stopped.value.code == 2, told.err
    assert told.out == ""
    assert "Traceback" not in told.err
    fault = [line for line in told.err.splitlines() if line.startswith("corsar: ")]
    assert len(fault) == 1, told.err
    assert told.err.splitlines()[-1] == fault[0], told.err
    assert re.search(sentence, fault[0]), fault[0]
    return fault[0]


@contextmanager
def snapshot(folder: Path) -> Iterator[None]:
    """A block that changes nothing in a folder."""
    before = content(folder)
    yield
    assert content(folder) == before


def content(folder: Path) -> dict[str, str]:
    """Names and hashes of all in a folder."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "folder"
        for file in sorted(folder.rglob("*"))
    }


def flip(file: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << (at % 7)
    file.write_bytes(data)
