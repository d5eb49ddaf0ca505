"""Processes that train one model together: each takes its share of the cases of every step.

The mathematics is that of one process. A model gathers what it takes a mean of over the batch (`batch.gather`), so that each
process computes the loss of the whole step and alone differs by the rows that it computed itself. The gradient of a gathered
tensor goes back to those rows, times the number of processes; so the mean of the gradients over the processes is the
gradient of the whole step, and all of them take the same step. Dropout masks alone are others than in one process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from corsar.batch import SearchRecommendBatch
from corsar.errors import CorsarError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; `Processes()` is one that trains alone.

    Where there are several, torch's default process group joins them; `corsar.api.torchrun` makes it.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"  # where small tensors that travel between processes lie: cpu for gloo, cuda for nccl

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes, validates and speaks."""
        return self.rank == 0

    def share(self, batch: SearchRecommendBatch) -> SearchRecommendBatch:
        """This process's cases of a step; of a step with fewer cases than processes, each computes all."""
        if self.size == 1 or len(batch) < self.size:
            return batch
        rows = torch.arange(self.rank, len(batch), self.size, device=batch.user_B.device)
        return dataclasses.replace(batch.take(rows), gather=self.gather)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one after another; rows may differ in number, not in shape."""
        out: Tensor = _Gather.apply(rows, self)  # type: ignore[no-untyped-call]
        return out

    def mean_gradients(self, model: nn.Module) -> None:
        """Give each parameter the mean of its gradient over the processes; one that has none in some counts as 0 there.

        Of a gradient of rows, the rows alone travel.
        """
        if self.size == 1:
            return
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        kinds = [0 if one.grad is None else 2 if one.grad.is_sparse else 1 for one in parameters]
        anywhere = torch.tensor(kinds, dtype=torch.int32, device=self.device)
        with _together():
            dist.all_reduce(anywhere, dist.ReduceOp.MAX)
            waiting, by_rows = [], []
            for parameter, kind in zip(parameters, anywhere.tolist(), strict=True):
                if kind == 2:
                    by_rows.append(parameter)
                elif kind == 1:
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    waiting.append(dist.all_reduce(parameter.grad, async_op=True))
            for work in waiting:
                work.wait()
        for parameter in by_rows:
            parameter.grad = self._all_rows(parameter)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= self.size

    def _all_rows(self, table: nn.Parameter) -> Tensor:
        """The sum over the processes of a table's gradient of rows."""
        rows, values = torch.zeros(0, dtype=torch.int64, device=table.device), table.detach()[:0]
        if table.grad is not None:
            own = table.grad.coalesce()
            rows, values = own.indices()[0], own.values()
        size = table.shape
        return torch.sparse_coo_tensor(self.gather(rows)[None], self.gather(values), size, check_invariants=False).coalesce()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.size == 1:
            return flag
        told = torch.tensor([int(flag)], device=self.device)
        with _together():
            dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    def same(self, value: float) -> float:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        with _together():
            dist.broadcast(told, 0)
        return float(told)

    def wait(self) -> None:
        """Come back when all processes are here."""
        if self.size > 1:
            self.any(False)  # a barrier that works the same under every backend


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: Processes) -> Tensor:
        num = torch.tensor([len(rows)], device=processes.device)
        nums = [torch.empty_like(num) for _ in range(processes.size)]
        with _together():
            dist.all_gather(nums, num)
            sizes = [int(one) for one in nums]
            padded = rows.new_zeros(max(sizes), *rows.shape[1:])
            padded[: len(rows)] = rows
            parts = [torch.empty_like(padded) for _ in sizes]
            if max(sizes):
                dist.all_gather(parts, padded)
        ctx.start, ctx.num, ctx.size = sum(sizes[: processes.rank]), len(rows), processes.size
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # all processes compute the same from here on, so what the others would send is what this one has
        return grads[0][ctx.start : ctx.start + ctx.num] * ctx.size, None


@contextmanager
def _together() -> Iterator[None]:
    """What torch raises where another process is gone, as one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise CorsarError("another of the processes that train together has ended; what it printed says why") from error
