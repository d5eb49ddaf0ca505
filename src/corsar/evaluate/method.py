"""How the figures of a page came about: protocol, seeds, machine, commands and settings, as HTML."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from corsar.config import EvaluateSection
from corsar.evaluate.gather import Evaluated
from corsar.evaluate.html import details, esc, table
from corsar.evaluate.report import leaves

NONE = "–"


def pieces(runs: Sequence[Evaluated]) -> list[str]:
    """Tables and commands, in the order in which they stand on the page."""
    first = runs[0].report
    protocol = [["fingerprint", first["fingerprint"]], *([name, _value(value)] for name, value in leaves(first["protocol"]))]
    settings = {run.name: dict(leaves(run.report["config"])) for run in runs}
    keys = list(dict.fromkeys(key for told in settings.values() for key in told))
    rows = [[key, *(_value(told.get(key, NONE)) for told in settings.values())] for key in keys]
    differ = [row for row in rows if len(set(row[1:])) > 1]
    same = [row[:2] for row in rows if len(set(row[1:])) == 1]
    machines = [[run.name, run.report["model"], *_made(run)] for run in runs]
    columns = ["run", "model", "seed", "bootstrap seed", "evaluated in", "processor", "cores", "threads", "torch", "GPU"]
    found = [
        table("Protocol: figures stand in one table only where all of it is the same", ["rule", "value"], protocol, text=True),
        table("Seeds, and the machine of the evaluation", columns, machines),
        "<p>Commands that make these runs and figures anew:</p>",
        f'<pre tabindex="0">{esc(chr(10).join(commands(runs)))}</pre>',
    ]
    if differ:
        found.append(table("Settings in which the runs differ", ["setting", *settings], differ, text=True))
    return [*found, details("Settings that all runs share", table("Shared settings", ["setting", "value"], same, text=True))]


def commands(runs: Sequence[Evaluated]) -> list[str]:
    """The command of each training, written to a new place, and that of the evaluation."""
    lines = []
    for run in runs:
        home = run.path.parent if run.path.name == "artifact" else run.path
        if (home / "config.toml").is_file():
            lines.append(shlex.join(["corsar", "train", str(home / "config.toml"), "--out", f"{home}_again"]))
    rules, default = runs[0].report["config"]["evaluate"], EvaluateSection().model_dump(mode="json")
    flags = [
        word
        for key, value in rules.items()
        if value != default.get(key) and key != "score"  # each model has its own score
        for word in (f"--evaluate.{key}", value if isinstance(value, str) else json.dumps(value))
    ]
    return [*lines, shlex.join(["corsar", "evaluate", *(str(run.path) for run in runs), "--no-baselines", *flags])]


def _made(run: Evaluated) -> list[object]:
    report = run.report
    machine, seeds = report["machine"], report["seeds"]
    cells = [machine.get(key, NONE) for key in ("cpu", "cores", "threads", "torch", "gpu")]
    return [seeds["run"], seeds["bootstrap"], f"{report['wall_s']:.1f} s", *cells]


def _value(value: Any) -> str:
    return NONE if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
