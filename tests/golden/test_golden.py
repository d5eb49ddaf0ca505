"""Parity with the published implementations on the golden files, and proof that each listed fault of theirs is real."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import check

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def unisar() -> tuple[dict[str, np.ndarray], dict]:
    with np.load(HERE / "unisar.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, json.loads((HERE / "unisar.json").read_text())


def test_unisar_agrees_with_published_numbers() -> None:
    errors = check.errors_of(HERE / "unisar.npz")
    assert len(errors) > 35
    assert {n: e for n, (e, tolerance) in errors.items() if not e <= tolerance} == {}


@pytest.mark.parametrize(("name", "quantities"), [("autocorrelation", 28), ("autoformer", 2)])
def test_auto_correlation_and_autoformer_agree_with_published_numbers(name: str, quantities: int) -> None:
    errors = check.errors_of(HERE / f"{name}.npz")  # of autocorrelation.npz a copy without the cases of 1,810 slots
    assert len(errors) == quantities
    assert {n: e for n, (e, tolerance) in errors.items() if not e <= tolerance} == {}


def test_check_exits_1_over_tolerance(tmp_path: Path, unisar: tuple[dict[str, np.ndarray], dict]) -> None:
    arrays, sizes = unisar
    changed = dict(arrays)
    changed["rec.score"] = arrays["rec.score"] + 1e-3
    np.savez(tmp_path / "unisar.npz", **changed)
    (tmp_path / "unisar.json").write_text(json.dumps(sizes))
    done = subprocess.run(
        [sys.executable, HERE / "check.py", tmp_path / "unisar.npz"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines() if line.endswith("OVER")] == ["rec.score"]


def _without_searches(batch: "check.SearchRecommendBatch") -> "check.SearchRecommendBatch":
    real = batch.search_is_real_BS.clone()
    real[0] = False
    return dataclasses.replace(batch, search_is_real_BS=real)


def test_published_form_gives_nan_for_an_empty_side(unisar: tuple[dict[str, np.ndarray], dict]) -> None:
    batch = _without_searches(check.unisar_batch(unisar[0], "rec"))
    model = check.unisar_model(*unisar)
    assert torch.isnan(model.score(batch)[0]).all()
    corrected = type(model)(model.config.model_copy(update={"empty_history": "zero"}), model.sizes)
    corrected.load_weights(model.state_dict())
    scores = corrected.eval().score(batch)
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores[1:], model.score(batch)[1:])


def test_published_form_ignores_the_query_in_target_attention(unisar: tuple[dict[str, np.ndarray], dict]) -> None:
    batch = check.unisar_batch(unisar[0], "src")
    other = dataclasses.replace(batch, query_B=batch.query_B.roll(1))
    model = check.unisar_model(*unisar)
    aware = type(model)(model.config.model_copy(update={"query_in_attention": True}), model.sizes).eval()
    aware.load_weights(model.state_dict())
    for net, same in ((model, True), (aware, False)):
        interests = []
        for each in (batch, other):
            encoded = net.encode(each)
            items = encoded.items_RD[encoded.item_place[each.candidates_BC]]
            interests.append(net.interests(each, encoded, items)[0])
        assert torch.equal(*interests) == same
