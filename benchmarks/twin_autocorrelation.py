"""Auto-Correlation as published, in plain PyTorch: what the speed of `corsar.nn.autocorrelation` is measured against.

`python benchmarks/twin_autocorrelation.py GOLDEN.npz` compares scores and readings, in training and inference, with the
published numbers; it exits 1 where one is over its tolerance. Written from the paper and a description of what the published
code computes, in that form: one inverse FFT for each head and channel, then the mean; a shifted copy of all values for each
lag, the copies weighed and added one by one; torch's own autograd.

The check computes in float64. The published numbers are of float32, and the scores of the curves are near 150 before their
softmax: there the float32 noise of two machines' FFTs comes to 1.1e-5; everything else is within 4e-6 in float32 too.

Shape suffixes: B rows, L query slots, S key slots, H heads, E channels of a head, M lags, X channels of all heads.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

TOLERANCE = 1e-5


def fit(x_BSHE: Tensor, slots: int) -> Tensor:
    """Cut to the query's slots, or with zeros at the end, [B, L, H, E]."""
    rows, own, *rest = x_BSHE.shape
    if own >= slots:
        return x_BSHE[:, :slots]
    return torch.cat([x_BSHE, x_BSHE.new_zeros(rows, slots - own, *rest)], 1)


def published(q_BLHE: Tensor, k_BSHE: Tensor, v_BSHE: Tensor, factor: float, training: bool) -> tuple[Tensor, Tensor]:
    """The reading and the scores of all lags, both [B, L, H, E]."""
    slots = q_BLHE.shape[1]
    q, k, v = (x.permute(0, 2, 3, 1).contiguous() for x in (q_BLHE, fit(k_BSHE, slots), fit(v_BSHE, slots)))
    score_BHEL = torch.fft.irfft(torch.fft.rfft(q) * torch.fft.rfft(k).conj(), n=slots)
    mean_BL = score_BHEL.mean((1, 2))
    kept = int(factor * math.log(slots))
    read = torch.zeros_like(v)
    if training:  # the lags of the mean over the batch, for all rows
        lag_M = mean_BL.mean(0).topk(kept).indices
        weight_BM = mean_BL[:, lag_M].softmax(1)
        for i, lag in enumerate(lag_M.tolist()):
            read = read + v.roll(-lag, -1) * weight_BM[:, i, None, None, None]
    else:
        top_BM, lag_BM = mean_BL.topk(kept, 1)
        weight_BM = top_BM.softmax(1)
        twice = torch.cat([v, v], -1)
        at_L = torch.arange(slots, device=v.device)
        for i in range(kept):
            from_BL = at_L + lag_BM[:, i, None]
            read = read + twice.gather(-1, from_BL[:, None, None].expand_as(v)) * weight_BM[:, i, None, None, None]
    return read.permute(0, 3, 1, 2), score_BHEL.permute(0, 3, 1, 2)


class TwinLayer(nn.Module):
    """The published form between its projections."""

    def __init__(self, dim: int, heads: int, factor: float = 1.0) -> None:
        super().__init__()
        self.heads, self.factor = heads, factor
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, query_BLX: Tensor, key_BSX: Tensor, value_BSX: Tensor) -> Tensor:
        """[B, L, X]."""
        inputs = ((self.query, query_BLX), (self.key, key_BSX), (self.value, value_BSX))
        q, k, v = (linear(x).unflatten(2, (self.heads, -1)) for linear, x in inputs)
        out: Tensor = self.out(published(q, k, v, self.factor, self.training)[0].flatten(2))
        return out


def golden_layer(arrays: dict[str, np.ndarray], prefix: str, heads: int) -> TwinLayer:
    """The layer whose weights stand under `prefix` in a golden file."""
    layer = TwinLayer(arrays[f"{prefix}.w.out_projection.bias"].shape[0], heads).double()
    layer.load_state_dict(
        {
            f"{name}.{part}": torch.from_numpy(arrays[f"{prefix}.w.{name}_projection.{part}"])
            for name in ("query", "key", "value", "out")
            for part in ("weight", "bias")
        }
    )
    return layer


def errors_of(path: Path) -> dict[str, float]:
    """Relative error of each quantity of a golden file."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}

    def value(name: str) -> Tensor:
        return torch.from_numpy(arrays[name]).double()

    got: dict[str, Tensor] = {}
    for case in json.loads(path.with_suffix(".json").read_text(encoding="utf-8")):
        name = f"c{case['case']}"
        inputs = [value(f"{name}.{part}") for part in "qkv"]
        for mode in ("train", "eval"):
            got[f"{name}.{mode}.out"], got[f"{name}.corr"] = published(*inputs, case["factor"], mode == "train")
    with torch.no_grad():
        layer = golden_layer(arrays, "layer", heads=2)  # of any number of heads: it changes nothing
        x, y = value("layer.x"), value("layer.y")
        for mode in ("train", "eval"):
            layer.train(mode == "train")
            got[f"layer.{mode}.self"], got[f"layer.{mode}.cross"] = layer(x, x, x), layer(x, y, y)
        if "curve.x" in arrays:
            x = value("curve.x")
            got["curve.eval.out"] = golden_layer(arrays, "curve", heads=1).eval()(x, x, x)
    return {name: float((ours - value(name)).norm() / value(name).norm().clamp(min=1e-12)) for name, ours in got.items()}


def main() -> int:
    """Print the errors; 1 where one is over the tolerance."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python benchmarks/twin_autocorrelation.py GOLDEN.npz")
    errors = errors_of(Path(sys.argv[1]))
    for name, error in errors.items():
        print(f"{name:20} {error:10.2e}  <= {TOLERANCE:.0e}  {'ok' if error <= TOLERANCE else 'OVER'}")
    return int(any(not error <= TOLERANCE for error in errors.values()))


if __name__ == "__main__":
    raise SystemExit(main())
