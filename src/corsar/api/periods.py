"""The periods of irregular curves: found, and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from corsar.api.estimator import to_pandas
from corsar.data.curves import make_grid
from corsar.errors import ConfigError
from corsar.evaluate.period_page import FoundPeriod, write_period_page
from corsar.evaluate.periods import NEAR, lag_spectrum
from corsar.sources.curves import Points, read_curves
from corsar.sources.files import is_pandas

if TYPE_CHECKING:
    import pandas as pd

    Answer = pl.DataFrame | pd.DataFrame


def find_periods(curves: Any, *, bin_days: float = 1.0, near: float = NEAR, columns: Mapping[str, str] | None = None) -> Answer:
    """The period of each object: a frame of object, period and strength, missing where a curve shows none.

    Values are averaged in bins of time, and the binned curve's masked, normalised auto-correlation gives a lag spectrum, whose
    smallest near-maximal peak (lag 0 left out) is the period; `evaluate/periods.py` has the formulas and their source.

    Args:
        curves: A frame of polars or pandas, or a file, with columns `object, time, value` and, where there are several, `band`.
        bin_days: Width of a bin in the unit of `time`. Periods under two bins cannot be found; finer bins leave fewer pairs
            a lag, and none where all measurements stand at one hour of the night.
        near: The first peak that reaches this share of the highest is the period.
        columns: canonical name -> yours, where they differ, as in {"value": "mag"}.

    Raises:
        DataError: The curves are not what they should be.
        ConfigError: `bin_days` or `near` is out of range.

    Example:
        >>> import corsar, math, polars as pl
        >>> time = [night + 0.3 * (night % 7) / 7 for night in range(200) if night % 11 < 8]
        >>> star = pl.DataFrame({"object": "star", "time": time, "value": [math.sin(2 * math.pi * t / 6.4) for t in time]})
        >>> corsar.find_periods(star)["period"].round(1).to_list()
        [6.4]
    """
    points = read_curves(curves, columns)
    found = _find(points, bin_days, near)
    frame = pl.DataFrame(
        {
            "object": points.objects,
            "period": [one.days for one in found],
            "strength": [one.spectrum.strength for one in found],
        }
    ).with_columns(pl.col("period", "strength").fill_nan(None))
    return to_pandas(frame) if is_pandas(curves) else frame


def plot_period(
    curves: Any,
    out: Path | str,
    *,
    object: Any = None,
    bin_days: float = 1.0,
    near: float = NEAR,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write a page of one object's lag spectrum and its folded curve: {"page", "object", "period", "strength"}.

    The page is one HTML file that needs no network; it takes plotly, which `pip install 'corsar[report]'` brings. `object` is
    needed where there are several; the other arguments are those of `find_periods`.

    Raises:
        DataError: The curves are not what they should be.
        ConfigError: The object is not named or not there, plotly is missing, or `out` is a directory.
        OutputError: The page cannot be written.

    Example:
        >>> import corsar, math, pathlib, polars as pl, tempfile
        >>> star = pl.DataFrame({"object": "star", "time": range(99), "value": [math.sin(t) for t in range(99)]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     told = corsar.plot_period(star, folder + "/star.html")
        ...     "lag" in pathlib.Path(told["page"]).read_text(encoding="utf-8")
        True
        >>> round(told["period"], 2)
        6.28
    """
    if Path(out).is_dir():
        raise ConfigError(f"{out} is a directory; name a file in it, as in {Path(out) / 'period.html'}")
    points = read_curves(curves, columns)
    names = points.objects.to_list()
    if object is None and len(names) > 1:
        raise ConfigError(f"there are {len(names)} objects; name one, as in object={names[0]!r}")
    name = names[0] if object is None else object
    if name not in names:
        raise ConfigError(f"there is no object {name!r}; name one that is there, as in object={names[0]!r}")
    (found,) = _find(Points(points.table.filter(pl.col("object") == name), []), bin_days, near)
    page = write_period_page(found, Path(out))
    period, strength = (float(one) if np.isfinite(one) else None for one in (found.days, found.spectrum.strength))
    return {"page": str(page), "object": name, "period": period, "strength": strength}


def _find(points: Points, bin_days: float, near: float) -> list[FoundPeriod]:
    if not 0 < near <= 1:
        raise ConfigError(f"near = {near} will not do; give a share of the highest peak, more than 0 and at most 1")
    grid = make_grid(points.table, points.bands, bin_days)
    parts = points.table.partition_by("object", maintain_order=True)
    return [
        FoundPeriod(str(part["object"][0]), part, lag_spectrum(*grid.curve(row)[1:], near), bin_days)
        for row, part in enumerate(parts)
    ]
