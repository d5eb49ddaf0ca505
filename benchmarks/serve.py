"""Answers of `corsar serve` under load: `python benchmarks/serve.py [--json] [--world DIR] [--out PAGE.md]`.

The service is the command itself, over an artifact of KuaiSAR's shape with random content and untrained weights
(`serve_world.py`); the load comes over loopback from a process of its own (`serve_load.py`), which takes a part of the same two
cores. Every case first warms up for a moment that does not count. At `overload` more is asked than can be answered.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from serve_world import make_artifact
from train_step import ITEMS

WARM_UP_S, PATIENCE_MS, BOUND_MS = 5.0, 25, 50
RATE, OVERLOAD, REQUESTS = 50, 400, 20_000
RECOMMEND, SEARCH = ["recommend"], ["search"]
CASES: dict[str, list[dict[str, Any]]] = {
    "recommend": [{"tasks": RECOMMEND, "rate": RATE}],
    "search": [{"tasks": SEARCH, "rate": RATE}],
    "mixed": [{"tasks": RECOMMEND + SEARCH, "rate": RATE}, {"tasks": ["events"], "rate": 10}],
    "overload": [{"tasks": RECOMMEND + SEARCH, "rate": OVERLOAD}],
}


class Service:
    """`corsar serve` as a process of its own."""

    def __init__(self, artifact: Path, state: Path, flags: list[str]) -> None:
        command = [sys.executable, "-m", "corsar.cli", "serve", str(artifact), "--port", "0", "--state", str(state), *flags]
        start = time.perf_counter()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.address = ""
        for line in self.process.stderr:
            if "http://" in line:
                self.address = line.split()[1]
                break
            print(line, end="", file=sys.stderr)
        if not self.address:
            raise SystemExit("the service ended before it answered; its message stands above")
        self.ready_s = time.perf_counter() - start

    def mib(self, name: str = "VmRSS") -> float:
        """Memory that the process holds now, or the most that it held (VmHWM)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

    def cpu_s(self) -> float:
        """Seconds of the cores that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


class Load:
    """`serve_load.py` as a process of its own."""

    def __init__(self, address: str, questions: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("serve_load.py")), address, str(questions)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        """What became of the requests of the case."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(artifact: Path, given: argparse.Namespace) -> dict[str, Any]:
    """All cases, one after the other, against one service."""
    flags = ["--max-wait-ms", str(given.max_wait_ms), "--threads", str(given.threads)]
    with tempfile.TemporaryDirectory() as folder:
        service = Service(artifact, Path(folder) / "events.sqlite", flags)
        load = Load(service.address, artifact / "questions.json")
        try:
            cases = []
            for name in given.case:
                if name != "memory":
                    load.run({"streams": CASES[name], "seconds": min(WARM_UP_S, given.seconds), "seed": 7})
                    before = service.cpu_s()
                    told = load.run({"streams": CASES[name], "seconds": given.seconds})
                    each = 1000 * (service.cpu_s() - before) / max(1, told["answered"])
                    cases.append({"case": name, **told, "cpu_ms_an_answer": each})
            memory = _memory(service, load, given.requests) if "memory" in given.case else None
            return {"cases": cases, "memory": memory, "ready_s": service.ready_s, "most_mib": service.mib("VmHWM")}
        finally:
            load.close()
            service.close()


def _memory(service: Service, load: Load, requests: int) -> dict[str, Any]:
    """Resident memory before, between and after so many requests, two at a time, so that none is refused."""
    case = {"tasks": RECOMMEND + SEARCH, "requests": requests // 4, "at_once": 2}
    mib, parts = [service.mib()], []
    for _ in range(4):
        parts.append(load.run(case))
        mib.append(service.mib())
    counts = {name: sum(part[name] for part in parts) for name in ("sent", "answered", "refused", "errors")}
    return {"mib": mib, **counts, "answered_rate": counts["answered"] / sum(part["seconds"] for part in parts)}


def page(told: dict[str, Any], command: str) -> str:
    """The figures as Markdown."""
    head = ["case", "asked, 1/s", "answered, 1/s", "p50, ms", "p99, ms", "503s", "p50 of 503s", "p99 of 503s", "Retry-After"]
    head += ["errors", "CPU ms an answer", "sent late, p99"]
    lines = [head, ["---"] * len(head)]
    for one in told["cases"]:
        parts = [f"{one['rate']:.0f}", f"{one['answered_rate']:.0f}", _ms(one["p50"]), _ms(one["p99"]), f"{one['refused']}"]
        parts += [_ms(one["refused_p50"]), _ms(one["refused_p99"]), ", ".join(one["retry_after"]) or "–", f"{one['errors']}"]
        lines.append([one["case"], *parts, f"{one['cpu_ms_an_answer']:.1f}", _ms(one["late_p99"])])
        if len(one["tasks"]) > 1:
            for task, part in one["tasks"].items():
                empty = [""] * (len(head) - 5)
                lines.append(
                    [
                        f"… its {task}",
                        "",
                        f"{part['answered'] / one['seconds']:.0f}",
                        _ms(part["p50"]),
                        _ms(part["p99"]),
                        *empty,
                    ]
                )
    machine = told["machine"]
    text = [
        f"# `corsar serve` under load: {told['items']:,} items", "",
        "Random logs of KuaiSAR's shape and untrained weights of UniSAR's published sizes: good for time and memory alone.",
        "Requests come at random moments (Poisson) of the mean rate that is told, from a second process on loopback that",
        "shares the same cores; their time counts from the moment at which they were to be sent.",
        f"{told['seconds']:.0f} s a case, k = 10, 1,000 candidates;",
        f"`corsar serve --max-wait-ms {told['max_wait_ms']} --threads {machine['threads']}`.", "",
        *(f"| {' | '.join(line)} |" for line in lines), "",
        f"Ready {told['ready_s']:.0f} s after its start, which verifies every file and makes all indexes. "
        f"Memory at most {told['most_mib']:,.0f} MiB.",
    ]  # fmt: skip
    if told["memory"]:
        memory = told["memory"]
        shown = ", ".join(f"{one:,.0f}" for one in memory["mib"])
        text += [
            "", f"{memory['sent']:,} requests, two at a time as fast as they are answered: {memory['answered']:,} answered,",
            f"{memory['answered_rate']:.0f} a second, {memory['refused']:,} refused, {memory['errors']} errors.",
            f"Resident memory before, and after each quarter: {shown} MiB.",
        ]  # fmt: skip
    text += ["", f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']};"]
    text += [f"load of the machine before the start: {machine['load']:.1f}.", f"Written by `{command}`.", ""]
    return "\n".join(text)


def _ms(told: float | None) -> str:
    return "–" if told is None else f"{told:.1f}"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """All cases, and the page or one JSON object; exit code 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--world", type=Path, help="where the artifact is kept; by default it is thrown away")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a case")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of the case `memory`")
    parser.add_argument(
        "--case", action="append", choices=[*CASES, "memory"], help="may be given several times; all by default"
    )
    parser.add_argument("--max-wait-ms", type=int, default=PATIENCE_MS)
    parser.add_argument("--threads", type=int, default=1, help="of torch, in the service")
    given = parser.parse_args()
    given.case = given.case or [*CASES, "memory"]
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        artifact = (given.world or Path(folder)) / f"artifact_{given.items}"
        if not artifact.exists():
            make_artifact(artifact, given.items)
        told = measure(artifact, given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"cpu": _cpu(), "cores": cores, "threads": given.threads, "python": platform.python_version()}
    machine |= {"torch": str(torch.__version__), "load": busy}
    told = {"name": "serve", "unit": "ms", "items": given.items, "seconds": given.seconds, **told, "machine": machine}
    told["max_wait_ms"] = given.max_wait_ms
    text = page(told, " ".join(["python benchmarks/serve.py", *sys.argv[1:]]))
    if given.out:
        given.out.write_text(text)
    print(json.dumps(told) if given.json else text)
    slow = [one["case"] for one in told["cases"] if one["case"] != "memory" and (one["p99"] or BOUND_MS + 1) > BOUND_MS]
    broken = [one["case"] for one in told["cases"] if one["errors"]]
    if slow or broken:
        raise SystemExit(f"over {BOUND_MS} ms at p99: {', '.join(slow) or 'none'}; with errors: {', '.join(broken) or 'none'}")


if __name__ == "__main__":
    main()
