"""A directory that appears whole or not at all: it is written beside its place and renamed."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corsar.errors import writing


@contextmanager
def whole_directory(out: Path) -> Iterator[Path]:
    """An empty folder to write into; it takes the place of `out` at the end of the block, and is gone if that fails.

    Raises:
        OutputError: the disk is full or the like; what was at `out` is still there.
    """
    with writing(out):
        for left in out.parent.glob(f".{glob.escape(out.name)}.*.new"):  # by processes that were killed
            process = left.name.split(".")[-2]
            if process.isdigit() and (int(process) == os.getpid() or not _is_running(int(process))):
                shutil.rmtree(left, ignore_errors=True)
        beside = out.with_name(f".{out.name}.{os.getpid()}.new")
        beside.mkdir(parents=True)
        try:
            yield beside
            _put_in_place(beside, out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _put_in_place(beside: Path, out: Path) -> None:
    if not out.exists():
        beside.rename(out)
        return
    old = out.with_name(f".{out.name}.old.{os.getpid()}.new")  # named so that a later process finds it
    out.rename(old)
    try:
        beside.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere the question itself would stop it
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
