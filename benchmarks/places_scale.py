"""AutoMTN behind its return head on 100,000 places and a million simulated check-ins: time and memory of steps and evaluation.

100 training steps, and 1,000 people against the whole catalogue.

Each part runs in a process of its own, so that its peak of resident memory is its own: `python benchmarks/places_scale.py`.
The check-ins have no truth to be learned; the figures are of time and memory alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.config import Config, load_config
from corsar.data.build import build_dataset
from corsar.data.store import Dataset, open_dataset
from corsar.evaluate.protocol import evaluate
from corsar.models.habits import HabitsNet
from corsar.progress import Progress
from corsar.schema import KINDS, make_tables
from corsar.train.loop import Run, fresh_model

USERS, EACH, PLACES, STEPS, CASES = 10_000, 100, 100_000, 100, 1000
BUDGET_GIB = 4.0
PARTS = ("prepare", "train", "evaluate")


def make_dataset(out: Path) -> None:
    """People with a home and twenty favourites near it, whom they visit in seven of ten check-ins."""
    draw = np.random.default_rng(0)
    lat, lon = 40 + 5 * draw.random(PLACES), -100 + 5 * draw.random(PLACES)
    order = np.argsort(lat)  # near in this order is near on the map, one way at least
    home = draw.integers(0, PLACES - 500, USERS)
    favourites = order[home[:, None] + draw.integers(0, 500, (USERS, 20))]
    at_home = favourites[np.arange(USERS)[:, None], (20 * draw.random((USERS, EACH)) ** 2).astype(int)]
    place = np.where(draw.random((USERS, EACH)) < 0.7, at_home, draw.integers(0, PLACES, (USERS, EACH)))
    time_ms = 1_333_324_800_000 + np.cumsum(draw.integers(600_000, 100_000_000, (USERS, EACH)), 1)
    events = pl.DataFrame({
        "user_id": np.repeat(np.arange(USERS), EACH), "item_id": place.ravel(), "time_ms": time_ms.ravel(),
        "utc_offset_min": np.full(USERS * EACH, -360),
    }).with_columns(kind=pl.lit("checkin", pl.Enum(KINDS)))  # fmt: skip
    items = pl.DataFrame({"item_id": np.arange(PLACES), "lat_deg": lat, "lon_deg": lon, "category": np.arange(PLACES) % 200})
    tables = make_tables(events, items, source="simulated", derived="Simulated check-ins.", categories=("category",))
    build_dataset(tables, out, split="leave_last")


def settings(data: Path, threads: int) -> Config:
    told = {"data.path": str(data), "model.name": "habits", "model.discovery": '{name = "automtn", dim = 32}'}
    told |= {"train.batch_size": "128"}
    told |= {"run.threads": str(threads), "evaluate.max_cases": str(CASES), "evaluate.bootstrap": "0"}
    return load_config(None, told)


def one_part(part: str, data: Path, threads: int) -> dict[str, Any]:
    """Seconds and peak memory of a part, in this process."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    if part == "prepare":
        make_dataset(data)
        told: dict[str, Any] = {"seconds": time.perf_counter() - start}
    else:
        dataset = open_dataset(data)
        model, config = fresh_model(settings(data, threads), dataset)
        assert isinstance(model, HabitsNet)
        told = train(model, config, dataset) if part == "train" else score(model, config, dataset)
    return {"part": part, **told, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def train(model: HabitsNet, config: Config, dataset: Dataset) -> dict[str, Any]:
    """100 steps of the training loop itself; their median."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            config, Path(folder) / "run", dataset, model, torch.device("cpu"), torch.get_num_threads(), Progress(quiet=True)
        )
        run.log = None
        took = []
        model.train()
        for _ in range(STEPS):
            start = time.perf_counter()
            run.step()
            took.append(time.perf_counter() - start)
    return {"seconds": sum(took), "step_s": float(np.median(took)), "steps": STEPS, "batch": config.train.batch_size}


def score(model: HabitsNet, config: Config, dataset: Dataset) -> dict[str, Any]:
    """1,000 people against the whole catalogue."""
    start = time.perf_counter()
    result = evaluate(model, dataset, config)
    seconds = time.perf_counter() - start
    assert result.cases == {"next_place": CASES}
    return {"seconds": seconds, "people_per_s": CASES / seconds}


def main() -> None:
    """All parts, and the page or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path, help="where the dataset is kept; by default it is thrown away")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(one_part(given.part, given.data, given.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or Path(folder) / "data"
        told = []
        for part in PARTS:
            if part == "prepare" and data.exists():
                continue
            words = [sys.executable, __file__, "--part", part, "--data", str(data), "--threads", str(given.threads)]
            told.append(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout))
    worst = max(one["peak_gib"] for one in told)
    machine = {"machine": platform.processor() or platform.machine(), "threads": given.threads, "torch": str(torch.__version__)}
    found = {"name": "places_scale", "unit": "s, GiB", "cases": told, "peak_gib": worst, "machine": machine}
    page = [
        "# AutoMTN on 100,000 places and 1,000,000 simulated check-ins", "",
        "Window 25, dim 32, two layers, return head; a step tells 128 targets from 4,096 drawn places.", "",
        "| part | time | peak memory |", "|---|---|---|",
        *(f"| {one['part']} | {line(one)} | {one['peak_gib']:.2f} GiB |" for one in told), "",
        f"Budget: {BUDGET_GIB:.0f} GiB. {machine['machine']}, {given.threads} threads, torch {machine['torch']}.",
        "Written by `python benchmarks/places_scale.py --out benchmarks/results/places_scale.md`.", "",
    ]  # fmt: skip
    if given.out:
        given.out.write_text("\n".join(page))
    print(json.dumps(found) if given.json else "\n".join(page))
    if worst > BUDGET_GIB:
        raise SystemExit(f"{worst:.2f} GiB are over the budget of {BUDGET_GIB:.0f} GiB")


def line(one: dict[str, Any]) -> str:
    """The time of a part in words."""
    if one["part"] == "train":
        return f"{one['steps']} steps of {one['batch']} cases in {one['seconds']:.0f} s, median {one['step_s']:.2f} s"
    if one["part"] == "evaluate":
        return f"{CASES:,} people in {one['seconds']:.0f} s, {one['people_per_s']:.1f} a second"
    return f"{one['seconds']:.0f} s"


if __name__ == "__main__":
    main()
