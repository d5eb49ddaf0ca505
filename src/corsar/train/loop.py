"""The training loop: joint steps over the tasks, a schedule, an early stop, and a run that can always be resumed.

Exact resume: the order and the negatives are functions of (seed, epoch, step), dropout is seeded anew at each step from the
same, and the number of threads is kept; so a resumed run computes what an uninterrupted one does, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from corsar.artifact import build_model, resolved, save_artifact
from corsar.batch import SearchRecommendBatch, Task
from corsar.config import Config
from corsar.data.loader import TrainLoader, seed_of
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError, CorsarError, DataError
from corsar.evaluate.protocol import validation_score
from corsar.models.base import Model
from corsar.progress import Progress
from corsar.train.checkpoint import has_checkpoint, load_checkpoint, read_state, save_checkpoint
from corsar.train.optim import Plateau, build_optimizer, set_learning_rate
from corsar.train.run_dir import Log, check_run_dir, check_same_run, write_config

LOG_EVERY = 20  # joint steps a line of metrics.jsonl
FEW_STEPS = 200  # a run of fewer is told so


@dataclass
class State:
    """Where a run stands, as plain numbers; a checkpoint holds it as JSON."""

    schedule: Plateau
    epoch: int = 0
    step: int = 0  # joint steps done in this epoch
    sums: dict[str, float] = field(default_factory=dict)  # of the loss terms since the last line of metrics.jsonl
    steps: int = 0  # since that line, as are the two below
    cases: int = 0
    seconds: float = 0.0

    @staticmethod
    def of(told: dict[str, Any]) -> State:
        """From its JSON."""
        return State(**{**told, "schedule": Plateau(**told["schedule"])})


def train(config: Config, run_dir: Path, *, resume: bool = False, progress: Progress | None = None) -> Path:
    """Train a model and give back the run directory: config.toml, metrics.jsonl, checkpoint/ (last), artifact/ (best).

    Raises:
        ConfigError: A setting is wrong, or the directory holds a run and `resume` is not asked for.
        CorsarError: A loss term is not finite.
        KeyboardInterrupt: Ctrl-C; the last checkpoint is written by then.
    """
    progress = progress or Progress(quiet=True)
    dataset = open_dataset(Path(config.data.path))
    check_run_dir(run_dir, resume)
    device = _device(config)
    going_on = resume and has_checkpoint(run_dir / "checkpoint")
    state = read_state(run_dir / "checkpoint") if going_on else {}
    if state.get("dataset", dataset.manifest["data_hash"]) != dataset.manifest["data_hash"]:
        raise ConfigError(f"{config.data.path} is not the dataset that {run_dir} was trained on; point data.path to it")
    threads = config.run.threads or state.get("threads") or torch.get_num_threads()
    with _threads(threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(config.run.seed, "initialisation"))
        model = build_model(config, dataset.sizes(config.data.feed_len, config.data.search_len))
        config = resolved(config, model)
        if model.trained:
            _check_tasks(config, model, dataset)
        if resume:
            check_same_run(config, run_dir)
        write_config(config, run_dir)
        log = Log(run_dir / "metrics.jsonl", state.get("metrics_bytes", 0))
        if model.trained:
            run = Run(config, run_dir, dataset, model.to(device), device, log, threads, progress)
            run.go(state)
        else:
            start = time.perf_counter()
            model.count(dataset.train_events(), dataset.catalogue)
            save_artifact(run_dir / "artifact", model, config, dataset)
            log.write({"kind": "count", "seconds": round(time.perf_counter() - start, 3)})
    return run_dir


class Run:
    """A trained run in progress."""

    def __init__(
        self, config: Config, run_dir: Path, dataset: Dataset, model: Model, device: torch.device, log: Log,
        threads: int, progress: Progress,
    ) -> None:  # fmt: skip
        self.config, self.run_dir, self.dataset, self.model = config, run_dir, dataset, model
        self.device, self.log, self.threads, self.progress = device, log, threads, progress
        self.optimizer = build_optimizer(model, config.train)
        self.loader = TrainLoader(dataset, config.data, config.train, config.run.seed, device)
        self.state = State(Plateau(config.train.learning_rate))

    def go(self, told: dict[str, Any]) -> None:
        """Train to the end, from a checkpoint's state where one is told."""
        if told:
            self.state = State.of(told["state"])
            load_checkpoint(self.run_dir / "checkpoint", self.model, self.optimizer)
        set_learning_rate(self.optimizer, self.state.schedule.learning_rate)
        if self._last_step() < FEW_STEPS and self.config.train.batch_size > 64:
            self.progress.say(f"only {self._last_step()} steps in all: on few cases, --train.batch_size 64 learns more")
        with _interrupt() as stop, self.progress.task("train", max(0, self._last_step() - self._steps_done())) as task:
            while not self._is_over():
                self.model.train()
                while self.state.step < self.loader.steps_per_epoch and self._steps_done() < self._last_step():
                    loss = self._step()
                    task.advance(1, f"epoch {self.state.epoch + 1}/{self.config.train.epochs}, loss {loss:.4f}")
                    is_last = self.state.step == self.loader.steps_per_epoch or self._steps_done() == self._last_step()
                    if not is_last and (stop.is_set() or self._steps_done() % self.config.train.checkpoint_every == 0):
                        self._checkpoint()
                        if stop.is_set():
                            raise KeyboardInterrupt
                self._end_epoch()
                if stop.is_set():
                    raise KeyboardInterrupt

    def _steps_done(self) -> int:
        return self.state.epoch * self.loader.steps_per_epoch + self.state.step

    def _last_step(self) -> int:
        last = self.config.train.epochs * self.loader.steps_per_epoch
        return min(last, self.config.train.max_steps or last)

    def _is_over(self) -> bool:
        stopped = self.state.schedule.since_best >= self.config.train.stop_patience
        return stopped or self._steps_done() >= self._last_step()

    def _step(self) -> float:
        state, start = self.state, time.perf_counter()
        torch.manual_seed(seed_of(self.config.run.seed, "dropout", state.epoch, state.step))
        batches = self.loader.step(state.epoch, state.step)
        self.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, float] = {"loss": 0.0}
        for task, batch in batches.items():
            self._backward(task, batch, terms)
        if self.config.train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip_norm)
        self.optimizer.step()
        for name, value in terms.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        state.step += 1
        state.steps += 1
        state.cases += sum(len(batch) for batch in batches.values())
        state.seconds += time.perf_counter() - start
        if state.steps == LOG_EVERY or state.step == self.loader.steps_per_epoch:
            self._log_steps()
        return terms["loss"]

    def _backward(self, task: Task, batch: SearchRecommendBatch, told: dict[str, float]) -> None:
        """Add the gradients of one task; its terms and its share of the loss go into `told`."""
        task_weight = self.config.train.search_weight if task == "search" else 1.0
        weights = self.model.term_weights()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.run.amp):
            terms = self.model.loss(batch)
            weighed = [weights.get(name, 1.0) * term for name, term in terms.items()]
            total = task_weight * torch.stack(weighed).sum()
        values = torch.stack([total, *terms.values()]).detach().tolist()
        for name, value in zip(terms, values[1:], strict=True):
            if not math.isfinite(value):
                raise CorsarError(
                    f"the loss term '{name}' of {task} is {value} at epoch {self.state.epoch}, step {self.state.step}; "
                    f"{self._remedy()}"
                )
            told[f"{task}/{name}"] = value
        told["loss"] += values[0]
        total.backward()  # type: ignore[no-untyped-call]

    def _remedy(self) -> str:
        if self.config.model.get("empty_history") == "nan" and not self.config.data.require_both_histories:
            return "users with an empty history make it so: set data.require_both_histories = true, or another preset"
        return "lower train.learning_rate or set train.clip_norm = 1.0, and start anew"

    def _log_steps(self) -> None:
        state = self.state
        if state.steps == 0:
            return
        line: dict[str, Any] = {"kind": "steps", "epoch": state.epoch, "step": self._steps_done()}
        line |= {name: value / state.steps for name, value in state.sums.items()}
        line |= {"learning_rate": state.schedule.learning_rate, "cases_per_s": round(state.cases / state.seconds, 1)}
        self.log.write(line)
        state.sums, state.steps, state.cases, state.seconds = {}, 0, 0, 0.0

    def _end_epoch(self) -> None:
        """Validate, keep the model where it is the best, cut the rate where it no longer gets better."""
        state, start = self.state, time.perf_counter()
        self._log_steps()
        score = validation_score(self.model, self.dataset, self.config)
        used = state.schedule.learning_rate
        is_best = state.schedule.update(score, state.epoch, self.config.train)
        if is_best:
            save_artifact(self.run_dir / "artifact", self.model, self.config, self.dataset)
        line = {"kind": "epoch", "epoch": state.epoch, "step": self._steps_done(), "score": score, "best": is_best}
        self.log.write({**line, "learning_rate": used, "valid_s": round(time.perf_counter() - start, 3)})
        best = "the best so far" if is_best else f"best {state.schedule.best:.4f}"
        self.progress.say(f"epoch {state.epoch + 1}: validation NDCG@5 {score:.4f} ({best})")
        if state.step == self.loader.steps_per_epoch:
            state.epoch, state.step = state.epoch + 1, 0
        set_learning_rate(self.optimizer, state.schedule.learning_rate)
        self._checkpoint()

    def _checkpoint(self) -> None:
        told = {"state": dataclasses.asdict(self.state), "metrics_bytes": self.log.size, "threads": self.threads}
        told["dataset"] = self.dataset.manifest["data_hash"]
        save_checkpoint(self.run_dir / "checkpoint", self.model, self.optimizer, told)


def _device(config: Config) -> torch.device:
    try:
        device = torch.device(config.run.device)
    except RuntimeError:
        raise ConfigError(f"run.device = '{config.run.device}' is no device of torch; write cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"run.device = '{config.run.device}', but torch sees no GPU here; set run.device = \"cpu\"")
    return device


def _check_tasks(config: Config, model: Model, dataset: Dataset) -> None:
    for task in config.train.tasks:
        if task not in model.tasks:
            raise ConfigError(
                f"model '{config.model['name']}' has no task '{task}'; set train.tasks = {json.dumps(list(model.tasks))}"
            )
    if not any(len(dataset.cases("valid", task)) for task in config.train.tasks):
        raise DataError(f"{config.data.path} has no validation case to choose a model by; prepare it with another split")


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
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
