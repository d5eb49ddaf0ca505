"""Time and memory of Auto-Correlation against its published form and attention.

`python benchmarks/autocorrelation.py [--json] [--out PAGE]`

Forward and backward, float32, on random numbers. The contestants of a case take turns in one process, in an order drawn anew
each time, with the memory settings that Python has by itself; memory is measured in processes of their own. Before a case is
timed, ours in the published form must give the readings and gradients of the twin (`twin_autocorrelation.py`). A twin slower
than the published code by more than 15 % does not count, and the table says so. `--out PAGE` writes the tables, with a plot of
time against length beside them.

Shape suffixes: B rows, L slots, H heads, E channels of a head, D channels of all heads, X channels in and out of a layer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from train_step import machine
from twin_autocorrelation import published

from corsar.nn.autocorrelation import AutoCorrelation, Options, auto_correlation
from corsar.nn.lags import SHORT
from corsar.train.machine import keep_memory

Run = Callable[[], Any]
WARM_UP = 2
SAME = 1e-4  # relative error up to which two ways of computing in float32 are the same
EXACT, PUBLISHED = Options(), Options("paper_code", direction="paper")
SLACK = 1.15  # of the published code's time, for another machine of its kind


@dataclass(frozen=True)
class Case:
    """A size at which ours stands against its published form."""

    rows: int
    slots: int
    heads: int
    channels: int
    published_ms: float | None = None  # of the published code on two such cores, idle
    wanted: float = 0.0  # ratio

    def __str__(self) -> str:
        return f"[{self.rows}, {self.slots}, {self.heads}×{self.channels}]"


@dataclass(frozen=True)
class Plan:
    """All that is measured."""

    against_twin: tuple[Case, ...]
    attention: tuple[int, int, int]  # rows, slots, channels
    memory: Case
    lengths: tuple[int, ...]
    elements: int  # rows · slots at each length of the plot


FULL = Plan(
    (Case(32, 1810, 4, 16, 312, 3), Case(1024, 60, 2, 32, 91, 4), Case(256, 25, 8, 16, 17, 5)),
    (8, 1024, 64),
    Case(32, 1810, 4, 16),
    tuple(2**power for power in range(4, 15)),
    2**16,
)
TINY = Plan((Case(2, 140, 2, 4), Case(3, 20, 2, 4)), (2, 16, 8), Case(2, 140, 2, 4), (16, 64, 256, 512), 2**10)


class Contest:
    """Random numbers of one size, and the ways to compute with them, each forward and backward."""

    def __init__(self, case: Case) -> None:
        draw = torch.Generator().manual_seed(0)
        shape = case.rows, case.slots, case.heads, case.channels
        self.inputs = [torch.randn(shape, generator=draw).requires_grad_() for _ in range(3)]
        self.grad_BLHE = torch.randn(shape, generator=draw)
        self.length_B = torch.randint(1, case.slots + 1, (case.rows,), generator=draw)
        is_real_BL = torch.arange(case.slots) < self.length_B[:, None]
        self.padded = [(x.detach() * is_real_BL[..., None, None]).requires_grad_() for x in self.inputs]

    def twin(self) -> list[Tensor]:
        """The published form in training: the reading and three gradients."""
        out_BLHE = published(*self.inputs, 1.0, True)[0]
        return [out_BLHE, *torch.autograd.grad(out_BLHE, self.inputs, self.grad_BLHE)]

    def ours(self, options: Options = EXACT, padded: bool = False, normalise: bool = False) -> list[Tensor]:
        """The same of ours."""
        inputs, lengths = (self.padded, self.length_B) if padded else (self.inputs, None)
        sharpness = torch.tensor(10.0, requires_grad=True) if normalise else None
        q, k, v = (x.flatten(2) for x in inputs)
        out_BLD, _ = auto_correlation(q, k, v, lengths, options, sharpness, training=True)
        out_BLHE = out_BLD.unflatten(2, self.grad_BLHE.shape[2:])
        leaves = inputs if sharpness is None else [*inputs, sharpness]
        return [out_BLHE, *torch.autograd.grad(out_BLHE, leaves, self.grad_BLHE)]

    def ways(self) -> dict[str, Run]:
        """What is timed."""
        return {
            "twin": self.twin,
            "exact": self.ours,
            "exact, rows of unlike lengths": partial(self.ours, padded=True),
            "exact, normalised": partial(self.ours, normalise=True),
            "paper_code": partial(self.ours, PUBLISHED),
        }

    def check(self) -> float:
        """The largest relative error of ours in the published form, readings and gradients.

        Raises:
            SystemExit: it is over `SAME`, so that the contest would be between two computations.
        """
        pairs = zip(self.ours(PUBLISHED), self.twin(), strict=True)
        error = max(float((ours - twin).detach().norm() / twin.detach().norm()) for ours, twin in pairs)
        if error > SAME:
            raise SystemExit(f"ours in the published form differs from the twin by {error:.1e}; nothing was timed")
        return error


def seconds(ways: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """How long each took; the first ones warm up. Who follows the twin finds cold caches, so that the order is drawn anew."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    draw = random.Random(0)
    for _ in range(WARM_UP + repeats):
        for name in draw.sample(list(ways), len(ways)):
            start = time.perf_counter()
            ways[name]()
            took[name].append(time.perf_counter() - start)
    return {name: times[WARM_UP:] for name, times in took.items()}


def entry(name: str, ours: list[float], twin: list[float], unit: str = "ms", **more: Any) -> dict[str, Any]:
    """One row: medians, their ratio and the range of both."""
    medians = statistics.median(ours), statistics.median(twin)
    ranges = {"ours_range": [min(ours), max(ours)], "twin_range": [min(twin), max(twin)]}
    return (
        {"case": name, "ours": medians[0], "twin": medians[1], "ratio": medians[1] / medians[0], "unit": unit} | ranges | more
    )


def in_ms(times: list[float]) -> list[float]:
    return [1000 * one for one in times]


def against_twin(case: Case, repeats: int) -> list[dict[str, Any]]:
    """Rows of one size; the first is the one that is wanted to win by so much."""
    contest = Contest(case)
    error = contest.check()
    took = seconds(contest.ways(), repeats)
    twin = in_ms(took.pop("twin"))
    counts = case.published_ms is None or statistics.median(twin) <= SLACK * case.published_ms
    more = {"against": "published form", "twin_counts": counts, "published_ms": case.published_ms, "error": error}
    told = [entry(f"{case}, {name}", in_ms(times), twin, **more) for name, times in took.items()]
    told[0]["wanted"] = case.wanted
    return told


def against_attention(rows: int, slots: int, dim: int, repeats: int) -> list[dict[str, Any]]:
    """Whole layers with their projections, self-correlation against self-attention; the gradient reaches input and weights."""
    draw = torch.Generator().manual_seed(0)
    x_BLX = torch.randn(rows, slots, dim, generator=draw).requires_grad_()
    grad_BLX = torch.randn(rows, slots, dim, generator=draw)
    length_B = torch.randint(1, slots + 1, (rows,), generator=draw)

    def run(layer: nn.Module, **given: Any) -> None:
        inputs = (x_BLX, x_BLX, x_BLX) if isinstance(layer, nn.MultiheadAttention) else (x_BLX,)
        out = layer(*inputs, **given)
        torch.autograd.grad(out[0] if isinstance(out, tuple) else out, [x_BLX, *layer.parameters()], grad_BLX)

    told = []
    for heads in (4, 1):
        attention, ours = nn.MultiheadAttention(dim, heads, batch_first=True), AutoCorrelation(dim, heads)
        took = seconds(
            {
                "attention": partial(run, attention, need_weights=False),
                "exact": partial(run, ours),
                "rows of unlike lengths": partial(run, ours, lengths=length_B),
            },
            repeats,
        )
        twin = in_ms(took.pop("attention"))
        for name, times in took.items():
            more = {"against": "torch.nn.MultiheadAttention", "wanted": 3.0} if name == "exact" and heads == 4 else {}
            told.append(
                entry(f"layer [{rows}, {slots}, {dim}], {heads} head{'s' * (heads > 1)}, {name}", in_ms(times), twin, **more)
            )
    return told


def memory(name: str, case: Case) -> float:
    """MiB by which one run raises the peak of this process over its inputs; to be asked for once a process."""
    contest = Contest(case)
    run = contest.ways()[name]
    Contest(Case(1, min(case.slots, SHORT + 1), case.heads, case.channels)).ways()[name]()  # what torch itself needs
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before  # ru_maxrss would begin with that of the process which started this one


def resident(key: str) -> float:
    """MiB of memory of this process: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(f"{key}:"))


def memories(given: argparse.Namespace, case: Case) -> list[dict[str, Any]]:
    """Peak of ours and of the published form, each a few times, in processes of their own."""
    took: dict[str, list[float]] = {}
    for name in ("twin", "exact", "exact, rows of unlike lengths"):
        command = [sys.executable, __file__, "--worker", name, *(["--tiny"] if given.tiny else [])]
        command += [f"--threads={given.threads}", *(["--keep-memory"] if given.keep_memory else [])]
        outputs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(given.processes)]
        took[name] = [float(output.stdout) for output in outputs]
    twin = took.pop("twin")
    told = [entry(f"peak memory at {case}, {name}", mib, twin, "MiB", against="published form") for name, mib in took.items()]
    told[0]["wanted"] = 2.0
    return told


def over_lengths(plan: Plan, repeats: int) -> list[dict[str, float]]:
    """Milliseconds of one row of each length, 4×16 channels; each step has as many elements as any other."""
    told = []
    for slots in plan.lengths:
        rows = plan.elements // slots
        contest = Contest(Case(rows, slots, 4, 16))
        step_ms = statistics.median(in_ms(seconds({"exact": contest.ours}, repeats)["exact"]))
        told.append({"slots": slots, "rows": rows, "step_ms": step_ms, "row_ms": step_ms / rows})
    return told


def measure(plan: Plan, given: argparse.Namespace) -> dict[str, Any]:
    """All figures as one object."""
    told: dict[str, Any] = {"name": "autocorrelation", "unit": "ms", "cases": [], "machine": machine(given.threads)}
    told["machine"] |= {"memory_kept": given.keep_memory, "load": os.getloadavg()[0]}
    for case in plan.against_twin:
        told["cases"] += against_twin(case, given.repeats)
    told["cases"] += against_attention(*plan.attention, given.repeats)
    told["cases"] += memories(given, plan.memory)
    told["lengths"] = over_lengths(plan, given.repeats)
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=9, help=f"timed runs of each way, after {WARM_UP} that warm up")
    parser.add_argument("--processes", type=int, default=3, help="processes in which each memory is measured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-memory", action="store_true", help="grant both sides the memory settings of `corsar train`")
    parser.add_argument("--tiny", action="store_true", help="sizes that show that all runs, and no more")
    parser.add_argument("--out", type=Path, help="write the tables as a page here, and the plot beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.keep_memory:
        keep_memory()
    plan = TINY if given.tiny else FULL
    if given.worker:
        print(memory(given.worker, plan.memory))
        return
    told = measure(plan, given)
    from page_autocorrelation import page, plot, tables

    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        part = given.out.with_suffix(".part")
        plot(told["lengths"], part)
        part.replace(given.out.with_suffix(".svg"))
        part.write_text(page(told, given, plan.elements), encoding="utf-8")
        part.replace(given.out)
    print(json.dumps(told) if given.json else tables(told))


if __name__ == "__main__":
    main()
