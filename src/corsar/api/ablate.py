"""What each part is worth: variants of one run that differ from it in a few keys, all with the same seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corsar.api.grid import BASE, Unit, changes_text, read_grid, units_of
from corsar.api.sweep import run_rules, run_units, seconds_of
from corsar.errors import ConfigError
from corsar.evaluate.ablation import EACH, markdown
from corsar.evaluate.compare import main_metric, tasks_of
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.report import sentences, write_text
from corsar.evaluate.seeds import HOW, contrast
from corsar.progress import Progress

File = Path | str
Runs = Mapping[tuple[str, int], Evaluated]


def ablate_runs(
    config: File, out: File | None = None, *, flags: Mapping[str, str] | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Train and evaluate every variant of a grid, and price each against the base; the page is ablation.md in `out`.

    "rows" are a task and a variant each: what it changes, its figure over all seeds, and the difference from the base, paired
    by case. What is finished is not done again: a call that was killed goes on where it was.

    Args:
        config: The grid, a TOML file as `corsar.api.grid` describes it.
        out: The folder of the runs and the page; runs/ and the name of the file by default.
        flags: "section.key" -> value, for all runs.

    Raises:
        ConfigError: The grid is at fault, or the folder holds runs of another one.
        DataError: The dataset is.
    """
    file, progress = Path(config), progress or Progress(quiet=True)
    grid, out = read_grid(file, flags), Path(out or Path("runs") / file.stem)
    if not grid.variants:
        raise ConfigError(f'{file} has no variants; write [variants."NAME"] and the keys that change below it')
    units = units_of(grid, {BASE: {}, **grid.variants})
    runs = run_units(units, out, progress)
    rules = run_rules(units[0].config, out, progress)
    every = [*runs.values(), *rules.values()]
    metric = main_metric(every, grid.metric)
    changes = {BASE: "", **{name: changes_text(one) for name, one in grid.variants.items()}}
    base = [runs[BASE, seed] for seed in grid.seeds]
    rows = []
    for task in tasks_of(every):
        for name, changed in changes.items():
            own = [runs[name, seed] for seed in grid.seeds]
            rows += _row(own, base, task, metric, {"variant": name, "changes": changed, "seconds": _seconds(units, name, out)})
        for name, rule in rules.items():
            rows += _row([rule], base, task, metric, {"variant": name, "changes": None, "seconds": None})
    first, *derived = sentences(base[0].report)
    told = {
        "metric": metric,
        "seeds": list(grid.seeds),
        "derived": base[0].report.get("derived"),
        "fingerprint": base[0].report["fingerprint"],
        "protocol": base[0].report["protocol"],
        "base": grid.base,
        "rows": rows,
        "sentences": [*derived, first.replace("; ± is half a 95 % interval", ""), HOW, EACH],
        "machine": base[0].report["machine"],
        "command": f"corsar ablate {file} --out {out}" + "".join(f" --{key} {value}" for key, value in (flags or {}).items()),
    }
    write_text(out / "ablation.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "ablation.md", markdown(told) + "\n")
    return told | {"page": str(out / "ablation.md")}


def _row(
    runs: Sequence[Evaluated], base: Sequence[Evaluated], task: str, metric: str, told: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row, or none where the runs or the base do not have the task."""
    if any(task not in run.tasks for run in (*runs, *base)):
        return []
    difference = None if runs[0] is base[0] else contrast([(1.0, runs), (-1.0, base)], task, metric).told()
    figure = contrast([(1.0, runs)], task, metric).told()
    return [{"task": task, "trained": runs[0].report["trained"], **told, "figure": figure, "difference": difference}]


def _seconds(units: Sequence[Unit], variant: str, out: Path) -> list[str]:
    return [seconds_of(unit.folder(out)) for unit in units if unit.variant == variant]
