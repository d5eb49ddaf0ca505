"""Light curves and other irregular series: a long table of points, one row a measurement.

Canonical columns: `object` (an id), `time` (a number in any unit, days for stars; ISO times and dates become days since 1970),
`value` (a number) and `band` (a text; all "0" where there is one). Nothing else is taken along, so that a column of a catalogue
(a period, a position, a quality flag) cannot become an input by accident.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from corsar.errors import DataError
from corsar.sources.columns import must_have
from corsar.sources.files import Scan, open_table

if TYPE_CHECKING:
    from corsar.sources.files import Frame

COLUMNS = ("object", "time", "value", "band")
DAY_MS = 86_400_000
EROS_BANDS = ("b", "r")


@dataclass(frozen=True)
class Points:
    """Checked points, objects in their order of first appearance and times rising within each; and how they came about."""

    table: pl.DataFrame  # COLUMNS
    funnel: list[dict[str, Any]]  # {"table", "stage", "rows", "reason"}

    @property
    def objects(self) -> pl.Series:
        """The ids, one a curve, in the order of the curves."""
        return self.table["object"].unique(maintain_order=True)

    @property
    def bands(self) -> list[str]:
        """The bands that occur, sorted."""
        return sorted(self.table["band"].unique())


def read_curves(given: Frame | Path | str, columns: Mapping[str, str] | None = None) -> Points:
    """The points of a frame of polars or pandas, or of a file (CSV, Parquet), one row a measurement.

    Rows without a value (empty, NaN or infinite) are left out and counted; every object must keep one.

    Args:
        columns: canonical name -> yours, where they differ, as in {"value": "mag"}.

    Raises:
        DataError: a column is missing or of the wrong type, a time is missing, or an object has no value at all.
    """
    told = dict(columns or {})
    for name in (name for name in told if name not in COLUMNS):
        raise DataError(f"columns names '{name}', which curves do not have; name {', '.join(COLUMNS)}.")
    scan = open_table(given, "the frame of curves")
    used = [name for name in COLUMNS if name in told or name != "band" or name in scan.columns]
    for name in used:
        must_have(scan, told.get(name, name), f'it, or say columns={{"{name}": YOURS}}')
    return _points(scan.read(scan.frame.select(**{name: told.get(name, name) for name in used})), scan)


def read_padded(values: ArrayLike, phase: ArrayLike, bands: Sequence[str] | None = None) -> Points:
    """The points of padded arrays; objects are the rows' numbers, and the phase is the time.

    Args:
        values: [B, L], or [B, L, C] with a channel a band; NaN where a band has no value.
        phase: [B, L]; -1 marks padding, at the end or in between.
        bands: Names of the channels; "0", "1", … by default.

    Raises:
        DataError: the shapes do not fit, or a row is padding alone.
    """
    values_BLC, phase_BL = np.asarray(values, dtype=np.float64), np.asarray(phase, dtype=np.float64)
    values_BLC = values_BLC[..., None] if values_BLC.ndim == 2 else values_BLC
    if values_BLC.ndim != 3 or values_BLC.shape[:2] != phase_BL.shape:
        raise DataError(f"values are {values_BLC.shape} and phase {phase_BL.shape}; give [B, L, C] or [B, L], and [B, L].")
    names = [str(one) for one in (range(values_BLC.shape[2]) if bands is None else bands)]
    if len(names) != values_BLC.shape[2]:
        raise DataError(f"values have {values_BLC.shape[2]} channels for {len(names)} bands; name one a channel.")
    row, place, channel = ((phase_BL != -1)[..., None] & np.isfinite(values_BLC)).nonzero()
    empty = np.setdiff1d(np.arange(len(phase_BL)), row)
    if len(empty):
        raise DataError(f"row {empty[0]} is padding alone (phase -1 or NaN throughout); leave such rows out.")
    table = {"object": row, "time": phase_BL[row, place], "value": values_BLC[row, place, channel]}
    frame = pl.DataFrame(table).with_columns(band=pl.Series(np.asarray(names)[channel], dtype=pl.String))
    return _points(frame, Scan("phase", frame.lazy(), frame.columns))


def read_eros(folder: Path | str) -> tuple[Points, pl.DataFrame, pl.DataFrame]:
    """EROS variable stars as the RAMP kit keeps them: the points, the labels and the catalogue.

    Of the curves' file, times and magnitudes of both bands alone are read; of the stars' file, the class (`object, label`) and,
    apart from it, what found periods are compared with (`object, period, divisor`: most entries of the catalogue are whole
    multiples of the period that folds the curve, and its column div_period says which). Positions, quality, fluxes and the
    rest are not read.

    Raises:
        DataError: a file or a column is missing.
    """
    curves, stars = open_table(Path(folder) / "train_varlength_features.csv.gz", ""), open_table(Path(folder) / "train.csv", "")
    names = [f"{what}_points_{band}" for band in EROS_BANDS for what in ("time", "light")]
    for scan, name in [*((curves, name) for name in names), *((stars, name) for name in ("type", "period", "div_period"))]:
        must_have(scan, name, "the file")
    raw = curves.read(curves.frame.select(pl.col(curves.columns[0]).alias("object"), *names))
    parts = []
    for band in EROS_BANDS:
        time, light = (pl.col(f"{what}_points_{band}").str.json_decode(pl.List(pl.Float64)) for what in ("time", "light"))
        lists = raw.select("object", time=time, value=light, band=pl.lit(band))
        parts.append(lists.explode("time", "value", empty_as_null=False))
    order = raw.select("object").with_row_index("order")
    table = pl.concat(parts).join(order, on="object", maintain_order="left").sort("order", maintain_order=True)
    told = stars.read(
        stars.frame.select(
            pl.col(stars.columns[0]).alias("object"),
            pl.col("type").cast(pl.Float64).cast(pl.Int64).alias("label"),
            pl.col("period").cast(pl.Float64),
            pl.col("div_period").cast(pl.Float64).alias("divisor"),
        )
    )
    points = _points(table.select(COLUMNS), curves)
    told = points.objects.to_frame().join(told, on="object", maintain_order="left", how="left")
    return points, told.select("object", "label"), told.select("object", "period", "divisor")


def _points(table: pl.DataFrame, scan: Scan) -> Points:
    """The table with checked types, in order, without rows that hold no value."""
    if "band" not in table.columns:
        table = table.with_columns(band=pl.lit("0"))
    table = table.with_columns(_numbers(table["time"], scan), _numbers(table["value"], scan), pl.col("band").cast(pl.String))
    for name in ("object", "time", "band"):
        missing = table[name].null_count()
        if missing:
            raise DataError(f"{scan.file}: column '{name}' is empty in {missing} rows; fill or remove them.")
    if not table["time"].is_finite().all():
        raise DataError(f"{scan.file}: column 'time' holds infinite or missing times; fill or remove them.")
    kept = table.filter(pl.col("value").is_finite())
    lost = table.join(kept, on="object", how="anti")["object"]
    if len(lost):
        raise DataError(f"{scan.file}: object {lost[0]!r} has no value at all; leave such objects out.")
    if kept.is_empty():
        raise DataError(f"{scan.file}: there is no point in it; give one row a measurement.")
    order = kept.select(pl.col("object").unique(maintain_order=True)).with_row_index("order")
    ordered = kept.join(order, on="object", maintain_order="left").sort("order", "time", "band", maintain_order=True)
    funnel = [{"table": "points", "stage": "read", "rows": table.height, "reason": ""}]
    if kept.height < table.height:
        funnel.append({"table": "points", "stage": "rejected", "rows": table.height - kept.height, "reason": "no value"})
    funnel.append({"table": "points", "stage": "kept", "rows": kept.height, "reason": ""})
    return Points(ordered.select(COLUMNS), funnel)


def _numbers(series: pl.Series, scan: Scan) -> pl.Series:
    """Numbers as Float64, NaN as missing; times of a calendar as days since 1970."""
    if isinstance(series.dtype, pl.Datetime | pl.Date) and series.name == "time":
        return series.cast(pl.Datetime("ms")).dt.epoch("ms") / DAY_MS
    if series.dtype == pl.String and scan.is_text:
        series = pl.select(pl.when(series.str.strip_chars() != "").then(series.str.strip_chars())).to_series()
    numbers = series.cast(pl.Float64, strict=False) if series.dtype.is_numeric() or scan.is_text else None
    if numbers is None or numbers.null_count() > series.null_count():
        raise DataError(f"{scan.file}: column '{series.name}' must hold numbers, but is {series.dtype}; correct it.")
    return numbers.fill_nan(None)
