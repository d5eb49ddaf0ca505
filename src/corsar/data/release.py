"""A published set of samples as the cases of a dataset: these samples, these candidates, and no others.

Legend: N cases of one split and task.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import torch

from corsar.batch import Task
from corsar.data.beside import whole_directory
from corsar.data.build import build_dataset
from corsar.data.store import Cases, Dataset, Split, file_hash, manifest_hash, open_dataset, save_array
from corsar.errors import DataError
from corsar.vocab import Rows

if TYPE_CHECKING:
    from corsar.progress import Progress
    from corsar.schema import Tables

KEY = ("user", "time", "item")


def build_with_samples(
    tables: Tables,
    samples: Mapping[tuple[str, str], tuple[pl.DataFrame, Rows]],
    out: Path | str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The path of the dataset directory made of the tables, whose cases are the samples alone.

    A case looks back no further than its sample says, and never to what is not strictly before it, whatever the sample says;
    samples that say more are counted.

    Args:
        tables: their events carry the split.
        samples: (split, task) -> user_id, item_id, time_ms, feeds, searches (how many of both came before), and as many rows
            of negatives.

    Raises:
        DataError: `out` exists and may not be overwritten, or the tables contradict the rules.
    """
    out = Path(out)
    if out.exists() and not (overwrite and (out / "manifest.json").is_file()):
        raise DataError(f"'{out}' exists; choose another directory, or add --overwrite (overwrite=True) where it is a dataset")
    with whole_directory(out) as beside:
        built = build_dataset(tables, beside / "built", progress=progress)
        dataset, funnel, told = open_dataset(built), [], dict[str, Any]()
        counts: dict[str, dict[str, int]] = {}
        for (split, task), (table, negatives_NC) in samples.items():
            cases, notes = _narrowed(dataset, dataset.cases(cast(Split, split), cast(Task, task)), table, negatives_NC)
            where = built / "cases" / f"{split}_{task}"
            for field in dataclasses.fields(cases):
                if field.name.endswith(("_N", "_NC")):
                    file = where / f"{field.name}.npy"
                    file.unlink(missing_ok=True)  # it is mapped into memory
                    save_array(file, getattr(cases, field.name).numpy())
            counts.setdefault(split, {})[task] = len(cases)
            funnel += [{"table": f"samples ({split}, {task})", **note} for note in notes]
            told.setdefault(split, []).append(negatives_NC)
        manifest = dataset.manifest
        manifest["counts"]["cases"] = counts
        manifest["candidates"] = {split: _told(parts) for split, parts in told.items() if split != "train"}
        manifest["funnel"] += funnel
        names = [*manifest["files"], *(f"cases/{split}_{task}/negatives_NC.npy" for split, task in samples)]
        manifest["files"] = {
            name: {"sha256": file_hash(built / name), "bytes": (built / name).stat().st_size} for name in sorted(set(names))
        }
        manifest["data_hash"] = manifest_hash(manifest)
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (built / "manifest.json").write_text(text, encoding="utf-8")
        for part in built.iterdir():
            part.rename(beside / part.name)
        built.rmdir()
    return out


def ranked(table: pl.DataFrame) -> pl.DataFrame:
    """The table with `rank`: how many rows of the same user, time and item stand above."""
    return table.with_columns(rank=pl.int_range(pl.len()).over(KEY))


def _narrowed(dataset: Dataset, cases: Cases, table: pl.DataFrame, negatives_NC: Rows) -> tuple[Cases, list[dict[str, Any]]]:
    """The cases that are samples, in their own order, with the samples' counts and negatives."""
    here = {"user": cases.user_N.numpy(), "time": cases.time_N.numpy(), "item": cases.item_N.numpy()}
    own = ranked(pl.DataFrame(here)).with_row_index("case")
    asked = table.select("feeds", "searches", user=dataset.users.rows(table["user_id"]), time="time_ms", item="item_id")
    asked = asked.with_columns(item=dataset.items.rows(table["item_id"], missing="pad")).with_row_index("sample")
    both = own.join(ranked(asked), on=[*KEY, "rank"], how="inner", maintain_order="left")
    kept = cases.take(torch.from_numpy(both["case"].to_numpy().astype(np.int64)))
    ends: dict[str, Any] = {}
    notes = []
    for name, column in (("feed", "feeds"), ("search", "searches")):
        starts_N = getattr(dataset.history, f"{name}_offsets")[kept.user_N].numpy()
        by_time_N = getattr(kept, f"{name}_end_N").numpy()
        told_N = starts_N + both[column].to_numpy()
        ends[f"{name}_end_N"] = torch.from_numpy(np.minimum(by_time_N, told_N))
        notes.append(_note("note", int((told_N > by_time_N).sum()), f"counts {column} that are not strictly before it; cut"))
    negatives_NC = negatives_NC[both["sample"].to_numpy()]
    negatives_NC = dataset.items.rows(negatives_NC.ravel(), missing="pad").reshape(negatives_NC.shape)
    notes.append(_note("note", int((negatives_NC == kept.item_N.numpy()[:, None]).any(1).sum()), "a negative is the target"))
    notes.append(_note("rejected", len(table) - len(kept), "no case stands for it"))
    rest = dataclasses.replace(kept, **ends, negatives_NC=torch.from_numpy(negatives_NC))
    return rest, [note for note in notes if note["rows"]]


def _note(stage: str, rows: int, reason: str) -> dict[str, Any]:
    return {"stage": stage, "rows": rows, "reason": reason}


def _told(parts: list[Rows]) -> dict[str, Any]:
    """Number and hash of the candidates of a split, as for those that a table gives."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(np.ascontiguousarray(part).tobytes())
    return {"negatives": max(part.shape[1] for part in parts), "sha256": hashed.hexdigest()}
