"""A long frame of series (`unique_id, ds, y`) as a panel: checked, in time order, with the marks of every time.

Shape suffixes as in series.py: N steps, G groups, V variables, M marks.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from corsar.errors import DataError
from corsar.series import Panel

ID, TIME, VALUE = "unique_id", "ds", "y"
MARKS = 4


@dataclass(frozen=True)
class Spacing:
    """How far two steps of a series are apart: a fixed time, a number of months, or a whole number."""

    every: str  # as polars writes it: "3600000000us", "1mo"; "1i" for times that are whole numbers
    month_end: bool = False  # each step is the last day of its month

    @property
    def season(self) -> int:
        """Steps of the season that comes to mind: a day of hours, a week of days, a year of weeks, months or quarters."""
        told = {"1mo": 12, "3mo": 4, _micros(days=7): 52, _micros(days=1): 7, _micros(hours=1): 24}
        for minutes in (1, 5, 10, 15, 20, 30):
            told[_micros(minutes=minutes)] = 24 * 60 // minutes
        return told.get(self.every, 1)

    def after(self, last: pl.Series, steps: int) -> pl.DataFrame:
        """The `steps` times after each of the last ones: a frame of `place` (of the last time) and `ds`, in that order."""
        frame = pl.DataFrame({"place": pl.int_range(len(last), eager=True), TIME: last})
        frame = frame.join(pl.DataFrame({"step": pl.int_range(1, steps + 1, eager=True)}), how="cross")
        if self.every.endswith("i"):
            time = (pl.col(TIME) + pl.col("step") * int(self.every[:-1])).cast(last.dtype)
        elif self.every.endswith("us"):
            micros = pl.duration(microseconds=pl.col("step") * int(self.every[:-2]))
            time = (pl.col(TIME) + micros).cast(last.dtype)
        else:
            time = pl.col(TIME).dt.offset_by(pl.format("{}mo", pl.col("step") * int(self.every[:-2])))
            time = time.dt.month_end() if self.month_end else time
        return frame.select("place", time.alias(TIME))


@dataclass(frozen=True)
class SeriesTable:
    """Series of one spacing, checked: the panel in original units (float64), and how its rows are called."""

    ids: pl.Series  # of each series, in the order in which they first come
    panel: Panel
    spacing: Spacing
    times: pl.Series  # of each row of the panel
    multivariate: bool  # one group whose variables are the series; else one group a series

    def ends(self) -> pl.Series:
        """The last time of each group."""
        return self.times.gather((self.panel.offsets[1:] - 1).numpy())

    def frame(self, values_GTV: Tensor | None = None, times: pl.Series | None = None) -> pl.DataFrame:
        """A long frame, series by series: of the table's own values, or of as many of each group at other times.

        Args:
            values_GTV: Values of each group.
            times: Their times, group by group.
        """
        values_NV = self.panel.values_NV if values_GTV is None else values_GTV.flatten(0, 1)
        told = self.times if times is None else times
        if self.multivariate:
            lengths = torch.full((len(self.ids),), len(values_NV))
            told = pl.concat([told] * len(self.ids))
        elif values_GTV is None:
            lengths = self.panel.offsets.diff()
        else:
            lengths = torch.full((len(values_GTV),), values_GTV.shape[1])
        series = torch.repeat_interleave(torch.arange(len(lengths)), lengths).numpy()
        return pl.DataFrame({ID: self.ids.gather(series), TIME: told, VALUE: values_NV.T.reshape(-1).numpy()})


def read_series(frame: pl.DataFrame, *, multivariate: bool = False, spacing: Spacing | None = None) -> SeriesTable:
    """The series of a long frame.

    Args:
        frame: `unique_id`, `ds` (Date, Datetime or whole numbers) and `y`, one row a step, in any order.
        multivariate: All series are variables of one group, and need the same times.
        spacing: What the steps must be apart; None takes what they are.

    Raises:
        DataError: A column is missing or of another type; a value is missing; a time comes twice; steps are not evenly
            spaced; or `multivariate` and the times are not the same.
    """
    frame = _checked(frame)
    ids = frame[ID].unique(maintain_order=True)
    order = pl.DataFrame({ID: ids, "place": pl.int_range(len(ids), eager=True)})
    frame = frame.join(order, on=ID, how="left", maintain_order="left").sort("place", TIME)
    _check_twice(frame)
    if spacing is None:
        spacing = _spacing(frame)
    else:
        _check_spacing(frame, spacing)
    lengths = frame.group_by("place", maintain_order=True).len()["len"].to_torch()
    values_N = frame[VALUE].to_torch()
    times = frame[TIME]
    if multivariate:
        _check_same_times(frame, lengths)
        values_NV = values_N.view(len(ids), -1).T.contiguous()
        times = times.head(len(values_NV))
        offsets = torch.tensor([0, len(values_NV)])
    else:
        values_NV = values_N[:, None]
        offsets = torch.nn.functional.pad(lengths.long().cumsum(0), (1, 0))
    return SeriesTable(ids, Panel(values_NV, time_marks(times), offsets), spacing, times, multivariate)


def time_marks(times: pl.Series) -> Tensor:
    """Hour, weekday, day of the month and day of the year, each scaled to -.5 … .5, [N, 4] float32; 0 for whole numbers."""
    if times.dtype.is_integer():
        return torch.zeros(len(times), MARKS)
    time = times.cast(pl.Datetime("us", getattr(times.dtype, "time_zone", None)))
    parts = (
        (time.dt.hour().cast(pl.Float64) + time.dt.minute() / 60) / 23,
        (time.dt.weekday() - 1) / 6,
        (time.dt.day() - 1) / 30,
        (time.dt.ordinal_day() - 1) / 365,
    )
    return torch.stack([(part - 0.5).to_torch() for part in parts], 1).float()


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    """The three columns, `y` in float64."""
    for name in (ID, TIME, VALUE):
        if name not in frame.columns:
            raise DataError(
                f"there is no column '{name}' among {', '.join(frame.columns)}; name it '{name}', or tell its name by "
                f"{dict(zip((ID, TIME, VALUE), ('id_col', 'time_col', 'target_col'), strict=True))[name]}="
            )
    more = [name for name in frame.columns if name not in (ID, TIME, VALUE)]
    if more:
        raise DataError(
            f"the column '{more[0]}' is neither {ID}, {TIME} nor {VALUE}, and models read no others; drop it, or stack it as a "
            "series of its own (frame.unpivot) and set multivariate=True"
        )
    if frame.is_empty():
        raise DataError("the frame of series is empty; give one row a step")
    kind = frame[TIME].dtype
    if not (kind.is_integer() or kind in (pl.Date, pl.Datetime)):
        raise DataError(f"the column '{TIME}' is of type {kind}; make it times, for text by str.to_datetime, or whole numbers")
    if not (frame[VALUE].dtype.is_numeric() or frame[VALUE].dtype == pl.Boolean):
        raise DataError(f"the column '{VALUE}' is of type {frame[VALUE].dtype}; make it numbers, as by cast(pl.Float64)")
    frame = frame.with_columns(pl.col(VALUE).cast(pl.Float64))
    for name in (ID, TIME, VALUE):
        is_bad = frame[name].is_null() if name != VALUE else ~frame[name].is_finite().fill_null(False)
        if is_bad.any():
            row = is_bad.arg_max() or 0
            raise DataError(
                f"{int(is_bad.sum())} values of '{name}' are missing or not finite, the first in row {row + 1} (series "
                f"{frame[ID][row]!r}, {frame[TIME][row]}); fill them, as by interpolate(), or drop the series"
            )
    return frame


def _check_twice(frame: pl.DataFrame) -> None:
    twice = frame.filter(pl.struct(ID, TIME).is_duplicated())
    if len(twice):
        raise DataError(
            f"series {twice[ID][0]!r} has {twice[TIME][0]} twice or more; keep one row a time, as by "
            f"group_by('{ID}', '{TIME}').mean()"
        )


def _spacing(frame: pl.DataFrame) -> Spacing:
    """The spacing of all series.

    Raises:
        DataError: They have none in common, or it cannot be known.
    """
    is_next = pl.col("place") == pl.col("place").shift()
    gaps = frame.with_columns(gap=pl.when(is_next).then(pl.col(TIME).diff())).drop_nulls("gap")
    if gaps.is_empty():
        raise DataError("no series has two steps, so that their spacing is unknown; give longer series")
    usual: Any = gaps["gap"].mode().min()
    if (gaps["gap"] == usual).all():
        if isinstance(usual, datetime.timedelta):
            return Spacing(f"{usual // datetime.timedelta(microseconds=1)}us")
        return Spacing(f"{usual}i")
    if not frame[TIME].dtype.is_integer() and (found := _months(frame, is_next)):
        return found
    odd = gaps.row(int((gaps["gap"] != usual).arg_max() or 0), named=True)
    raise DataError(
        f"series {odd[ID]!r} is not evenly spaced: {odd[TIME]} comes {odd['gap']} after the step before, where {usual} is "
        "usual; fill the gaps, as by upsample() and interpolate(), or fit series of unlike spacing apart"
    )


def _check_spacing(frame: pl.DataFrame, spacing: Spacing) -> None:
    due = spacing.after(frame[TIME], 1)[TIME].shift()
    odd = frame.with_columns(due=due).filter((pl.col("place") == pl.col("place").shift()) & (pl.col(TIME) != pl.col("due")))
    if len(odd):
        raise DataError(
            f"series {odd[ID][0]!r} has {odd[TIME][0]} where {odd['due'][0]} should follow, as in the series that were fitted; "
            "fill the gaps, as by upsample() and interpolate(), or fit again"
        )


def _months(frame: pl.DataFrame, is_next: pl.Expr) -> Spacing | None:
    """The spacing in months, where there is one: the same day of the month each time, or always the last."""
    time = pl.col(TIME)
    month = (time.dt.year().cast(pl.Int64) * 12 + time.dt.month()).alias("month")
    clock = time.dt.time() if frame[TIME].dtype == pl.Datetime else pl.lit(0)
    told = frame.select(month, "place", day=time.dt.day(), end=time == time.dt.month_end(), clock=clock)
    gaps = told.with_columns(gap=pl.when(is_next).then(pl.col("month").diff()))["gap"].drop_nulls().unique()
    if len(gaps) != 1 or told["clock"].n_unique() > 1:
        return None
    if told["end"].all():
        return Spacing(f"{gaps[0]}mo", month_end=True)
    return Spacing(f"{gaps[0]}mo") if told["day"].n_unique() == 1 else None


def _check_same_times(frame: pl.DataFrame, lengths: Tensor) -> None:
    spans = frame.group_by("place", maintain_order=True).agg(pl.col(ID).first(), pl.col(TIME).min().alias("first"), pl.len())
    odd = spans.filter((pl.col("first") != spans["first"][0]) | (pl.col("len") != spans["len"][0]))
    if len(odd):
        raise DataError(
            f"series {odd[ID][0]!r} has {odd['len'][0]} steps from {odd['first'][0]} and series {spans[ID][0]!r} has "
            f"{spans['len'][0]} from {spans['first'][0]}; cut all series to the same times, or leave multivariate=True out"
        )


def _micros(**told: int) -> str:
    return f"{datetime.timedelta(**told) // datetime.timedelta(microseconds=1)}us"
