"""Points of curves: from frames, files, padded arrays and EROS; nothing of a catalogue comes along."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from curve_kit import two_kinds, wave, write_eros

from corsar.errors import DataError
from corsar.sources.curves import COLUMNS, read_curves, read_eros, read_padded

FRAME = pl.DataFrame(
    {
        "object": ["s2", "s1", "s2", "s1", "s2"],
        "time": [3.0, 0.5, 1.0, 0.25, 2.0],
        "value": [1.0, 2.0, 3.0, 4.0, float("nan")],
        "band": ["r", "b", "b", "b", "r"],
    }
)


def test_curves_come_in_order_of_object_and_time_and_rows_without_a_value_are_counted() -> None:
    points = read_curves(FRAME)
    assert points.table.columns == list(COLUMNS)
    assert points.table.rows() == [("s2", 1, 3, "b"), ("s2", 3, 1, "r"), ("s1", 0.25, 4, "b"), ("s1", 0.5, 2, "b")]
    assert points.objects.to_list() == ["s2", "s1"]
    assert points.bands == ["b", "r"]
    assert [(one["stage"], one["rows"]) for one in points.funnel] == [("read", 5), ("rejected", 1), ("kept", 4)]


def test_pandas_and_files_give_the_same_points(tmp_path: Path) -> None:
    expected = read_curves(FRAME).table
    assert read_curves(pd.DataFrame(FRAME.to_dict(as_series=False))).table.equals(expected)
    FRAME.with_columns(pl.col("value").fill_nan(None)).write_csv(tmp_path / "curves.csv")
    FRAME.write_parquet(tmp_path / "curves.parquet")
    assert read_curves(tmp_path / "curves.csv").table.equals(expected)
    assert read_curves(str(tmp_path / "curves.parquet")).table.equals(expected)


def test_columns_may_have_other_names_and_the_band_may_be_missing() -> None:
    named = FRAME.rename({"object": "star", "value": "mag"}).drop("band")
    points = read_curves(named, {"object": "star", "value": "mag"})
    assert points.bands == ["0"]
    assert points.table["value"].to_list() == [3, 1, 4, 2]


def test_dates_become_days() -> None:
    dated = FRAME.with_columns(time=pl.Series([f"1970-01-0{n} 12:00:00" for n in (4, 1, 2, 1, 3)]).str.to_datetime())
    assert read_curves(dated).table["time"].to_list() == [1.5, 3.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("change", "columns", "sentence"),
    [
        ({"value": None}, None, "no column 'value' among"),
        ({}, {"value": "mag"}, "no column 'mag'"),
        ({}, {"values": "value"}, "columns names 'values', which curves do not have"),
        ({"value": ["a", "b", "c", "d", "e"]}, None, "column 'value' must hold numbers"),
        ({"time": [1.0, None, 2.0, 3.0, 4.0]}, None, "column 'time' is empty in 1 rows"),
        ({"time": [1.0, np.inf, 2.0, 3.0, 4.0]}, None, "column 'time' holds infinite"),
        ({"object": ["a", "b", None, "b", "a"]}, None, "column 'object' is empty"),
        ({"object": ["a", "a", "a", "a", "gone"]}, None, "object 'gone' has no value at all"),
        ({"value": [None] * 5}, None, "has no value at all"),
    ],
)
def test_wrong_curves_are_one_sentence(change: dict[str, Any], columns: dict[str, str] | None, sentence: str) -> None:
    frame = FRAME.drop([name for name, told in change.items() if told is None])
    frame = frame.with_columns(**{name: pl.Series(told, strict=False) for name, told in change.items() if told is not None})
    if change.get("value") == [None] * 5:
        frame = frame.with_columns(value=pl.lit(None, pl.Float64))
    with pytest.raises(DataError, match=sentence) as caught:
        read_curves(frame, columns)
    assert "\n" not in str(caught.value)


def test_no_point_is_an_error() -> None:
    with pytest.raises(DataError, match="there is no point"):
        read_curves(FRAME.clear())


def test_padding_is_left_out_at_the_end_and_in_between() -> None:
    phase = np.array([[0.1, -1, 0.3, -1], [0.5, 0.2, 0.7, 0.9]])
    values = np.arange(8.0).reshape(2, 4)
    points = read_padded(values, phase)
    assert points.table.rows() == [
        *((0, 0.1, 0, "0"), (0, 0.3, 2, "0")),
        *((1, 0.2, 5, "0"), (1, 0.5, 4, "0"), (1, 0.7, 6, "0"), (1, 0.9, 7, "0")),
    ]
    both = read_padded(np.stack([values, values + 10], -1), phase, bands=["b", "r"])
    assert both.bands == ["b", "r"]
    assert both.table.filter(band="b").drop("band").equals(points.table.drop("band"))
    half = np.stack([values, np.where(values == 2, np.nan, values)], -1)
    assert read_padded(half, phase).table.height == both.table.height - 1


@pytest.mark.parametrize(
    ("values", "phase", "bands", "sentence"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), None, "give"),
        (np.zeros(3), np.zeros(3), None, "give"),
        (np.zeros((2, 3)), np.array([[0, 1, 2], [-1, -1, -1]]), None, "row 1 is padding alone"),
        (np.zeros((2, 3, 2)), np.zeros((2, 3)), ["b"], "2 channels for 1 bands"),
    ],
)
def test_wrong_arrays_are_one_sentence(values: Any, phase: Any, bands: list[str] | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_padded(values, phase, bands)


def test_catalogue_never_reaches_the_points(tmp_path: Path) -> None:
    curves = pl.concat([wave(f"s{n}", 3.0 + n, nights=30, seed=n) for n in range(4)])
    types = {f"s{n}": float(1 + n % 2) for n in range(4)}
    points, labels, catalogue = read_eros(write_eros(tmp_path / "plain", curves, types))
    canary = [1.0 + 1000 * n for n in range(4)]
    planted = write_eros(tmp_path / "canary", curves, types, period=canary, quality=canary, asc_d=canary, canary=canary)
    told, same_labels, other = read_eros(planted)
    assert told.table.equals(points.table)
    assert told.table.columns == list(COLUMNS)
    assert told.table.equals(read_curves(curves).table)
    assert same_labels.equals(labels)
    assert labels.rows() == [("s0", 1), ("s1", 2), ("s2", 1), ("s3", 2)]
    assert other["period"].to_list() == canary
    assert not catalogue.equals(other)
    plain, _ = two_kinds(2)
    with_canary = plain.with_columns(period=pl.lit(3.3), quality=pl.lit(1), label=pl.col("object"))
    assert read_curves(with_canary).table.equals(read_curves(plain).table)


def test_missing_column_of_eros_is_named(tmp_path: Path) -> None:
    folder = write_eros(tmp_path / "eros", wave("s", 3.0), {"s": 1.0})
    (folder / "train.csv").write_text("Unnamed: 0,type\ns,1.0\n")
    with pytest.raises(DataError, match="no column 'period'"):
        read_eros(folder)


@pytest.mark.real
def test_eros_is_read_whole(shared_data: Path) -> None:
    points, labels, catalogue = read_eros(shared_data / "eros_variable_stars")
    assert points.table.height == 688_513
    assert labels["label"].value_counts(sort=True).rows() == [(3, 1777), (2, 604), (1, 339), (4, 192)]
    assert catalogue.filter(object="135_9613").row(0) == ("135_9613", 2.35495, 7.0)
    assert points.bands == ["b", "r"]
    sizes = points.table.group_by("object", "band").len()["len"]
    assert (sizes.min(), sizes.max()) == (11, 125)
