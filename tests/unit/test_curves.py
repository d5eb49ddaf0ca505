"""Classifying curves: places and batches equal their definitions, padding changes nothing, and the estimator keeps its word."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from curve_kit import two_kinds, wave

import corsar
from corsar.curves import CurveBatch
from corsar.data.curves import CurveSet, Scaling, make_grid, scaled
from corsar.errors import ArtifactError, ConfigError, DataError
from corsar.models.curves import CurveNet
from corsar.nn.autocorrelation import AutoCorrelation
from corsar.sources.curves import read_curves
from corsar.train.curves import CurveTraining, held_out, score_curves, train_curves

SMALL: dict[str, Any] = {"dim": 8, "layers": 1, "epochs": 2, "batch_size": 8, "threads": 1, "seed": 1}
MIXERS = ("autocorrelation", "attention")


def plain_bins(curve: pl.DataFrame, band: str, width: float) -> dict[int, float]:
    """Mean of each bin, measurement by measurement."""
    found: dict[int, list[float]] = {}
    for time, value in curve.filter(band=band).select("time", "value").iter_rows():
        found.setdefault(int(np.floor(time / width)), []).append(value)
    return {at: sum(values) / len(values) for at, values in found.items()}


def some_set(bin_days: float | None = None, empty_bins: Any = "zero") -> CurveSet:
    curves = pl.concat([wave(n, 5.0, nights=5 + 7 * n, seed=n) for n in range(5)])
    grid = make_grid(read_curves(curves).table, ["b", "r"], bin_days, empty_bins)
    return scaled(grid, Scaling.of(grid, ["b", "r"]))


def net(mixer: str, **told: Any) -> CurveNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CurveNet(CurveNet.Config(dim=8, mixer=mixer, dropout=0, **told), 5, 7, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("empty_bins", ["zero", "skip"])
@pytest.mark.parametrize("width", [1.0, 2.5])
def test_bins_hold_the_mean_of_what_was_measured_in_them(width: float, empty_bins: Any) -> None:
    curves = pl.concat([wave("a", 5.0, nights=30, seed=1), wave("b", 5.0, nights=12, seed=2)])
    curves = curves.with_columns(time=pl.col("time") * 0.8 + 700)
    grid = make_grid(read_curves(curves).table, ["b", "r"], width, empty_bins)
    for row, name in enumerate("ab"):
        time, values, seen = grid.curve(row)
        bins = np.floor(time / width).astype(int)
        told = [plain_bins(curves.filter(object=name), band, width) for band in ("b", "r")]
        known = sorted({at for one in told for at in one})
        assert bins.tolist() == (known if empty_bins == "skip" else list(range(known[0], known[-1] + 1)))
        for channel, means in enumerate(told):
            assert seen[:, channel].tolist() == [at in means for at in bins]
            np.testing.assert_allclose(values[:, channel], [means.get(at, 0) for at in bins])


def test_without_bins_each_time_is_a_place() -> None:
    rows = [("s", 1.0, 5.0, "b"), ("s", 1.0, 7.0, "b"), ("s", 1.0, 2.0, "r"), ("s", 4.0, 3.0, "r"), ("t", 1.0, 9.0, "b")]
    grid = make_grid(pl.DataFrame(rows, ["object", "time", "value", "band"], orient="row"), ["b", "r"])
    assert grid.offsets.tolist() == [0, 2, 3]
    assert grid.time_P.tolist() == [1, 4, 1]
    assert grid.values_PC.tolist() == [[6, 2], [0, 3], [9, 0]]
    assert grid.seen_PC.tolist() == [[True, True], [False, True], [True, False]]


def test_curves_are_scaled_one_by_one_and_padding_is_zero() -> None:
    curves = some_set()
    batch = curves.batch(torch.tensor([4, 0]))
    assert batch.is_real_BL.sum(1).tolist() == [int(curves.lengths[4]), int(curves.lengths[0])]
    for one in (batch.values_BLC, batch.time_BL[..., None]):
        assert not one[~batch.is_real_BL].any()
    values, seen = batch.values_BLC[0, :, :2], batch.values_BLC[0, :, 2:4].bool()
    for channel in range(2):
        own = values[:, channel][seen[:, channel]]
        assert own.mean().abs() < 1e-5
        assert own.std(correction=0) == pytest.approx(1, abs=1e-5)
    wide = curves.batch(torch.tensor([4, 0]), pad_to=100)
    assert wide.values_BLC.shape == (2, 100, 5)
    torch.testing.assert_close(wide.values_BLC[:, : batch.values_BLC.shape[1]], batch.values_BLC)
    assert curves.context_NK.mean(0).abs().max() < 1e-5
    # a shift and a stretch of a curve change its context alone
    frame = wave("s", 5.0, nights=40)
    grids = [make_grid(one, ["b", "r"]) for one in (frame, frame.with_columns(pl.col("value") * 3 - 50))]
    one, other = (scaled(grid, Scaling.of(grids[0], ["b", "r"])) for grid in grids)
    torch.testing.assert_close(one.values_PC, other.values_PC, atol=1e-5, rtol=0)
    assert not torch.equal(one.context_NK, other.context_NK)


def test_layer_takes_padded_curves_by_their_phase() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 1810, 1, generator=generator)
    phase = torch.rand(32, 1810, generator=generator)
    phase[torch.rand(32, 1810, generator=generator) < 0.3] = -1
    phase[:, 1500:] = -1
    layer, is_real = AutoCorrelation(1), phase != -1
    out = layer(x, x, x, is_real=is_real)
    assert out.shape == (32, 1810, 1)
    assert not out[~is_real].any()
    alone = x[3, is_real[3]][None]
    torch.testing.assert_close(out[3, is_real[3]][None], layer(alone, alone, alone), atol=1e-5, rtol=1e-5)
    changed = torch.where(is_real[..., None], x, 99.0)
    torch.testing.assert_close(layer(changed, changed, changed, is_real=is_real), out)
    assert not torch.allclose(layer(x, x, x)[3, is_real[3]], out[3, is_real[3]], atol=1e-3)  # the naive form


@pytest.mark.parametrize("mixer", MIXERS)
def test_padding_and_batch_mates_change_nothing_forward_and_backward(mixer: str) -> None:
    curves, model = some_set(), net(mixer)
    rows = torch.arange(5)
    alone = [copy.deepcopy(model) for _ in range(2)]
    together = alone[0](curves.batch(rows, pad_to=64))
    one_by_one = torch.cat([alone[1](curves.batch(row[None])) for row in rows])
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=1e-5)
    together.square().sum().backward()
    one_by_one.square().sum().backward()
    for (name, first), second in zip(alone[0].named_parameters(), alone[1].parameters(), strict=True):
        assert first.grad is not None, name
        torch.testing.assert_close(first.grad, second.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mixer", MIXERS)
def test_gaps_change_nothing_wherever_they_stand(mixer: str) -> None:
    batch, model = some_set().batch(torch.arange(5)), net(mixer)
    rows, places, channels = batch.values_BLC.shape
    at = torch.stack(
        [torch.randperm(2 * places, generator=torch.Generator().manual_seed(n))[:places].sort().values for n in range(5)]
    )
    spread = CurveBatch(
        torch.full((rows, 2 * places, channels), 7.0).scatter(1, at[..., None].expand(-1, -1, channels), batch.values_BLC),
        torch.zeros(rows, 2 * places, dtype=torch.bool).scatter(1, at, batch.is_real_BL),
        torch.full((rows, 2 * places), 7.0).scatter(1, at, batch.time_BL),
        batch.context_BK,
    )
    torch.testing.assert_close(model(spread), model(batch), atol=1e-5, rtol=1e-5)
    encoded = model.encode(spread)
    torch.testing.assert_close(encoded[spread.is_real_BL], model.encode(batch)[batch.is_real_BL], atol=1e-5, rtol=1e-5)


def test_without_lengths_padding_enters() -> None:
    curves, model = some_set(), net("autocorrelation", lengths=False)
    near, far = (model(curves.batch(torch.arange(5), pad_to=width)) for width in (50, 64))
    assert not torch.allclose(near, far, atol=1e-4)


@pytest.mark.parametrize("mixer", MIXERS)
def test_long_curves_of_one_channel_fit(mixer: str) -> None:
    model = CurveNet(CurveNet.Config(dim=8, layers=1, mixer=mixer), num_channels=1, num_context=0, num_classes=4)  # type: ignore[arg-type]
    phase = torch.rand(4, 2500)
    phase[:2, 1000:1300] = -1
    batch = CurveBatch(torch.randn(4, 2500, 1), phase != -1, phase, torch.zeros(4, 0))
    logits = model(batch)
    assert logits.shape == (4, 4)
    assert logits.isfinite().all()


def test_held_out_part_takes_its_share_of_each_class() -> None:
    label = torch.tensor([0] * 20 + [1] * 5 + [2] * 2)
    kept, held = held_out(label, 0.2, 3)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(27))
    assert label[held].bincount().tolist() == [4, 1, 1]
    assert not torch.equal(held, held_out(label, 0.2, 4)[1])


def test_best_epoch_is_kept_and_the_global_generator_is_left_alone() -> None:
    curves, label = some_set(), torch.tensor([0, 1, 0, 1, 2])
    before = torch.get_rng_state()
    settings = CurveTraining(epochs=6, batch_size=2, learning_rate=0.05, patience=6, valid_share=0.4, threads=1)
    model, log = train_curves(lambda: net("autocorrelation"), curves, label, settings)
    assert torch.equal(before, torch.get_rng_state())
    _, held = held_out(label, 0.4, 0)
    found = torch.nn.functional.cross_entropy(score_curves(model, curves, held), label[held]).item()
    assert found == pytest.approx(min(line["valid_loss"] for line in log), rel=1e-4)


@pytest.mark.parametrize("mixer", MIXERS)
def test_classifier_learns_fast_from_slow(mixer: str) -> None:
    curves, labels = two_kinds(48)
    model = corsar.CurveClassifier(**{**SMALL, "mixer": mixer, "epochs": 25, "learning_rate": 0.01, "dim": 16})
    model.fit(curves, labels)
    fresh, truth = two_kinds(20, nights=45)
    found = model.predict(fresh)
    assert sum(truth[name] == label for name, label in found.iter_rows()) >= 18


def test_answers_are_frames_of_the_kind_that_was_given() -> None:
    curves, labels = two_kinds(12)
    model = corsar.CurveClassifier(**SMALL).fit(curves, labels)
    found, shares = model.predict(curves), model.predict_proba(curves)
    assert model.classes_ == ["fast", "slow"]
    assert found.columns == ["object", "label"]
    assert shares.columns == ["object", "fast", "slow"]
    assert found["object"].to_list() == list(range(12))
    np.testing.assert_allclose(shares["fast"] + shares["slow"], 1)
    likely = shares.select(pl.when(pl.col("fast") >= pl.col("slow")).then(pl.lit("fast")).otherwise(pl.lit("slow")))
    assert likely.to_series().to_list() == found["label"].to_list()
    other = model.predict_proba(pd.DataFrame(curves.to_dict(as_series=False)))
    assert isinstance(other, pd.DataFrame)
    np.testing.assert_allclose(other["fast"], shares["fast"], atol=1e-6)
    # alone or among others, in whatever order: the same
    one = model.predict_proba(curves.filter(object=7).reverse())
    np.testing.assert_allclose(one["fast"].to_numpy(), shares.filter(object=7)["fast"].to_numpy(), atol=1e-6)
    assert [set(line) for line in model.epochs_] == [{"loss", "valid_loss", "valid_accuracy"}] * 2


def test_columns_of_a_catalogue_change_nothing() -> None:
    curves, labels = two_kinds(12)
    canary = curves.with_columns(period=pl.col("object") % 2, quality=pl.col("object"), label=pl.col("object") % 2)
    plain, planted = (corsar.CurveClassifier(**SMALL).fit(one, labels) for one in (curves, canary))
    assert planted.predict_proba(canary).equals(plain.predict_proba(curves))


def test_labels_come_in_several_forms() -> None:
    curves, labels = two_kinds(12)
    frame = pl.DataFrame({"object": list(labels), "label": list(labels.values()), "more": 0}).reverse()
    forms = [
        labels,
        frame,
        pd.DataFrame(frame.to_dict(as_series=False)),
        list(labels.values()),
        np.array(list(labels.values())),
    ]
    forms.append(pd.Series(list(labels.values())))
    found = [corsar.CurveClassifier(**SMALL).fit(curves, one).predict_proba(curves) for one in forms]
    assert all(one.equals(found[0]) for one in found)
    numbers = corsar.CurveClassifier(**SMALL).fit(curves, np.array([n % 2 + 3 for n in range(12)]))
    assert numbers.classes_ == [3, 4]
    assert numbers.predict(curves)["label"].dtype == pl.Int64


def test_padded_arrays_are_curves_too() -> None:
    draw = np.random.default_rng(0)
    phase = np.sort(draw.random((12, 30)), axis=1)
    values = np.stack([np.sin(2 * np.pi * phase[n] * (1 + 3 * (n % 2))) for n in range(12)])[..., None]
    phase[:, 25:] = -1
    phase[draw.random(phase.shape) < 0.1] = -1
    model = corsar.CurveClassifier(**SMALL).fit(values, [n % 2 for n in range(12)], phase=phase)
    found = model.predict(values, phase=phase)
    assert found["object"].to_list() == list(range(12))
    wide = np.pad(values, ((0, 0), (0, 9), (0, 0)), constant_values=99), np.pad(phase, ((0, 0), (0, 9)), constant_values=-1)
    assert model.predict_proba(wide[0], phase=wide[1]).equals(model.predict_proba(values, phase=phase))


@pytest.mark.parametrize("told", [{}, {"bin_days": 1.0}, {"bin_days": 1.0, "empty_bins": "skip", "mixer": "attention"}])
def test_saved_classifier_answers_the_same(told: dict[str, Any], tmp_path: Path) -> None:
    curves, labels = two_kinds(12)
    model = corsar.CurveClassifier(**SMALL, **told).fit(curves, labels)
    model.save(tmp_path / "model")
    model.save(tmp_path / "model")  # in place of the one that is there
    again = corsar.CurveClassifier.load(tmp_path / "model")
    assert again.predict_proba(curves).equals(model.predict_proba(curves))
    assert again.get_params() == model.get_params()
    assert again.classes_ == model.classes_
    assert repr(again) == repr(model)
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    curves, labels = two_kinds(12)
    corsar.CurveClassifier(**SMALL).fit(curves, labels).save(tmp_path / "model")
    whole = (tmp_path / "model").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "format").write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    (tmp_path / "keys").write_bytes(whole.replace(b"epochs", b"epoxhs"))
    for name in ("cut", "empty", "format", "keys", "nowhere"):
        with pytest.raises(ArtifactError, match="save") as caught:
            corsar.CurveClassifier.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_same_seed_gives_the_same_and_another_gives_another() -> None:
    curves, labels = two_kinds(12)
    first, again, other = (corsar.CurveClassifier(**{**SMALL, "seed": n}).fit(curves, labels) for n in (1, 1, 2))
    assert first.predict_proba(curves).equals(again.predict_proba(curves))
    assert not first.predict_proba(curves).equals(other.predict_proba(curves))
    copied = corsar.CurveClassifier(**first.get_params())
    assert copied.get_params() == first.get_params()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dmi": 8}, "unknown setting 'dmi' of CurveClassifier; did you mean 'dim'"),
        ({"dim": 9}, "dim = 9 is no multiple of heads = 2"),
        ({"mixer": "lstm"}, "model.mixer = 'lstm' will not do"),
        ({"bin_days": -1.0}, r"data\.bin_days = -1.0 will not do"),
        ({"epochs": 0}, r"train\.epochs = 0 will not do"),
    ],
)
def test_wrong_setting_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        corsar.CurveClassifier(**settings)


@pytest.mark.parametrize(
    ("labels", "kind", "sentence"),
    [
        ({0: "a"}, DataError, "object 1 has no label"),
        (["a", "b"], DataError, "there are 2 labels for 12 objects"),
        ([0.5] * 12, DataError, "whole numbers or texts"),
        (["a", 1] * 6, DataError, "all of one kind"),
        ("fast", DataError, "labels are a str"),
        (pl.DataFrame({"object": [1]}), DataError, "no column 'label'"),
        ([1] * 12, ConfigError, "two classes or more"),
        ([1] * 11 + [2], ConfigError, "two curves or more of each"),
    ],
)
def test_wrong_labels_are_one_sentence(labels: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        corsar.CurveClassifier(**SMALL).fit(two_kinds(12)[0], labels)


def test_unknown_band_and_unfitted_classifier_are_one_sentence() -> None:
    curves, labels = two_kinds(12)
    with pytest.raises(ConfigError, match="not fitted"):
        corsar.CurveClassifier().predict(curves)
    model = corsar.CurveClassifier(**SMALL).fit(curves, labels)
    with pytest.raises(DataError, match="band 'x' is not known here"):
        model.predict(curves.with_columns(band=pl.lit("x")))
    assert model.predict(curves.filter(band="r")).height == 12  # a band may be missing
