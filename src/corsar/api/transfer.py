"""The transfer ledger: history (own kind, both) times loss (own task, both), at equal budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from corsar.api.grid import Given, Grid, Unit, read_grid, units_of
from corsar.api.sweep import run_rules, run_units, seconds_of
from corsar.data.loader import TrainLoader
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError
from corsar.evaluate.ablation import EACH
from corsar.evaluate.compare import main_metric, task_values
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.ledger import ALL, CELLS, GAINS, caution, markdown, words
from corsar.evaluate.report import sentences, write_text
from corsar.evaluate.seeds import HOW, contrast
from corsar.evaluate.segments import masks_of_rows
from corsar.progress import Progress

File = Path | str
Cells = Mapping[tuple[str, str], list[Evaluated]]  # (history, loss) -> a run a seed


def transfer_runs(
    config: File, out: File | None = None, *, flags: Mapping[str, str] | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Train the runs of the ledger and tell what each log is worth to the other's task; the page is ledger.md in `out`.

    "rows" are the figures of the four cells of each task and of the untrained rules, "gains" their contrasts, over all cases
    and by segment, "sentences" what they say in words. What is finished is not done again.

    Args:
        config: A grid without variants, a TOML file as `corsar.api.grid` describes it: base, seeds, metric, `[all]`.
        out: The folder of the runs and the page; runs/ and the name of the file by default.
        flags: "section.key" -> value, for all runs.

    Raises:
        ConfigError: The file is at fault, or the base does not learn two tasks.
        DataError: The dataset is.
    """
    file, progress = Path(config), progress or Progress(quiet=True)
    grid, out = read_grid(file, flags), Path(out or Path("runs") / file.stem)
    if grid.variants:
        raise ConfigError(f"{file} has variants, and the ledger makes its own; leave them out, or use corsar ablate")
    (base,) = units_of(Grid(grid.base, {}, grid.seeds[:1], grid.metric), {"base": {}})
    dataset, tasks = open_dataset(base.config.data.path), base.config.train.tasks
    if len(tasks) != 2 or base.config.data.history != "both":
        raise ConfigError("the ledger needs two tasks and both histories; leave train.tasks and data.history to their defaults")
    plan = _plan(base, dataset)
    units = units_of(grid, {name: changes for name, (changes, _) in plan.items()})
    runs = run_units(units, out, progress)
    rules = run_rules(base.config, out, progress)
    metric = main_metric([*runs.values(), *rules.values()], grid.metric)
    rows, gains = list[dict[str, Any]](), list[dict[str, Any]]()
    for task in tasks:
        cells = {cell: [runs[_name(*cell, task), seed] for seed in grid.seeds] for cell in CELLS}
        for (history, loss), own in cells.items():
            told = {"task": task, "history": history, "loss": loss, "model": base.config.model["name"]}
            rows.append(told | {"figure": contrast([(1.0, own)], task, metric).told()})
        for name, rule in rules.items():
            if task in rule.tasks:
                rows.append({"task": task, "model": name, "figure": contrast([(1.0, [rule])], task, metric).told()})
        gains += _gains(cells, task, metric, dataset)
    first = runs[units[0].variant, units[0].seed].report
    told = {
        "metric": metric,
        "seeds": list(grid.seeds),
        "derived": dataset.manifest["derived"],
        "fingerprint": first["fingerprint"],
        "base": grid.base,
        "rows": rows,
        "gains": gains,
        "budget": [_budget(units, name, steps, out) for name, (_, steps) in plan.items()],
        "machine": first["machine"],
        "command": f"corsar transfer {file} --out {out}" + "".join(f" --{key} {value}" for key, value in (flags or {}).items()),
    }
    protocol = sentences(runs[_name("both", "both", tasks[0]), grid.seeds[0]].report)[0].replace(
        "; ± is half a 95 % interval", ""
    )
    told["sentences"] = [*caution(told["derived"]), *words(told), protocol, HOW, EACH]
    write_text(out / "ledger.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "ledger.md", markdown(told) + "\n")
    return told | {"page": str(out / "ledger.md")}


def _plan(base: Unit, dataset: Dataset) -> dict[str, tuple[Given, int]]:
    """The runs of the ledger: name -> what it changes, and its steps an epoch, which are as many as can be made equal."""
    loader = TrainLoader(dataset, base.config.data, base.config.train, 0)
    plan: dict[str, tuple[Given, int]] = {}
    for history, loss in CELLS:
        for task in base.config.train.tasks:
            data = {"data": {"history": history}}
            if loss == "both":
                plan[_name(history, loss, task)] = (data, loader.steps_per_epoch)
                continue
            cases = loader.num_cases[task]
            batch = -(-cases // loader.steps_per_epoch)
            changes = {**data, "train": {"tasks": [task], "batch_size": batch}}
            plan[_name(history, loss, task)] = (changes, -(-cases // batch))
    return plan


def _name(history: str, loss: str, task: str) -> str:
    return f"{history} history, {task} alone" if loss == "own" else f"{history} history, both tasks"


def _gains(cells: Cells, task: str, metric: str, dataset: Dataset) -> list[dict[str, Any]]:
    """All gains of a task, over all cases and by segment."""
    first = cells["own", "own"][0]
    cases, _ = task_values(first, task, metric)
    users_N = cases["user_row"].to_numpy()
    rows_N, split = cases["case"].to_numpy(), first.report["protocol"]["split"]
    masks = {ALL: np.ones(len(users_N), dtype=bool)} | masks_of_rows(dataset, split, task, rows_N)  # type: ignore[arg-type]
    found = []
    for segment, mask_N in masks.items():
        for name, weights in GAINS.items():
            if mask_N.any():
                gain = contrast([(weight, cells[cell]) for cell, weight in weights.items()], task, metric, mask_N)
                size = {"cases": int(mask_N.sum()), "users": len(np.unique(users_N[mask_N]))}
                found.append({"task": task, "gain": name, "segment": segment, **size, **gain.told()})
    return found


def _budget(units: list[Unit], name: str, steps: int, out: Path) -> dict[str, str]:
    own = [unit for unit in units if unit.variant == name]
    train = own[0].config.train
    took = ", ".join(seconds_of(unit.folder(out)) for unit in own)
    return {
        "run": name,
        "batch size": str(train.batch_size),
        "steps an epoch": str(steps),
        "epochs": str(train.epochs),
        "time": took,
    }
