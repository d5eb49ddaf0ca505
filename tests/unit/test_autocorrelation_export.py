"""The layer compiled by torch.compile, and exported to ONNX, gives what the eager layer gives."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from corsar.nn.autocorrelation import AutoCorrelation
from corsar.nn.lags import SHORT


class WithLengths(nn.Module):
    """The layer with its lengths as a positional input."""

    def __init__(self, layer: AutoCorrelation) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.layer(x, lengths=lengths)  # type: ignore[return-value]


def make(**told: Any) -> WithLengths:
    torch.manual_seed(0)
    return WithLengths(AutoCorrelation(8, 2, **told)).eval()


def given(rows: int, slots: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, slots, 8, generator=generator), torch.randint(0, slots + 1, (rows,), generator=generator)


@pytest.fixture
def no_cached_graphs() -> Generator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compare(layer: WithLengths, backend: str, slots: int) -> None:
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    x, lengths = given(3, slots)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own modules
        for each in (layer, compiled):
            inputs = [x.clone().requires_grad_(), *layer.parameters()]
            out = each(inputs[0], lengths)
            found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("no_cached_graphs")
@pytest.mark.parametrize(("told", "slots"), [({}, SHORT + 12), ({"causal": True}, 30)], ids=str)
def test_traced_layer_equals_eager_in_one_graph(told: dict[str, Any], slots: int) -> None:
    compare(make(**told), "aot_eager", slots)


@pytest.mark.slow
@pytest.mark.usefixtures("no_cached_graphs")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler and there is none")
def test_compiled_layer_equals_eager() -> None:
    compare(make(), "inductor", 30)


@pytest.mark.parametrize("told", [{}, {"causal": True}], ids=str)
def test_layer_in_onnx_equals_eager_for_other_rows_and_lengths(told: dict[str, Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    slots = SHORT + 12  # where the eager layer takes an FFT
    layer, rows = make(**told), torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own modules
        program = torch.onnx.export(layer, given(3, slots), dynamic_shapes=({0: rows}, {0: rows}), verbose=False)
    assert program is not None
    program.save(tmp_path / "layer.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx", options)
    names = [one.name for one in session.get_inputs()]
    for count in (3, 5):
        x, lengths = given(count, slots)
        (out,) = session.run(None, dict(zip(names, (x.numpy(), lengths.numpy()), strict=True)))
        torch.testing.assert_close(torch.from_numpy(out), layer(x, lengths).detach(), rtol=1e-5, atol=1e-5)
