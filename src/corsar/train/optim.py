"""The optimiser, the learning-rate schedule and the early stop.

A table of more than `train.sparse_rows` rows is updated by rows: its gradient holds the rows of the step alone, and so does
what Adam does ("lazy Adam", as torch.optim.SparseAdam, with L2 besides). The rows of a step move exactly as in dense Adam whose
moments are the same. The others stay as they are: their moments do not decay, no momentum carries them on, and L2 does not pull
them to 0. What it costs does not grow with the table.

Shape suffixes: R rows of a step, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from corsar.config import TrainSection


class AdamByRows(torch.optim.Adam):
    """Adam that takes a gradient of rows where there is one, and leaves the rows that it does not hold as they are."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of all parameters."""
        by_rows = {}
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and table.grad.is_sparse:
                    self._step_rows(table, group)
                    by_rows[table], table.grad = table.grad, None  # torch's Adam leaves out what has none
        told = super().step(closure)
        for table, grad in by_rows.items():
            table.grad = grad
        return told

    def _step_rows(self, table: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        steps, (beta1, beta2) = state["step"].item(), group["betas"]
        grad = table.grad.coalesce()  # type: ignore[union-attr]
        rows_R = grad.indices()[0]
        weight_RD = table[rows_R]
        grad_RD = grad.values().add(weight_RD, alpha=group["weight_decay"])
        mean_RD = state["exp_avg"][rows_R].lerp_(grad_RD, 1 - beta1)
        square_RD = state["exp_avg_sq"][rows_R].mul_(beta2).addcmul_(grad_RD, grad_RD, value=1 - beta2)
        state["exp_avg"][rows_R], state["exp_avg_sq"][rows_R] = mean_RD, square_RD
        scale_RD = square_RD.sqrt_().div_(math.sqrt(1 - beta2**steps)).add_(group["eps"])
        table[rows_R] = weight_RD.addcdiv_(mean_RD, scale_RD, value=-group["lr"] / (1 - beta1**steps))


def build_optimizer(model: nn.Module, train: TrainSection) -> AdamByRows:
    """Adam with coupled L2 on everything but biases; makes the model's large tables give their gradients by rows."""
    for table in model.modules():
        if isinstance(table, nn.Embedding) and table.num_embeddings > train.sparse_rows:
            table.sparse = True
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if not name.endswith("bias")], "weight_decay": train.weight_decay},
        {"params": [p for name, p in named if name.endswith("bias")], "weight_decay": 0.0},
    ]
    return AdamByRows([group for group in groups if group["params"]], lr=train.learning_rate, fused=True)


def clip_gradients(parameters: Iterable[nn.Parameter], longest: float) -> None:
    """Scale the gradients down to that length together, where they are longer; those of rows count as what they stand for."""
    holders = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values_RD = parameter.grad.values()
            holder = torch.empty_like(values_RD)  # torch reads nothing but the gradient of what it clips
            holder.grad = values_RD
            holders.append(holder)
        else:
            holders.append(parameter)
    nn.utils.clip_grad_norm_(holders, longest)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give all groups this rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


@dataclass
class Plateau:
    """Which score was best, when to cut the learning rate and when to stop; higher scores are better.

    The cut is that of torch's ReduceLROnPlateau (mode max, relative threshold 1e-4); the stop counts epochs without any
    better score. All fields are plain numbers, so that a checkpoint holds them as JSON.
    """

    learning_rate: float
    best: float = -math.inf
    best_epoch: int = -1
    since_best: int = 0
    plateau_best: float = -math.inf
    plateau_bad: int = 0

    def update(self, score: float, epoch: int, train: TrainSection) -> bool:
        """Take the validation score of an epoch; True where it is the best so far."""
        is_best = score > self.best
        if is_best:
            self.best, self.best_epoch, self.since_best = score, epoch, 0
        else:
            self.since_best += 1
        if score > self.plateau_best * (1 + 1e-4):
            self.plateau_best, self.plateau_bad = score, 0
        else:
            self.plateau_bad += 1
        if self.plateau_bad > train.plateau_patience:
            lower = max(self.learning_rate * train.plateau_factor, train.min_learning_rate)
            self.learning_rate = min(self.learning_rate, lower)
            self.plateau_bad = 0
        return is_best
