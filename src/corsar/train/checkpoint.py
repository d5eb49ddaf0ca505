"""The last checkpoint of a run: weights and Adam's state as safetensors, everything else as JSON.

Each checkpoint is a folder of its own; `latest.json` names the one that counts, with the hashes of its files, and is replaced
atomically: whatever kills the process, the named folder is whole.
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

from corsar.data.store import file_hash
from corsar.errors import ArtifactError, writing

FORMAT = 1


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write a checkpoint into `folder` and make it the one that counts; older ones go.

    Raises:
        OutputError: The disk is full or the like; the checkpoint before it still counts.
    """
    serial = _told(folder)["serial"] + 1
    new, beside = folder / f"checkpoint-{serial:06d}", folder / "latest.json.new"
    shutil.rmtree(new, ignore_errors=True)  # what a killed process left
    moments = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{key}/{name}"] = value
    with writing(folder, SafetensorError, then="go on with --resume"):
        try:
            new.mkdir(parents=True)
            _save(dict(model.state_dict()), new / "weights.safetensors")
            _save(moments, new / "optimizer.safetensors")
            (new / "state.json").write_text(json.dumps({"format": FORMAT, **state}, indent=1), encoding="utf-8")
            files = {file.name: file_hash(file) for file in sorted(new.iterdir())}
            beside.write_text(json.dumps({"serial": serial, "files": files}, indent=1), encoding="utf-8")
            os.replace(beside, folder / "latest.json")
        except (OSError, SafetensorError):
            shutil.rmtree(new, ignore_errors=True)
            beside.unlink(missing_ok=True)
            raise
    sweep(folder)


def sweep(folder: Path) -> None:
    """Delete all but the checkpoint that counts: older ones, and what a killed process left."""
    (folder / "latest.json.new").unlink(missing_ok=True)
    for other in set(folder.glob("checkpoint-*")) - {_latest(folder)}:
        shutil.rmtree(other, ignore_errors=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return bool(_told(folder)["serial"])


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON part of the last checkpoint.

    Raises:
        ArtifactError: It is damaged or of another version.
    """
    try:
        whole = all(file_hash(_latest(folder) / name) == told for name, told in _told(folder).get("files", {}).items())
        state: dict[str, Any] = json.loads((_latest(folder) / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise ArtifactError(f"the checkpoint in {folder} is damaged; train again into another directory")
    if state.get("format") != FORMAT:
        raise ArtifactError(
            f"the checkpoint in {folder} is of format {state.get('format')}, this corsar reads format {FORMAT}; "
            "resume with the version of corsar that wrote it"
        )
    return state


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the weights and Adam's state of the last checkpoint in place, and delete what is left of others.

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
    sweep(folder)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _told(folder: Path) -> dict[str, Any]:
    """What latest.json says: the serial number of the checkpoint that counts, 0 for none, and its files' hashes."""
    try:
        told: dict[str, Any] = json.loads((folder / "latest.json").read_text(encoding="utf-8"))
        return {"files": dict(told.get("files", {})), "serial": int(told["serial"])}
    except FileNotFoundError:
        return {"serial": 0}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(f"{folder / 'latest.json'} is damaged; train again into another directory") from None


def _latest(folder: Path) -> Path:
    return folder / f"checkpoint-{_told(folder)['serial']:06d}"
