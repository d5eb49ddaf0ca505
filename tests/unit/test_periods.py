"""Periods: the lag spectrum equals its definition, planted periods are found, and the page needs no network."""

from __future__ import annotations

import builtins
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from curve_kit import wave

import corsar
from corsar.data.curves import make_grid
from corsar.errors import ConfigError
from corsar.evaluate.periods import CUT, lag_spectrum


def plain_correlation(values: np.ndarray, seen: np.ndarray) -> tuple[list[float], list[int]]:
    """Pair by pair."""
    length, bands = values.shape
    scaled = np.zeros_like(values)
    for c in range(bands):
        own = values[seen[:, c], c]
        if len(own):
            scaled[:, c] = np.clip((values[:, c] - own.mean()) / (own.std() or 1), -CUT, CUT)
    found, pairs = [], []
    for lag in range(length):
        top = first = second = 0.0
        count = 0
        for c in range(bands):
            for t in range(length - lag):
                if seen[t, c] and seen[t + lag, c]:
                    top += scaled[t, c] * scaled[t + lag, c]
                    first += scaled[t, c] ** 2
                    second += scaled[t + lag, c] ** 2
                    count += 1
        found.append(top / math.sqrt(first * second) if first * second > 1e-9 else math.nan)
        pairs.append(count)
    return found, pairs


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.integers(1, 3), st.floats(0.2, 1), st.integers(0, 1000))
def test_lag_spectrum_equals_the_sum_over_pairs(length: int, bands: int, share: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    values, seen = 15 + draw.standard_normal((length, bands)), draw.random((length, bands)) < share
    spectrum = lag_spectrum(values * seen, seen)
    correlation, pairs = plain_correlation(values, seen)
    np.testing.assert_array_equal(spectrum.pairs, pairs)
    np.testing.assert_allclose(spectrum.correlation, correlation, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.floats(2.3, 40), st.floats(0.5, 1), st.integers(0, 1000))
def test_planted_period_is_found(period: float, seen: float, seed: int) -> None:
    curve = wave("s", period, nights=400, seen=seen, noise=0.02, seed=seed)  # ten periods or more: of five, half seen, too few
    found = lag_spectrum(*make_grid(curve, ["b", "r"], 1.0).curve(0)[1:])
    assert found.period == pytest.approx(period, rel=0.01)
    assert found.strength > 0.5


def test_period_is_the_smallest_near_maximal_lag_and_never_lag_zero() -> None:
    time = np.arange(480)
    pulses = np.where(time % 12 == 0, 5.0, 0.0)[:, None]  # lags 12, 24, 36, … correlate alike
    spectrum = lag_spectrum(pulses, np.ones_like(pulses, dtype=bool))
    assert spectrum.correlation[0] == pytest.approx(1)
    assert spectrum.correlation[[12, 24, 36]] == pytest.approx([1, 1, 1])
    assert spectrum.period == pytest.approx(12, rel=0.005)
    # every second pulse is weaker: half the period correlates less, and only a low bar takes it
    weak = np.where(time % 24 == 0, 5.0, np.where(time % 24 == 12, 2.0, 0.0))[:, None]
    seen = np.ones_like(weak, dtype=bool)
    assert lag_spectrum(weak, seen, near=0.95).period == pytest.approx(24, rel=0.01)
    assert lag_spectrum(weak, seen, near=0.5).period == pytest.approx(12, rel=0.005)


def test_gaps_are_neither_data_nor_zeros() -> None:
    curve = wave("s", 17.0, nights=300, seen=0.9)
    broken = curve.filter(~pl.col("time").is_between(90, 180))
    for one in (curve, broken):
        grid = make_grid(one, ["b", "r"], 1.0)
        assert lag_spectrum(*grid.curve(0)[1:]).period == pytest.approx(17, rel=0.01)
    # filling the gap with the mean, as the naive form does, drags the correlation at a period down
    _, values, seen = make_grid(broken, ["b", "r"], 1.0).curve(0)
    filled = np.where(seen, values, (values * seen).sum(0) / seen.sum(0))
    masked, naive = lag_spectrum(values, seen), lag_spectrum(filled, np.ones_like(seen))
    assert masked.correlation[17] > naive.correlation[17] + 0.05


@pytest.mark.parametrize("value", [np.zeros(50), np.arange(50.0), np.zeros(1), np.arange(3.0)])
def test_curve_without_a_period_has_none(value: np.ndarray) -> None:
    star = pl.DataFrame({"object": "s", "time": np.arange(len(value)), "value": value})
    found = corsar.find_periods(star)
    if len(value) < 50 or not value.any():
        assert found.row(0) == ("s", None, None)
    else:
        assert found["period"][0] is None or found["period"][0] > 20  # a line comes back once, if at all


def test_find_periods_answers_in_the_frame_that_was_given() -> None:
    curves = pl.concat([wave("x", 5.5, seed=1), wave("a", 11.0, seed=2)])
    found = corsar.find_periods(curves)
    assert found.columns == ["object", "period", "strength"]
    assert found["object"].to_list() == ["x", "a"]
    np.testing.assert_allclose(found["period"].to_numpy(), [5.5, 11.0], rtol=0.01)
    other = corsar.find_periods(
        pd.DataFrame(curves.rename({"value": "mag"}).to_dict(as_series=False)), columns={"value": "mag"}
    )
    assert isinstance(other, pd.DataFrame)
    np.testing.assert_allclose(other["period"], found["period"])
    wide = corsar.find_periods(curves.with_columns(pl.col("time") * 3), bin_days=3.0)
    np.testing.assert_allclose(wide["period"].to_numpy(), 3 * found["period"].to_numpy(), rtol=0.01)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"bin_days": 0}, "bin_days = 0 will not do"),
        ({"bin_days": math.nan}, "bin_days = nan will not do"),
        ({"bin_days": 1e-7}, "over 100,000 bins"),
        ({"near": 0}, "near = 0 will not do"),
    ],
)
def test_wrong_settings_are_one_sentence(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        corsar.find_periods(wave("s", 5.0), **told)


def test_page_is_offline_and_holds_both_plots(tmp_path: Path) -> None:
    curves = pl.concat([wave("<star> 1", 5.5, seed=1), wave("b", 11.0, seed=2)])
    told = corsar.plot_period(curves, tmp_path / "page.html", object="<star> 1")
    assert told["period"] == pytest.approx(5.5, rel=0.01)
    assert told["strength"] > 0.5
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "<star> 1" not in page
    assert "Content-Security-Policy" in page
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)\s*=\s*["\']?(https?:)?//', page)
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert set(figures) == {"spectrum", "folded"}
    assert 0 not in figures["spectrum"]["data"][0]["x"]  # lag 0 is left out
    assert [trace["name"] for trace in figures["folded"]["data"]] == ["band b", "band r"]
    phase = np.array(figures["folded"]["data"][0]["x"])
    value = np.array(figures["folded"]["data"][0]["y"])
    assert phase.min() >= 0
    assert phase.max() < 2
    # folded by its period, neighbours in phase are alike
    order = phase.argsort()
    assert np.abs(np.diff(value[order])).mean() < 0.1


def test_page_of_a_curve_without_a_period_says_so(tmp_path: Path) -> None:
    flat = pl.DataFrame({"object": 7, "time": range(20), "value": [1.0] * 20})
    told = corsar.plot_period(flat, tmp_path / "page.html")
    assert (told["object"], told["period"], told["strength"]) == (7, None, None)
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "no peak stands out" in page
    assert 'id="folded"' not in page


def test_page_needs_a_name_a_file_and_plotly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = pl.concat([wave("a", 5.5), wave("b", 11.0)])
    for told, sentence in (({}, "there are 2 objects"), ({"object": "c"}, "there is no object 'c'")):
        with pytest.raises(ConfigError, match=sentence):
            corsar.plot_period(curves, tmp_path / "page.html", **told)
    with pytest.raises(ConfigError, match="is a directory"):
        corsar.plot_period(curves, tmp_path, object="a")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"corsar\[report\]"):
        corsar.plot_period(curves, tmp_path / "page.html", object="a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_periods_of_cepheids_are_found(shared_data: Path) -> None:
    from corsar.sources.curves import read_eros

    points, labels, catalogue = read_eros(shared_data / "eros_variable_stars")
    told = labels.join(catalogue, on="object").with_columns(period=pl.col("period") / pl.col("divisor"))
    told = told.filter((pl.col("label") == 2) & (pl.col("period") > 2)).head(100)
    found = corsar.find_periods(points.table.filter(pl.col("object").is_in(told["object"].to_list())))
    both = found.join(told.select("object", true="period"), on="object")
    assert ((both["period"] / both["true"] - 1).abs() < 0.01).mean() > 0.8
