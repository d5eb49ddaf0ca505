"""Series decomposition equals its definition on both of its ways."""

from __future__ import annotations

import pytest
import torch

from corsar.nn import decomposition
from corsar.nn.decomposition import SeasonalNorm, decompose


@pytest.mark.parametrize("short", [0, 512])
@pytest.mark.parametrize(("slots", "kernel"), [(1, 25), (30, 25), (30, 1), (31, 6), (7, 40)])
def test_trend_is_the_mean_of_the_steps_around(slots: int, kernel: int, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decomposition, "SHORT", short)
    torch.manual_seed(0)
    x = torch.randn(2, slots, 3, dtype=torch.float64, requires_grad=True)
    seasonal, trend = decompose(x, kernel)
    steps = range(-((kernel - 1) // 2), kernel - (kernel - 1) // 2)
    plain = torch.stack([sum(x[:, min(max(t + s, 0), slots - 1)] for s in steps) / kernel for t in range(slots)], 1)
    torch.testing.assert_close(trend, plain)
    torch.testing.assert_close(seasonal + trend, x)
    pull = torch.randn_like(plain)
    (ours,), (theirs,) = (torch.autograd.grad((y * pull).sum(), x) for y in (trend, plain))
    torch.testing.assert_close(ours, theirs)


def test_seasonal_norm_leaves_no_mean_over_time() -> None:
    norm = SeasonalNorm(4)
    torch.nn.init.normal_(norm.norm.bias)
    out = norm(torch.randn(2, 9, 4))
    torch.testing.assert_close(out.mean(1), torch.zeros(2, 4), rtol=0, atol=1e-6)
    assert out.std() > 0.5
