"""The last checkpoint of a run: weights and Adam's state as safetensors, everything else as JSON.

Each checkpoint is a folder of its own; `latest.json` names the one that counts and is replaced atomically, so that whatever
kills the process, the named folder is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from corsar.errors import ArtifactError

FORMAT = 1


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write a checkpoint into `folder` and make it the one that counts; older ones go."""
    serial = _serial(folder) + 1
    new = folder / f"checkpoint-{serial:06d}"
    shutil.rmtree(new, ignore_errors=True)  # what a killed process left
    new.mkdir(parents=True)
    _save(dict(model.state_dict()), new / "weights.safetensors")
    moments = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{key}/{name}"] = value
    _save(moments, new / "optimizer.safetensors")
    (new / "state.json").write_text(json.dumps({"format": FORMAT, **state}, indent=1), encoding="utf-8")
    beside = folder / "latest.json.new"
    beside.write_text(json.dumps({"serial": serial}), encoding="utf-8")
    os.replace(beside, folder / "latest.json")
    for other in folder.glob("checkpoint-*"):
        if other != new:
            shutil.rmtree(other, ignore_errors=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return _serial(folder) > 0


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON part of the last checkpoint.

    Raises:
        ArtifactError: It is damaged or of another version.
    """
    try:
        state: dict[str, Any] = json.loads((_latest(folder) / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ArtifactError(f"the checkpoint in {folder} is damaged; train again into another directory") from None
    if state.get("format") != FORMAT:
        raise ArtifactError(
            f"the checkpoint in {folder} is of format {state.get('format')}, this corsar reads format {FORMAT}; "
            "resume with the version of corsar that wrote it"
        )
    return state


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the weights and Adam's state of the last checkpoint in place.

    Raises:
        ArtifactError: It is damaged or does not fit the model.
    """
    latest = _latest(folder)
    try:
        model.load_state_dict(load_file(latest / "weights.safetensors"))
        moments = load_file(latest / "optimizer.safetensors")
    except (OSError, SafetensorError, RuntimeError):
        raise ArtifactError(
            f"the checkpoint in {folder} is damaged or belongs to another model; train again into another directory"
        ) from None
    named = dict(model.named_parameters())
    for full, value in moments.items():
        key, _, name = full.partition("/")
        optimizer.state[named[name]][key] = value.to(named[name].device)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _serial(folder: Path) -> int:
    try:
        return int(json.loads((folder / "latest.json").read_text(encoding="utf-8"))["serial"])
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{folder / 'latest.json'} is damaged; train again into another directory") from None


def _latest(folder: Path) -> Path:
    return folder / f"checkpoint-{_serial(folder):06d}"
