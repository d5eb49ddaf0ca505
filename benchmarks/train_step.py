"""Seconds of a joint step of UniSAR at KuaiSAR sizes, against the plain twin: `python benchmarks/train_step.py [--json]`.

Random content of that shape (`build_world` says what is known and what is assumed of it). Each case runs in a process of its
own, which reports its peak memory; the cases take their steps in turn, one at a time, on the very same batches. Ours
is timed with its batching and its fused Adam; the twin with torch's default Adam, as published, and without batching. A twin
that takes longer than the published code's 4.7 s by more than 15 % does not count, and the table says so.

`--items N` makes a catalogue of another size, such as KuaiSAR's whole one of 6.9 M items; the case `dense` is `corrected` whose
tables are all updated whole, however long they are: `--items 6900000 --case corrected --case dense`.

Why so long: the random logs, the workers and the table are one benchmark, and are used nowhere else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corsar.artifact import build_model
from corsar.batch import Catalogue, Ragged, TrainEvents
from corsar.config import load_config
from corsar.data.loader import TrainLoader
from corsar.data.store import Dataset, save_catalogue, save_history, save_ragged, save_train_events
from corsar.models.unisar import UniSARNet
from corsar.train.machine import keep_memory
from corsar.train.optim import build_optimizer
from corsar.vocab import Vocab
from corsar.windows import History

USERS, ITEMS, SEARCHES, WORDS = 22_700, 673_415, 404_344, 394_911
BATCH, SEARCH_BATCH, STEPS_PER_EPOCH = 1024, 88, 3407  # published: cases of each task a step, and steps
TEXT_WIDTH, CLICK_WIDTH = 50, 5  # published width of captions and queries, and of the clicks of a search
CATEGORIES, ATTRIBUTES = (48, 320), (8, 3, 7, 4)
CLICKS = (0.30, 0.45, 0.15, 0.06, 0.03, 0.01)  # share of searches with 0 … 5 clicks
CASES = ("paper", "corrected", "twin", "twin_kept", "dense")
LONGEST_TWIN_S = 4.7 * 1.15  # of the published code, on two such cores
WARM_UP = 3  # the first steps touch fresh memory, which can double their time
WINDOWS = {
    "counted": "windows as long as the published counts make them",
    "full": "all 30 + 30 slots of every case filled",
}
DENSE = "`dense` is `corrected` that updates every table whole; else those of over 1,000,000 rows are updated by rows. "


def build_world(folder: Path, num_items: int = ITEMS) -> None:
    """Write random logs of KuaiSAR's shape as the dataset directories `counted` and `full`.

    Known: numbers of users, items, searches and words; 3,407 steps of 1,024 + 88 cases, so 3.5 M feed events; text at
    most 50 words, clicks of a search at most 5. Assumed: captions of 12 and queries of 3 words in the mean (geometric);
    events a user lognormal (sigma .8), the two kinds correlated, at uniform times; items, words and queries uniform, every
    search with a query of its own (so that as little as possible repeats); clicks and category sizes as the constants above.
    """
    rng = np.random.default_rng(0)
    activity = rng.lognormal(0, 0.8, USERS)
    feed_offsets, feed_key = _events(rng, activity, BATCH * STEPS_PER_EPOCH)
    search_offsets, search_key = _events(rng, activity * rng.lognormal(0, 0.4, USERS), SEARCHES)
    searches_before, feeds_before = np.searchsorted(search_key, feed_key), np.searchsorted(feed_key, search_key)
    feed_user, search_user = feed_key >> 32, search_key >> 32
    clicks = _ragged(rng, rng.choice(len(CLICKS), SEARCHES, p=CLICKS), num_items)
    feed_items = rng.integers(1, num_items + 1, len(feed_key))
    low = (1 << 32) - 1
    history = History(
        *map(torch.from_numpy, (
            feed_items, feed_key & low, searches_before - search_offsets[feed_user], feed_offsets,
            np.arange(1, SEARCHES + 1),
        )),
        clicks,
        *map(torch.from_numpy, (search_key & low, feeds_before - feed_offsets[search_user], search_offsets)),
        _ragged(rng, np.append(0, _lengths(rng, 3, SEARCHES)), WORDS),
    )  # fmt: skip
    tables = [
        np.stack([np.append(0, rng.integers(1, size + 1, rows)) for size in sizes], 1)
        for rows, sizes in ((num_items, CATEGORIES), (USERS, ATTRIBUTES))
    ]
    words = _ragged(rng, np.append(0, _lengths(rng, 12, num_items)), WORDS)
    home = folder / "counted"
    save_history(history, home / "history")
    save_catalogue(Catalogue(words, *map(torch.from_numpy, tables)), home / "catalogue")
    owner = np.repeat(np.arange(SEARCHES), clicks.lengths.numpy())
    events = TrainEvents(
        torch.from_numpy(np.concatenate([feed_user, search_user[owner]])),
        torch.cat([history.feed_items, clicks.values]),
        torch.arange(len(feed_user) + len(owner)) >= len(feed_user),
    )
    save_train_events(events, home / "train_events")
    Vocab(np.arange(USERS)).save(home / "users.parquet")
    (folder / "full").mkdir()
    for name in ("history", "catalogue", "train_events", "users.parquet"):
        (folder / "full" / name).symlink_to(home / name)
    zeros = {"recommend": feed_items * 0, "search": owner * 0}
    cases = {
        "recommend": (feed_user, feed_items, feed_key & low, np.arange(len(feed_key)), searches_before, zeros["recommend"]),
        "search": (
            search_user[owner], clicks.values.numpy(), search_key[owner] & low, feeds_before[owner], owner, owner + 1,
        ),
    }  # fmt: skip
    for windows, least in (("counted", 1), ("full", 30)):
        save_ragged(Ragged.of([[]]), folder / windows / "cases" / "groups")
        num = 0
        for task, (user, item, moment, feed_end, search_end, query) in cases.items():
            both = (feed_end - feed_offsets[user] >= least) & (search_end - search_offsets[user] >= least)
            keep = np.flatnonzero(both)
            if task == "search":  # as many as run out together with the feed cases
                keep = np.sort(rng.permutation(keep)[: num * SEARCH_BATCH // BATCH])
            num = len(keep)
            where = folder / windows / "cases" / f"train_{task}"
            where.mkdir(parents=True)
            names = ("user_N", "item_N", "time_N", "feed_end_N", "search_end_N", "query_N", "group_N")
            for name, values in zip(names, (user, item, moment, feed_end, search_end, query, zeros[task]), strict=True):
                np.save(where / f"{name}.npy", values[keep])


def _events(rng: np.random.Generator, weights: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the users' events, [users + 2], and (user, moment) of each as one sorted number."""
    counts = np.append(0, rng.multinomial(total, weights / weights.sum()))
    key = (np.repeat(np.arange(USERS + 1), counts) << 32) + rng.integers(0, 1 << 32, total)
    return np.append(0, counts.cumsum()), np.sort(key)


def _lengths(rng: np.random.Generator, mean: float, rows: int) -> np.ndarray:
    return np.minimum(rng.geometric(1 / mean, rows), TEXT_WIDTH)


def _ragged(rng: np.random.Generator, lengths: np.ndarray, highest: int) -> Ragged:
    offsets = np.append(0, lengths.cumsum())
    return Ragged(torch.from_numpy(rng.integers(1, highest + 1, offsets[-1])), torch.from_numpy(offsets))


def open_world(folder: Path) -> Dataset:
    """The dataset directory that `build_world` wrote."""
    columns = {"categories": CATEGORIES, "attributes": ATTRIBUTES}
    manifest: dict[str, Any] = {name: [{"size": size} for size in sizes] for name, sizes in columns.items()}
    manifest["files"] = {}  # none that could have been cut short
    num_items = len(np.load(folder / "catalogue" / "item_categories.npy", mmap_mode="r")) - 1
    manifest["counts"] = {"users": USERS, "items": num_items, "words": WORDS, "train_queries": SEARCHES}
    return Dataset(folder, manifest)


class Stepper:
    """One case: takes joint steps and tells how long their parts took."""

    def __init__(self, case: str, world: Path) -> None:
        preset = {"corrected": "corrected", "dense": "corrected"}.get(case, "paper")
        rows = {"train.sparse_rows": str(10**9)} if case == "dense" else {}
        self.config = load_config(None, {"preset": preset, "data.require_both_histories": "true", **rows})
        dataset = open_world(world)
        self.is_twin = case.startswith("twin")
        torch.manual_seed(0)
        sizes = dataset.sizes(self.config.data.feed_len, self.config.data.search_len)
        ours = build_model(self.config, sizes)
        assert isinstance(ours, UniSARNet)
        self.loader = TrainLoader(dataset, self.config.data, self.config.train, 0)
        if self.is_twin:
            self._take_twin(ours, dataset.catalogue)
        else:
            self.model, self.optimizer = ours.train(), build_optimizer(ours, self.config.train)

    def _take_twin(self, ours: UniSARNet, catalogue: Catalogue) -> None:
        from twin_unisar import twin_of

        captions = catalogue.item_words.padded(torch.arange(catalogue.num_items + 1), TEXT_WIDTH)
        self.model = twin_of(ours, TEXT_WIDTH, captions, catalogue.item_categories, catalogue.user_attributes).train()
        groups = build_optimizer(self.model, self.config.train).param_groups
        keys = ("params", "weight_decay")
        self.optimizer = torch.optim.Adam([{k: group[k] for k in keys} for group in groups], lr=1e-3)

    def total(self, batch: Any) -> torch.Tensor:
        """Weighed loss of one task."""
        if self.is_twin:
            return self.model.total(batch)
        weights = self.model.term_weights()
        return torch.stack([weights.get(name, 1.0) * term for name, term in self.model.loss(batch).items()]).sum()

    def step(self, number: int) -> dict[str, float]:
        """Seconds of batching, of forward and backward, and of the optimiser."""
        moments = [time.perf_counter()]
        batches: dict[str, Any] = dict(self.loader.step(0, number))
        moments.append(time.perf_counter())
        real = {task: int(b.feed_is_real_BF.sum() + b.search_is_real_BS.sum()) for task, b in batches.items()}
        if self.is_twin:
            from twin_unisar import TwinBatch

            batches = {t: TwinBatch.of(b, self.model.sizes, TEXT_WIDTH, CLICK_WIDTH) for t, b in batches.items()}
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for task, batch in batches.items():
            total = self.total(batch) * (self.config.train.search_weight if task == "search" else 1.0)
            total.backward()  # type: ignore[no-untyped-call]
            loss += total.item()
        moments += [start, time.perf_counter()]
        self.optimizer.step()
        batching, model, update = moments[1] - moments[0], moments[3] - start, time.perf_counter() - moments[3]
        return {"batching": batching, "model": model, "optimiser": update, "loss": loss, "real_slots": sum(real.values())}


def work(case: str, world: Path, threads: int, profile: bool) -> None:
    """Worker: a step for each number on standard input, its seconds as JSON on standard output."""
    torch.set_num_threads(threads)
    if case != "twin":
        keep_memory()  # as `corsar train` does
    stepper = Stepper(case, world)
    print("{}", flush=True)
    for line in sys.stdin:
        told = stepper.step(int(line))
        print(json.dumps({**told, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}), flush=True)
    if profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            stepper.step(0)
        table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=60)
        print(table, file=sys.stderr)


def measure(cases: list[str], world: Path, given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Steps of all cases in turn; the first few of each warm up and are left out."""
    flags = [f"--threads={given.threads}", f"--world={world}", *(["--profile"] if given.profile else [])]
    workers = {}
    for case in cases:
        command = [sys.executable, __file__, f"--worker={case}", *flags]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        workers[case] = worker
        _ask(worker)
    took: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    try:
        for step in range(given.steps + WARM_UP):
            for case, worker in workers.items():
                took[case].append(_ask(worker, step))
    finally:
        for worker in workers.values():
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()
    return {case: told[WARM_UP:] for case, told in took.items()}


def _ask(worker: subprocess.Popen[str], step: int | None = None) -> dict[str, float]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    if step is not None:
        worker.stdin.write(f"{step}\n")
        worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("a worker ended early; its message stands above")
    told: dict[str, float] = json.loads(line)
    return told


def summary(windows: str, took: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """One entry for each case of ours: medians of the whole step and its parts."""
    told: dict[str, dict[str, float]] = {}
    for case, steps in took.items():
        parts = ("model", "optimiser") if case.startswith("twin") else ("batching", "model", "optimiser")
        told[case] = {part: statistics.median(step[part] for step in steps) for part in ("batching", "model", "optimiser")}
        whole = [sum(step[part] for part in parts) for step in steps]
        told[case] |= {"step": statistics.median(whole), "least": min(whole), "most": max(whole)}
        told[case]["gib"] = max(step["gib"] for step in steps)
        told[case]["loss"] = steps[0]["loss"]
        told[case]["filled"] = statistics.median(step["real_slots"] for step in steps) / (60 * (BATCH + SEARCH_BATCH))
    twin, kept = told.get("twin"), told.get("twin_kept")
    entries = []
    for case, ours in told.items():
        if case.startswith("twin") and len(told) > 1:
            continue
        entry: dict[str, Any] = {"case": f"{case}, {windows} windows", "ours": ours["step"]}
        entry |= {"twin": twin["step"] if twin else None, "ratio": twin["step"] / ours["step"] if twin else None}
        entries.append({**entry, "parts": {"ours": ours, "twin": twin, "twin_kept": kept}})
    return entries


def table(told: dict[str, Any]) -> str:
    """The figures as Markdown."""
    head = ["case", "ours, s (least – most)", "twin, s (least – most)", "ratio", "ratio, memory kept by both"]
    head += ["Adam, ours / twin, s", "batching", "filled slots", "peak GiB, ours / twin"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for entry in told["cases"]:
        ours, twin = entry["parts"]["ours"], entry["parts"]["twin"] or dict.fromkeys(entry["parts"]["ours"], float("nan"))
        kept = entry["parts"]["twin_kept"] or dict.fromkeys(ours, float("nan"))
        slow = " (twin too slow to count)" if twin["step"] > LONGEST_TWIN_S else ""
        lines.append(
            f"| {entry['case']} | {_spread(ours)} | {_spread(twin)} | {twin['step'] / ours['step']:.1f}{slow} "
            f"| {kept['step'] / ours['step']:.1f} | {ours['optimiser']:.3f} / {twin['optimiser']:.3f} "
            f"| {ours['batching']:.3f} s, {ours['batching'] / ours['step']:.1%} | {ours['filled']:.0%} "
            f"| {ours['gib']:.1f} / {twin['gib']:.1f} |"
        )
    return "\n".join(lines).replace("nan (nan – nan)", "–").replace("nan", "–")  # the twin did not run


def _spread(told: dict[str, float]) -> str:
    return f"{told['step']:.2f} ({told['least']:.2f} – {told['most']:.2f})"


def page(told: dict[str, Any], given: argparse.Namespace) -> str:
    """The table with what it means, as a Markdown page."""
    where, more = told["machine"], [f" --case {case}" for case in given.case or []]
    if given.items != ITEMS:
        more.append(f" --items {given.items}")
    if given.windows != "both":
        more.append(f" --windows {given.windows}")
    dense = DENSE if "dense" in (given.case or []) else ""
    return (
        f"# Joint training step of UniSAR at KuaiSAR sizes\n\n`python benchmarks/train_step.py --steps {given.steps}"
        f"{''.join(more)}`; {given.items:,} items; medians of {given.steps} steps after {WARM_UP} that warm up; "
        f"{where['cpu']}, {where['threads']} of {where['cores']} cores, torch "
        f"{where['torch']}. A step is {BATCH} feed and {SEARCH_BATCH} search cases, forward, backward and Adam; ours with its "
        f"batching, the twin (`twin_unisar.py`, the published formulation, checked on the golden numbers) without.\n"
        f"Ours uses torch's fused Adam, the twin torch's default one. Ours lets the process keep the memory that it frees, as "
        f"`corsar train` does; `memory kept by both` grants the same to the twin. {dense}The content is "
        f"random. {'; '.join(f'`{name}`: {what}' for name, what in WINDOWS.items())}.\n\n{table(told)}\n"
    )


def machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    )
    cpu = names[0] if names else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": threads, "torch": str(torch.__version__)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", type=int, default=5, help=f"timed steps of each case, after {WARM_UP} that warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", choices=CASES, action="append", help="this case alone (may be given more than once)")
    parser.add_argument("--windows", choices=[*WINDOWS, "both"], default="both", help="how full the histories are")
    parser.add_argument("--items", type=int, default=ITEMS, help="items of the catalogue")
    parser.add_argument("--world", type=Path, help="folder for the random logs, kept for the next run")
    parser.add_argument("--profile", action="store_true", help="print the 15 dearest operations of each case")
    parser.add_argument("--out", type=Path, help="write the table as a page here too")
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.world, given.threads, given.profile)
        return
    told: dict[str, Any] = {"name": "train_step", "unit": "s", "cases": [], "machine": machine(given.threads)}
    with tempfile.TemporaryDirectory() as temporary:
        world = given.world or Path(temporary) / "world"
        if not world.exists():
            build_world(world, given.items)
        for windows in WINDOWS if given.windows == "both" else [given.windows]:
            told["cases"] += summary(windows, measure(given.case or list(CASES[:-1]), world / windows, given))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(page(told, given), encoding="utf-8")
    print(json.dumps(told) if given.json else table(told))


if __name__ == "__main__":
    main()
