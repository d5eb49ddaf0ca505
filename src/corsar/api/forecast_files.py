"""A fitted forecaster as a directory: settings.json, weights.safetensors, history.parquet, scale.parquet, manifest.json."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from corsar.artifact import replacing
from corsar.data.series import ID, Spacing
from corsar.data.store import file_hash
from corsar.errors import ArtifactError
from corsar.evaluate.forecast import Scale
from corsar.models import forecaster_class
from corsar.models.forecaster import Forecaster

FORMAT, KIND = 1, "forecaster"


@dataclass(frozen=True)
class Fitted:
    """A forecaster with all that it needs to forecast."""

    model: Forecaster  # on the CPU, in evaluation mode
    ids: pl.Series  # of each series, in the order of the model's variables
    history: pl.DataFrame  # the newest steps of each series: unique_id, ds, y
    scale: Scale
    spacing: Spacing
    multivariate: bool
    is_pandas: bool  # of which kind the frame was that it was fitted to


def save_forecaster(path: Path, fitted: Fitted, name: str, settings: dict[str, Any]) -> None:
    """Write the directory, in place of a forecaster that is there.

    Raises:
        ArtifactError: Something else is at `path`.
        OutputError: The disk is full or the like; what was there is still there.
    """
    if path.exists() and not is_forecaster(path):
        raise ArtifactError(f"{path} is there already and is no forecaster; choose another path")
    told = {
        "name": name,
        "settings": settings,
        "model": fitted.model.config.model_dump(mode="json"),
        "num_variables": len(fitted.ids) if fitted.multivariate else 1,
        "spacing": [fitted.spacing.every, fitted.spacing.month_end],
        "multivariate": fitted.multivariate,
        "is_pandas": fitted.is_pandas,
    }
    mean, std = (one.reshape(-1).numpy() for one in (fitted.scale.mean_GV, fitted.scale.std_GV))
    with replacing(path, then="save again") as beside:
        (beside / "settings.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        save_file({k: v.contiguous() for k, v in fitted.model.state_dict().items()}, beside / "weights.safetensors")
        fitted.history.write_parquet(beside / "history.parquet")
        pl.DataFrame({ID: fitted.ids, "mean": mean, "std": std}).write_parquet(beside / "scale.parquet")
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "corsar": importlib.metadata.version("corsar"),
            "torch": str(torch.__version__),
            "files": {file.name: file_hash(file) for file in sorted(beside.iterdir())},
        }
        (beside / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def is_forecaster(path: Path) -> bool:
    """Whether a forecaster was saved there."""
    try:
        told = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("kind") == KIND


def find_forecaster(path: Path | str) -> Path | None:
    """The directory of the forecaster at `path` or of the run at `path`; None where there is none."""
    return next((one for one in (Path(path), Path(path) / "artifact") if is_forecaster(one)), None)


def open_forecaster(path: Path | str) -> tuple[Fitted, str, dict[str, Any]]:
    """What was saved, the model's name, and the estimator's settings.

    Raises:
        ArtifactError: There is none, or it is damaged, or of another version.
    """
    found = find_forecaster(path)
    if found is None:
        raise ArtifactError(f"{path} holds no forecaster; name what save wrote, or the run_dir of a fit that ended")
    try:
        manifest = json.loads((found / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ArtifactError(
                f"{found} is of format {manifest['format']} (corsar {manifest['corsar']}), this corsar reads format {FORMAT}; "
                "fit again, or use the version that wrote it"
            )
        for name, told in manifest["files"].items():
            if file_hash(found / name) != told:
                raise ArtifactError(f"{found / name} is not the file that was written; copy it again, or fit again")
        return _read(found)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError, pl.exceptions.PolarsError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{found} cannot be opened ({first}); copy the whole directory again, or fit again") from error


def _read(path: Path) -> tuple[Fitted, str, dict[str, Any]]:
    told = json.loads((path / "settings.json").read_text(encoding="utf-8"))
    cls = forecaster_class(told["name"])
    model = cls(cls.Config(**told["model"]), told["num_variables"])
    model.load_state_dict(load_file(path / "weights.safetensors"))
    scale = pl.read_parquet(path / "scale.parquet")
    shape = (1, -1) if told["multivariate"] else (-1, 1)
    mean_GV, std_GV = (scale[name].to_torch().reshape(shape) for name in ("mean", "std"))
    fitted = Fitted(
        model.eval(), scale[ID], pl.read_parquet(path / "history.parquet"), Scale(mean_GV, std_GV), Spacing(*told["spacing"]),
        told["multivariate"], told["is_pandas"],
    )  # fmt: skip
    return fitted, told["name"], told["settings"]
