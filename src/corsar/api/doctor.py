"""What this machine has, and whether a directory is whole."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path

import torch

from corsar.artifact import open_artifact
from corsar.data.store import open_dataset
from corsar.errors import ArtifactError, DataError

File = Path | str


def doctor(path: File | None = None) -> dict[str, str]:
    """What this machine has, and whether the dataset directory, run or artifact at `path` is whole."""
    told = {name: importlib.metadata.version(name) for name in ("corsar", "torch", "polars", "numpy", "pydantic")}
    told["python"], told["machine"] = platform.python_version(), platform.platform()
    told["cores"], told["torch threads"] = str(os.cpu_count()), str(torch.get_num_threads())
    told["GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    if path is None:
        return told
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; name a dataset directory, a run or an artifact")
    try:
        artifact = open_artifact(path)
    except ArtifactError:
        if (path / "artifact").exists() or not (path / "manifest.json").is_file():
            raise
        if json.loads((path / "manifest.json").read_text(encoding="utf-8")).get("kind") == "artifact":
            raise
        dataset = open_dataset(path)
        dataset.verify()
        counts = dataset.manifest["counts"]
        return told | {str(path): f"a whole dataset directory: {counts['users']} users, {counts['items']} items"}
    model = artifact.config.model["name"]
    return told | {str(path): f"a whole artifact of {model}: {len(artifact.users)} users, {len(artifact.items)} items"}
