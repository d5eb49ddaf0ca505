"""The figures of `autocorrelation.py` as Markdown, and their plot."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "corsar", "font.size": 9}
import matplotlib.pyplot as plt  # noqa: E402  after the choice of how to draw
import numpy as np  # noqa: E402

from corsar.nn.lags import SHORT  # noqa: E402


def tables(told: dict[str, Any]) -> str:
    """Rows against the published form and attention, of time and memory, and time by length."""
    lines = ["| case | ours (least – most) | other (least – most) | unit | ratio | wanted |", "|---|---|---|---|---|---|"]
    for one in told["cases"]:
        slow = "" if one.get("twin_counts", True) else f" (twin too slow to count: published {one['published_ms']:.0f} ms)"
        wanted = f"≥ {one['wanted']:.0f}" if one.get("wanted") else ""
        sides = (f"{one[side]:.1f} ({' – '.join(f'{edge:.1f}' for edge in one[f'{side}_range'])})" for side in ("ours", "twin"))
        lines.append(f"| {one['case']} | {' | '.join(sides)} | {one['unit']} | {one['ratio']:.2f}{slow} | {wanted} |")
    lines += ["", "| slots | rows | a step, ms | a row, ms | a row / (L · log2 L), ns |", "|---|---|---|---|---|"]
    for one in told["lengths"]:
        work = one["slots"] * math.log2(one["slots"])
        row_ms, rows = one["row_ms"], one["rows"]
        lines.append(f"| {one['slots']} | {rows} | {one['step_ms']:.1f} | {row_ms:.4f} | {1e6 * row_ms / work:.1f} |")
    return "\n".join(lines)


def fitted(lengths: list[dict[str, float]]) -> tuple[float, float]:
    """c of the line c · L · log2 L through the times by FFT, in ms, and the power of L that fits them best."""
    slots, row_ms = (np.array([one[name] for one in lengths if one["slots"] > SHORT]) for name in ("slots", "row_ms"))
    scale = float(np.exp(np.mean(np.log(row_ms / (slots * np.log2(slots))))))
    return scale, float(np.polyfit(np.log(slots), np.log(row_ms), 1)[0])


def plot(lengths: list[dict[str, float]], path: Path) -> None:
    """Time of a row against its length, with the fitted line and, for comparison, a square through the same middle."""
    slots, row_ms = (np.array([one[name] for one in lengths]) for name in ("slots", "row_ms"))
    scale, _ = fitted(lengths)
    line = scale * slots * np.log2(slots)
    middle = len(slots) // 2
    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    axes.loglog(slots, line[middle] * (slots / slots[middle]) ** 2, ":", color="0.6", label="L², for comparison")
    axes.loglog(slots, line, "-", color="#c60", label="c · L log L, fitted to the FFT form")
    for is_fft, name, fill in ((False, f"product of matrices (L ≤ {SHORT})", "#fff"), (True, "FFT", "#06a")):
        part = (slots > SHORT) == is_fft
        axes.loglog(slots[part], row_ms[part], "o", color="#06a", markerfacecolor=fill, label=f"measured, {name}")
    axes.set(xlabel="L, slots of a row", ylabel="ms a row, forward and backward", title="Auto-Correlation, both directions")
    axes.set_xticks(slots, [str(int(one)) for one in slots], rotation=45)
    axes.minorticks_off()
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def page(told: dict[str, Any], given: argparse.Namespace, elements: int) -> str:
    """The tables with what they mean."""
    where = told["machine"]
    kept = "kept by both sides, as `corsar train` does" if where["memory_kept"] else "left to the system by both sides"
    scale, power = fitted(told["lengths"])
    errors = [one["error"] for one in told["cases"] if "error" in one]
    return (
        "# Auto-Correlation: time and memory\n\n"
        f"`python benchmarks/autocorrelation.py --repeats {given.repeats}`; {where['cpu']}, {where['threads']} of "
        f"{where['cores']} cores, torch {where['torch']}, load {where['load']:.1f} at the start. Forward and backward in "
        f"float32 on random numbers, factor 1; medians of {given.repeats} runs in one process, in turns drawn anew each time, "
        f"after warming up; freed memory is {kept}.\n\n"
        "The other side is the published form in training, without projections (`twin_autocorrelation.py`, checked on the "
        "golden numbers); for `layer` rows it is `torch.nn.MultiheadAttention` with its weights not asked for, both with "
        "projections, with gradients of input and weights. Before timing, ours in the published form "
        f"gave the twin's readings and gradients within {max(errors):.0e}. `exact` is the default; lengths are drawn evenly "
        "from 1 to all slots, which saves our side nothing: it is the cost of honouring them. `normalised` learns a sharpness. "
        "Memory is what a run adds to the peak of a fresh process over its inputs, gradients included, median of "
        f"{given.processes} processes; a ratio of 2 is half the memory.\n\n"
        f"Time by length has {elements} slots a step at each length, 4×16 channels. By FFT (over {SHORT} slots) the times of a "
        f"row follow {1e6 * scale:.0f} ns · L · log2 L; as a power of L they grow by L^{power:.2f}.\n\n"
        f"{tables(told)}\n\n![time of a row against its length]({given.out.with_suffix('.svg').name})\n"
    )
