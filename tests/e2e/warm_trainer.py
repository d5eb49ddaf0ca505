"""A process that has torch ready and forks a child for each line of JSON on stdin; a line of JSON tells how the child ended.

A child runs commands of corsar, {"argv": [[…], …]}, and may be killed on its way, by SIGKILL unless said otherwise:
"after_s": so long after the first command began; "at": at its mark of this number; "bytes": when a file grows over this size
(SIGXFSZ, in the middle of a write). Marks are the steps of a training and all that Python asks of the file system under
"folder"; they are written to the file "marks" where one is named. polars starts threads when it is imported, and a process with
threads should not be forked: the child imports it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cyclopts  # noqa: F401
import numpy  # noqa: F401
import pydantic  # noqa: F401
import rich.progress  # noqa: F401
import safetensors.torch  # noqa: F401
import tomli_w  # noqa: F401
import torch
import torch._dynamo  # what Adam imports at its first step

FILES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


class Marks:
    """Counts what the process does, and kills it at one of these."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.folder, self.at = told.get("folder", "/nowhere"), told.get("at", -1)
        self.seen: list[str] = []

    def mark(self, name: str) -> None:
        if len(self.seen) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(name)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in FILES or (event == "open" and not (args[2] & (os.O_WRONLY | os.O_RDWR))):
            return
        path = str(args[0])
        if self.folder in path or not path.startswith("/"):  # rmtree names what it deletes inside its folder
            self.mark(f"{event} {re.sub('[0-9]+', 'N', path.rpartition(self.folder)[2])}")

    def around(self, owner: Any, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def marked(*args: Any, **more: Any) -> Any:
            self.mark(f"before {name}")
            told = inner(*args, **more)
            self.mark(f"after {name}")
            return told

        setattr(owner, name, marked)


def child(told: dict[str, Any], ready: int) -> None:
    """Run the commands; never comes back."""
    with open(told["log"], "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(1)
    marks = Marks(told)
    from corsar.cli import main
    from corsar.evaluate import protocol

    for owner, name in ((torch.Tensor, "backward"), (torch.optim.Adam, "step"), (protocol, "rank_targets")):
        marks.around(owner, name)
    sys.addaudithook(marks.audit)
    if told.get("bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (told["bytes"], resource.RLIM_INFINITY))
    os.write(ready, b".")
    code = 0
    for argv in told["argv"]:
        try:
            main(argv)
        except SystemExit as stopped:
            code = code or int(stopped.code or 0)
    if told.get("marks"):
        Path(told["marks"]).write_text(json.dumps(marks.seen), encoding="utf-8")
    os._exit(code)


def serve() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        hear, ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(told, ready)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(70)
        os.close(ready)
        os.read(hear, 1)
        start = time.monotonic()
        if told.get("after_s") is not None:
            time.sleep(told["after_s"])
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(hear)
        print(json.dumps({"code": code, "seconds": time.monotonic() - start}), flush=True)


if __name__ == "__main__":
    serve()
