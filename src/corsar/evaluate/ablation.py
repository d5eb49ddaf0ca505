"""The page that prices the variants of a run: rows of text, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from corsar.evaluate.markdown import NONE, figure, table
from corsar.evaluate.report import leaves

EACH = (
    "A difference is a variant's figure less the base's: below zero, the base's form is the better one. Each interval is for"
    " itself: among many of them some leave zero out by chance."
)


def verdict(gain: Mapping[str, Any] | None) -> str:
    """better, worse or not shown, by the interval of a difference."""
    if gain is None:
        return NONE
    return "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "not shown"


def price_rows(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """The prices as rows of text, all tasks in one table."""
    return [
        {
            "task": row["task"],
            "variant": row["variant"] if row["trained"] or row["changes"] is not None else f"{row['variant']} (untrained rule)",
            told["metric"]: figure(row["figure"]),
            "difference": figure(row["difference"], "+"),
            "which is": verdict(row["difference"]),
        }
        for row in told["rows"]
    ]


def markdown(told: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = ["# What each part is worth", ""]
    lines += [line for sentence in told["sentences"] for line in (sentence, "")]
    lines += [f"Seeds {', '.join(map(str, told['seeds']))}; `{told['command']}`; what is finished is not done again.", ""]
    for task in dict.fromkeys(row["task"] for row in told["rows"]):
        of_task = {**told, "rows": [row for row in told["rows"] if row["task"] == task]}
        prices = [{key: value for key, value in row.items() if key != "task"} for row in price_rows(of_task)]
        lines += [f"## {task}: {told['metric']}", "", *table(prices)]
    return "\n".join([*lines, "## The variants", "", *_variants(told), *_settings(told)])


def _variants(told: Mapping[str, Any]) -> list[str]:
    """What each changes, and the difference and time of each seed."""
    rows, tasks = [], list(dict.fromkeys(row["task"] for row in told["rows"]))
    for name in dict.fromkeys(row["variant"] for row in told["rows"] if row["changes"] is not None):
        own = {row["task"]: row for row in told["rows"] if row["variant"] == name}
        first = next(iter(own.values()))
        seeds = {task: _by_seed(own[task]["difference"]) if task in own else NONE for task in tasks}
        rows.append(
            {"variant": name, "changes": f"`{first['changes']}`" if first["changes"] else NONE}
            | {f"{task}, each seed": text for task, text in seeds.items()}
            | {"time of each seed": ", ".join(first["seconds"])}
        )
    return table(rows)


def _by_seed(gain: Mapping[str, Any] | None) -> str:
    return NONE if gain is None else ", ".join(f"{value:+.4f}" for value in gain["by_seed"])


def _settings(told: Mapping[str, Any]) -> list[str]:
    machine = told["machine"]
    lines = ["## The base", "", "What is not named has its default.", "", "```toml"]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in leaves(told["base"])]
    lines += ["```", "", f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "]
    lines[-1] += f"torch {machine['torch']}. Fingerprint of the protocol: `{told['fingerprint'][:16]}`."
    return lines
