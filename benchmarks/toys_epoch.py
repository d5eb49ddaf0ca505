"""Seconds of a training epoch on Toys, preset paper: `python benchmarks/toys_epoch.py [--json]`.

Runs the first joint steps of configs/toys_unisar_paper.toml (1,020 + 1,021 cases each) and multiplies the median by the steps
of an epoch; the published code takes about 160 s for one on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from corsar.artifact import build_model
from corsar.config import load_config
from corsar.data.loader import TrainLoader
from corsar.data.store import open_dataset
from corsar.train.machine import keep_memory
from corsar.train.optim import build_optimizer

PUBLISHED_S = 160.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_memory()  # as `corsar train` does
    config = load_config(Path("configs/toys_unisar_paper.toml"), {})
    dataset = open_dataset(Path(config.data.path))
    model = build_model(config, dataset.sizes(config.data.feed_len, config.data.search_len)).train()
    optimizer, loader = build_optimizer(model, config.train), TrainLoader(dataset, config.data, config.train, 0)
    weights, took = model.term_weights(), []
    for step in range(given.steps + 2):
        start = time.perf_counter()
        batches = loader.step(0, step % loader.steps_per_epoch)
        optimizer.zero_grad()
        for task, batch in batches.items():
            share = config.train.search_weight if task == "search" else 1.0
            total = share * sum(weights.get(name, 1.0) * term for name, term in model.loss(batch).items())
            total.backward()  # type: ignore[union-attr]
        optimizer.step()
        took.append(time.perf_counter() - start)
    ours = statistics.median(took[2:]) * loader.steps_per_epoch  # the first two warm up
    case = {"case": f"{loader.steps_per_epoch} joint steps", "ours": ours, "twin": PUBLISHED_S, "ratio": PUBLISHED_S / ours}
    machine = {"threads": given.threads, "torch": str(torch.__version__)}
    told = {"name": "toys_epoch", "unit": "s", "cases": [case], "machine": machine}
    print(json.dumps(told) if given.json else f"an epoch takes {ours:.1f} s; published code about {PUBLISHED_S:.0f} s")


if __name__ == "__main__":
    main()
