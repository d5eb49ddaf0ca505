"""Classes and periods of EROS variable stars, and the page docs/results/curves.md: `python benchmarks/curves.py`.

What is finished is not done again: each (row, seed) and each period search leaves one file under runs/curves, written beside
and renamed. `--choose` trains the settings in CHOICES on the training stars of seed 0 alone and says how each does on a part
held out of them; the page quotes that.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from astropy.timeseries import LombScargle
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

import corsar
from corsar.evaluate.protocol import machine
from corsar.evaluate.report import write_text
from corsar.sources.curves import Points, read_eros
from corsar.train.curves import held_out

EROS, RUNS, PAGE = Path("../shared/data/eros_variable_stars"), Path("runs/curves"), Path("docs/results/curves.md")
SEEDS = (0, 1, 2, 3, 4)
TEST_SHARE = 0.2
CLASSES = {1: "eclipsing binaries", 2: "Cepheids", 3: "RR Lyrae", 4: "long-period variables"}
RESAMPLINGS = 1000
FEW = 10  # stars, of fewer of which a share has no interval

CHOSEN: dict[str, Any] = {"bin_days": 1.0, "empty_bins": "skip"}
CHOICES: dict[str, dict[str, Any]] = {
    "as chosen: bins of a day, empty ones skipped": {},
    "point by point": {"bin_days": None, "empty_bins": "zero"},
    "bins of a day, empty ones zero: a lag is a time": {"empty_bins": "zero"},
    "as chosen, two layers": {"layers": 2},
}
NETS: dict[str, dict[str, Any]] = {
    "Auto-Correlation with lengths": {},
    "Auto-Correlation without lengths": {"lengths": False},
    "attention": {"mixer": "attention"},
    "Auto-Correlation without lengths, padded to 300": {"lengths": False, "pad_to": 300},
}
BOOSTED = ("gradient boosting on statistics", "gradient boosting on statistics and the found period")
ROWS = ("majority class", *BOOSTED, *NETS)
REFERENCE = "Auto-Correlation with lengths"
NEARS = (0.5, 0.6, 0.7, 0.8)
BIN_DAYS = 1.0
"""Periods are looked for over two of these."""

Stars = tuple[Points, pl.DataFrame, pl.DataFrame]


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """What is in the file, made and written first where it is not there."""
    if not file.exists():
        write_text(file, json.dumps(make()))
    return json.loads(file.read_text(encoding="utf-8"))


def slug(name: str) -> str:
    """A row's name as a file's."""
    return "".join(one if one.isalnum() else "_" for one in name.lower())


def parts(labels: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Training and test stars: a fifth of each class is held out."""
    train, test = held_out(torch.tensor(labels["label"].to_list()), TEST_SHARE, seed)
    return labels[train.numpy()], labels[test.numpy()]


def curves_of(points: Points, labels: pl.DataFrame) -> pl.DataFrame:
    """The points of these stars."""
    return points.table.filter(pl.col("object").is_in(labels["object"].to_list()))


def statistics(table: pl.DataFrame) -> pl.DataFrame:
    """One row a star: simple statistics of each band's values, and the colour; no catalogue column, no time but its order."""
    value = pl.col("value")
    told = [
        value.len().alias("count"), value.mean().alias("mean"), value.std().alias("spread"), value.skew().alias("skew"),
        value.kurtosis().alias("kurtosis"), (value.max() - value.min()).alias("range"),
        *(value.quantile(q).alias(f"q{q}") for q in (0.05, 0.25, 0.5, 0.75, 0.95)),
        value.diff().abs().mean().alias("step"), (value.diff().pow(2).mean() / value.var()).alias("von_neumann"),
    ]  # fmt: skip
    bands = table.group_by("object", "band", maintain_order=True).agg(told)
    wide = bands.pivot(on="band", index="object", maintain_order=True)
    return wide.with_columns(colour=pl.col("mean_b") - pl.col("mean_r"))


def train_net(settings: dict[str, Any], points: Points, train: pl.DataFrame, test: pl.DataFrame, seed: int) -> dict[str, Any]:
    """Predictions for the test stars."""
    start = time.process_time()
    model = corsar.CurveClassifier(**{**CHOSEN, **settings}, seed=seed, threads=1).fit(curves_of(points, train), train)
    seconds = time.process_time() - start
    found = model.predict(curves_of(points, test)).join(test.rename({"label": "true"}), on="object")
    answers = {name: found[name].to_list() for name in ("object", "label", "true")}
    return {**answers, "seconds": seconds, "epochs": len(model.epochs_), "settings": model.get_params()}


def train_simple(row: str, points: Points, train: pl.DataFrame, test: pl.DataFrame, seed: int) -> dict[str, Any]:
    """Predictions of gradient boosting, or of the majority class."""
    start = time.process_time()
    if row in BOOSTED:
        told = statistics(points.table)
        if row == BOOSTED[1]:
            told = told.join(corsar.find_periods(points.table, bin_days=BIN_DAYS), on="object", maintain_order="left")
        x = {name: part.select("object").join(told, on="object", maintain_order="left").drop("object").to_numpy()
             for name, part in (("train", train), ("test", test))}  # fmt: skip
        model = HistGradientBoostingClassifier(random_state=seed).fit(x["train"], train["label"].to_numpy())
        label = model.predict(x["test"]).tolist()
    else:
        label = [int(train["label"].mode()[0])] * test.height
    return {"object": test["object"].to_list(), "label": label, "true": test["label"].to_list(),
            "seconds": time.process_time() - start}  # fmt: skip


def run(row: str, seed: int, stars: Stars) -> dict[str, Any]:
    """The predictions of a row under a seed, made where they are not there."""
    points, labels, _ = stars

    def make() -> dict[str, Any]:
        print(f"{row}, seed {seed}", flush=True)
        train, test = parts(labels, seed)
        if row in NETS:
            return train_net(NETS[row], points, train, test, seed)
        return train_simple(row, points, train, test, seed)

    found: dict[str, Any] = kept(RUNS / f"{slug(row)}_s{seed}.json", make)
    return found


def choose(stars: Stars) -> list[str]:
    """Lines of a table: how each choice does on a fifth held out of the training stars of seed 0."""
    points, labels, _ = stars
    train, _ = parts(labels, 0)
    train, valid = parts(train, 1)
    lines = ["| choice | validation accuracy | epochs | CPU time |", "|---|---|---|---|"]
    for name, settings in CHOICES.items():
        made = kept(RUNS / f"choice_{slug(name)}.json", lambda told=settings: train_net(told, points, train, valid, 0))
        right = np.mean(np.array(made["label"]) == np.array(made["true"]))
        lines.append(f"| {name} | {short(right)} | {made['epochs']} | {made['seconds']:.0f} s |")
    half = 1.96 * np.sqrt(0.85 * 0.15 / valid.height)
    return [*lines, "", f"On {valid.height} stars an accuracy near .85 is known within ± {short(half)}, so that none of these"
            " is shown to be better; the table of classes has the first, which costs least."]  # fmt: skip


def scores(runs: list[dict[str, Any]], weight: dict[str, float]) -> NDArray[np.float64]:
    """Accuracy and macro-F1, means over the seeds, where each star counts by its weight."""
    told = []
    for one in runs:
        w = np.array([weight[name] for name in one["object"]])
        true, label = np.array(one["true"]), np.array(one["label"])
        f1 = []
        for kind in CLASSES:
            both = w[(true == kind) & (label == kind)].sum()
            either = w[true == kind].sum() + w[label == kind].sum()
            f1.append(2 * both / either if either else 0.0)
        told.append((w[true == label].sum() / w.sum(), np.mean(f1)))
    return np.mean(told, axis=0)


def class_table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lines of the table of classes, and of the differences from the reference row."""
    names = sorted({name for one in found[REFERENCE] for name in one["object"]})
    draw = np.random.default_rng(0)
    resampled = draw.multinomial(len(names), [1 / len(names)] * len(names), size=RESAMPLINGS)
    weights = [dict.fromkeys(names, 1.0), *(dict(zip(names, one, strict=True)) for one in resampled)]
    drawn = {row: np.array([scores(runs, weight) for weight in weights]) for row, runs in found.items()}
    lines = ["| row | accuracy | macro-F1 | accuracy of each seed | CPU time a seed |", "|---|---|---|---|---|"]
    for row, runs in found.items():
        each = ", ".join(short(scores([one], weights[0])[0]) for one in runs)
        seconds = np.mean([one["seconds"] for one in runs])
        lines.append(f"| {row} | {interval(drawn[row][:, 0])} | {interval(drawn[row][:, 1])} | {each} | {seconds:.0f} s |")
    lines += ["", f"Differences from *{REFERENCE}*, paired by star and seed:", ""]
    lines += ["| row | accuracy | macro-F1 |", "|---|---|---|"]
    apart = {row: drawn[row] - drawn[REFERENCE] for row in found if row != REFERENCE}
    lines += [f"| {row} | {interval(away[:, 0], '+')} | {interval(away[:, 1], '+')} |" for row, away in apart.items()]
    return [*lines, "", verdict({row: away[1:, 1] for row, away in apart.items()})]


def verdict(apart: dict[str, NDArray[np.float64]]) -> str:
    """Which rows are better, worse or not told apart, from resampled differences in macro-F1."""
    told: dict[str, list[str]] = {"better": [], "worse": [], "not told apart from it": []}
    for row, drawn in apart.items():
        low, high = np.quantile(drawn, [0.025, 0.975])
        told["better" if low > 0 else "worse" if high < 0 else "not told apart from it"].append(row)
    said = "; ".join(f"{how}: {', '.join(f'*{row}*' for row in rows) or 'none'}" for how, rows in told.items())
    return f"By the macro-F1, against *{REFERENCE}*: {said}."


def interval(drawn: NDArray[np.float64], sign: str = "") -> str:
    """value [low, high] of a statistic, first on all stars and then on resampled ones."""
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    return f"{short(drawn[0], sign)} [{short(low, sign)}, {short(high, sign)}]"


def short(value: float, sign: str = "") -> str:
    """Four digits, without the zero in front of the point."""
    return f"{value:{sign}.4f}".replace("0.", ".", 1)


def lomb_scargle(points: Points) -> list[float]:
    """The period of the highest peak of the periodogram of both bands, each with mean 0 and spread 1, over two bins."""
    found = []
    for star in points.table.partition_by("object", maintain_order=True):
        value, spread = pl.col("value"), pl.col("value").std().over("band")
        scaled = star.with_columns(value=(value - value.mean().over("band")) / pl.when(spread > 0).then(spread).otherwise(1))
        span = float(star["time"].max() - star["time"].min())  # type: ignore[operator]
        frequency = np.arange(1 / span, 1 / (2 * BIN_DAYS), 1 / span / 8)
        power = LombScargle(scaled["time"].to_numpy(), scaled["value"].to_numpy()).power(frequency)
        found.append(float(1 / frequency[power.argmax()]))
    return found


def periods(stars: Stars) -> tuple[pl.DataFrame, dict[str, float]]:
    """Each star's found periods, its catalogue entries, whether it served to choose, and the seconds of both searches."""
    points, labels, catalogue = stars

    def ours() -> dict[str, Any]:
        start = time.process_time()
        found = {near: corsar.find_periods(points.table, bin_days=BIN_DAYS, near=near) for near in NEARS}
        told = {str(near): one["period"].to_list() for near, one in found.items()}
        return {"periods": told, "seconds": (time.process_time() - start) / len(NEARS)}

    def theirs() -> dict[str, Any]:
        start = time.process_time()
        return {"periods": lomb_scargle(points), "seconds": time.process_time() - start}

    own, other = kept(RUNS / "periods.json", ours), kept(RUNS / "lomb_scargle.json", theirs)
    table = catalogue.join(labels, on="object", maintain_order="left").with_columns(
        folds=pl.col("period") / pl.col("divisor"),
        lomb_scargle=pl.Series(other["periods"]),
        **{f"near_{near}": pl.Series(own["periods"][str(near)], dtype=pl.Float64) for near in NEARS},
    )
    # every second star whose period is over two bins, in the order of the file
    is_over = pl.col("folds") > 2 * BIN_DAYS
    table = table.with_columns(is_chosen_by=is_over & (is_over.cum_sum() % 2 == 1))
    return table, {"ours": own["seconds"], "Lomb–Scargle": other["seconds"]}


def agreement(table: pl.DataFrame, column: str, truth: str) -> tuple[float, float]:
    """Shares of stars whose found period is within 1 % of the truth, and of a multiple or fraction of 2 … 10 of it."""
    ratio = table[column].fill_null(float("nan")).to_numpy() / table[truth].to_numpy()
    same = np.abs(ratio - 1) < 0.01
    harmonic = np.zeros(len(ratio), dtype=bool)
    for k in range(2, 11):
        harmonic |= (np.abs(ratio / k - 1) < 0.01) | (np.abs(ratio * k - 1) < 0.01)
    return float(same.mean()), float((harmonic & ~same).mean())


def period_lines(stars: Stars) -> list[str]:
    """The part of the page on periods."""
    table, seconds = periods(stars)
    over = table.filter(pl.col("folds") > 2 * BIN_DAYS)
    chosen_by, rest = over.filter("is_chosen_by"), over.filter(~pl.col("is_chosen_by"))
    tried = {near: agreement(chosen_by, f"near_{near}", "folds")[0] for near in NEARS}
    near = max(tried, key=lambda one: tried[one])
    lines = [
        f"The constants of the search were set on every second of these stars, `near` among them (share within 1 % there:"
        f" {', '.join(f'{one}: {short(share)}' for one, share in tried.items())}; taken: {near}). The tables hold the others.",
        "",
    ]
    raw = table.filter((pl.col("period") > 2 * BIN_DAYS) & ~pl.col("is_chosen_by"))
    for title, truth, part in (
        ("Against `period / div_period`, which folds the curve", "folds", rest),
        ("Against `period` as the catalogue prints it", "period", raw),
    ):
        lines += [f"### {title}", "", "| stars | n | lag spectrum, within 1 % | its harmonics | Lomb–Scargle, within 1 % |"
                  " its harmonics |", "|---|---|---|---|---|---|"]  # fmt: skip
        for name, own in [("all", part), *((CLASSES[kind], part.filter(label=kind)) for kind in CLASSES)]:
            if own.height:
                cells = [short(share) for column in (f"near_{near}", "lomb_scargle") for share in agreement(own, column, truth)]
                half = 1.96 * np.sqrt(np.array([float(c) * (1 - float(c)) for c in (cells[0], cells[2])]) / own.height)
                sure = [f" ± {short(one)}" if own.height >= FEW else "" for one in half]
                lines.append(f"| {name} | {own.height:,} | {cells[0]}{sure[0]} | {cells[1]} |"
                             f" {cells[2]}{sure[1]} | {cells[3]} |")  # fmt: skip
        lines.append("")
    lines += [
        f"± is half a 95 % interval (binomial, not given under {FEW} stars)."
        " A harmonic is a multiple or a fraction of 2 … 10, within 1 %."
        f" CPU time for all {table.height:,} stars: lag spectrum {seconds['ours']:.0f} s,"
        f" Lomb–Scargle {seconds['Lomb–Scargle']:.0f} s.",
        "",
    ]
    return lines


def main() -> None:
    """The page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choose", action="store_true", help="train the choices alone")
    parser.add_argument("--only", help="train rows whose name holds this text, and write no page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    stars = read_eros(EROS)
    choice_lines = choose(stars) if given.choose or given.only is None else []
    if given.choose:
        print("\n".join(choice_lines))
        return
    rows = [row for row in ROWS if given.only is None or given.only in row]
    found = {row: [run(row, seed, stars) for seed in SEEDS] for row in rows}
    if given.only is not None:
        return
    write_text(PAGE, "\n".join(page(class_table(found), choice_lines, period_lines(stars))) + "\n")


def page(classes: list[str], choices: list[str], found: list[str]) -> list[str]:
    """The lines of the page."""
    host = machine(torch.nn.Linear(1, 1))
    text = f"""# Results on EROS variable stars

2,912 stars of four classes, each with about 120 irregular measurements in each of two bands. Inputs are times, magnitudes and
bands; catalogue period, position, quality and flux columns are not read.
Machine: {host["cpu"]}, {host["cores"]} cores, torch {host["torch"]};
one thread. Times are of the processor, since other work ran beside.
Command: `make results-curves` (`python benchmarks/curves.py`), which goes on where it was stopped.

## Classes

A fifth of the stars of each class is held out by star, anew for each of the seeds {", ".join(map(str, SEEDS))}.
Values are means over seeds; intervals are of 95 %, stars resampled, all seeds of a star together. All nets have the same
settings but for what their row names: `{json.dumps(CHOSEN)}`,
the rest as `corsar.CurveClassifier()` has it; the epoch is chosen on 15 % of the training stars.

CLASSES

### Choices

Made by training Auto-Correlation with lengths on four fifths of the training stars of seed 0; the fifth that is left says:

CHOICES

## Periods

Found in bins of {BIN_DAYS:g} day, for stars whose period is over two bins; Lomb–Scargle (astropy) looks over the same range of
periods, at eight frequencies a peak. Most entries of the catalogue are a whole multiple (`div_period`) of the period that folds
the curve, so that the found periods are compared with both.

PERIODS"""
    for name, lines in (("CLASSES", classes), ("CHOICES", choices), ("PERIODS", found)):
        text = text.replace(f"\n{name}", "\n" + "\n".join(lines))
    return text.splitlines()


if __name__ == "__main__":
    main()
