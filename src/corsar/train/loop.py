"""The training loop: joint steps over the tasks, a schedule, an early stop, and a run that can always be resumed.

Exact resume: the order and the negatives are functions of (seed, epoch, step), dropout is seeded anew at each step from the
same, and the number of threads is kept; so a resumed run computes what an uninterrupted one does, bit for bit.

With `run.amp`, products of matrices are in bfloat16 where torch's autocast says so; weights, gradients and Adam's state stay
in float32. That, and several processes, were tried on CPUs alone: no GPU was at hand.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from corsar.artifact import build_model, resolved, save_artifact
from corsar.batch import SearchRecommendBatch, Task
from corsar.config import Config
from corsar.data.loader import TrainLoader, seed_of
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError, CorsarError, DataError
from corsar.evaluate.protocol import told_candidates, validation_score
from corsar.models.base import Model
from corsar.models.towers import ASKED, TOWERS, two_tower_of
from corsar.progress import Progress
from corsar.train.board import Board, summary_writer
from corsar.train.checkpoint import has_checkpoint, load_checkpoint, read_state, save_checkpoint
from corsar.train.machine import crowded, find_device, fixed_threads, interrupt, keep_memory
from corsar.train.optim import Plateau, build_optimizer, clip_gradients, set_learning_rate
from corsar.train.places import place_settings
from corsar.train.processes import Processes
from corsar.train.run_dir import Log, check_run_dir, check_same_run, write_config
from corsar.train.warm import warm_start

LOG_EVERY = 20  # joint steps a line of metrics.jsonl
FEW_STEPS = 200  # a run of fewer is told so
ALONE = Processes()


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


def train(
    config: Config, run_dir: Path, *, resume: bool = False, progress: Progress | None = None, processes: Processes = ALONE
) -> Path:
    """Train a model and give back the run directory: config.toml, metrics.jsonl, checkpoint/ (last), artifact/ (best).

    Of several processes the first alone checks, validates and writes; the others wait until it has found nothing wrong.

    Raises:
        ConfigError: A setting is wrong, or the directory holds a run and `resume` is not asked for.
        CorsarError: A loss term is not finite.
        KeyboardInterrupt: Ctrl-C; the last checkpoint is written by then.
    """
    progress, first = progress or Progress(quiet=True), processes.is_first
    if not first:
        processes.wait()
    dataset = open_dataset(Path(config.data.path))
    if first:
        check_run_dir(run_dir, resume)
    device = find_device(config, processes)
    going_on = resume and has_checkpoint(run_dir / "checkpoint")
    state = read_state(run_dir / "checkpoint") if going_on else {}
    if state.get("dataset", dataset.manifest["data_hash"]) != dataset.manifest["data_hash"]:
        raise ConfigError(f"{config.data.path} is not the dataset that {run_dir} was trained on; point data.path to it")
    keep_memory()
    threads = config.run.threads or state.get("threads") or torch.get_num_threads()
    with fixed_threads(threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        model, config = fresh_model(config, dataset)
        if model.trained and config.train.start_from and not going_on:
            warm_start(model, config, dataset)
        if resume and first:
            check_same_run(config, run_dir)
        if model.trained:
            run = Run(config, run_dir, dataset, model.to(device), device, threads, progress, processes)
            if first:
                write_config(config, run_dir)
                processes.wait()
            run.go(state)
        elif first:
            write_config(config, run_dir)
            start = time.perf_counter()
            model.count(dataset.train_events(), dataset.catalogue)
            save_artifact(run_dir / "artifact", model, config, dataset)
            log = Log(run_dir / "metrics.jsonl", 0)
            log.write({"kind": "count", "seconds": round(time.perf_counter() - start, 3)})
            processes.wait()
    return run_dir


def fresh_model(config: Config, dataset: Dataset) -> tuple[Model, Config]:
    """A model as it is before the first step, on the CPU, and the settings with every key of it; seeds torch's generator."""
    config = place_settings(config, dataset)
    torch.manual_seed(seed_of(config.run.seed, "initialisation"))
    model = build_model(config, dataset.sizes(config.data.feed_len, config.data.search_len))
    if model.trained:
        model.count(dataset.train_events(), dataset.catalogue)
        if towers := two_tower_of(model):
            towers.count(dataset.train_events())
        _check(config, model, dataset)
    return model, resolved(config, model)


class Run:
    """A trained run in progress; it writes nothing before `go`."""

    log: Log | None = None  # the first process has one, and a board where `run.tensorboard` says so
    board: Board | None = None

    def __init__(
        self, config: Config, run_dir: Path, dataset: Dataset, model: Model, device: torch.device,
        threads: int, progress: Progress, processes: Processes = ALONE,
    ) -> None:  # fmt: skip
        self.config, self.run_dir, self.dataset, self.model = config, run_dir, dataset, model
        self.device, self.threads, self.progress, self.processes = device, threads, progress, processes
        self.towers = two_tower_of(model)
        self.own_parameters = [one for name, one in model.named_parameters() if not name.startswith(TOWERS)]
        self.optimizer = build_optimizer(model, config.train)
        self.loader = TrainLoader(dataset, config.data, config.train, config.run.seed, device)
        self.state = State(Plateau(config.train.learning_rate))

    def go(self, told: dict[str, Any]) -> None:
        """Train to the end, from a checkpoint's state where one is told."""
        if told:
            self.state = State.of(told["state"])
            load_checkpoint(self.run_dir / "checkpoint", self.model, self.optimizer)
        if self.processes.is_first:
            self.log = Log(self.run_dir / "metrics.jsonl", told.get("metrics_bytes", 0))
            if self.config.run.tensorboard:
                self.board = Board(self.run_dir / "tensorboard", self._steps_done())
        if self.last_step() < FEW_STEPS and self.config.train.batch_size > 64:
            self.progress.say(f"only {self.last_step()} steps in all: on few cases, --train.batch_size 64 learns more")
        if note := crowded(self.threads):
            self.progress.say(note)
        with interrupt() as stop, self.progress.task("train", max(0, self.last_step() - self._steps_done())) as task:
            while not self._is_over():
                self.model.train()
                while self.state.step < self.loader.steps_per_epoch and self._steps_done() < self.last_step():
                    loss = self.step()
                    task.advance(1, f"epoch {self.state.epoch + 1}/{self.config.train.epochs}, loss {loss:.4f}")
                    is_last = self.state.step == self.loader.steps_per_epoch or self._steps_done() == self.last_step()
                    is_stopped = self.processes.any(stop.is_set())
                    if not is_last and (is_stopped or self._steps_done() % self.config.train.checkpoint_every == 0):
                        self._checkpoint()
                        if is_stopped:
                            raise KeyboardInterrupt
                self._end_epoch()
                if self.processes.any(stop.is_set()):
                    raise KeyboardInterrupt
        if self.board:
            self.board.close()

    def _steps_done(self) -> int:
        return self.state.epoch * self.loader.steps_per_epoch + self.state.step

    def last_step(self) -> int:
        """Joint steps of the whole run, unless it stops early."""
        last = self.config.train.epochs * self.loader.steps_per_epoch
        return min(last, self.config.train.max_steps or last)

    def _is_over(self) -> bool:
        stopped = self.state.schedule.since_best >= self.config.train.stop_patience
        return stopped or self._steps_done() >= self.last_step()

    def learning_rate(self) -> float:
        """Of the step to come."""
        settings, done = self.config.train, self._steps_done()
        rise = min(1.0, (done + 1) / max(1, settings.warmup))
        fall = 1 - done / self.last_step() if settings.decay == "linear" else 1.0
        return self.state.schedule.learning_rate * rise * fall

    def step(self) -> float:
        """One joint step; the loss."""
        state, start = self.state, time.perf_counter()
        own = [self.processes.rank] if self.processes.rank else []  # the cases of each process get masks of their own
        torch.manual_seed(seed_of(self.config.run.seed, "dropout", state.epoch, state.step, *own))
        batches = self.loader.step(state.epoch, state.step)
        self.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, float] = {"loss": 0.0}
        shares = {task: self.processes.share(batch) for task, batch in batches.items()}
        for task, share in shares.items():
            self._backward(task, share, terms)
        for task, share in shares.items():
            if self.towers and task in ASKED:
                terms[f"{task}/two_tower"] = self.towers.learn(self.model, share)
        self.processes.mean_gradients(self.model)
        if self.config.train.clip_norm is not None:
            clip_gradients(self.own_parameters, self.config.train.clip_norm)
        set_learning_rate(self.optimizer, self.learning_rate())
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
        line |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "cases_per_s": round(state.cases / state.seconds, 1)}
        self._tell(line)
        state.sums, state.steps, state.cases, state.seconds = {}, 0, 0, 0.0

    def _end_epoch(self) -> None:
        """Validate, keep the model where it is the best, cut the rate where it no longer gets better."""
        state, start = self.state, time.perf_counter()
        self._log_steps()
        score = validation_score(self.model, self.dataset, self.config) if self.processes.is_first else 0.0
        score = self.processes.same(score)
        used = self.optimizer.param_groups[0]["lr"]
        is_best = state.schedule.update(score, state.epoch, self.config.train)
        if is_best and self.processes.is_first:
            save_artifact(self.run_dir / "artifact", self.model, self.config, self.dataset)
        line = {"kind": "epoch", "epoch": state.epoch, "step": self._steps_done(), "score": score, "best": is_best}
        self._tell({**line, "learning_rate": used, "valid_s": round(time.perf_counter() - start, 3)})
        best = "the best so far" if is_best else f"best {state.schedule.best:.4f}"
        among = told_candidates(self.model, self.dataset, self.config)
        self.progress.say(f"epoch {state.epoch + 1}: validation NDCG@5 {score:.4f} {among} ({best})")
        if state.step == self.loader.steps_per_epoch:
            state.epoch, state.step = state.epoch + 1, 0
        self._checkpoint()

    def _tell(self, line: dict[str, Any]) -> None:
        if self.log:
            self.log.write(line)
        if self.board:
            self.board.write(line)

    def _checkpoint(self) -> None:
        if self.log is None:
            return
        told = {"state": dataclasses.asdict(self.state), "metrics_bytes": self.log.size, "threads": self.threads}
        told["dataset"] = self.dataset.manifest["data_hash"]
        save_checkpoint(self.run_dir / "checkpoint", self.model, self.optimizer, told)


def _check(config: Config, model: Model, dataset: Dataset) -> None:
    if config.run.tensorboard:
        summary_writer()
    for task in config.train.tasks:
        if task not in model.tasks:
            raise ConfigError(
                f"model '{config.model['name']}' has no task '{task}'; set train.tasks = {json.dumps(list(model.tasks))}"
            )
    if not any(len(dataset.cases("valid", task)) for task in config.train.tasks):
        raise DataError(f"{config.data.path} has no validation case to choose a model by; prepare it with another split")
