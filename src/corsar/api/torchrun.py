"""The processes that torchrun started: the one place that reads its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from corsar.train.processes import Processes

PATIENCE = timedelta(hours=6)  # the others wait for the first while it validates


def is_first_process() -> bool:
    """Whether this process is the one that writes and speaks: the first of torchrun, or the only one."""
    return not dist.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextmanager
def torchrun_processes(device: str) -> Iterator[Processes]:
    """This process among those of torchrun, joined while the context lasts; alone where torchrun did not start it.

    Args:
        device: `run.device`; GPUs talk by NCCL, anything else by gloo.
    """
    size = int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1
    if size == 1:
        yield Processes()
        return
    on_gpu = device.startswith("cuda")
    rank = int(os.environ["RANK"])
    place = f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu"
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Processes(rank, size, place)
    finally:
        dist.destroy_process_group()
