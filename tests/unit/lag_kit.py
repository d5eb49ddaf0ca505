"""Auto-Correlation by its definition, lag by lag and row by row: slow, and without an FFT."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from corsar.nn.autocorrelation import AutoCorrelation, Options
from corsar.nn.lags import TIE


def plain_scores(q: Tensor, k: Tensor, ring: bool = True) -> Tensor:
    """R(τ), [n], around n or, where not `ring`, of the pairs that do not run over the end."""
    n = len(q)
    return torch.stack([(q.roll(-lag, 0) * k).sum() if ring else (q[lag:] * k[: n - lag]).sum() for lag in range(n)])


def plain_choice(scores: list[float], options: Options) -> list[int]:
    """The lags that a row of len(scores) places keeps."""
    n = len(scores)
    allowed = list(range(n)) if options.lag_zero or n == 1 else list(range(1, n))
    keep = min(max(1, int(options.factor * math.log(n))), len(allowed))
    ranked = sorted((scores[lag] for lag in allowed), reverse=True)
    near = TIE * abs(ranked[0])
    sure = [lag for lag in allowed if scores[lag] > ranked[keep - 1] + near]
    tied = [lag for lag in allowed if abs(scores[lag] - ranked[keep - 1]) <= near]
    return (sure + tied)[:keep]


def gap_at_cut(scores: list[float], options: Options) -> float:
    """How far the last lag that gets in is from the first that does not, as a share of the highest score."""
    allowed = scores if options.lag_zero or len(scores) == 1 else scores[1:]
    keep = min(max(1, int(options.factor * math.log(len(scores)))), len(allowed))
    ranked = sorted(allowed, reverse=True)
    return math.inf if keep == len(ranked) else (ranked[keep - 1] - ranked[keep]) / abs(ranked[0])


def plain_row(layer: AutoCorrelation, x: Tensor, y: Tensor | None = None) -> Tensor:
    """What the layer gives for one row without padding, [n, dim]; keys and values of y where it is told."""
    q, k, v = layer.query_map(x), *(project(x if y is None else y) for project in (layer.key_map, layer.value_map))
    n = len(q)
    k, v = (torch.cat([part, part.new_zeros(n, part.shape[1])])[:n] for part in (k, v))
    if layer.options.causal:
        return layer.out_map(torch.stack([_read(layer, q[: t + 1], k[: t + 1], v[: t + 1])[t] for t in range(n)]))
    return layer.out_map(_read(layer, q, k, v))


def _read(layer: AutoCorrelation, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = plain_scores(q, k, ring=not layer.options.causal)
    if layer.log_sharpness is None:
        scores = scores / q.shape[1]
    else:
        scores = scores / (q.norm() * k.norm()) * layer.log_sharpness.exp()
    lags = plain_choice(scores.tolist(), layer.options)
    back = 1 if layer.options.direction == "back" else -1
    return sum((w * v.roll(back * lag, 0) for w, lag in zip(scores[lags].softmax(0), lags, strict=True)), torch.zeros_like(v))
