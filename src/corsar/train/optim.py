"""The optimiser, the learning-rate schedule and the early stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from corsar.config import TrainSection


def build_optimizer(model: nn.Module, train: TrainSection) -> torch.optim.Adam:
    """Adam with coupled L2 on everything but biases."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if not name.endswith("bias")], "weight_decay": train.weight_decay},
        {"params": [p for name, p in named if name.endswith("bias")], "weight_decay": 0.0},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], lr=train.learning_rate, fused=True)


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
