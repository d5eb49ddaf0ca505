"""The period of a curve as a page that needs no network: the lag spectrum, and the curve folded by what was found in it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corsar.evaluate.figures import COLOURS, MARKS, Figure
from corsar.evaluate.html import details, esc, figure, frame, table
from corsar.evaluate.page import plotly_library
from corsar.evaluate.periods import LagSpectrum
from corsar.evaluate.report import write_text

SHOWN_LAGS = 2_000  # of the spectrum, in the page
NONE = "–"


@dataclass(frozen=True)
class FoundPeriod:
    """A curve and what was found in it; times in days."""

    name: str
    points: pl.DataFrame  # time, value, band
    spectrum: LagSpectrum
    bin_days: float

    @property
    def days(self) -> float:
        """The period in days, NaN where none was found."""
        return self.spectrum.period * self.bin_days


def write_period_page(found: FoundPeriod, out: Path) -> Path:
    """Write the page and give back where it is.

    Raises:
        ConfigError: plotly is missing.
        OutputError: the page cannot be written.
    """
    library, is_found = plotly_library(), bool(np.isfinite(found.days))
    told = (
        f"{found.days:.6g} days, where the correlation is {found.spectrum.strength:.2f}" if is_found else "no peak stands out"
    )
    rows = [
        ["period", f"{found.days:.6g}" if is_found else NONE],
        ["correlation at the peak", f"{found.spectrum.strength:.3f}" if is_found else NONE],
        ["width of a bin", f"{found.bin_days:g}"],
        ["shortest period that can be found", f"{2 * found.bin_days:g}"],
        ["measurements", f"{found.points.height:,}"],
    ]
    plots = {"spectrum": lag_figure(found)}
    body = [
        f"<p>Found period: {esc(told)}.</p>",
        table("Days, unless a line says otherwise", ["what", "value"], rows),
        figure("spectrum", "Lag spectrum: the curve's correlation with itself by lag, gaps left out"),
    ]
    if is_found:
        plots["folded"] = folded_figure(found)
        body.append(figure("folded", "The curve folded by the found period, drawn twice; brighter magnitudes on top"))
    lags = [(lag, value, count) for lag, (value, count) in enumerate(_known(found)) if count]
    cells = [[f"{lag * found.bin_days:g}", f"{value:.4f}", f"{count:.0f}"] for lag, value, count in lags[:SHOWN_LAGS]]
    body.append(details("All lags", table("Correlation by lag", ["lag in days", "correlation", "pairs of bins"], cells)))
    body.append(f"<p>Written by corsar {esc(importlib.metadata.version('corsar'))}.</p>")
    write_text(out, frame(f"Period of {found.name}", "\n".join(body), plots, library))
    return out


def lag_figure(found: FoundPeriod) -> Figure:
    """The lag spectrum without lag 0, each lag as clear as it has pairs; the period and its multiples are marked."""
    known = [(lag, value, count) for lag, (value, count) in enumerate(_known(found)) if lag and count][:SHOWN_LAGS]
    lag_days = [lag * found.bin_days for lag, _, _ in known]
    most = max((count for _, _, count in known), default=1.0)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": lag_days,
        "y": [value for _, value, _ in known],
        "marker": {"size": 5, "color": COLOURS[1], "opacity": [0.15 + 0.85 * count / most for _, _, count in known]},
        "customdata": [count for _, _, count in known],
        "hovertemplate": "lag %{x:g} days: %{y:.3f} of %{customdata:.0f} pairs<extra></extra>",
    }
    layout = _layout("lag in days", "correlation", {"range": [-1.05, 1.05]})
    layout["yaxis"]["zeroline"] = True
    if np.isfinite(found.days):
        shown = max(10 * found.days, 40 * found.bin_days)
        layout["xaxis"]["range"] = [0, min(shown, max(lag_days))]
        layout["shapes"] = [
            {"type": "line", "x0": k * found.days, "x1": k * found.days, "y0": 0, "y1": 1, "yref": "paper",
             "line": {"color": COLOURS[0], "width": 2 if k == 1 else 1, "dash": "solid" if k == 1 else "dot"}}
            for k in range(1, 11)
        ]  # fmt: skip
    return {"data": [trace], "layout": layout | {"showlegend": False}}


def folded_figure(found: FoundPeriod) -> Figure:
    """Values by phase, two turns, a trace a band; the axis of values points down, as magnitudes are drawn."""
    traces = []
    for at, band in enumerate(sorted(found.points["band"].unique())):
        own = found.points.filter(pl.col("band") == band)
        phase = (own["time"].to_numpy() / found.days) % 1
        value = own["value"].to_list()
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"band {band}",
                "x": [*phase.tolist(), *(phase + 1).tolist()],
                "y": [*value, *value],
                "marker": {"size": 6, "color": COLOURS[at % len(COLOURS)], "symbol": MARKS[at % len(MARKS)]},
                "hovertemplate": "phase %{x:.3f}: %{y:g}",
            }
        )
    layout = _layout("phase", "value", {"autorange": "reversed"})
    return {"data": traces, "layout": layout}


def _known(found: FoundPeriod) -> list[tuple[float, float]]:
    """Correlation and pairs of each lag; no pairs where the correlation is not known."""
    known = np.isfinite(found.spectrum.correlation)
    pairs = np.where(known, found.spectrum.pairs, 0).tolist()
    return list(zip(np.where(known, found.spectrum.correlation, 0).tolist(), pairs, strict=True))


def _layout(x_title: str, y_title: str, y_axis: dict[str, Any]) -> dict[str, Any]:
    return {
        "height": 380,
        "margin": {"l": 20, "r": 20, "t": 20, "b": 50},
        "xaxis": {"title": {"text": x_title}, "automargin": True},
        "yaxis": {"title": {"text": y_title}, "automargin": True, **y_axis},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hovermode": "closest",
        "dragmode": False,
    }
