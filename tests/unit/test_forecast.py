"""Forecasters: windows, scales, the three models against plain definitions, training that resumes, answers as frames."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import corsar
from corsar.api.forecasters import FORECASTERS
from corsar.data.series import read_series, time_marks
from corsar.errors import ArtifactError, ConfigError, CorsarError, DataError
from corsar.evaluate.forecast import RollingErrors
from corsar.models.autoformer import AutoformerNet, CircularConv
from corsar.series import Panel, SeriesBatch
from corsar.sources.ett import read_ett
from corsar.train.series import _Loop

SMALL: dict[str, dict[str, Any]] = {
    "autoformer": {"horizon": 6, "input_len": 16, "label_len": 8, "dim": 8, "heads": 2, "ff_dim": 16, "kernel": 5, "epochs": 2},
    "nlinear": {"horizon": 6, "input_len": 16, "epochs": 2},
    "seasonal_naive": {"horizon": 6, "season": 4},
}
STEPS = 120


def frame(series: int = 2, steps: int = STEPS, start: int = 0) -> pl.DataFrame:
    """Hourly waves of unlike height, with noise that only the step and the series decide."""
    time = np.arange(start, start + steps)
    hours = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 3, 1), "1h", eager=True)[time.tolist()]
    parts = []
    for one in range(series):
        y = 100 * one + (one + 1) * (np.sin(time / 4) + 0.1 * np.sin(time * 7.0 + one))
        parts.append(pl.DataFrame({"unique_id": f"s{one}", "ds": hours, "y": y}))
    return pl.concat(parts)


def small(name: str, **more: Any) -> Any:
    return FORECASTERS[name](**{**SMALL[name], "threads": 1, **more})


def epochs(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock measured."""
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "valid_s")} for line in told]


def test_windows_have_their_futures_in_the_asked_rows_and_their_pasts_in_the_group() -> None:
    panel = Panel(torch.arange(30.0)[:, None], torch.zeros(30, 4), torch.tensor([0, 10, 12, 30]))
    starts = panel.window_starts(3, 2, torch.tensor([6, 10, 12]), torch.tensor([10, 12, 30])).tolist()
    assert starts == [3, 4, 5, *range(12, 26)]
    batch = panel.batch(torch.tensor([3, 12]), 3, 2)
    assert batch.past_BLV[:, :, 0].tolist() == [[3, 4, 5], [12, 13, 14]]
    assert batch.future_BTV is not None
    assert batch.future_BTV[:, :, 0].tolist() == [[6, 7], [15, 16]]


def test_marks_are_the_published_ones() -> None:
    times = pl.Series([datetime(2016, 7, 1), datetime(2016, 12, 31, 23)])
    marks = time_marks(times)
    expected = [[-0.5, 4 / 6 - 0.5, -0.5, 182 / 365 - 0.5], [0.5, 5 / 6 - 0.5, 0.5, 0.5]]
    torch.testing.assert_close(marks, torch.tensor(expected))
    assert time_marks(pl.Series([1, 2])).tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("multivariate", [False, True])
def test_seasonal_naive_repeats_the_season_in_original_units(multivariate: bool) -> None:
    given = frame()
    told = small("seasonal_naive", multivariate=multivariate).fit(given).predict(h=10)
    for one in ("s0", "s1"):
        last = given.filter(pl.col("unique_id") == one)["y"].to_numpy()[-4:]
        found = told.filter(pl.col("unique_id") == one)
        np.testing.assert_allclose(found["y"].to_numpy(), np.resize(last, 10), rtol=1e-6)
        assert found["ds"].to_list() == frame(1, 10, STEPS)["ds"].to_list()


def test_season_is_that_of_the_spacing() -> None:
    for every, season in (("1h", 24), ("15m", 96), ("1d", 7), ("1w", 52), ("1mo", 12), ("3mo", 4), ("1y", 1), ("7h", 1)):
        times = pl.datetime_range(pl.datetime(2000, 1, 1), pl.datetime(2030, 1, 1), every, eager=True)[:120]
        given = pl.DataFrame({"ds": times, "unique_id": [1] * len(times), "y": [float(t % 96) for t in range(len(times))]})
        model = corsar.SeasonalNaive().fit(given)
        assert model.fitted.model.past_len == season, every
        assert model.predict(h=1)["ds"][0] == pl.Series([times[-1]]).dt.offset_by(every)[0]


def test_months_end_where_months_end() -> None:
    for first, told in (((2023, 1, 31), [29, 31, 30]), ((2023, 1, 15), [15, 15, 15])):
        times = pl.select(pl.date_range(pl.date(*first), pl.date(2024, 1, 31), "1mo", eager=False)).to_series()
        given = pl.DataFrame({"unique_id": "m", "ds": times, "y": [float(t) for t in range(13)]})
        answer = corsar.SeasonalNaive(season=1).fit(given).predict(h=3)
        assert answer["ds"].dtype == pl.Date
        assert answer["ds"].dt.day().to_list() == told


def test_nlinear_equals_its_definition() -> None:
    model = small("nlinear").fit(frame(1))
    past = frame(1)["y"].to_numpy()[-16:]
    mean, std = (float(one) for one in (model.fitted.scale.mean_GV, model.fitted.scale.std_GV))
    scaled = (past - mean) / std
    weight, bias = (one.detach().double().numpy() for one in model.fitted.model.map.parameters())
    expected = (weight @ (scaled - scaled[-1]) + bias + scaled[-1]) * std + mean
    np.testing.assert_allclose(model.predict()["y"].to_numpy(), expected, rtol=1e-4)


def test_autoformer_adds_the_trend_of_the_past_and_the_seasonal_rest() -> None:
    """With all maps at zero, what is left is the mean of the past: the running trend of the decoder's future."""
    config = AutoformerNet.Config(**{key: value for key, value in SMALL["autoformer"].items() if key != "epochs"})
    model = AutoformerNet(config, 2).eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    batch = SeriesBatch(torch.randn(3, 16, 2), torch.zeros(3, 16, 4), torch.zeros(3, 6, 4))
    torch.testing.assert_close(model(batch), batch.past_BLV.mean(1, keepdim=True).expand(-1, 6, -1))


def test_circular_convolution_equals_that_of_torch() -> None:
    ours, theirs = CircularConv(3, 5), torch.nn.Conv1d(3, 5, 3, padding=1, padding_mode="circular", bias=False)
    with torch.no_grad():
        ours.weight.copy_(theirs.weight.transpose(1, 2).flatten(1))
    x = torch.randn(2, 7, 3, requires_grad=True)
    outs = [ours(x), theirs(x.transpose(1, 2)).transpose(1, 2)]
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in outs))


@pytest.mark.parametrize("preset", ["corrected", "paper"])
def test_autoformer_gives_every_parameter_a_gradient(preset: str) -> None:
    model = small("autoformer", preset=preset).fit(frame(1), valid_size=0).fitted.model.train()
    batch = SeriesBatch(torch.randn(4, 16, 1), torch.rand(4, 16, 4), torch.rand(4, 6, 4))
    model(batch).square().sum().backward()
    assert [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()] == []


def test_autoformer_forecasts_do_not_depend_on_batch_mates_unless_published_training_does() -> None:
    for preset, same in (("corrected", True), ("paper", False)):
        model = small("autoformer", preset=preset, dropout=0.0).fit(frame(1), valid_size=0).fitted.model.train()
        batch = SeriesBatch(torch.randn(6, 16, 1), torch.rand(6, 16, 4), torch.rand(6, 6, 4))
        one = SeriesBatch(batch.past_BLV[:1], batch.past_marks_BLM[:1], batch.future_marks_BTM[:1])
        assert torch.allclose(model(one)[0], model(batch)[0], atol=1e-5) == same


@pytest.mark.parametrize("name", FORECASTERS)
@pytest.mark.parametrize("multivariate", [False, True])
def test_save_and_load_forecast_the_same(name: str, multivariate: bool, tmp_path: Path) -> None:
    model = small(name, multivariate=multivariate).fit(frame())
    model.save(tmp_path / "model")
    again = corsar.load(tmp_path / "model")
    assert repr(again) == repr(model)
    assert again.predict().equals(model.predict())
    assert again.predict(h=2).equals(model.predict().group_by("unique_id", maintain_order=True).head(2))
    assert not [file for file in (tmp_path / "model").iterdir() if file.suffix not in (".json", ".safetensors", ".parquet")]
    assert type(model)(**model.get_params()).get_params() == model.get_params()
    assert type(model).load(tmp_path / "model").get_params() == model.get_params()


def test_damaged_and_foreign_directories_are_told(tmp_path: Path) -> None:
    small("nlinear").fit(frame()).save(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"holds the model nlinear, not seasonal_naive; open it with corsar.load"):
        corsar.SeasonalNaive.load(tmp_path / "model")
    (tmp_path / "other").mkdir()
    with pytest.raises(ArtifactError, match="is no forecaster; choose another path"):
        small("nlinear").fit(frame()).save(tmp_path / "other")
    with pytest.raises(ArtifactError, match="holds no forecaster"):
        corsar.NLinear.load(tmp_path / "other")
    (tmp_path / "model" / "scale.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="is not the file that was written; copy it again, or fit again"):
        corsar.load(tmp_path / "model")


def test_pandas_comes_back_as_pandas_under_its_own_names() -> None:
    given = frame().to_pandas().rename(columns={"unique_id": "id", "ds": "time", "y": "load"})
    model = small("nlinear").fit(given, id_col="id", time_col="time", target_col="load")
    told = model.predict()
    assert isinstance(told, pd.DataFrame)
    assert list(told.columns) == ["id", "time", "load"]
    assert told["time"].iloc[0] == given["time"].iloc[-1] + pd.Timedelta("1h")
    assert isinstance(model.predict(frame=pl.from_pandas(given)), pl.DataFrame)


def test_newer_steps_are_forecast_with_the_scale_of_the_fit() -> None:
    model = small("nlinear").fit(frame())
    later = model.predict(frame=frame(steps=STEPS + 30)[::-1])
    assert later["ds"].min() == frame(1, 1, STEPS + 30)["ds"][0]
    alone = model.predict(frame=frame(steps=STEPS + 30).filter(pl.col("unique_id") == "s1"))
    np.testing.assert_allclose(alone["y"].to_numpy(), later.filter(pl.col("unique_id") == "s1")["y"].to_numpy(), rtol=1e-6)


def test_scale_comes_from_the_training_part_alone() -> None:
    given = frame(1)
    changed = given.with_columns(y=pl.when(pl.int_range(pl.len()) >= STEPS - 20).then(1e6).otherwise("y"))
    for one in (given, changed):
        scale = small("nlinear").fit(one, valid_size=20).fitted.scale
        np.testing.assert_allclose(float(scale.mean_GV), given["y"][: STEPS - 20].mean())
        np.testing.assert_allclose(float(scale.std_GV), given["y"][: STEPS - 20].std(ddof=0))


def test_no_window_of_training_sees_the_validation_part() -> None:
    told = small("nlinear", epochs=1)
    weights = []
    for high in (0.0, 1e3):
        given = frame(1).with_columns(y=pl.col("y") + high * (pl.int_range(pl.len()) >= STEPS - 20))
        weights.append(told.fit(given, valid_size=20).fitted.model.state_dict())
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("multivariate", [False, True])
def test_rolling_errors_equal_one_window_at_a_time(multivariate: bool) -> None:
    given, test_size = frame(), 23
    known = given.group_by("unique_id", maintain_order=True).head(STEPS - test_size)
    model = small("nlinear", multivariate=multivariate).fit(known)
    told = model.evaluate(given, test_size, block=6)
    squared, absolute, scaled = [], [], []
    std = dict(zip(("s0", "s1"), model.fitted.scale.std_GV.flatten().tolist(), strict=True))
    for end in range(STEPS - test_size, STEPS - 6 + 1):
        upto = given.group_by("unique_id", maintain_order=True).head(end)
        answer = model.predict(frame=upto).join(given, on=["unique_id", "ds"], how="left")
        error = (answer["y"] - answer["y_right"]).to_numpy()
        squared.append((error**2).mean())
        absolute.append(np.abs(error).mean())
        scaled.append(((error / answer["unique_id"].replace_strict(std).to_numpy()) ** 2).mean())
    assert told["windows"] == (test_size - 6 + 1) * (1 if multivariate else 2)
    for name, plain in (("mse_original", squared), ("mae_original", absolute), ("mse", scaled)):
        np.testing.assert_allclose(told[name]["value"], np.mean(plain), rtol=1e-4)
        assert told[name]["low"] <= told[name]["value"] <= told[name]["high"]
    by = [told["by_series"][one]["mse_original"] for one in ("s0", "s1")]
    np.testing.assert_allclose(np.mean(by), told["mse_original"]["value"], rtol=1e-6)


def test_blocks_end_with_their_series_and_intervals_cover_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    rows = np.concatenate([np.arange(5, 30), np.arange(40, 65)])
    errors = RollingErrors(values, values, values, values, rows, np.repeat([0, 1], 25))
    assert errors._blocks(10).tolist() == [0] * 10 + [1] * 10 + [2] * 5 + [3] * 10 + [4] * 10 + [5] * 5
    told = errors.summary(1)
    assert told["blocks"] == 50
    mean, half = values.mean(), 1.96 * values.std() / 50**0.5
    np.testing.assert_allclose([told["mse"]["low"], told["mse"]["high"]], [mean - half, mean + half], atol=0.06)
    better = RollingErrors(values - 1, values, values, values, rows, np.repeat([0, 1], 25))
    assert better.less(errors, "mse", 10) == pytest.approx({"value": 1.0, "low": 1.0, "high": 1.0})
    with pytest.raises(ValueError, match="unlike windows"):
        errors.less(RollingErrors(values, values, values, values, rows + 1, rows), "mse", 10)


@pytest.mark.parametrize("name", ["autoformer", "nlinear"])
def test_a_killed_fit_goes_on_to_the_same_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 20, "checkpoint_every": 2}  # 4 steps an epoch
    settings |= {"dropout": 0.1} if name == "autoformer" else {}
    whole = small(name, **settings).fit(frame(1), run_dir=tmp_path / "whole")
    step = _Loop._step
    for stop_at in (2, 4, 8):  # before there is a checkpoint, behind one inside an epoch, in the second epoch
        done: list[int] = []

        def killed(self: _Loop, starts: torch.Tensor, done: list[int] = done, stop_at: int = stop_at) -> float:
            done.append(1)
            if len(done) == stop_at:
                raise SystemExit("killed")
            return step(self, starts)

        run = tmp_path / f"run{stop_at}"
        monkeypatch.setattr(_Loop, "_step", killed)
        with pytest.raises(SystemExit):
            small(name, **settings).fit(frame(1), run_dir=run)
        monkeypatch.setattr(_Loop, "_step", step)
        resumed = small(name, **settings).fit(frame(1), run_dir=run, resume=True)
        for key, value in whole.fitted.model.state_dict().items():
            assert torch.equal(value, resumed.fitted.model.state_dict()[key]), key
        assert epochs(run) == epochs(tmp_path / "whole")
        assert resumed.predict().equals(corsar.load(run).predict())


def test_run_directories_are_not_mixed(tmp_path: Path) -> None:
    small("nlinear").fit(frame(), run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="is there already; go on with it by resume=True, or choose another run_dir"):
        small("nlinear").fit(frame(), run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="was started with seed = 0, not 1; resume it with the same"):
        small("nlinear", seed=1).fit(frame(), run_dir=tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="hash"):
        small("nlinear").fit(frame(start=1), run_dir=tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="name its run_dir"):
        small("nlinear").fit(frame(), resume=True)


def test_the_first_rate_is_held_as_long_as_told_and_in_the_published_code_for_two_epochs(tmp_path: Path) -> None:
    small("nlinear", epochs=5, learning_rate=0.1, rate_factor=0.5, rate_hold=3).fit(
        frame(), valid_size=0, run_dir=tmp_path / "run"
    )
    np.testing.assert_allclose([line["learning_rate"] for line in epochs(tmp_path / "run")], [0.1, 0.1, 0.1, 0.05, 0.025])
    assert corsar.Autoformer(preset="paper").get_params()["rate_hold"] == 2
    assert corsar.Autoformer().get_params()["rate_hold"] == 1


def test_rate_is_cut_every_epoch_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    told = small("nlinear", epochs=9, learning_rate=0.5, stop_patience=2, rate_factor=0.9)
    model = told.fit(frame(), run_dir=tmp_path / "run")
    lines = epochs(tmp_path / "run")
    np.testing.assert_allclose([line["learning_rate"] for line in lines], [0.5 * 0.9**n for n in range(len(lines))])
    best = [line["epoch"] for line in lines if line["best"]][-1]
    assert best == min(lines, key=lambda line: line["valid_mse"])["epoch"]
    assert len(lines) == min(9, best + 2)
    for key, value in load_file(tmp_path / "run" / "best.safetensors").items():
        assert torch.equal(value, model.fitted.model.state_dict()[key])


def test_training_learns_a_wave() -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=300)
    given = pl.DataFrame({"unique_id": "a", "ds": range(300), "y": np.sin(np.arange(300) * np.pi / 4) + noise})
    naive = corsar.SeasonalNaive(season=1, horizon=6).fit(given[:220]).evaluate(given, 80)["mse"]["value"]
    forms: tuple[tuple[str, dict[str, Any]], ...] = (
        ("nlinear", {}),
        ("autoformer", {"dropout": 0.0, "dim": 16}),
        ("autoformer", {"dropout": 0.0, "dim": 16, "preset": "paper"}),
    )
    for name, more in forms:
        told = {"input_len": 24, "epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "rate_factor": 0.9, **more}
        assert small(name, **told).fit(given[:220]).evaluate(given, 80)["mse"]["value"] < 0.1 * naive, name


def test_diverged_training_says_what_to_lower() -> None:
    with pytest.raises(CorsarError, match=r"lower learning_rate or set clip_norm=1.0, and fit again"):
        small("nlinear", learning_rate=1e30).fit(frame())
    assert small("nlinear", clip_norm=0.1, learning_rate=1e-3).fit(frame()).predict()["y"].is_finite().all()


HALF = pl.int_range(pl.len()) != 30
NAN = frame().with_columns(y=pl.when(HALF).then("y").otherwise(float("nan")))
FAULTS: dict[str, tuple[pl.DataFrame, str]] = {
    "short": (frame(steps=20), r"'s0' has 20 steps and 22 are needed; give longer series, leave it out, or lower input_len"),
    "twice": (pl.concat([frame(), frame()[:1]]), r"series 's0' has 2024-01-01 00:00:00 twice or more; keep one row a time"),
    "gap": (frame().filter(HALF), r"'s0' is not evenly spaced: 2024-01-02 07:00:00 comes 2:00:00 after .* fill the gaps"),
    "nan": (NAN, r"1 values of 'y' .* in row 31 .*; fill them"),
    "null": (frame().with_columns(y=pl.when(HALF).then("y")), r"values of 'y' are missing or not finite"),
    "no_time": (frame().with_columns(ds=pl.when(HALF).then("ds")), r"values of 'ds' are missing"),
    "text_time": (frame().with_columns(pl.col("ds").cast(pl.String)), r"'ds' is of type String; make it times, .*to_datetime"),
    "text_value": (frame().with_columns(pl.col("y").cast(pl.String)), r"'y' is of type String; make it numbers"),
    "no_column": (frame().drop("y"), r"no column 'y' among unique_id, ds; name it 'y', or tell its name by target_col="),
    "more": (frame().with_columns(heat=1.0), r"the column 'heat' is neither .*; drop it, or stack it"),
    "empty": (frame()[:0], r"the frame of series is empty; give one row a step"),
    "one_step": (frame(steps=1), r"no series has two steps"),
    "unlike": (pl.concat([frame(1), frame()[STEPS:].gather_every(2)]), r"'s1' is not evenly spaced"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_series_are_told_with_the_remedy(name: str) -> None:
    given, sentence = FAULTS[name]
    with pytest.raises(DataError, match=sentence) as told:
        small("nlinear").fit(given)
    assert "\n" not in str(told.value)


def test_unlike_times_do_not_go_together() -> None:
    given = pl.concat([frame(1), frame(2, start=1).filter(pl.col("unique_id") == "s1")])
    assert small("nlinear").fit(given).predict()["ds"].n_unique() == 7
    with pytest.raises(DataError, match=r"'s1' has 120 steps from 2024-01-01 01:00:00 and series 's0' .*; cut all"):
        small("nlinear", multivariate=True).fit(given)


def test_wrong_questions_are_told_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="this NLinear is not fitted; call fit"):
        small("nlinear").predict()
    model = small("nlinear").fit(frame())
    for answer, sentence in (
        (lambda: model.predict(h=7), "h=7 is more than the 6 steps that it was trained for; fit it with horizon=7"),
        (lambda: model.predict(h=0), "give 1 or more"),
        (lambda: small("nlinear").fit(frame(), valid_size=3), "valid_size=3 holds no forecast of 6 steps"),
        (lambda: model.evaluate(frame(), 3), "test_size=3 holds no forecast of 6 steps"),
        (lambda: corsar.NLinear(input_lne=3), "unknown setting 'input_lne' of the model nlinear; did you mean 'input_len'"),
        (lambda: corsar.NLinear(preset="paper"), "unknown setting 'preset'"),
        (lambda: corsar.Autoformer(preset="papr"), "unknown preset 'papr'; did you mean 'paper'"),
        (lambda: corsar.Autoformer(dim=0), "model.dim = 0 will not do"),
        (
            lambda: corsar.Autoformer(input_len=10, label_len=20),
            "it should be no more than input_len = 10; lower it",
        ),
        (lambda: corsar.Autoformer(dim=10, heads=3), "model.heads = 3 will not do: it should divide dim = 10; choose another"),
        (lambda: corsar.NLinear(multivariate=2), "give True or False"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            answer()
    with pytest.raises(DataError, match="series 's2' was not there when this was fitted"):
        model.predict(frame=frame(3))
    with pytest.raises(DataError, match="has 2024-01-01 02:00:00 where 2024-01-01 01:00:00 should follow"):
        model.predict(frame=frame().gather_every(2))
    with pytest.raises(DataError, match="has 10 steps and 16 are needed"):
        model.predict(frame=frame(steps=10))
    with pytest.raises(DataError, match="series 's1' is missing, a variable of every forecast"):
        small("nlinear", multivariate=True).fit(frame()).predict(frame=frame(1))


def test_a_table_gives_back_its_frame() -> None:
    for multivariate in (False, True):
        table = read_series(frame()[::-1], multivariate=multivariate)
        told = table.frame().sort("unique_id")
        assert told.equals(frame())


@pytest.mark.real
def test_ett_has_its_published_naive_error(shared_data: Path) -> None:
    """ETTh1, horizon 96: repeating the last day gives MSE .512 and MAE .433 over all 2,785 test windows."""
    series = read_ett(shared_data / "ett" / "ETTh1.csv")
    assert series["unique_id"].unique(maintain_order=True).to_list() == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    month = 30 * 24
    test = series.group_by("unique_id", maintain_order=True).head(20 * month)
    train = series.group_by("unique_id", maintain_order=True).head(16 * month)
    model = corsar.SeasonalNaive(horizon=96, multivariate=True).fit(train, valid_size=4 * month)
    told = model.evaluate(test, 4 * month)
    assert told["windows"] == 2785
    assert told["mse"]["value"] == pytest.approx(0.512, abs=1e-3)
    assert told["mae"]["value"] == pytest.approx(0.433, abs=1e-3)
