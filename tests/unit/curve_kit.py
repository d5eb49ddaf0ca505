"""Curves for tests: waves seen at irregular times, and files in the form of EROS."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl


def wave(name: Any, period: float, *, nights: int = 200, seen: float = 0.7, noise: float = 0.0, seed: int = 0) -> pl.DataFrame:
    """A star of two bands that shines as a sine, seen about once a night on some nights."""
    draw, parts = np.random.default_rng(seed), []
    for band, level in (("b", 18.0), ("r", 17.0)):
        night = np.flatnonzero(draw.random(nights) < seen)
        time = night + 0.1 + 0.2 * draw.random(len(night))
        value = level + 0.5 * np.sin(2 * np.pi * time / period) + noise * draw.standard_normal(len(time))
        parts.append(pl.DataFrame({"object": [name] * len(time), "time": time, "value": value, "band": band}))
    return pl.concat(parts)


def two_kinds(objects: int = 24, **told: Any) -> tuple[pl.DataFrame, dict[int, str]]:
    """Fast and slow waves in turn, and what each is."""
    curves = pl.concat([wave(n, 40.0 if n % 2 else 3.3, seed=n, **{"nights": 40, **told}) for n in range(objects)])
    return curves, {n: "slow" if n % 2 else "fast" for n in range(objects)}


def write_eros(folder: Path, curves: pl.DataFrame, types: dict[Any, float], **catalogue: list[float]) -> Path:
    """The two files of the RAMP kit, with columns that no model may see."""
    folder.mkdir()
    rows = []
    for name in types:
        told: dict[str, Any] = {"": name}
        for band in ("b", "r"):
            own = curves.filter(object=name, band=band).sort("time")
            told[f"time_points_{band}"] = json.dumps(own["time"].to_list())
            told[f"light_points_{band}"] = json.dumps(own["value"].to_list())
            told[f"bkg_points_{band}"] = json.dumps([types[name]] * own.height)
        rows.append(told)
    with gzip.open(folder / "train_varlength_features.csv.gz", "wb") as file:
        pl.DataFrame(rows).write_csv(file)  # type: ignore[call-overload]
    usual = {"period": [1.0] * len(types), "div_period": [1.0] * len(types), "quality": [0.0] * len(types)}
    pl.DataFrame({"Unnamed: 0": list(types), "type": list(types.values()), **usual, **catalogue}).write_csv(
        folder / "train.csv"
    )
    return folder
