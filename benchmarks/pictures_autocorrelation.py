"""The pictures of docs/models/autocorrelation.md: `python benchmarks/pictures_autocorrelation.py [FOLDER]`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {
    "svg.fonttype": "none",
    "svg.hashsalt": "corsar",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
}
mpl.rcParams |= {"axes.spines.right": False, "legend.frameon": False, "figure.constrained_layout.use": True}
import matplotlib.pyplot as plt  # noqa: E402  after the choice of how to draw
import torch  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from torch import Tensor  # noqa: E402

from corsar.nn.autocorrelation import Lags, Options, auto_correlation  # noqa: E402

FOLDER = Path(__file__).parents[1] / "docs" / "models" / "img"
BLUE, ORANGE, GREY = "#06a", "#c60", "0.65"
SHARPNESS = torch.tensor(10.0)  # at which a layer starts


def periodic(slots: int, period: int, noise: float) -> Tensor:
    """A noisy wave with an upper tone, [1, slots, 1]."""
    draw, at_L = torch.Generator().manual_seed(3), 2 * math.pi * torch.arange(slots) / period
    wave = at_L.sin() + 0.6 * (2 * at_L).cos() + noise * torch.randn(slots, generator=draw)
    return (wave - wave.mean())[None, :, None]


def draw_scores(axis: Axes, told: Lags, slots: int, weights: bool) -> None:
    """The cosine at each lag, and the kept lags, with their weights where asked for."""
    score_L = told.score_BL[0, :slots] / SHARPNESS
    lines_L3 = torch.stack([torch.zeros(slots), score_L, torch.full((slots,), torch.nan)], 1)
    axis.plot(torch.arange(slots).repeat_interleave(3), lines_L3.flatten(), color=GREY, lw=1)  # one path: a small file
    for lag, weight in sorted(zip(told.lag_BM[0].tolist(), told.weight_BM[0].tolist(), strict=True)):
        axis.plot(lag, score_L[lag], "o", color=ORANGE)
        axis.annotate(
            f"{lag}: {weight:.2f}" if weights else f"{lag}", (lag, score_L[lag]), (lag - 1, float(score_L[lag]) + 0.12)
        )
    axis.set(xlabel="lag τ", ylim=(-0.6, 1.45))


def spectrum() -> Figure:
    """A wave of period 12, its score at each lag, and the lags that are kept."""
    x = periodic(96, 12, 0.5)
    _, told = auto_correlation(x, x, x, sharpness=SHARPNESS)
    figure, (above, below) = plt.subplots(2, figsize=(6.4, 3.8))
    above.plot(x[0, :, 0], color=BLUE, lw=1)
    above.set(title="a sequence of 96 that repeats each 12 places", xlabel="place t", xlim=(-1, 96))
    draw_scores(below, told, 96, weights=True)
    below.set(title="its cosine with itself at each lag; the best int(ln 96) = 4 are kept, with weights", xlim=(-1, 96))
    return figure


def roll() -> Figure:
    """A pulse in the keys and a later one in the query: where the values of the keys are read, in both directions."""
    bump = torch.exp(-((torch.arange(60.0) - 20) ** 2) / 8)[None, :, None]
    query, keys = bump.roll(14, 1), bump
    figure, axes = plt.subplots(3, figsize=(6.4, 4.2), sharex=True)
    for x, name, place, color in ((keys, "keys and values", 6, BLUE), (query, "query", 37, ORANGE)):
        axes[0].plot(x[0, :, 0], color=color)
        axes[0].annotate(name, (place, 0.7), color=color)
    axes[0].set(title="the query does at t + 14 what the keys did at t: the score is highest at lag 14")
    for direction, title, axis in (
        ("back", 'direction="back", the default: out[t] = v[t − 14]: values arrive where the query is', axes[1]),
        ("paper", 'direction="paper": out[t] = v[t + 14], as published', axes[2]),
    ):
        options = Options(direction=direction, factor=0.3)
        out, _ = auto_correlation(query, keys, keys, options=options, sharpness=SHARPNESS)
        axis.plot(query[0, :, 0], color=ORANGE, lw=0.8, ls=":")
        axis.plot(out[0, :, 0], color=BLUE)
        axis.set(title=title)
    axes[2].set(xlabel="place t")
    return figure


def padding() -> Figure:
    """A row of 60 places padded to 100: its scores and its reading, as if the padding were data and exactly; no lag 0."""
    row = periodic(60, 12, 0.3)
    padded = torch.cat([row, torch.zeros(1, 40, 1)], 1)
    options = Options(lag_zero=False)
    naive, naive_told = auto_correlation(padded, padded, padded, None, options, SHARPNESS)
    exact, told = auto_correlation(padded, padded, padded, torch.tensor([60]), options, SHARPNESS)
    figure, axes = plt.subplots(3, figsize=(6.4, 4.8))
    for axis, one, slots, title in (
        (axes[0], naive_told, 100, "padding taken for data: a ring of 100, scores sink as the lag grows"),
        (axes[1], told, 60, "lengths=[60]: a ring of 60, as if the row stood alone"),
    ):
        axis.axvspan(60, 100, color="0.95", zorder=0)
        draw_scores(axis, one, slots, weights=False)
        axis.set(title=title, xlim=(-1, 100))
    axes[2].plot(row[0, :, 0], color=GREY, lw=1, label="values")
    axes[2].plot(naive[0, :60, 0], color=ORANGE, label="read with padding as data")
    axes[2].plot(exact[0, :60, 0], color=BLUE, label="read with lengths")
    axes[2].set(title="the real places, as read", xlabel="place t", xlim=(-1, 100))
    axes[2].legend(loc="right")
    return figure


def causal() -> Figure:
    """Who reads whom, lag 0 left out: weights of the place read, for each place that reads."""
    x = periodic(40, 10, 0.3)
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.7), sharey=True)
    for axis, is_causal, title in ((axes[0], False, "both directions"), (axes[1], True, "causal=True")):
        options = Options(causal=is_causal, lag_zero=False)
        reads, _ = auto_correlation(x, x, torch.eye(40)[None], options=options, sharpness=SHARPNESS)
        axis.imshow(reads[0], cmap="Blues", vmin=0, vmax=1, interpolation="none")
        axis.set(title=title, xlabel="place that is read")
    axes[0].set(ylabel="place t that reads")
    return figure


def main() -> None:
    """Draw all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (spectrum, roll, padding, causal):
        draw().savefig(folder / f"autocorrelation_{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
