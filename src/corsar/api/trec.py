"""A run's rankings as files that ir-measures, trec_eval and the like read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from corsar.artifact import find_artifact, open_artifact
from corsar.config import load_config
from corsar.data.beside import whole_directory
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, DataError, writing
from corsar.evaluate.report import read_report
from corsar.evaluate.trec import DEPTH, word, write_trec
from corsar.progress import Progress
from corsar.train.machine import find_device
from corsar.train.processes import Processes

File = Path | str


def export_trec(
    run: File,
    out: File,
    *,
    overrides: Mapping[str, str] | None = None,
    depth: int = DEPTH,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write TASK.run and TASK.qrels of a run's cases: {"path", "files", "protocol", "fingerprint", "tasks"}.

    The protocol is that of the run's newest report; `protocol.json` in the folder holds it, and the counts.

    Args:
        run: A run or an artifact; where it has no report, its own settings are the protocol.
        out: The folder to write.
        overrides: "evaluate.key" -> value, in place of what the report says.
        depth: How many candidates of a case are written at most, where the whole catalogue is ranked.
        overwrite: Replace a folder that holds such files.

    Raises:
        ConfigError: A setting is wrong.
        DataError: `out` is there already, or the run was trained on another dataset than is at its place.
    """
    home, out = Path(run), Path(out)
    if depth < 1:
        raise ConfigError(f"depth = {depth} leaves nothing to write; give 1 or more")
    if out.exists() and not (overwrite and (out / "protocol.json").is_file()):
        raise DataError(
            f"'{out}' exists; choose another folder, or add --overwrite (overwrite=True) where it is such an export"
        )
    artifact = open_artifact(home)
    rules = read_report(home)["config"]["evaluate"] if (home / "report.json").is_file() else {}
    told = {f"evaluate.{key}": json.dumps(value) for key, value in rules.items() if value is not None}
    config = load_config(find_artifact(home) / "model.toml", {**told, **(overrides or {})})
    dataset, device = open_dataset(config.data.path), find_device(config, Processes())
    if artifact.manifest["dataset"]["data_hash"] != dataset.manifest["data_hash"]:
        raise DataError(f"{home} was trained on another dataset than {config.data.path}; point data.path to its own")
    with whole_directory(out) as beside, writing(out, pl.exceptions.PolarsError):
        tag = home.resolve().parent.name if home.resolve().name == "artifact" else home.resolve().name
        found = write_trec(
            artifact.model.to(device), dataset, config, beside, tag=tag, depth=depth, progress=progress or Progress(quiet=True)
        )
        (beside / "protocol.json").write_text(json.dumps({"run": word(tag), **found}, indent=1) + "\n", encoding="utf-8")
        files = sorted(file.name for file in beside.iterdir())
    return {"path": str(out), "files": files, **found}
