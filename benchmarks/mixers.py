"""Attention, Auto-Correlation, a learned filter and nothing at all as the mixer of SASRec and UniSAR: `make results-mixers`.

Toys, 5,000 users drawn by a hash of their ids, the same budget for every row: 8 epochs, batches of 256 cases a task, one
seed. Writes docs/results/mixers.md, with docs/results/mixers_notes.md at its end; what is finished is not done again, and a
killed training goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from results import TOYS, Protocol, corsar, kept_report, table, train_seconds

from corsar.evaluate.report import table_rows

USERS, DATASET, RUNS = 5000, Path("datasets/toys_5000"), Path("runs/mixers")
BUDGET = ("--data.path", str(DATASET), "--train.epochs", "8", "--train.batch_size", "256")
MIXERS = {
    "attention": (),
    "autocorrelation": ("--model.mixer", "autocorrelation"),
    "autocorrelation_paper_code": ("--model.mixer", "autocorrelation", "--model.lags", "paper_code"),
    "fourier": ("--model.mixer", "fourier"),
    "lag_zero": ("--model.mixer", "lag_zero"),
}
MODELS = {"sasrec": "configs/toys_sasrec.toml", "unisar": "configs/toys_unisar_ids.toml"}
UNTRAINED = ("popularity", "covisit", "blend")
PROTOCOL = Protocol("", ("--evaluate.subset", "both_histories"))


def prepare() -> None:
    """Cut 5,000 users out of Toys and prepare them."""
    raw = DATASET.with_name("toys_5000_raw")
    raw.mkdir(parents=True, exist_ok=True)
    events = pl.read_parquet(f"{TOYS}/events.parquet")
    users = events.select(pl.col("user_id").unique()).sort(pl.col("user_id").hash(seed=0)).head(USERS)
    for name in ("events", "candidates"):
        pl.read_parquet(f"{TOYS}/{name}.parquet").join(users, on="user_id", how="semi", maintain_order="left").write_parquet(
            raw / f"{name}.parquet"
        )
    words = ("--items", f"{TOYS}/items.parquet", "--candidates", str(raw / "candidates.parquet"))
    corsar(
        "prepare", "tables", str(raw / "events.parquet"), *words, "--config", "configs/toys_columns.toml", "--out", str(DATASET)
    )


def rows() -> dict[str, tuple[str, ...]]:
    """Every row and the words of its training."""
    told = {name: (f"configs/toys_{name}.toml", *BUDGET[:2]) for name in UNTRAINED}
    for model, config in MODELS.items():
        for mixer, flags in MIXERS.items():
            told[f"{model}_{mixer}"] = (config, *BUDGET, *flags)
    return told


def main() -> None:
    """Train, evaluate, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="2")
    threads = parser.parse_args().threads
    if not DATASET.exists():
        prepare()
    reports, commands = [], []
    (RUNS / "reports").mkdir(parents=True, exist_ok=True)
    for row, words in rows().items():
        run = RUNS / row
        if not (run / "artifact").exists() or (run / "checkpoint").exists():
            resume = ["--resume"] if (run / "config.toml").exists() else []
            corsar("train", *words, "--out", str(run), "--run.threads", threads, *resume)
        reports.append(kept_report(run, RUNS / "reports" / f"{row}.json", PROTOCOL, threads))
        seconds, epochs = train_seconds(run)
        commands.append(f"| {row} | `corsar train {' '.join(words)} --out {run}` | {epochs or '–'} | {seconds:.0f} s |")
    table_rows(reports)  # refuses reports of unlike protocols
    machine = reports[0]["machine"]
    page = ["# Mixers on Toys", "", reports[0]["derived"], ""]
    page += [
        f"{USERS:,} users, 99 given candidates, cases with both histories; the same budget for every trained row: 8 epochs,",
        "256 cases a task and step, one seed (0), item ids without words. 95 % intervals by a bootstrap over users.",
        "`lag_zero` lets each place read itself alone: what Auto-Correlation is where lag 0 wins everywhere.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}; trainings ran beside other work.",
        "Written by `make results-mixers`.",
        "",
        *table(reports),
        "",
    ]
    counts = ", ".join(f"{n:,} {task} cases" for task, n in reports[-1]["cases"].items())
    page += [
        f"{counts}; fingerprint `{reports[0]['fingerprint'][:16]}`.",
        "",
        "| row | command | epochs | time |",
        "|---|---|---|---|",
    ]
    notes = Path("docs/results/mixers_notes.md").read_text(encoding="utf-8")
    Path("docs/results/mixers.md").write_text("\n".join([*page, *commands, "", notes]), encoding="utf-8")


if __name__ == "__main__":
    main()
