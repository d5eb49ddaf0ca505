"""Training of a model of curves: cross-entropy, Adam with a cosine of the learning rate, the best epoch kept.

Order and dropout are functions of (seed, epoch, step). The best epoch is that of the lowest cross-entropy on curves held out of
the training part.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from corsar.config import Section
from corsar.data.curves import CurveSet
from corsar.data.loader import seed_of
from corsar.errors import CorsarError
from corsar.progress import Progress
from corsar.train.machine import fixed_threads

CHUNK = 128  # curves that are scored together


class CurveTraining(Section):
    """How a model of curves is trained."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=4e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    patience: int = Field(default=10, ge=1)  # epochs without a lower loss on the held-out part
    valid_share: float = Field(default=0.15, gt=0, lt=1)  # of the curves of each class, held out to choose the epoch by
    balance: bool = False  # every class weighs the same, however rare
    pad_to: int | None = Field(default=None, ge=1)  # places of every batch; None pads to its longest curve
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)  # of torch; None leaves what the machine says


def held_out(label_N: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to choose by, sorted: `share` of each class, one at least where it has two."""
    generator = torch.Generator().manual_seed(seed_of(seed, "held out"))
    kept, held = [], []
    for label in range(int(label_N.max()) + 1):
        rows = (label_N == label).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held.append(rows[:count])
        kept.append(rows[count:])
    return torch.cat(kept).sort().values, torch.cat(held).sort().values


def train_curves(
    build: Callable[[], nn.Module], curves: CurveSet, label_N: Tensor, settings: CurveTraining, progress: Progress | None = None
) -> tuple[nn.Module, list[dict[str, float]]]:
    """The trained model, as it was after its best epoch, and a line an epoch: loss, valid_loss, valid_accuracy.

    Args:
        build: makes the model; it is called once the generator is seeded.
        label_N: Class numbers from 0 on.

    Raises:
        CorsarError: the loss is not finite.
    """
    progress = progress or Progress(quiet=True)
    train_rows, valid_rows = held_out(label_N, settings.valid_share, settings.seed)
    weight_Y = 1 / label_N.bincount().clamp(min=1) if settings.balance else torch.ones(int(label_N.max()) + 1)
    steps = -(-len(train_rows) // settings.batch_size)
    with fixed_threads(settings.threads or torch.get_num_threads()), torch.random.fork_rng([]):
        torch.manual_seed(seed_of(settings.seed, "initialisation"))
        model = build()
        optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
        log: list[dict[str, float]] = []
        best, best_epoch, weights = math.inf, 0, {name: one.clone() for name, one in model.state_dict().items()}
        with progress.task("train", settings.epochs * steps) as task:
            for epoch in range(settings.epochs):
                order = train_rows[torch.randperm(len(train_rows), generator=_generator(settings.seed, epoch))]
                model.train()
                total = 0.0
                for step, rows in enumerate(order.split(settings.batch_size)):  # type: ignore[no-untyped-call]
                    torch.manual_seed(seed_of(settings.seed, "dropout", epoch, step))
                    optimizer.zero_grad(set_to_none=True)
                    loss = F.cross_entropy(model(curves.batch(rows, settings.pad_to)), label_N[rows], weight_Y)
                    if not math.isfinite(loss.item()):
                        raise CorsarError(f"the loss is {loss.item()} in epoch {epoch + 1}; lower learning_rate and fit anew")
                    loss.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    total += loss.item() * len(rows)
                    task.advance(1, f"epoch {epoch + 1}/{settings.epochs}, loss {loss.item():.4f}")
                logits = score_curves(model, curves, valid_rows, settings.pad_to)
                valid = F.cross_entropy(logits, label_N[valid_rows], weight_Y).item()
                accuracy = (logits.argmax(1) == label_N[valid_rows]).double().mean().item()
                log.append({"loss": total / len(train_rows), "valid_loss": valid, "valid_accuracy": accuracy})
                if valid < best:
                    best, best_epoch = valid, epoch
                    weights = {name: one.clone() for name, one in model.state_dict().items()}
                if epoch - best_epoch >= settings.patience:
                    break
        model.load_state_dict(weights)
    return model.eval(), log


@torch.no_grad()
def score_curves(model: nn.Module, curves: CurveSet, rows: Tensor, pad_to: int | None = None) -> Tensor:
    """Logits of the given curves, [rows, classes]; curves of like length go together."""
    model.eval()
    order = rows[curves.lengths[rows].argsort(stable=True)]
    logits = torch.cat([model(curves.batch(part, pad_to)) for part in order.split(CHUNK)])  # type: ignore[no-untyped-call]
    at = torch.empty(len(curves), dtype=torch.int64)
    at[order] = torch.arange(len(order))
    return logits[at[rows]]


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, "order", epoch))
