"""Parity of Auto-Correlation, series decomposition and the seasonal norm with the published ones (thuml/Autoformer 51c7d41)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from compare import Errors, relative
from torch import Tensor

from corsar.nn.autocorrelation import AutoCorrelation, Options, auto_correlation
from corsar.nn.decomposition import SeasonalNorm, decompose

MAPS = {
    "query_projection": "query_map",
    "key_projection": "key_map",
    "value_projection": "value_map",
    "out_projection": "out_map",
}


def published_layer(arrays: dict[str, np.ndarray], name: str, heads: int) -> AutoCorrelation:
    """The layer in the published form, with the published weights."""
    weights = {key.removeprefix(f"{name}.w."): torch.from_numpy(value) for key, value in arrays.items() if f"{name}.w." in key}
    for theirs, ours in MAPS.items():
        weights = {key.replace(theirs, ours): value for key, value in weights.items()}
    dim = len(weights["out_map.bias"])
    layer = AutoCorrelation(dim, heads, lags="paper_code", direction="paper", normalise=False)
    layer.load_state_dict(weights)
    return layer


def check_autocorrelation(arrays: dict[str, np.ndarray], sizes: list[dict]) -> Errors:
    """Outputs of both modes, the score of each lag, layers, decomposition and norm.

    The published scores of single heads and channels are compared by their mean: no other use is made of them, and
    here they are never computed.
    """
    errors: Errors = {}

    def put(name: str, ours: Tensor, published: np.ndarray) -> None:
        errors[name] = (relative(ours, published), 1e-5)

    for case in sizes:
        name, slots = f"c{case['case']}", case["L"]
        q, k, v = (torch.from_numpy(arrays[f"{name}.{part}"]).flatten(2) for part in "qkv")
        k, v = (F.pad(x[:, :slots], (0, 0, 0, slots - min(slots, x.shape[1]))) for x in (k, v))
        options = Options("paper_code", direction="paper", factor=case["factor"])
        for mode in ("train", "eval"):
            read, told = auto_correlation(q, k, v, None, options, training=mode == "train")
            put(f"{name}.{mode}.out", read, arrays[f"{name}.{mode}.out"].reshape(read.shape))
        put(f"{name}.corr (mean)", told.score_BL, arrays[f"{name}.corr"].mean((2, 3)))
    layer = published_layer(arrays, "layer", 2)
    x, y = (torch.from_numpy(arrays[f"layer.{name}"]) for name in "xy")
    for mode in ("train", "eval"):
        layer.train(mode == "train")
        put(f"layer.{mode}.self", layer(x, x, x), arrays[f"layer.{mode}.self"])
        put(f"layer.{mode}.cross", layer(x, y, y), arrays[f"layer.{mode}.cross"])
    if "curve.x" in arrays:
        curve = published_layer(arrays, "curve", 1).eval()
        put("curve.eval.out", curve(torch.from_numpy(arrays["curve.x"])), arrays["curve.eval.out"])
    x = torch.from_numpy(arrays["decomp.x"])
    for name, part in zip(("seasonal", "trend"), decompose(x, 25), strict=True):
        put(f"decomp.{name}", part, arrays[f"decomp.{name}"])
    norm = SeasonalNorm(x.shape[2])
    norm.norm.load_state_dict({name: torch.from_numpy(arrays[f"seasonal_norm.{name[0]}"]) for name in ("weight", "bias")})
    put("seasonal_norm.out", norm(x), arrays["seasonal_norm.out"])
    return errors
