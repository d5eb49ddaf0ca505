"""What a training takes from the machine: its device, its threads, and Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from corsar.config import Config
from corsar.errors import ConfigError
from corsar.train.processes import Processes


def find_device(config: Config, processes: Processes) -> torch.device:
    """The device of `run.device`; of several processes, each takes the GPU of its own number.

    Raises:
        ConfigError: torch does not know it, or there is no such GPU.
    """
    name = config.run.device
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"run.device = '{name}' is no device of torch; write cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"run.device = '{name}', but torch sees no GPU here; set run.device = \"cpu\"")
    if device.type == "cuda" and processes.size > 1:
        device = torch.device(processes.device)
        if (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(f"torch sees {torch.cuda.device_count()} GPUs; start as many processes, or fewer")
    return device


@contextmanager
def fixed_threads(number: int) -> Iterator[None]:
    """A block in which torch has this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def crowded(threads: int) -> str:
    """A sentence where other programs hold the cores that several threads would wait for each other on; else nothing."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = os.cpu_count() or 1
    if threads == 1 or load < cores + 1:
        return ""
    return f"{load:.0f} programs share {cores} cores: with --run.threads 1 a step may take a tenth of the time"


def keep_memory() -> None:
    """Let this process keep the memory it frees: what a step frees, the next one asks for again, and new pages cost a fifth.

    Only glibc is asked, and only on Linux; elsewhere nothing happens. The settings are those of mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        no_mmap, trim_threshold = (-4, 0), (-1, 2**31 - 1)
        for name, value in (no_mmap, trim_threshold):
            mallopt(name, value)


@contextmanager
def interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a step is never cut in two; the second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
