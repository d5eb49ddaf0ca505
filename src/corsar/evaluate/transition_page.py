"""How feed events and searches follow each other, as a page that needs no network."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corsar.errors import ConfigError
from corsar.evaluate.figures import COLOURS, MARKS, Figure
from corsar.evaluate.html import esc, figure, frame, table
from corsar.evaluate.page import plotly_library
from corsar.evaluate.report import write_text
from corsar.evaluate.transitions import TRANSITIONS

NONE = "–"
MEANING = (
    "A page of the feed is one event, and so is a search. Expected is what a shuffle of each user's own events gives; excess is"
    " what lies above. Related events share a category, or a query and an item share a word; strength is the part that copies"
    " the topic of the last event of the other kind. Intervals are of 95 %, users resampled."
)


def cell(told: Mapping[str, float | None] | None, line: str = " ") -> str:
    """A figure and its interval."""
    if told is None or told["value"] is None:
        return NONE
    return f"{told['value']:.4f}{line}[{told['low']:.4f}, {told['high']:.4f}]"


def tables_of(told: Mapping[str, Any], line: str = " ") -> dict[str, list[dict[str, Any]]]:
    """What there is to show, as rows of text: caption -> rows."""
    figures = ("share", "of_first", "expected", "excess")
    found: dict[str, list[dict[str, Any]]] = {
        "transitions": [
            {"transition": row["transition"], "count": row["count"]} | {name: cell(row[name], line) for name in figures}
            for row in told["matrix"]
        ],
    }
    if "between" in told:
        found["time between, in seconds"] = [
            {name: NONE if value is None else value if isinstance(value, str) else f"{value:g}" for name, value in row.items()}
            for row in told["between"]
        ]
    found["related"] = [
        {"direction": row["direction"], "by": row["by"], "cases": row["cases"]}
        | {name: cell(row.get(name), line) for name in ("share", "expected", "excess", "strength")}
        for row in told["related"]
    ]
    silent = told["zero_click"]
    found["searches without a click"] = [
        {"searches": silent["searches"], "without click": silent["without_click"], "rate": cell(silent["rate"], line)}
    ]
    return {caption: rows for caption, rows in found.items() if rows}


def write_transition_page(told: Mapping[str, Any], out: Path) -> Path:
    """Write the page and give back where it is.

    Raises:
        ConfigError: plotly is missing, or `out` is a directory.
        OutputError: the page cannot be written.
    """
    if out.is_dir():
        raise ConfigError(f"{out} is a directory; name a file in it, as in --page {out / 'transitions.html'}")
    library, plots = plotly_library(), dict[str, Any]()
    body = [f'<p class="derived">{esc(told["derived"])}</p>'] if told["derived"] else []
    body.append(f"<p>{esc(MEANING)}</p>")
    for caption, rows in tables_of(told, "\n").items():
        body.append(table(caption, list(rows[0]), [list(row.values()) for row in rows]))
        if caption == "transitions":
            plots["excess"] = _excess(told["matrix"])
            body.append(
                figure("excess", "Share of each transition less what a shuffle within users gives, with 95 % intervals")
            )
    clock = f"clock: UTC {told['utc_offset_min'] / 60:+g} h"
    for what, name in (("by_hour", "hour"), ("by_day", "day")):
        if what in told:
            plots[what] = _shares(told[what], name)
            body.append(figure(what, f"Transitions by {name} of the second event, as parts of all ({clock})"))
            counts = [[row[name], *(f"{row[one]:,}" for one in TRANSITIONS)] for row in told[what]]
            body.append(table(f"transitions by {name} ({clock})", [name, *TRANSITIONS], counts))
    body.append(f"<p>Written by corsar {esc(importlib.metadata.version('corsar'))}.</p>")
    write_text(out, frame(f"Transitions in {told['path']}", "\n".join(body), plots, library))
    return out


def _excess(matrix: list[dict[str, Any]]) -> Figure:
    rows = [row for row in reversed(matrix) if row["excess"]["value"] is not None]
    told = [row["excess"] for row in rows]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [one["value"] for one in told],
        "y": [row["transition"] for row in rows],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [one["high"] - one["value"] for one in told],
            "arrayminus": [one["value"] - one["low"] for one in told],
        },
        "marker": {"size": 9, "color": COLOURS[1]},
        "hovertemplate": "%{y}: %{x:+.4f}<extra></extra>",
    }
    layout = _layout("share less expected", "", 260)
    layout["xaxis"] |= {"zeroline": True, "zerolinewidth": 2, "tickformat": "+.3~f"}
    return {"data": [trace], "layout": layout | {"showlegend": False}}


def _shares(rows: list[dict[str, Any]], name: str) -> Figure:
    """One line a transition over hours or days."""
    total = max(1, sum(row[one] for row in rows for one in TRANSITIONS))
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": one,
            "x": [row[name] for row in rows],
            "y": [row[one] / total for row in rows],
            "marker": {"symbol": MARKS[at], "size": 8, "color": COLOURS[at]},
            "line": {"color": COLOURS[at]},
            "hovertemplate": "%{x}: %{y:.4f}",
        }
        for at, one in enumerate(TRANSITIONS)
    ]
    layout = _layout(name, "part of all transitions", 360)
    layout["yaxis"] |= {"rangemode": "tozero"}
    return {"data": traces, "layout": layout}


def _layout(x_title: str, y_title: str, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 20, "r": 20, "t": 20, "b": 50},
        "xaxis": {"title": {"text": x_title}, "automargin": True},
        "yaxis": {"title": {"text": y_title}, "automargin": True},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hovermode": "closest",
        "dragmode": False,
    }
