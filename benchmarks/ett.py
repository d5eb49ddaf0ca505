"""ETTh1, all seven variables, horizon 96, one seed: trains every row, then writes docs/results/forecast.md.

`python benchmarks/ett.py [ROW ...]` trains the rows named, or all; what is finished is not done again, and a killed training
goes on from its checkpoint. The page is written from the rows that are finished.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import corsar
from corsar.evaluate.forecast import METRICS, RollingErrors
from corsar.evaluate.protocol import machine
from corsar.sources.ett import TEST, TRAIN, VALID, read_ett

FILE = Path("../shared/data/ett/ETTh1.csv")
RUNS, PAGE = Path("runs/ett"), Path("docs/results/forecast.md")
HORIZON = 96
BLOCK = 2 * HORIZON
SMALL: dict[str, Any] = {
    "dim": 64,
    "ff_dim": 256,
    "learning_rate": 5e-4,
    "rate_hold": 1,
    "epochs": 4,
}  # minutes, not hours, on a CPU
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "seasonal_naive": ("SeasonalNaive", {"season": 24}),
    "nlinear": ("NLinear", {"input_len": 336}),
    "autoformer_small_paper": ("Autoformer", {"preset": "paper", **SMALL}),
    "autoformer_small": ("Autoformer", SMALL),
    "autoformer_paper": ("Autoformer", {"preset": "paper", "checkpoint_every": 50}),
    "autoformer_paper_halved": ("Autoformer", {"preset": "paper", "rate_hold": 1, "checkpoint_every": 50}),
    "autoformer": ("Autoformer", {"checkpoint_every": 50}),
}
SETTINGS = """the published settings (dim 512, 8 heads, 2 + 1 layers, FFN 2,048, factor 3, dropout .05, look-back 96,
  label 48, batch 32, Adam 1e-4 halved each epoch, at most 10 epochs, patience 3)"""
NOTES = {
    "autoformer_small_paper": "as published, but dim 64, FFN 256, Adam 5e-4, 4 epochs: not the published sizes",
    "autoformer_small": "the same sizes, the corrected layer",
    "seasonal_naive": "each hour as it was in the last 24",
    "nlinear": "one linear map of the last 336 hours (Adam 5e-3 halved each epoch)",
    "autoformer_paper": f"the published layer under {SETTINGS}, the first rate held for two epochs as that code does",
    "autoformer_paper_halved": "the same, halved after the first epoch already, as the words say",
    "autoformer": "as `autoformer_paper_halved`, with the exact, normalised layer that reads backwards",
}
PUBLISHED = {"nlinear": (0.374, 0.394), "autoformer_paper": (0.449, 0.459)}
AIM = 0.47  # test MSE of `autoformer_paper`
MISSED = f"""The aim of an MSE of {AIM:.2f} for `autoformer_paper` was missed. The layer, the decomposition and the whole
net agree with the published code on its own numbers (`make golden`), and `nlinear` with its paper on the same data; what
differs in the training is not known. It is one seed, its best epoch is the first, and the large net does worse than the small
one. Others who ran that code do not reach its table either: .587 at a horizon of 720 where it has .498 (issue 726 of
Time-Series-Library). The published code also keeps its first rate for a second epoch; here it is halved after the first."""
KEPT = ("mse", "mae", "mse_original", "mae_original", "targets_W", "groups_W")


def call(row: str) -> str:
    """The Python that makes the estimator of a row."""
    name, settings = ROWS[row]
    told = {"horizon": HORIZON, **settings, "multivariate": True, "seed": 0}
    return f"corsar.{name}({', '.join(f'{key}={value!r}' for key, value in told.items())})"


def finish(row: str, series: pl.DataFrame, threads: int) -> None:
    """Train and evaluate a row, unless that was done."""
    name, settings = ROWS[row]
    folder = RUNS / row
    file = folder / "errors.npz"
    if file.exists():
        return

    def first(steps: int) -> pl.DataFrame:
        return series.group_by("unique_id", maintain_order=True).head(steps)

    model = getattr(corsar, name)(horizon=HORIZON, multivariate=True, seed=0, threads=threads, **settings)
    model.fit(first(TRAIN + VALID), valid_size=VALID, run_dir=folder, resume=True, progress=True)
    errors = model.rolling(first(TRAIN + VALID + TEST), TEST, progress=True)
    beside = folder / ".errors.new.npz"
    np.savez(beside, **{key: getattr(errors, key) for key in KEPT})
    os.replace(beside, file)


def stored(row: str) -> RollingErrors:
    """The errors of a finished row."""
    with np.load(RUNS / row / "errors.npz", allow_pickle=False) as arrays:
        return RollingErrors(**{key: arrays[key] for key in KEPT})


def short(value: float, digits: int = 3) -> str:
    """A number without a zero before its point."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def figure(told: dict[str, float], digits: int = 3) -> str:
    """value [low, high]."""
    value, low, high = (short(told[key], digits) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def log(row: str) -> list[dict[str, Any]]:
    """One line an epoch, of a row that was trained."""
    file = RUNS / row / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main_table(done: list[str]) -> list[str]:
    """Errors over all variables."""
    lines = ["| model | MSE | MAE | published MSE/MAE | MSE, original units | MAE, original units |", "|---" * 6 + "|"]
    for row in done:
        told = stored(row).summary(BLOCK)
        published = "/".join(short(one) for one in PUBLISHED.get(row, ())) or "–"
        cells = [figure(told["mse"]), figure(told["mae"]), published]
        lines.append(f"| {row} | {' | '.join([*cells, *(figure(told[key], 2) for key in METRICS[2:])])} |")
    return lines


def difference_table(done: list[str]) -> list[str]:
    """How much lower the errors of the corrected layer are than those of each other row, on the same windows."""
    lines = ["| autoformer against | MSE lower by | MAE lower by |", "|---" * 3 + "|"]
    ours = stored("autoformer")
    for row in done:
        if row != "autoformer":
            cells = [figure(ours.less(stored(row), metric, BLOCK)) for metric in ("mse", "mae")]
            lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def variable_table(done: list[str], names: list[str]) -> list[str]:
    """The errors of each variable."""
    lines = ["| model | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in done:
        own = stored(row).by_series()
        lines.append(f"| {row} | " + " | ".join(short(own[place]["mse"]) for place in range(len(names))) + " |")
    return lines


def training_table(done: list[str]) -> list[str]:
    """What each training took, and its validation errors."""
    lines = ["| model | made by | epochs | validation MSE of each | training and validation |", "|---" * 5 + "|"]
    for row in done:
        epochs = log(row)
        errors = ", ".join(short(one["valid_mse"]) for one in epochs) or "–"
        seconds = sum(one["seconds"] + one["valid_s"] for one in epochs)
        lines.append(f"| {row} | `{call(row)}` | {len(epochs) or '–'} | {errors} | {seconds:,.0f} s |")
    return lines


def page(done: list[str], names: list[str]) -> str:
    """The whole page."""
    here = machine(corsar.load(RUNS / done[0]).fitted.model)
    windows = stored(done[0]).summary(BLOCK)
    intro = f"""# Forecasts of ETTh1

Seven variables together, {HORIZON} hours ahead, one seed (0). Hourly rows; months of 30 days: 12 to train, 4 to choose the
epoch by, 4 to test; each variable is scaled by mean and spread of its 12 training months. Choices were made on the validation
part alone. All {windows["windows"]:,} test windows count (the published code drops the last batch where it is not full).
Intervals are 95 %, a bootstrap over {windows["blocks"]} blocks of {BLOCK} windows that follow one another: they say how one
seed's error varies over time. Errors in original units average loads and degrees, and the largest variables rule them.

Machine: {here["cpu"]}, {here["cores"]} cores, torch {here["torch"]}. One thread, beside other work: times are upper bounds.
Written by `python benchmarks/ett.py` (`make results-forecast`), which goes on where it was stopped.

## Errors
"""
    parts = [intro, *main_table(done), "", *(f"- `{row}`: {NOTES[row]}." for row in done), ""]
    if "autoformer_paper" in done and stored("autoformer_paper").summary(BLOCK)["mse"]["value"] > AIM:
        parts += [MISSED, ""]
    if "autoformer" in done:
        parts += ["## On the same windows", "", *difference_table(done), ""]
    parts += ["## MSE of each variable", "", *variable_table(done, names), ""]
    parts += ["## Training", "", *training_table(done), ""]
    return "\n".join(parts)


def main() -> None:
    """All rows, then the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all where none is named")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    unknown = [row for row in given.rows if row not in ROWS]
    if unknown:
        parser.error(f"there is no row '{unknown[0]}'; there are {', '.join(ROWS)}")
    series = read_ett(FILE)
    for row in given.rows or ROWS:
        finish(row, series, given.threads)
    done = [row for row in ROWS if (RUNS / row / "errors.npz").exists()]
    PAGE.write_text(page(done, series["unique_id"].unique(maintain_order=True).to_list()))


if __name__ == "__main__":
    main()
