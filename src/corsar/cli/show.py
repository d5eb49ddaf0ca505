"""Printing: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corsar.progress import Progress


def progress_bar(quiet: bool = False) -> Progress:
    from corsar.progress import Progress

    return Progress(quiet)


def fail(sentence: str) -> None:
    print(f"corsar: {' '.join(sentence.split())}", file=sys.stderr)
    raise SystemExit(2)


def tell(json: bool, value: Any, *shown: str | list[dict[str, Any]]) -> None:
    """Print the value as JSON, or else what there is to show of it: sentences and tables."""
    if json:
        print(jsonlib.dumps(value, indent=2, default=str))
        return
    for one in shown:
        if isinstance(one, str):
            print(one)
        else:
            _print_table(one)


def tell_prepared(told: dict[str, Any], json: bool) -> None:
    from corsar.evaluate.report import leaves

    counts = [{"what": name, "count": value} for name, value in leaves(told["counts"])]
    model = "automtn" if "next_place" in told["counts"]["cases"]["train"] else "unisar"
    then = f"the dataset is in {told['path']}; next: corsar train --data {told['path']} --model {model}"
    tell(json, told, told["funnel"], counts, then)


def tell_found(told: dict[str, Any], json: bool) -> None:
    for note in told["notes"]:
        print(note, file=sys.stderr)
    tell(json, told["items"], told["items"])


def tell_why(told: dict[str, Any], json: bool) -> None:
    for note in told["notes"]:
        print(note, file=sys.stderr)
    ranks = [f"rank {rank} without {kind}" for kind, rank in told["without"].items() if rank is not None]
    shown: list[str | list[dict[str, Any]]] = [
        f"item {told['item_id']} ({told['text']}) has rank {told['rank']}" + "".join(f", {one}" for one in ranks)
    ]
    if told["why"]:
        what = {"attention": "what the model looks at, no proof of cause", "left out": "the shares of the drops"}
        shown.append([{name: one[name] for name in ("kind", "text", "weight", "drop")} for one in told["why"]])
        shown.append(f"weight: {what[told['method']]}; drop: what the score loses without this event alone")
    else:
        shown.append("no event of the past has a part in it")
    tell(json, told, *shown)


def tell_dry(told: dict[str, Any], json: bool) -> None:
    shown: list[str | list[dict[str, Any]]] = [*told["notes"]]
    if "steps" in told:
        memory, took, steps = told["memory"], told["seconds"], told["steps"]
        shown.append(
            f"this training takes about {duration(took['all'])}, or less where it stops early: {steps['all']:,} steps of "
            f"{duration(took['step'])}, {steps['epoch']:,} an epoch, then a validation of {duration(took['validation'])}"
        )
        held = {"process": "this dry run held at most, libraries too", "all": "sum of the above"}
        rows = [name for name in memory if name not in held]
        shown.append(
            [{"memory": held.get(name, name), "MiB": f"{memory[name] / 2**20:,.0f}"} for name in (*rows, "all", "process")]
        )
        shown.append([{"cases": name, "count": f"{num:,}"} for name, num in told["cases"].items()])
        shown.append([{"parameters": name, "count": f"{num:,}"} for name, num in told["parameters"].items()])
    tell(json, told, *shown, f"# {told['run']}/config.toml", told["settings"].rstrip())


def duration(seconds: float) -> str:
    """A time as one says it: two figures of the unit that fits."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{int(seconds < 10 * size and unit == 'h')}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _print_table(rows: list[dict[str, Any]]) -> None:
    """One aligned table; the columns are the keys of the first row, numbers stand right."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    whole = {name for name in rows[0] if all(isinstance(value := row.get(name), float) and value.is_integer() for row in rows)}
    rows = [row | {name: int(row[name]) for name in whole} for row in rows]
    table = Table(box=SIMPLE, pad_edge=False)
    for name in rows[0]:
        is_number = not name.endswith("_id") and all(_cell(row.get(name))[:1] in "-0123456789" for row in rows)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=name not in ("text", "reason"))
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in rows[0]))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
