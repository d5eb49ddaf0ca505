"""The learned filter equals its definition; padding neither enters nor comes out, and the future stays unread."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from corsar.errors import ConfigError
from corsar.nn.fourier import FourierFilter


def plain_row(layer: FourierFilter, x: Tensor) -> Tensor:
    """What the filter gives for one row without padding, [n, D]."""
    n = len(x)
    lags = [range(n if layer.circular else t + 1) for t in range(n)]
    return torch.stack([sum(layer.kernel[lag] * x[(t - lag) % n] for lag in lags[t]) for t in range(n)])  # type: ignore[misc]


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 24, 25])
def test_filter_equals_its_definition(slots: int, circular: bool) -> None:
    torch.manual_seed(0)
    layer = FourierFilter(3, 30, circular).double()
    x = torch.randn(2, slots, 3, dtype=torch.float64, requires_grad=True)
    out, plain = layer(x), torch.stack([plain_row(layer, row) for row in x])
    torch.testing.assert_close(out, plain)
    pull = torch.randn_like(plain)
    for ours, theirs in zip(*(torch.autograd.grad((y * pull).sum(), [x, layer.kernel]) for y in (out, plain)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("circular", [False, True])
def test_padded_batch_equals_each_row_alone(circular: bool) -> None:
    torch.manual_seed(0)
    layer = FourierFilter(3, 20, circular)
    lengths = torch.tensor([0, 1, 13, 20])
    x = torch.randn(4, 20, 3)
    is_real = torch.stack([torch.randperm(20) < n for n in lengths])
    front, gaps = x.clone(), torch.full_like(x, 1e3)
    for b, n in enumerate(lengths):
        front[b, n:] = 1e3
        gaps[b, is_real[b]] = x[b, :n]
    front.requires_grad_()
    by_length, by_place = layer(front, lengths=lengths), layer(gaps, is_real=is_real)
    for b, n in enumerate(lengths.tolist()):
        if n:
            alone = layer(x[b : b + 1, :n])[0]
            torch.testing.assert_close(by_length[b, :n], alone, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(by_place[b, is_real[b]], alone, rtol=1e-5, atol=1e-5)
        assert (by_length[b, n:] == 0).all()
        assert (by_place[b, ~is_real[b]] == 0).all()
    (grad,) = torch.autograd.grad(by_length.square().sum(), front)
    assert all((grad[b, n:] == 0).all() for b, n in enumerate(lengths))


def test_only_the_circular_form_reads_the_future() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 12, 3)
    later = torch.cat([x[:, :8], torch.randn(1, 4, 3)], 1)
    causal, circular = FourierFilter(3, 12), FourierFilter(3, 12, circular=True)
    torch.testing.assert_close(causal(later)[:, :8], causal(x)[:, :8])
    assert (circular(later)[:, :8] - circular(x)[:, :8]).abs().max() > 0.01


def test_rows_over_the_kernel_are_refused_and_half_precision_and_empty_batches_are_not() -> None:
    layer = FourierFilter(3, 12)
    with pytest.raises(ConfigError, match="set max_len to the longest row"):
        layer(torch.zeros(1, 13, 3))
    assert layer.bfloat16()(torch.zeros(1, 12, 3).bfloat16()).dtype == torch.bfloat16
    assert layer(torch.zeros(0, 12, 3)).shape == (0, 12, 3)
