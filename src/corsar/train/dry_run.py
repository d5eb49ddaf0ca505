"""What a training would be: settings, parameters, memory and time, by a few real steps of a run that writes nothing."""

from __future__ import annotations

import dataclasses
import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corsar.batch import OnDevice, SearchRecommendBatch
from corsar.config import Config, dump_config
from corsar.data.store import open_dataset
from corsar.errors import ConfigError
from corsar.evaluate.protocol import validation_score
from corsar.models.base import Model
from corsar.progress import Progress
from corsar.train.loop import Run, fresh_model
from corsar.train.machine import find_device, fixed_threads
from corsar.train.processes import Processes
from corsar.train.run_dir import check_run_dir

STEPS = 4  # the first one warms up and is not timed
VALID_CASES = 200  # of each task, to time the validation


def dry_run(config: Config, run_dir: Path, *, resume: bool = False) -> dict[str, Any]:
    """Settings as TOML; with a dataset and a trained model also parameters by part, steps, bytes and seconds.

    Memory is parameters, gradients and the optimiser's state as they are after real steps, the dataset's arrays, and what
    autograd keeps for the backward of the larger task ("all" is their sum); "process" is the most that this process held so
    far, libraries and passing tensors in it. Time is that of the quickest step and of a small validation, scaled up; an early
    stop may end the run sooner.

    Raises:
        ConfigError: As training would.
    """
    told: dict[str, Any] = {"run": str(run_dir), "settings": dump_config(config), "notes": []}
    try:
        check_run_dir(run_dir, resume)
    except ConfigError as error:
        told["notes"].append(str(error))
    if not config.data.path:
        told["notes"].append("sizes and times hang on the dataset; name one with --data DIR")
        return told
    dataset, device = open_dataset(Path(config.data.path)), find_device(config, Processes())
    threads = config.run.threads or torch.get_num_threads()
    with fixed_threads(threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        model, config = fresh_model(config, dataset)
        told["settings"] = dump_config(config)
        if not model.trained:
            told["notes"].append(f"{config.model['name']} is counted in one pass over the events: there are no steps")
            return told
        run = Run(config, run_dir, dataset, model.to(device), device, threads, Progress(quiet=True))
        per_epoch, steps = run.loader.steps_per_epoch, run.last_step()
        kept = max(_kept(model, batch) for batch in run.loader.step(0, 0).values())
        took = [_step_s(run) for _ in range(min(STEPS, per_epoch))]
        step_s = min(took[1:] or took)
        valid_s, epochs = _valid_s(run), math.ceil(steps / per_epoch)
    weights = dict(model.named_parameters())
    memory = {
        "parameters": _bytes(weights.values()),
        "gradients": _bytes(weight.grad for weight in weights.values() if weight.grad is not None),
        "optimiser": _bytes(value for state in run.optimizer.state.values() for value in state.values()),
        "dataset": _bytes([*_tensors(run.loader.history), *_tensors(run.loader.catalogue)]),
        "activations": kept,
    }
    parts = Counter[str]()
    for name, weight in weights.items():
        parts[name.partition(".")[0]] += weight.numel()
    return told | {
        "parameters": {"all": parts.total(), **parts},
        "cases": dict(run.loader.num_cases),
        "steps": {"epoch": per_epoch, "all": steps},
        "memory": {"all": sum(memory.values()), **memory, "process": _peak(device)},
        "seconds": {
            "step": step_s,
            "validation": valid_s,
            "epoch": step_s * per_epoch + valid_s,
            "all": step_s * steps + valid_s * epochs,
        },
    }


def _kept(model: Model, batch: SearchRecommendBatch) -> int:
    """Bytes that autograd keeps between the forward and the backward of one batch, weights and data left out."""
    own = {_at(tensor) for tensor in [*model.parameters(), *_tensors(batch)]}
    found: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        found[_at(tensor)] = tensor.untyped_storage().nbytes()
        alive.append(tensor)  # an address that is free again would count two tensors as one
        return tensor

    alive: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        model.loss(batch)
    return sum(size for at, size in found.items() if at not in own)


def _at(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _step_s(run: Run) -> float:
    start = time.perf_counter()
    run.step()
    return time.perf_counter() - start


def _valid_s(run: Run) -> float:
    """Seconds of a validation, from one of few cases."""
    train = run.config.train
    most = [len(run.dataset.cases("valid", task)) for task in train.tasks]
    few = train.model_copy(update={"valid_cases": min(VALID_CASES, train.valid_cases)})
    start = time.perf_counter()
    validation_score(run.model, run.dataset, run.config.model_copy(update={"train": few}))
    scale = sum(min(num, train.valid_cases) for num in most) / sum(min(num, few.valid_cases) for num in most)
    return (time.perf_counter() - start) * scale


def _peak(device: torch.device) -> int:
    """The most bytes that torch held on the GPU, or this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told if sys.platform == "darwin" else told * 1024


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, OnDevice):
        fields = dataclasses.fields(value)  # type: ignore[arg-type]
        return [tensor for field in fields for tensor in _tensors(getattr(value, field.name))]
    return [value] if isinstance(value, Tensor) else []


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(part.nbytes for tensor in tensors if isinstance(tensor, Tensor) for part in _parts(tensor))


def _parts(tensor: Tensor) -> list[Tensor]:
    """What it consists of: a gradient of rows is their numbers and their values."""
    return [tensor._indices(), tensor._values()] if tensor.is_sparse else [tensor]
