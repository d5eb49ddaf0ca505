"""Which cases are scored, and against which candidates: fixed draws, each with the hash of what was drawn."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from corsar.batch import Task
from corsar.config import EvaluateSection
from corsar.data.store import Cases, Dataset, save_array
from corsar.errors import ConfigError, DataError, writing

Rows = npt.NDArray[np.int64]
ATTEMPTS = 20  # draws before a case with few free items is settled by listing them
CASES_AT_ONCE = 4096


@dataclass(frozen=True)
class Chosen:
    """What is scored for one task."""

    cases: Cases
    rows_N: Rows  # which of the split's cases they are
    negatives_NC: Tensor | None  # candidates beside the target, 0 pads; None: the whole catalogue
    told: dict[str, Any]  # for the protocol


def seeded(*parts: str | int) -> np.random.Generator:
    """A generator whose seed depends on all parts."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]))


def array_hash(values: npt.NDArray[Any] | Tensor) -> str:
    """SHA-256 of integers, whatever their width, in hex."""
    wide = np.ascontiguousarray(np.asarray(values), dtype="<i8")
    return hashlib.sha256(repr(wide.shape).encode() + wide.tobytes()).hexdigest()


def choose(dataset: Dataset, task: Task, rules: EvaluateSection) -> Chosen:
    """The cases and candidates of a task under the rules.

    Raises:
        ConfigError: `exclude_seen` is asked for with other candidates than the whole catalogue.
        DataError: given candidates are asked for and the dataset has none.
    """
    cases = dataset.cases(rules.split, task)
    kind = rules.candidates
    if kind == "auto":
        kind = "full" if cases.negatives_NC is None else "given"
    if kind == "given":
        if cases.negatives_NC is None and len(cases):
            raise DataError(
                f"the dataset has no given candidates for {task} in {rules.split}; set evaluate.candidates to full"
                " or sampled:99"
            )
        negatives_NC = cases.negatives_NC
    elif kind == "full":
        negatives_NC = None
    else:
        negatives_NC = stored_sample(dataset, cases, int(kind.removeprefix("sampled:")))
    if rules.exclude_seen and kind != "full":
        raise ConfigError("evaluate.exclude_seen goes with the whole catalogue; set evaluate.candidates to full")
    told: dict[str, Any] = {"candidates": kind, "candidates_hash": None if negatives_NC is None else array_hash(negatives_NC)}

    rows = np.arange(len(cases))
    if rules.subset == "both_histories":
        rows = rows[cases.both_histories(dataset.history).numpy()]
    if rules.max_cases is not None and len(rows) > rules.max_cases:
        draw = seeded("cases", rules.split, task, rules.max_cases)
        rows = np.sort(draw.choice(rows, rules.max_cases, replace=False))
    told |= {"cases": len(rows), "cases_hash": array_hash(rows)}
    taken = torch.from_numpy(rows)
    return Chosen(cases.take(taken), rows, None if negatives_NC is None else negatives_NC[taken], told)


def stored_sample(dataset: Dataset, cases: Cases, num: int) -> Tensor:
    """The sampled candidates of all cases of a split and task, [cases, num]; drawn once and kept in the dataset directory."""
    file = dataset.path / "candidates" / f"{cases.split}_{cases.task}_sampled_{num}.npy"
    if not file.exists():
        drawn = draw_candidates(dataset, cases, num, seeded("candidates", cases.split, cases.task, num))
        beside = file.with_name(f".{file.stem}.{os.getpid()}.npy")
        with writing(file):
            file.parent.mkdir(exist_ok=True)
            try:
                save_array(beside, drawn.astype(np.int32))
                beside.rename(file)
            finally:
                beside.unlink(missing_ok=True)
    try:
        stored = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}' cannot be read; delete it, and it is drawn again") from error
    if stored.shape != (len(cases), num) or not ((stored >= 0) & (stored <= len(dataset.items))).all():
        raise DataError(f"'{file}' does not fit the dataset; delete it, and it is drawn again")
    return torch.from_numpy(stored.astype(np.int64))


def draw_candidates(dataset: Dataset, cases: Cases, num: int, draw: np.random.Generator) -> Rows:
    """Distinct items, uniform over those that are free for each case, [cases, num]; 0 pads where too few are free.

    Not free are the target, the items clicked together with it, and all that the user ever had in the training part; of
    places a person returns to, the last are free.
    """
    events, mates = dataset.train_events(), cases.mates
    width = dataset.catalogue.num_items + 1
    pairs = np.unique(events.user_E.numpy() * width + events.item_E.numpy())
    if cases.task == "next_place":
        pairs = pairs[:0]
    parts = [np.zeros((0, num), dtype=np.int64)]
    for start in range(0, len(cases), CASES_AT_ONCE):
        rows = torch.arange(start, min(start + CASES_AT_ONCE, len(cases)))
        number_B, user_B = np.arange(len(rows)), cases.user_N[rows].numpy()
        low, high = np.searchsorted(pairs, user_B * width), np.searchsorted(pairs, (user_B + 1) * width)
        near = mates.select(rows)
        owner = np.concatenate([number_B, np.repeat(number_B, near.lengths.numpy()), np.repeat(number_B, high - low)])
        before = np.repeat(np.cumsum(high - low) - (high - low), high - low)
        had = pairs[np.arange(len(before)) - before + np.repeat(low, high - low)] % width
        item = np.concatenate([cases.item_N[rows].numpy(), near.values.numpy(), had])
        parts.append(_draw(np.unique(owner * width + item), len(rows), width, num, draw))
    return np.concatenate(parts)


def _draw(taken: Rows, num_cases: int, width: int, num: int, draw: np.random.Generator) -> Rows:
    item_BC = np.zeros((num_cases, num), dtype=np.int64)
    base_B1 = np.arange(num_cases)[:, None] * width
    again_BC = np.ones(item_BC.shape, dtype=bool)
    for _ in range(ATTEMPTS):
        item_BC[again_BC] = draw.integers(1, width, int(again_BC.sum()))
        order = np.argsort(item_BC, axis=1, kind="stable")
        ordered = np.take_along_axis(item_BC, order, 1)
        twice = np.pad(ordered[:, 1:] == ordered[:, :-1], ((0, 0), (1, 0)))
        np.put_along_axis(again_BC, order, twice, 1)
        again_BC |= np.isin(base_B1 + item_BC, taken)
        if not again_BC.any():
            break
    for row in np.flatnonzero(again_BC.any(1)):
        bounds = np.searchsorted(taken, [row * width, (row + 1) * width])
        free = np.setdiff1d(np.arange(1, width), taken[slice(*bounds)] % width)
        some = draw.permutation(free)[:num]
        item_BC[row] = np.pad(some, (0, num - len(some)))
    return item_BC
