"""How much of the model's own ranking the first stage keeps, on Toys: trains towers, then writes docs/results/first_stage.md.

`python benchmarks/first_stage.py [--users N] [--epochs N]`. The towers learn beside a finished run of UniSAR, whose weights
stay: what `train.two_tower = true` does in one go, without training the model anew. What is finished lies in runs/first_stage
and is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from corsar.api.engine import best_items, nearest_items, question_batch
from corsar.api.past import people_of, stored_past
from corsar.artifact import Artifact, open_artifact
from corsar.batch import Ragged, Task
from corsar.data.loader import TrainLoader, seed_of
from corsar.data.store import open_dataset
from corsar.evaluate.protocol import machine
from corsar.index import first
from corsar.index.first import NEWEST, Candidates
from corsar.index.vectors import APPROXIMATE, PROBES, VectorIndex
from corsar.index.words import WordIndex
from corsar.models.towers import TwoTower
from corsar.progress import Progress

RUN, DATA, OUT = Path("runs/toys/unisar_words"), Path("datasets/toys"), Path("runs/first_stage")
PAGE = Path("docs/results/first_stage.md")
TASKS: tuple[Task, ...] = ("recommend", "search")
SEED, NUM, DEEP, TIMED = 0, 1000, 100, 3
CHOICE, TURNS = 100, (1, 2, 3, 4, 8)  # users beside those told of, by whom the turns of the towers are chosen, among these
LARGE = 673_415  # items of the simulated catalogue
RESAMPLES = 2000
NAMES = {
    "towers": "two towers alone",
    "neighbours": "co-visit alone",
    "words": "BM25 alone",
    "own": "own items alone",
    "popular": "popular alone",
    "before": "union without the towers",
    "union": "**union**",
}


def towers_of(artifact: Artifact, epochs: int) -> dict[str, Any]:
    """Put trained towers beside the model; what their training took."""
    torch.manual_seed(seed_of(SEED, "towers"))
    towers = TwoTower(artifact.sizes, artifact.model.config.dim)
    artifact.model.two_tower = towers
    told, kept = OUT / f"towers_{epochs}.json", OUT / f"towers_{epochs}.safetensors"
    if told.exists():
        towers.load_state_dict(load_file(kept))
        return dict(json.loads(told.read_text()))
    dataset, config = open_dataset(DATA), artifact.config
    towers.count(dataset.train_events())
    loader = TrainLoader(dataset, config.data, config.train, SEED)
    optimizer = torch.optim.Adam(towers.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    losses: list[dict[Task, float]] = []
    start, steps = time.process_time(), epochs * loader.steps_per_epoch
    with Progress().task("towers", steps) as task:
        for epoch in range(epochs):
            for step in range(loader.steps_per_epoch):
                optimizer.zero_grad(set_to_none=True)
                batches = loader.step(epoch, step)
                losses.append({name: towers.learn(artifact.model, batch) for name, batch in batches.items()})
                optimizer.step()
                task.advance(1, f"epoch {epoch + 1}/{epochs}, losses {losses[-1]}")
    told_s = time.process_time() - start
    model_s, towers_s = step_s(artifact, loader)
    last = losses[-loader.steps_per_epoch :]
    found = {
        "steps": steps,
        "cpu_s": round(told_s, 1),
        "loss": {name: float(np.mean([one[name] for one in last if name in one])) for name in TASKS},
        "step_s": {"model": model_s, "towers": towers_s},
    }
    save_file(towers.state_dict(), kept)
    _write(told, found)
    return found


def step_s(artifact: Artifact, loader: TrainLoader) -> tuple[float, float]:
    """Processor seconds of the losses and gradients of a joint step, of the model and of the towers: the least of some."""
    model, towers = artifact.model, artifact.model.two_tower
    took = []
    model.train()
    for step in range(TIMED):
        batches = loader.step(0, step)
        start = time.process_time()
        for batch in batches.values():
            torch.stack(list(model.loss(batch).values())).sum().backward()
        middle = time.process_time()
        for batch in batches.values():
            towers.learn(model, batch)
        took.append((middle - start, time.process_time() - middle))
        model.zero_grad()
    model.eval()
    return min(one for one, _ in took), min(other for _, other in took)


def questions(artifact: Artifact, task: Task, users: int) -> tuple[list[int], list[Any], list[list[int]]]:
    """Users by a hash, what each did before, and the words asked for: those of the newest search; the past ends before it."""
    rows = sorted(range(1, len(artifact.users) + 1), key=lambda row: seed_of("first stage", task, row))
    asked: tuple[list[int], list[Any], list[list[int]]] = ([], [], [])
    for row in rows:
        past, words = stored_past(artifact, row), []
        if task == "search":
            searches = [at for at, entry in enumerate(past) if entry.is_search and entry.words]
            if not searches:
                continue
            words = list(past[searches[-1]].words)
            past = past[: searches[-1]]
        for column, value in zip(asked, (row, past, words), strict=True):
            column.append(value)
        if len(asked[0]) == users:
            break
    return asked


def found_by(artifact: Artifact, task: Task, start: int, users: int) -> dict[str, Any]:
    """Of each source the candidates of every question, from that user on; the exact ranking is under "exact"."""
    rows, pasts, words = (column[start:] for column in questions(artifact, task, start + users))
    people = people_of(artifact, pasts, torch.tensor(rows))
    queries = Ragged.of(words) if task == "search" else None
    kept = OUT / (f"exact_{task}_{start}_{users}.json" if start else f"exact_{task}_{users}.json")
    if not kept.exists():
        parts = []
        with Progress().task(f"exact, {task}", len(rows)) as progress:
            for at in torch.split(torch.arange(len(rows)), 16):
                some = None if queries is None else queries.select(at)
                best, _ = best_items(artifact, task, people.take(at), some, DEEP)
                parts += best.tolist()
                progress.advance(len(at), "")
        _write(kept, {"rows": rows, "best": parts})
    told = json.loads(kept.read_text())
    assert told["rows"] == rows, "the sample is another one; delete runs/first_stage"
    index = WordIndex(artifact.catalogue) if task == "search" else None
    items = [[item for entry in past for item in entry.items if item] for past in pasts]
    nearest = nearest_items(artifact)
    assert nearest is not None
    batch = question_batch(artifact, task, people, queries)
    stages = {
        "before": Candidates(artifact.history, len(artifact.items), index, NUM),
        "union": Candidates(artifact.history, len(artifact.items), index, NUM, nearest),
    }
    found: dict[str, Any] = {"exact": told["best"], "towers": nearest.best(batch, NUM).tolist()}
    found["neighbours"] = [stages["before"]._neighbours(past[-NEWEST:]).tolist() for past in items]
    found["own"] = [list(dict.fromkeys(reversed(past)))[:NUM] for past in items]
    found["popular"] = [stages["before"]._popular.tolist()] * len(items)
    if index is not None and queries is not None:
        found["words"] = index.best(queries, NUM).tolist()
    for name, stage in stages.items():
        found[name] = stage.candidates(task, items, queries, batch).tolist()
    if start:
        found["turns"] = {}
        for turns in TURNS:
            with patch.object(first, "TURNS", turns):
                found["turns"][turns] = stages["union"].candidates(task, items, queries, batch).tolist()
    return found


def recalls(exact: list[list[int]], found: list[list[int]], depth: int) -> np.ndarray[Any, Any]:
    """The share of the best `depth` of each question that was found."""
    return np.array([len(set(one[:depth]) & set(other)) / depth for one, other in zip(exact, found, strict=True)])


def interval(values_N: np.ndarray[Any, Any]) -> str:
    """Mean and 95 % interval over the questions, one a user."""
    draw = np.random.default_rng(SEED)
    means = values_N[draw.integers(0, len(values_N), (RESAMPLES, len(values_N)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return " ".join([f"{values_N.mean():.3f}", f"[{low:.3f}, {high:.3f}]"])


def large(artifact: Artifact) -> dict[str, Any]:
    """Exact search and faiss over a simulated catalogue: each item's vector of Toys again and again, with noise."""
    kept = OUT / "large.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    rows, pasts, _ = questions(artifact, "recommend", 200)
    towers, people = artifact.model.two_tower, people_of(artifact, pasts, torch.tensor(rows))
    batch = question_batch(artifact, "recommend", people, None)
    with torch.inference_mode():
        users_BE = towers.user_vectors(artifact.model, batch)
        every_I = torch.arange(len(artifact.items) + 1)
        items_IE = towers.item_vectors(every_I, artifact.model.item_vectors(batch, every_I))
        generator = torch.Generator().manual_seed(SEED)
        copies_IE = items_IE[torch.randint(1, len(items_IE), (LARGE + 1,), generator=generator)]
        copies_IE = copies_IE + items_IE.std(0) * 0.3 * torch.randn(copies_IE.shape, generator=generator)
    told: dict[str, Any] = {}
    rows_of: dict[str, list[list[int]]] = {}
    for name, approximate in (("exact", False), ("faiss", True)):
        start = time.process_time()
        index = VectorIndex(copies_IE, approximate=approximate)
        built = time.process_time()
        rows_of[name] = [index.best(user[None], NUM)[0].tolist() for user in users_BE]
        told[name] = {"build_s": built - start, "ms": (time.process_time() - built) / len(users_BE) * 1000}
    for depth in (10, 100, NUM):
        told["faiss"][f"recall@{depth}"] = interval(recalls(rows_of["exact"], rows_of["faiss"], depth))
    _write(kept, told)
    return told


def _write(path: Path, value: Any) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(value), encoding="utf-8")
    os.replace(beside, path)


def page(
    artifact: Artifact,
    training: dict[str, Any],
    tables: dict[Task, Any],
    choice: dict[Task, Any],
    told: dict[str, Any],
    command: str,
) -> str:
    """The page as markdown."""
    about, step, loss = machine(artifact.model), training["step_s"], training["loss"]
    more = f"{step['towers'] / step['model']:.0%}"
    text = f"""# The first of two stages on Toys

Of a catalogue of {len(artifact.items):,} items the first stage chooses {NUM:,}, and the model scores those alone. Told is how
much of the ranking that the model makes of the whole catalogue is among them: the share of its ten and of its hundred best
items (`{RUN}`: UniSAR with words, one seed). One question a user, users in the order of a hash (seed {SEED}); 95 % intervals
by a bootstrap over users. A search asks for the words of the user's newest search, and its past ends before it. Co-visits and
popularity are counted on the histories that a service holds, up to the newest event. Searches of Toys are derived from item
categories. A thousand are {NUM / len(artifact.items):.0%} of this catalogue; of a larger one they are a smaller share, and
what is kept may be less: no such logs were at hand.
"""
    for task, found in tables.items():
        text += f"\n## {task}, {len(found['exact'])} users\n\n"
        text += f"| source, {NUM:,} candidates | of the best 10 | of the best 100 | candidates |\n|---|---|---|---|\n"
        for name, label in NAMES.items():
            if name in found:
                size = np.mean([sum(row > 0 for row in rows) for rows in found[name]])
                cells = " | ".join(interval(recalls(found["exact"], found[name], depth)) for depth in (10, DEEP))
                text += f"| {label} | {cells} | {size:.0f} |\n"
    text += f"""
## Turns of the towers

In the union each list takes a turn, and the towers take {first.TURNS}. Chosen by {CHOICE} users who are not among those above:

| turns | recommend, of the best 10 | of the best 100 | search, of the best 10 | of the best 100 |
|---|---|---|---|---|
"""
    for turns in TURNS:
        cells = [interval(recalls(of["exact"], of["turns"][turns], depth)) for of in choice.values() for depth in (10, DEEP)]
        text += f"| {turns} | {' | '.join(cells)} |\n"
    text += f"""
## The towers

They learned beside the finished run, whose weights stayed: {training["steps"]} joint steps of its batches by Adam at .001,
{training["cpu_s"]:.0f} s of one processor; loss {loss["recommend"]:.2f} (recommend) and {loss["search"]:.2f} (search) in the
last epoch, where guessing gives {np.log(2 * artifact.config.train.batch_size):.2f}. `train.two_tower = true` learns them in
the run itself, by the same loss on the same batches; there the model's vectors still move meanwhile, which is not measured
here. The model's weights are the same to the bit with and without (tests/unit/test_towers.py). A joint step costs
{step["model"]:.2f} s of one processor for the model and {step["towers"]:.2f} s for the towers: {more} more.

## Exact search and faiss

{LARGE:,} simulated items (the vectors of Toys again and again, with noise of .3 of their deviation), {NUM:,} found for each of
200 users, one at a time, one processor. faiss cuts them into {round(LARGE**0.5)} groups and looks into {PROBES}; it is used
above {APPROXIMATE:,} items where it is installed.

| search | making the index | a question | its best 10 found | its best 100 | its best 1,000 |
|---|---|---|---|---|---|
"""
    for name, row in told.items():
        cells = [row.get(f"recall@{depth}", "1") for depth in (10, 100, NUM)]
        text += f"| {name} | {row['build_s']:.1f} s | {row['ms']:.1f} ms | {' | '.join(cells)} |\n"
    return f"""{text}
Machine: {about["cpu"]}, one of {about["cores"]} cores, torch {about["torch"]}, beside other work: times are the processor's.
Written by `make results-first-stage` (`{command}`).
"""


def main() -> None:
    """Train, compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=4)
    told = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    artifact = open_artifact(RUN)
    training = towers_of(artifact, told.epochs)
    tables = {task: found_by(artifact, task, 0, told.users) for task in TASKS}
    choice = {task: found_by(artifact, task, told.users, CHOICE) for task in TASKS}
    command = f"python benchmarks/first_stage.py --users {told.users} --epochs {told.epochs}"
    PAGE.write_text(page(artifact, training, tables, choice, large(artifact), command), encoding="utf-8")


if __name__ == "__main__":
    main()
