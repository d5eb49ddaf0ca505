"""The training loop of forecasters: windows in a new order every epoch, a rate that falls every epoch, an early stop.

Exact resume: the order is a function of (seed, epoch), dropout is seeded anew at each step from the same, and the number of
threads is kept; so a resumed run computes what an unbroken one does, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from corsar.config import Config, RunSection, Section
from corsar.data.loader import seed_of
from corsar.errors import ConfigError, CorsarError, writing
from corsar.evaluate.forecast import mean_squared_error
from corsar.models.forecaster import Forecaster
from corsar.progress import Progress, Task
from corsar.series import Panel
from corsar.train.checkpoint import has_checkpoint, load_checkpoint, read_state, save_checkpoint
from corsar.train.machine import find_device, fixed_threads, interrupt
from corsar.train.processes import Processes
from corsar.train.run_dir import Log


class SeriesTraining(Section):
    """How a forecaster is trained."""

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=1)  # windows a step, nearly: they are dealt out evenly and none is left over
    learning_rate: float = Field(default=1e-4, gt=0)  # of Adam in the first epoch
    rate_factor: float = Field(default=0.5, gt=0, le=1)  # each epoch's rate over that of the epoch before
    rate_hold: int = Field(default=1, ge=1)  # epochs at the first rate
    stop_patience: int = Field(default=3, ge=1)  # epochs without a better validation error
    clip_norm: float | None = Field(default=None, gt=0)  # longest gradient of a step; longer ones are scaled down to it
    checkpoint_every: int = Field(default=100, ge=1)  # steps between checkpoints, besides the end of each epoch


@dataclass
class State:
    """Where a run stands, as plain numbers; a checkpoint holds it as JSON."""

    epoch: int = 0
    step: int = 0  # steps done in this epoch
    best: float = math.inf
    best_epoch: int = -1
    since_best: int = 0
    loss_sum: float = 0.0  # of this epoch's steps, as are the seconds
    seconds: float = 0.0


@dataclass(frozen=True)
class Windows:
    """What a forecaster learns from: scaled series, and first rows of the windows to train on and to choose the epoch by."""

    panel: Panel
    train_W: Tensor
    valid_W: Tensor  # none: every epoch is trained and the last one kept


def train_forecaster(
    model: Forecaster,
    windows: Windows,
    training: SeriesTraining,
    run: RunSection,
    home: Path,
    identity: dict[str, Any],
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Train in place, the best epoch's weights last; the lines of the log, one an epoch.

    Args:
        home: The run's directory: metrics.jsonl, checkpoint/ (the last) and best.safetensors.
        identity: What makes this run this run, by name; a run of another identity cannot be resumed.
        resume: Go on with the run in `home`, or start it where there is none.

    Raises:
        ConfigError: `home` holds something and `resume` is not asked for, or it is another run.
        CorsarError: The loss is not finite.
        KeyboardInterrupt: Ctrl-C; a checkpoint is written by then.
    """
    if not resume and home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigError(f"{home} is there already; go on with it by resume=True, or choose another run_dir")
    told = read_state(home / "checkpoint") if has_checkpoint(home / "checkpoint") else {}
    _check_same(home, told.get("identity", identity), identity)
    device = find_device(Config(run=run), Processes())
    threads = run.threads or told.get("threads") or torch.get_num_threads()
    with fixed_threads(threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        with writing(home, then="fit again"):
            home.mkdir(parents=True, exist_ok=True)
        kept = {"identity": identity, "threads": threads}
        _Loop(model.to(device), windows, training, run.seed, home, kept, progress or Progress(quiet=True)).go(told)
    model.cpu().eval()
    lines = (home / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class _Loop:
    log: Log

    def __init__(
        self, model: Forecaster, windows: Windows, training: SeriesTraining, seed: int, home: Path,
        kept: dict[str, Any], progress: Progress,
    ) -> None:  # fmt: skip
        device = next(model.parameters()).device
        self.model, self.training, self.seed, self.home, self.kept = model, training, seed, home, kept
        self.panel, self.device = windows.panel.to(device), device
        self.windows, self.progress = windows, progress
        self.steps = max(1, round(len(windows.train_W) / training.batch_size))
        self.optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate, fused=True)
        self.state = State()

    def go(self, told: dict[str, Any]) -> None:
        """Train to the end, from a checkpoint where one is told, and take the best weights."""
        training = self.training
        if told:
            self.state = State(**told["state"])
            load_checkpoint(self.home / "checkpoint", self.model, self.optimizer)
        self.log = Log(self.home / "metrics.jsonl", told.get("metrics_bytes", 0))
        state = self.state
        left = (training.epochs - state.epoch) * self.steps - state.step
        with interrupt() as stop, self.progress.task("train", max(0, left)) as task:
            while state.epoch < training.epochs and state.since_best < training.stop_patience:
                self._epoch(stop, task)
                self.progress.say(self._end_epoch())
                if stop.is_set():
                    raise KeyboardInterrupt
        self.model.load_state_dict(load_file(self.home / "best.safetensors"))

    def _rate(self) -> float:
        """Of this epoch."""
        told = self.training
        return told.learning_rate * told.rate_factor ** max(0, self.state.epoch + 1 - told.rate_hold)

    def _epoch(self, stop: threading.Event, task: Task) -> None:
        state, training = self.state, self.training
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", state.epoch))
        order_W = self.windows.train_W[torch.randperm(len(self.windows.train_W), generator=generator)]
        batches = order_W.tensor_split(self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.model.train()
        while state.step < self.steps:
            loss = self._step(batches[state.step])
            task.advance(1, f"epoch {state.epoch + 1}/{training.epochs}, loss {loss:.4f}")
            if state.step < self.steps and (stop.is_set() or state.step % training.checkpoint_every == 0):
                self._checkpoint()
                if stop.is_set():
                    raise KeyboardInterrupt

    def _step(self, starts_B: Tensor) -> float:
        state, start = self.state, time.perf_counter()
        torch.manual_seed(seed_of(self.seed, "dropout", state.epoch, state.step))
        batch = self.panel.batch(starts_B.to(self.device), self.model.past_len, self.model.config.horizon)
        assert batch.future_BTV is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss = (self.model(batch) - batch.future_BTV).square().mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CorsarError(
                f"the loss is {value} at epoch {state.epoch + 1}, step {state.step}; lower learning_rate or set "
                "clip_norm=1.0, and fit again"
            )
        loss.backward()
        if self.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)
        self.optimizer.step()
        state.step += 1
        state.loss_sum += value
        state.seconds += time.perf_counter() - start
        return value

    def _end_epoch(self) -> str:
        """Validate, keep the weights where they are the best; what to tell about it."""
        state, start = self.state, time.perf_counter()
        valid_W = self.windows.valid_W
        error = mean_squared_error(self.model, self.panel, valid_W, self.progress) if len(valid_W) else math.inf
        is_best = error < state.best or not len(valid_W)
        if is_best:
            state.best, state.best_epoch, state.since_best = error, state.epoch, 0
            _save_weights(self.model, self.home / "best.safetensors")
        else:
            state.since_best += 1
        line = {"epoch": state.epoch + 1, "train_mse": state.loss_sum / self.steps, "best": is_best, "steps": self.steps}
        line |= {"valid_mse": error} if len(valid_W) else {}
        line |= {"learning_rate": self._rate()}
        line |= {"seconds": round(state.seconds, 3), "valid_s": round(time.perf_counter() - start, 3)}
        self.log.write(line)
        text = f"epoch {state.epoch + 1}: training error {line['train_mse']:.4f}"
        if len(valid_W):
            text += f", validation error {error:.4f} ({'the best so far' if is_best else f'best {state.best:.4f}'})"
        state.epoch, state.step, state.loss_sum, state.seconds = state.epoch + 1, 0, 0.0, 0.0
        self._checkpoint()
        return text

    def _checkpoint(self) -> None:
        told = {"state": dataclasses.asdict(self.state), "metrics_bytes": self.log.size, **self.kept}
        if not math.isfinite(self.state.best):
            del told["state"]["best"]  # before the first epoch's end there is none
        save_checkpoint(self.home / "checkpoint", self.model, self.optimizer, told)


def _save_weights(model: nn.Module, path: Path) -> None:
    beside = path.with_name(f".{path.name}.new")
    with writing(path, SafetensorError, then="go on with resume=True"):
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, beside)
        os.replace(beside, path)


def _check_same(home: Path, stored: dict[str, Any], now: dict[str, Any]) -> None:
    for key in sorted({*stored, *now}):
        if stored.get(key) != now.get(key):
            raise ConfigError(
                f"{home} was started with {key} = {stored.get(key)!r}, not {now.get(key)!r}; resume it with the same, or "
                "choose another run_dir"
            )
