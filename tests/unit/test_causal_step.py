"""Events added one by one give what the whole sequence gives, and each costs the price of the length."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from lag_kit import plain_row

from corsar.errors import ConfigError
from corsar.nn.autocorrelation import AutoCorrelation
from corsar.nn.causal_step import begin, step

FORMS: list[dict[str, Any]] = [{}, {"normalise": False}, {"lag_zero": False}, {"factor": 3.0}]


def make(**told: Any) -> AutoCorrelation:
    torch.manual_seed(0)
    return AutoCorrelation(4, 2, causal=True, **told).double()


@pytest.mark.parametrize("told", FORMS, ids=str)
@pytest.mark.parametrize("known", [0, 1, 12, 150])
def test_events_added_one_by_one_equal_the_whole(told: dict[str, Any], known: int) -> None:
    layer, slots = make(**told), known + 20
    x = torch.randn(2, slots, 4, dtype=torch.float64, requires_grad=True)
    state, reads = begin(layer, x[:, :known]), []
    for t in range(known, slots):
        read, state = step(layer, x[:, t], state)
        reads.append(read)
    whole = layer(x)[:, known:]
    torch.testing.assert_close(torch.stack(reads, 1), whole)
    assert state.length_B.tolist() == [slots] * 2
    pull = torch.randn_like(whole)
    (ours,) = torch.autograd.grad((torch.stack(reads, 1) * pull).sum(), x)
    (theirs,) = torch.autograd.grad((whole * pull).sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_rows_of_unlike_lengths_step_together() -> None:
    layer, lengths = make(), [0, 3, 40]
    x = torch.randn(3, 45, 4, dtype=torch.float64)
    given = x[:, :40].clone()
    for b, n in enumerate(lengths):
        given[b, n:] = 1e3
    state = begin(layer, given, torch.tensor(lengths))
    for more in range(5):
        at = torch.tensor(lengths) + more
        read, state = step(layer, x[torch.arange(3), at], state)
        for b, n in enumerate(lengths):
            torch.testing.assert_close(read[b], plain_row(layer, x[b, : n + more + 1])[-1])


def test_half_precision_gives_half_precision() -> None:
    layer = make().bfloat16()
    x = torch.randn(2, 9, 4).bfloat16()
    read, _ = step(layer, x[:, 8], begin(layer, x[:, :8]))
    assert read.dtype == torch.bfloat16
    torch.testing.assert_close(read, layer(x)[:, 8])


def operations(layer: AutoCorrelation, slots: int) -> int:
    state, event = begin(layer, torch.randn(1, slots, 4, dtype=torch.float64)), torch.randn(1, 4, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter:
        step(layer, event, state)
    return counter.get_total_flops()


def test_one_more_event_costs_the_length_and_not_its_square() -> None:
    layer = make()
    short, middle, long = (operations(layer, slots) for slots in (500, 1000, 2000))
    assert long - middle == pytest.approx(2 * (middle - short), rel=0.05)


def test_a_layer_that_reads_later_events_is_refused() -> None:
    with pytest.raises(ConfigError, match="causal=True"):
        begin(AutoCorrelation(4), torch.zeros(1, 3, 4))
