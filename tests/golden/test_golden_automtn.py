"""Parity of AutoMTN with its published numbers, and proof that each listed fault of the published copy is real."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import check
from check_automtn import automtn_batch, automtn_model

from corsar.models.automtn import ShortLags

HERE = Path(__file__).parent
Golden = tuple[dict[str, np.ndarray], dict]


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(HERE / "automtn.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, json.loads((HERE / "automtn.json").read_text())


def test_automtn_agrees_with_published_numbers() -> None:
    errors = check.errors_of(HERE / "automtn.npz")
    assert len(errors) == 12
    assert {n: e for n, (e, tolerance) in errors.items() if not e <= tolerance} == {}


def test_automtn_forms_differ_from_each_other(golden: Golden) -> None:
    arrays, _ = golden
    assert np.abs(arrays["paper_code.eval.poi_score"] - arrays["exact.eval.poi_score"]).max() > 1e-3


def test_published_form_lets_batch_mates_change_a_score_by_the_distance_range(golden: Golden) -> None:
    batch = automtn_batch(golden[0])
    alone = batch.take(torch.tensor([0]))
    for changed, same in (({}, False), ({"distance": "kilometres"}, True)):
        model = automtn_model(*golden, **changed)  # in use lags are each row's own, so the range alone is shared
        together, one = model.score(batch)[0], model.score(alone)[0]
        assert torch.allclose(together, one, rtol=1e-5, atol=1e-6) == same
    km = model.encode(batch).scale_km
    assert km == model.config.scale_km


def test_published_form_chooses_lags_by_the_batch_in_training(golden: Golden) -> None:
    batch = automtn_batch(golden[0])
    alone = batch.take(torch.tensor([0]))
    for lags, same in (("paper_code", False), ("exact", True)):
        model = automtn_model(*golden, lags=lags, distance="kilometres").train()
        together, one = model.encode(batch).place_BLD[0], model.encode(alone).place_BLD[0]
        assert torch.allclose(together, one, rtol=1e-4, atol=1e-5) == same


def test_published_form_knows_24_lags_of_25_check_ins() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 25, 8)
    spectrum = torch.fft.rfft(x, dim=1)
    assert torch.fft.irfft((spectrum * spectrum.conj()).mean(2), dim=1).shape == (1, 24)
    short = ShortLags(8, 2).eval()
    whole = type(short).__mro__[1](8, 2, lags="paper_code", direction="paper", normalise=False).eval()
    whole.load_state_dict(short.state_dict())
    assert not torch.allclose(short(x, x, x), whole(x, x, x), atol=1e-4)
    even = x[:, :24]
    torch.testing.assert_close(short(even, even, even), whole(even, even, even), rtol=1e-4, atol=1e-5)


def test_published_form_reads_pads_as_check_ins(golden: Golden) -> None:
    batch = automtn_batch(golden[0])
    real = batch.feed_is_real_BF.clone()
    real[:, 20:] = False
    cut = dataclasses.replace(batch, feed_is_real_BF=real)
    pads = torch.where(real, batch.feed_items_BF, 0)
    for lengths, same in (("fixed", False), ("exact", True)):
        model = automtn_model(*golden, lengths=lengths, lags="exact", distance="kilometres")
        short = {f.name: getattr(cut, f.name)[:, :20] for f in dataclasses.fields(cut) if f.name.endswith("_BF")}
        padded = dataclasses.replace(cut, feed_items_BF=pads)
        wide, narrow = model.encode(padded), model.encode(dataclasses.replace(cut, **short))
        if same:
            assert wide.place_BLD.shape[1] == 20
            torch.testing.assert_close(wide.place_BLD, narrow.place_BLD)
        else:
            assert wide.place_BLD.shape[1] == 25
            assert wide.weight_BL[:, 20:].abs().min() > 0
