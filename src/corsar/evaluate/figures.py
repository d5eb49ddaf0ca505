"""The plots of a page as plotly describes them: plain dictionaries of traces and layout, so that nothing is imported here.

Colours of text and lines are the page's to choose, since it knows whether it is shown light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corsar.evaluate.compare import Difference
from corsar.evaluate.gather import Evaluated

Figure = dict[str, Any]

# Okabe and Ito's colours that can be told apart by all and stand out on white and on black; marks differ too
COLOURS = ("#D55E00", "#0083C9", "#009E73", "#CC79A7", "#BF8A00", "#56B4E9")
MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x")
DASHES = ("solid", "dash", "dot", "dashdot")
ROW = 26  # pixels a row of marks takes


def forest(found: Sequence[Difference], metric: str) -> Figure:
    """Differences of one task, a row each, the first on top, with their intervals and a line at none."""
    rows = list(reversed(found))
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [one.value for one in rows],
        "y": [one.name for one in rows],
        "error_x": _bars([one.value for one in rows], [one.low for one in rows], [one.high for one in rows]),
        "marker": {"size": 9, "color": COLOURS[1]},
        "hovertemplate": "%{y}: %{x:+.4f}<extra></extra>",
    }
    layout = _layout(f"{metric} minus that of {found[0].reference}", height=130 + ROW * len(rows))
    layout["xaxis"] |= {"zeroline": True, "zerolinewidth": 2, "rangemode": "tozero", "tickformat": "+.3~f"}
    layout["yaxis"] |= {"type": "category"}
    return {"data": [trace], "layout": layout | {"showlegend": False}}


def curve(runs: Sequence[Evaluated], what: str, title: str) -> Figure:
    """`loss` or `score` by epoch of each run that was trained."""
    traces = []
    for at, run in enumerate(runs):
        points = [(epoch.number, getattr(epoch, what)) for epoch in run.epochs if getattr(epoch, what) is not None]
        if points:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": run.name,
                    "x": [number for number, _ in points],
                    "y": [value for _, value in points],
                    "marker": _mark(at),
                    "line": {"dash": DASHES[at // len(COLOURS) % len(DASHES)], "color": COLOURS[at % len(COLOURS)]},
                    "hovertemplate": "epoch %{x}: %{y:.4f}",
                }
            )
    layout = _layout("epoch", height=360)
    layout["yaxis"] |= {"title": {"text": title}}
    layout["xaxis"] |= {"tickformat": "d"}
    return {"data": traces, "layout": layout}


def segments(runs: Sequence[Evaluated], task: str, metric: str) -> Figure:
    """One metric of each run in each segment that has cases, with its interval."""
    here = [at for at, run in enumerate(runs) if task in run.tasks]
    names = [name for name, told in runs[here[0]].report["segments"][task].items() if told["cases"]]
    traces = []
    for row, at in enumerate(here):
        run = runs[at]
        figures = [run.report["segments"][task][name]["metrics"][metric] for name in names]
        values = [figure["value"] for figure in figures]
        bars = [[figure.get(end, figure["value"]) for figure in figures] for end in ("low", "high")]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": run.name,
                # a row of its own for each run, around the segment's number
                "x": values,
                "y": [number + 0.7 * ((row + 0.5) / len(here) - 0.5) for number in range(len(names))],
                "error_x": _bars(values, *bars),
                "marker": _mark(at),
                "hovertemplate": "%{x:.4f}",
            }
        )
    layout = _layout(metric, height=170 + max(40, 14 * len(here)) * len(names))
    labels = [name.replace("_", " ") for name in names]
    layout["yaxis"] |= {"tickvals": list(range(len(names))), "ticktext": labels, "autorange": "reversed", "zeroline": False}
    return {"data": traces, "layout": layout}


def _mark(at: int) -> dict[str, Any]:
    """The mark of the page's run number `at`, the same in all plots."""
    return {"symbol": MARKS[at % len(MARKS)], "size": 8, "color": COLOURS[at % len(COLOURS)]}


def _bars(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    up = [high - value for value, high in zip(values, highs, strict=True)]
    down = [value - low for value, low in zip(values, lows, strict=True)]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 4}


def _layout(x_title: str, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 20, "r": 20, "t": 20, "b": 50},
        "xaxis": {"title": {"text": x_title}, "automargin": True},
        "yaxis": {"automargin": True},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hovermode": "closest",
        "dragmode": False,
    }
