"""Auto-Correlation equals its definition, row by row; and each fault of the published form is real."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from lag_kit import gap_at_cut, plain_choice, plain_row, plain_scores

from corsar.errors import ConfigError
from corsar.nn import lags
from corsar.nn.autocorrelation import AutoCorrelation, Options, auto_correlation
from corsar.nn.lags import FEW, SHORT, lag_scores

PUBLISHED: dict[str, Any] = {"lags": "paper_code", "direction": "paper", "normalise": False}
FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "raw scores": {"normalise": False},
    "direction of the paper": {"direction": "paper"},
    "lag 0 left out": {"lag_zero": False},
    "more lags": {"factor": 3.0},
    "causal": {"causal": True},
    "causal, raw scores, lag 0 left out": {"causal": True, "normalise": False, "lag_zero": False},
}


def make(seed: int = 0, dim: int = 4, **told: Any) -> AutoCorrelation:
    torch.manual_seed(seed)
    return AutoCorrelation(dim, **{"heads": 2, **told})


def rows_of(lengths: list[int], slots: int, dim: int = 4, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Random rows, with values that nothing may read behind each length."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), slots, dim, generator=generator, dtype=torch.float64).to(dtype)
    for row, length in enumerate(lengths):
        x[row, length:] = 1e3
    return x


def far(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


def gradients(out: Tensor, pull: Tensor, x: Tensor, layer: AutoCorrelation) -> list[Tensor]:
    """Of x, then of each parameter."""
    inputs = [x, *layer.parameters()]
    found = torch.autograd.grad((out * pull).sum(), inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(one) if grad is None else grad for one, grad in zip(inputs, found, strict=True)]


# --- the definition


@pytest.mark.parametrize("slots", [1, 2, 24, 25])
@pytest.mark.parametrize("form", FORMS)
def test_layer_equals_its_definition(form: str, slots: int) -> None:
    layer = make(**FORMS[form]).double()
    lengths = [slots, max(1, slots // 2), 1]
    x = rows_of(lengths, slots, dtype=torch.float64).requires_grad_()
    out = layer(x, lengths=torch.tensor(lengths))
    plain = torch.stack(
        [torch.cat([plain_row(layer, x[b, :n]), x.new_zeros(slots - n, 4)]) for b, n in enumerate(lengths)]
    )  # fmt: skip
    torch.testing.assert_close(out, plain)
    pull = torch.randn_like(plain)
    for ours, theirs in zip(gradients(out, pull, x, layer), gradients(plain, pull, x, layer), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("slots", [FEW, FEW + 1, SHORT, SHORT + 1])
@pytest.mark.parametrize("direction", ["back", "paper"])
def test_layer_equals_its_definition_on_both_sides_of_each_threshold(slots: int, direction: str) -> None:
    layer = make(dim=2, direction=direction).double()
    lengths = [slots, slots - 1, 37]
    x = rows_of(lengths, slots, 2, torch.float64).requires_grad_()
    for told, each in ((None, [slots] * 3), (torch.tensor(lengths), lengths)):
        out = layer(x, lengths=told)
        for b in (0, 2):
            n = each[b]
            plain = plain_row(layer, x[b, :n])
            torch.testing.assert_close(out[b, :n], plain)
            pull = torch.randn_like(plain)
            pairs = zip(gradients(out[b, :n], pull, x, layer), gradients(plain, pull, x, layer), strict=True)
            for ours, theirs in pairs:
                torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("slots", [1, 2, 25])
@pytest.mark.parametrize("form", FORMS)
def test_rows_as_long_as_the_slots_equal_the_definition_without_lengths(form: str, slots: int) -> None:
    layer = make(**FORMS[form]).double()
    x = rows_of([slots] * 3, slots, dtype=torch.float64).requires_grad_()
    out, plain = layer(x), torch.stack([plain_row(layer, row) for row in x])
    torch.testing.assert_close(out, plain)
    pull = torch.randn_like(plain)
    for ours, theirs in zip(gradients(out, pull, x, layer), gradients(plain, pull, x, layer), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("slots", [FEW, SHORT, SHORT + 1])
@pytest.mark.parametrize("is_padded", [False, True])
def test_scores_by_chunks_equal_those_of_each_row(slots: int, is_padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lags, "PRODUCTS", 3 * slots**2)
    monkeypatch.setattr(lags, "SPECTRUM", 3 * 2 * lags._fast_size(2 * slots))
    lengths = [slots - 7 * row if is_padded else slots for row in range(8)]  # chunks of 3, 3 and 2
    q, k = (rows_of(lengths, slots, 2, torch.float64, seed) for seed in (0, 1))
    for row, length in enumerate(lengths):
        q[row, length:] = k[row, length:] = 0
    scores = lag_scores(q, k, torch.tensor(lengths) if is_padded else None)
    for row, n in enumerate(lengths):
        torch.testing.assert_close(scores[row, :n], plain_scores(q[row, :n], k[row, :n]))


@pytest.mark.parametrize("keys", [1, 9, 17, 30])
def test_keys_of_another_length_are_cut_or_padded_by_zeros(keys: int) -> None:
    layer = make().double()
    x, y = rows_of([17, 17], 17, dtype=torch.float64), rows_of([keys, keys], keys, dtype=torch.float64, seed=1)
    y.requires_grad_()
    out = layer(x, y)
    plain = torch.stack([plain_row(layer, x[b], y[b]) for b in range(2)])
    torch.testing.assert_close(out, plain)
    for ours, theirs in zip(gradients(out, out.detach(), y, layer), gradients(plain, out.detach(), y, layer), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_values_may_differ_from_keys_and_the_lags_come_on_request() -> None:
    layer = make(factor=2.0)
    x, z = rows_of([20, 7], 20), rows_of([20, 7], 20, seed=1)
    out, told = layer(x, x, z, lengths=torch.tensor([20, 7]), return_lags=True)
    assert torch.equal(out, layer(x, x, z, lengths=torch.tensor([20, 7])))
    assert told.lag_BM.shape == told.weight_BM.shape == (2, 5)
    assert told.score_BL.shape == (2, 20)
    torch.testing.assert_close(told.weight_BM.sum(1), torch.ones(2))
    assert (told.weight_BM > 0).sum(1).tolist() == [5, 3]  # int(2 ln 20), int(2 ln 7)
    values = layer.value_map(z)
    read = sum(told.weight_BM[0, i] * values[0].roll(int(told.lag_BM[0, i]), 0) for i in range(5))
    torch.testing.assert_close(out[0], layer.out_map(read))


def test_rows_without_a_place_and_batches_without_a_row_give_zeros() -> None:
    for slots in (5, SHORT + 5):
        x = rows_of([0, slots], slots).requires_grad_()
        out = make()(x, lengths=torch.tensor([0, slots]))
        out.square().sum().backward()
        assert (out[0] == 0).all()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        assert (x.grad[0] == 0).all()
        assert make()(x[:0], lengths=torch.tensor([], dtype=torch.int64)).shape == (0, slots, 4)
        assert make(causal=True)(x[:0]).shape == (0, slots, 4)


@pytest.mark.parametrize("causal", [False, True])
def test_queries_of_zero_give_finite_gradients(causal: bool) -> None:
    q = torch.zeros(1, 6, 2, requires_grad=True)
    k = torch.randn(1, 6, 2, requires_grad=True)
    read, _ = auto_correlation(q, k, k, None, Options(causal=causal), torch.tensor(10.0))
    read.square().sum().backward()
    for x in (q, k):
        assert x.grad is not None
        assert x.grad.abs().max() < 100


# --- faults of the published form


def test_published_form_reads_batch_mates_in_training() -> None:
    x = rows_of([40] * 4, 40)
    other = torch.cat([x[:1], rows_of([40] * 3, 40, seed=1)])
    published, ours = make(**PUBLISHED), make()
    assert far(published.train()(other)[:1], published(x)[:1]) > 0.01
    torch.testing.assert_close(published.eval()(other)[:1], published(x)[:1])
    torch.testing.assert_close(ours.train()(other)[:1], ours(x)[:1])


def test_published_form_takes_padding_for_data() -> None:
    x = rows_of([40], 40)
    padded = torch.cat([x, torch.zeros(1, 8, 4)], 1)
    published, ours = make(**PUBLISHED).eval(), make()
    assert far(published(padded)[:, :40], published(x)) > 0.01
    assert far(ours(padded, lengths=torch.tensor([40]))[:, :40], ours(x)) < 1e-5


def test_published_form_reads_the_future() -> None:
    x = rows_of([40], 40)
    later = torch.cat([x[:, :30], rows_of([10], 10, seed=1)], 1)
    published, causal = make(**PUBLISHED).eval(), make(causal=True)
    assert far(published(later)[:, :30], published(x)[:, :30]) > 0.01
    torch.testing.assert_close(causal(later)[:, :30], causal(x)[:, :30])


def test_inverse_fft_without_its_length_loses_a_lag_at_odd_lengths() -> None:
    x = rows_of([25], 25, dtype=torch.float64)
    spectrum = (torch.fft.rfft(x, dim=1) * torch.fft.rfft(x, dim=1).conj()).sum(2)
    short = torch.fft.irfft(spectrum, dim=1)[0]
    true = plain_scores(x[0], x[0])
    assert len(short) == 24
    assert far(short, true[:24]) > 0.01
    torch.testing.assert_close(lag_scores(x, x)[0], true)


# --- properties


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[list[int], Tensor, int]:
    """Lengths, where the real places of each row stand (gaps within), and a seed."""
    lengths = draw(st.lists(st.integers(1, 200), min_size=2, max_size=4))
    seed = draw(st.integers(0, 2**16))
    slots = max(lengths) + draw(st.integers(0, 9))
    generator = torch.Generator().manual_seed(seed)
    is_real = torch.zeros(len(lengths), slots, dtype=torch.bool)
    for row, length in enumerate(lengths):
        is_real[row, torch.randperm(slots, generator=generator)[:length]] = True
    return lengths, is_real, seed


def clear_rows(layer: AutoCorrelation, x: Tensor, lengths: list[int]) -> list[int]:
    """Rows whose choice of lags hangs on no near-tie; the noise of one FFT or another may decide the others."""
    found = []
    for b, n in enumerate(lengths):
        q, k = (project(x[b, :n]).detach().double() for project in (layer.query_map, layer.key_map))
        scores = [float((q.roll(-lag, 0) * k).sum()) for lag in range(n)]
        if gap_at_cut(scores, layer.options) >= 2e-4:
            found.append(b)
    return found


@given(laid_out(), st.sampled_from(["default", "raw scores", "direction of the paper", "lag 0 left out", "more lags"]))
@settings(max_examples=25, deadline=None)
def test_padded_batch_equals_each_row_alone(case: tuple[list[int], Tensor, int], form: str) -> None:
    lengths, is_real, seed = case
    layer = make(seed, **FORMS[form])
    x = rows_of(lengths, is_real.shape[1], seed=seed).requires_grad_()
    scattered = torch.full_like(x, 1e3)
    for b, n in enumerate(lengths):
        scattered[b, is_real[b]] = x[b, :n].detach()
    scattered.requires_grad_()
    batch, gaps = layer(x, lengths=torch.tensor(lengths)), layer(scattered, is_real=is_real)
    assert (gaps[~is_real] == 0).all()
    clear = clear_rows(layer, x, lengths)
    pull = torch.randn_like(x)
    for b in clear:
        n = lengths[b]
        row = x[b : b + 1, :n].detach().requires_grad_()
        alone = layer(row)
        assert (batch[b, n:] == 0).all()
        assert far(batch[b, :n], alone[0]) < 1e-5
        assert far(gaps[b, is_real[b]], alone[0]) < 1e-5
        theirs = gradients(alone[0], pull[b, :n], row, layer)
        for out, given_x in ((batch[b, :n], x), (gaps[b, is_real[b]], scattered)):
            ours = gradients(out, pull[b, :n], given_x, layer)
            places = slice(0, n) if given_x is x else is_real[b]
            assert far(ours[0][b, places], theirs[0][0]) < 1e-5
            ours[0][b, places] = 0
            assert (ours[0] == 0).all()  # no other place has a part in it
            assert far(*(torch.cat([grad.flatten() for grad in each[1:]]) for each in (ours, theirs))) < 1e-5


@given(laid_out())
@settings(max_examples=10, deadline=None)
def test_causal_padded_batch_equals_each_row_alone(case: tuple[list[int], Tensor, int]) -> None:
    lengths, is_real, seed = case
    layer = make(seed, causal=True).double()
    x = rows_of(lengths, is_real.shape[1], dtype=torch.float64, seed=seed)
    scattered = torch.full_like(x, 1e3)
    for b, n in enumerate(lengths):
        scattered[b, is_real[b]] = x[b, :n]
    batch, gaps = layer(x, lengths=torch.tensor(lengths)), layer(scattered, is_real=is_real)
    for b, n in enumerate(lengths):
        alone = layer(x[b : b + 1, :n])[0]
        torch.testing.assert_close(batch[b, :n], alone)
        torch.testing.assert_close(gaps[b, is_real[b]], alone)


@given(st.integers(2, 150), st.data(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_changing_the_future_never_changes_the_past(slots: int, data: st.DataObject, normalise: bool) -> None:
    known = data.draw(st.integers(1, slots - 1))
    layer = make(data.draw(st.integers(0, 99)), causal=True, normalise=normalise)
    x = rows_of([slots] * 2, slots)
    later = torch.cat([x[:, :known], 100 * rows_of([slots - known] * 2, slots - known, seed=1)], 1).requires_grad_()
    out = layer(later)
    torch.testing.assert_close(out[:, :known], layer(x)[:, :known], rtol=1e-6, atol=1e-6)
    (grad,) = torch.autograd.grad(out[:, :known].square().sum(), later)
    assert (grad[:, known:] == 0).all()


@given(laid_out(), st.sampled_from(list(FORMS)))
@settings(max_examples=15, deadline=None)
def test_training_equals_inference(case: tuple[list[int], Tensor, int], form: str) -> None:
    lengths, is_real, seed = case
    layer, x = make(seed, **FORMS[form]), rows_of(lengths, is_real.shape[1], seed=seed)
    assert torch.equal(layer.train()(x, is_real=is_real), layer.eval()(x, is_real=is_real))


@given(laid_out(), st.sampled_from(["default", "raw scores", "lag 0 left out"]))
@settings(max_examples=15, deadline=None)
def test_permuting_the_batch_permutes_the_result(case: tuple[list[int], Tensor, int], form: str) -> None:
    lengths, is_real, seed = case
    layer, x = make(seed, **FORMS[form]), rows_of(lengths, is_real.shape[1], seed=seed)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    told = torch.tensor(lengths)
    out, permuted = layer(x, lengths=told), layer(x[order], lengths=told[order])
    for b in clear_rows(layer, x, lengths):
        assert far(permuted[int((order == b).nonzero())], out[b]) < 1e-5


@given(st.integers(2, 20), st.integers(3, 9), st.integers(0, 9), st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_planted_period_is_the_smallest_near_maximal_lag(period: int, times: int, pad: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pattern, n = torch.randn(period, 4, generator=generator), period * times
    once = plain_scores(pattern, pattern)
    assume(period == 1 or float(once[1:].max()) < 0.8 * float(once[0]))
    noisy = pattern.repeat(times, 1) + 0.02 * torch.randn(n, 4, generator=generator)
    x = torch.nn.functional.pad(noisy, (0, 0, 0, pad))[None]
    options = Options(lag_zero=False)
    _, told = auto_correlation(x, x, x, torch.tensor([n]), options, torch.tensor(1.0))
    scores = told.score_BL[0, 1:n]
    smallest = 1 + int((scores >= 0.95 * scores.max()).nonzero()[0])
    assert smallest == period
    clean = torch.nn.functional.pad(pattern.repeat(times, 1), (0, 0, 0, pad))[None]
    _, told = auto_correlation(clean, clean, clean, torch.tensor([n]), options, torch.tensor(1.0))
    assert int(told.lag_BM[0, 0]) == period  # of lags that tie, the smaller ones


# --- ties


@pytest.mark.parametrize("slots", [2, 3, 25, SHORT + 2, 300])
@pytest.mark.parametrize("lag_zero", [True, False])
def test_constant_rows_keep_the_smallest_lags_and_read_themselves(slots: int, lag_zero: bool) -> None:
    layer = make(lag_zero=lag_zero)
    x = torch.randn(1, 1, 4).expand(2, slots, 4)
    lengths = torch.tensor([slots, (slots + 1) // 2])
    out, told = layer(x, lengths=lengths, return_lags=True)
    for b, n in enumerate(lengths.tolist()):
        chosen = plain_choice([1.0] * n, layer.options)
        assert told.lag_BM[b, : len(chosen)].tolist() == chosen
        assert chosen[0] == int(not lag_zero and n > 1)
        torch.testing.assert_close(out[b, :n], layer.out_map(layer.value_map(x[b, :n])))


def test_rows_of_two_equal_items_read_themselves_however_they_are_padded() -> None:
    for lag_zero in (True, False):
        layer = make(lag_zero=lag_zero)
        x = torch.randn(1, 1, 4).expand(1, 2, 4)
        for slots in (2, 9, SHORT + 9):
            padded = torch.nn.functional.pad(x, (0, 0, 0, slots - 2))
            out, told = layer(padded, lengths=torch.tensor([2]), return_lags=True)
            assert told.lag_BM[0, 0] == int(not lag_zero)
            torch.testing.assert_close(out[:, :2], layer.out_map(layer.value_map(x)))


@pytest.mark.parametrize("slots", [31, 300])
def test_mirrored_lags_of_one_channel_tie_and_the_smaller_one_wins(slots: int) -> None:
    x = rows_of([slots], slots, 1)
    options = Options(factor=1.0 if slots == 31 else 0.8, lag_zero=False)  # an odd number of lags: 3, and 4 made odd by the cut
    scores = plain_scores(x[0].double(), x[0].double()).tolist()
    assert scores[1] == pytest.approx(scores[-1])
    chosen = plain_choice(scores, options)
    for given_x, n in ((x, None), (torch.nn.functional.pad(x, (0, 0, 0, 77)), torch.tensor([slots]))):
        _, told = auto_correlation(given_x, given_x, given_x, n, options, torch.tensor(1.0))
        assert told.lag_BM[0, : len(chosen)].tolist() == chosen


# --- errors, precision, compilation


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"dim": 5}, "dim 5 is not a multiple of heads 2; name key_dim, or choose other heads"),
        ({"causal": True, "direction": "paper"}, 'needs lags = "exact" and direction = "back"'),
        ({"causal": True, "lags": "paper_code"}, 'needs lags = "exact" and direction = "back"'),
        ({"lags": "paper_code", "lag_zero": False}, 'set lags = "exact" to leave it out'),
        ({"factor": 0.0}, "the number of lags needs one above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**told)


def test_padding_is_told_once_and_never_to_the_published_form() -> None:
    x, lengths = rows_of([5], 5), torch.tensor([5])
    with pytest.raises(ConfigError, match="give one of them"):
        make()(x, lengths=lengths, is_real=torch.ones(1, 5, dtype=torch.bool))
    with pytest.raises(ConfigError, match='set lags = "exact" for rows of unlike lengths'):
        make(**PUBLISHED)(x, lengths=lengths)


def test_published_form_keeps_no_lag_of_two_places() -> None:
    layer = make(**PUBLISHED)
    out = layer(rows_of([2], 2))
    torch.testing.assert_close(out, layer.out_map(torch.zeros(1, 2, 4)))


@pytest.mark.parametrize("slots", [30, SHORT + 30])
def test_half_precision_scores_and_reads_in_single(slots: int) -> None:
    layer = make().bfloat16()
    x = rows_of([slots] * 2, slots).bfloat16().requires_grad_()
    out = layer(x)
    assert out.dtype == torch.bfloat16
    q, k, v = (project(x).float() for project in (layer.query_map, layer.key_map, layer.value_map))
    assert layer.log_sharpness is not None
    read, _ = auto_correlation(q, k, v, None, layer.options, layer.log_sharpness.exp())
    torch.testing.assert_close(out, layer.out_map(read.bfloat16()))
    out.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    single = make()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = single(x.detach().float(), lengths=torch.tensor([slots, 9]))
    assert mixed.dtype == torch.bfloat16
    mixed.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in single.parameters() if p.grad is not None)
