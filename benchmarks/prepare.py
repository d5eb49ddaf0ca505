"""Time and memory of `corsar prepare kuaisar` over the rows of the raw files; writes results/prepare_kuaisar.md and .svg.

    python benchmarks/prepare.py [--rows 500000,1600000,5000000] [--full] [--raw DIR] [--seed 0] [--note TEXT] [--json]

`--full` adds the size of the published data set, 19.7 M rows and 6.9 M items: three gigabytes of raw files and as many again
for a while beside the dataset directory. With `--raw` the raw files are kept in DIR, and taken from there the next time.

The raw files hold random content in KuaiSAR's format and in its proportions: 14.6 feed rows to 5.1 search rows, 6.9 items and
.026 users; pages of about six feed rows, searches of about twelve results, of which 60 % have a click.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corsar.spool import PART_ROWS

RESULTS = Path(__file__).parent / "results"
ROWS = (500_000, 1_600_000, 5_000_000)
FULL_ROWS, FULL_S, FULL_GIB = 19_700_000, 120, 8  # the published size, and what it may take on two cores
FEED, SEARCH, ITEMS, USERS = (part / 19.7 for part in (14.6, 5.1, 6.9, 0.025877))  # of each, for one row in all
WORDS, CATEGORIES, DAYS = 395_000, (40, 300, 800, 600), 19
START_MS = 1_684_684_800_000  # 2023-05-22 in Beijing
BEIJING_MS = 8 * 3_600_000
AT_ONCE = 500_000  # rows that are made at a time


def skewed(draw: np.random.Generator, size: int, num: int) -> np.ndarray[Any, Any]:
    """Numbers below `num`, the small ones more often."""
    return (num * draw.random(size) ** 2.5).astype(np.int64)


def word_lists(draw: np.random.Generator, size: int, most: int) -> pl.Series:
    """Texts such as "[20, 34, 3]" of 1 to `most` word numbers."""
    words = pl.Series("word", skewed(draw, size * most, WORDS).reshape(size, most)).arr.to_list()
    frame = pl.DataFrame({"word": words, "length": draw.integers(1, most + 1, size)})
    joined = pl.col("word").list.head(pl.col("length")).cast(pl.List(pl.String)).list.join(", ")
    return frame.select(pl.format("[{}]", joined)).to_series()


def beijing(time_ms: np.ndarray[Any, Any]) -> pl.Series:
    return pl.select(pl.from_epoch(pl.Series(time_ms) + BEIJING_MS, "ms").dt.strftime("%Y-%m-%d %H:%M:%S")).to_series()


def feed_rows(draw: np.random.Generator, size: int, users: int, items: int) -> pl.DataFrame:
    page = np.sort(draw.integers(0, max(1, size // 6), size))
    user, time_ms = (
        skewed(draw, page[-1] + 1, users)[page],
        (START_MS + draw.integers(0, DAYS * 86_400_000, page[-1] + 1))[page],
    )
    flags = {
        name: (draw.random(size) < part).astype(np.int8) for name, part in (("forward", 0.01), ("like", 0.05), ("follow", 0.01))
    }
    return pl.DataFrame(
        {
            "user_id": user,
            "item_id": skewed(draw, size, items),
            "playing_time": draw.integers(0, 90_000, size).astype(float),
            "duration_ms": draw.integers(5_000, 90_000, size).astype(float),
            "time": beijing(time_ms),
            "timestamp": time_ms,
            "click": (draw.random(size) < 0.45).astype(np.int8),
            **flags,
            "search": (draw.random(size) < 0.02).astype(np.int8),
            "search_item_related": np.zeros(size, dtype=np.int8),
        }
    )


def search_rows(draw: np.random.Generator, size: int, users: int, items: int, sessions: int) -> pl.DataFrame:
    session = np.sort(draw.integers(0, max(1, size // 12), size))
    num = session[-1] + 1
    user, time_ms = skewed(draw, num, users), START_MS + draw.integers(0, DAYS * 86_400_000, num)
    clicked = (draw.random(num) < 0.6)[session] & (draw.random(size) < 0.2)
    return pl.DataFrame(
        {
            "user_id": user[session],
            "search_session_id": sessions + session,
            "search_session_time": beijing(time_ms).gather(session),
            "search_session_timestamp": time_ms[session],
            "keyword": word_lists(draw, num, 6).gather(session),
            "search_source": pl.repeat("USER_INPUT", size, eager=True),
            "item_id": skewed(draw, size, items),
            "click_cnt": clicked.astype(np.int8),
            "item_type": pl.repeat("PHOTO", size, eager=True),
        }
    )


def item_rows(draw: np.random.Generator, size: int, first: int) -> pl.DataFrame:
    levels: dict[str, Any] = {}
    for name, num in zip(("first", "second", "third", "fourth"), CATEGORIES, strict=True):
        code = pl.Series(skewed(draw, size, num))
        texts = {
            f"{name}_level_category_name": pl.format("class {}", "code"),
            f"{name}_level_category_name_en": pl.format("c{}", "code"),
        }
        levels[f"{name}_level_category_id"] = code.cast(pl.Float64)
        levels |= pl.DataFrame({"code": code}).select(**texts).to_dict()
    return pl.DataFrame(
        {
            "item_id": np.arange(first, first + size),
            "caption": word_lists(draw, size, 20),
            "author_id": draw.integers(0, 500_000, size),
            "item_type": pl.repeat("NORMAL", size, eager=True),
            "upload_time": pl.repeat("2023-05-01", size, eager=True),
            "upload_type": pl.repeat("ShortImport", size, eager=True),
            **levels,
        }
    )


def counts_of(rows: int) -> dict[str, int]:
    """How many there are of each thing among so many feed and search rows in all."""
    feed = round(rows * FEED)
    return {"feed": feed, "search": rows - feed, "items": round(rows * ITEMS), "users": max(1, round(rows * USERS))}


def write_raw(folder: Path, rows: int, seed: int) -> None:
    """KuaiSAR's five files with so many feed and search rows in all."""
    draw = np.random.default_rng([seed, rows])
    feed, _, items, users = counts_of(rows).values()
    folder.mkdir(parents=True)
    sessions = 0
    for name, num in (("rec_inter", feed), ("src_inter", rows - feed), ("item_features", items)):
        with (folder / f"{name}.csv").open("wb") as file:
            for first in range(0, num, AT_ONCE):
                size = min(AT_ONCE, num - first)
                if name == "rec_inter":
                    part = feed_rows(draw, size, users, items)
                elif name == "src_inter":
                    part = search_rows(draw, size, users, items, sessions)
                    sessions = int(part["search_session_id"].max()) + 1  # type: ignore[arg-type]
                else:
                    part = item_rows(draw, size, first)
                part.write_csv(file, include_header=first == 0)
    levels = {
        name: draw.integers(0, num, users)
        for name, num in (("search_active_level", 5), ("rec_active_level", 5), ("onehot_feat1", 3), ("onehot_feat2", 8))
    }
    pl.DataFrame({"user_id": np.arange(users), **levels}).write_csv(folder / "user_features.csv")
    follows = {"user_id": draw.integers(0, users, users), "user_follow_id": draw.integers(0, users, users)}
    pl.DataFrame(follows).write_csv(folder / "social_network.csv")


def measure(raw: Path, out: Path) -> dict[str, float]:
    """Seconds and peak memory of a process that prepares `raw`."""
    command = [sys.executable, "-m", "corsar.cli", "prepare", "kuaisar", str(raw), "--out", str(out), "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"corsar prepare ended with {process.returncode}")
    return {"seconds": time.perf_counter() - start, "cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def idle_mib() -> float:
    """Memory of a process that has imported corsar and does nothing."""
    code = "import corsar.api, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def plot(cases: Sequence[dict[str, Any]]) -> str:
    """Seconds and MiB over rows as an SVG, each with the straight line through 0 and the first size."""
    width, height, left, low = 360, 240, 60, 200
    parts = []
    for number, (key, title) in enumerate((("seconds", "seconds"), ("peak_mib", "peak MiB"))):
        x0 = number * width + left
        most_rows, most = cases[-1]["rows"], 1.1 * max(max(one[key] for one in cases), cases[0][key])

        def at(rows: float, value: float, x0: int = x0, most_rows: float = most_rows, most: float = most) -> str:
            return f"{x0 + rows / most_rows * 270:.1f},{low - value / most * 160:.1f}"

        points = [at(one["rows"], one[key]) for one in cases]
        parts += [
            f'<text x="{x0}" y="24" font-weight="bold">{title} over rows</text>',
            f'<path d="M{x0},40 V{low} H{x0 + 280}" fill="none" stroke="#888"/>',
            f'<polyline points="{" ".join(points)}" fill="none" stroke="#1764ab" stroke-width="2"/>',
        ]
        free = float("inf")  # left end of the label to the right
        for one, point in reversed(list(zip(cases, points, strict=True))):
            x, y = point.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="#1764ab"/>')
            if float(x) + 4 > free:
                continue
            free = float(x) - 40
            told = f"{one[key]:,.1f}" if one[key] < 100 else f"{one[key]:,.0f}"
            parts += [
                f'<text x="{x}" y="{float(y) - 9:.1f}" text-anchor="end">{told}</text>',
                f'<text x="{x}" y="{low + 18}" text-anchor="middle">{one["rows"] / 1e6:g} M</text>',
            ]
    size = f'width="{2 * width}" height="{height}" viewBox="0 0 {2 * width} {height}"'
    style = 'font-family="sans-serif" font-size="12" fill="#222"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n<rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def page(told: dict[str, Any]) -> str:
    """The result as Markdown."""
    names = ("rows", "feed", "search", "items", "users", "raw_mb", "seconds", "cpu_s", "us_a_row", "peak_mib", "bytes_a_row")
    digits = (0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0)
    lines = [
        "# `corsar prepare kuaisar` over the number of rows",
        "",
        "Random content in KuaiSAR's format and proportions. One process for each size, from the raw CSV files to the finished",
        "dataset directory, hashes included. Peak memory is what the system reports of the process; the last column is what it",
        "has above a process that has imported corsar and does nothing.",
        "",
        "| rows | feed | search | items | users | raw MB | seconds | CPU s | µs a row | peak MiB | bytes a row |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in told["cases"]:
        shown = (f"{one[name]:,.{digit}f}" for name, digit in zip(names, digits, strict=True))
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join([*lines, "", "![seconds and peak memory over rows](prepare_kuaisar.svg)", "", *told["sentences"], ""])


def sentences(told: dict[str, Any], note: str) -> list[str]:
    """What the figures say, and how they came about."""
    cases = told["cases"]
    steps = list(itertools.pairwise(cases))
    # what each more row takes, so that the start of the process does not count
    time_us = [(two["seconds"] - one["seconds"]) / (two["rows"] - one["rows"]) * 1e6 for one, two in steps]
    memory = [(two["peak_mib"] - one["peak_mib"]) * 2**20 / (two["rows"] - one["rows"]) for one, two in steps]
    full = [one for one in cases if one["rows"] == FULL_ROWS]
    return [
        f"Time: from size to size each more row takes {', '.join(f'{one:.2f}' for one in time_us)} µs; where time is linear,"
        " these are the same.",
        "",
        f"Memory: from size to size each more row takes {', '.join(f'{one:,.0f}' for one in memory)} bytes. Rows, items and"
        f" words are worked through in parts of about {PART_ROWS:,} rows, which lie on disk. What lies in memory as a whole"
        " grows with the catalogue and not with the log: the ids of the items (8 bytes each in the vocabulary, and once or"
        " twice more while they are gathered; 0.35 items come with each row here), the distinct words, and the distinct"
        " queries (0.02 with each row).",
        "",
        *(
            f"Full size: {one['seconds']:.0f} s (at most {FULL_S}) and {one['peak_mib'] / 1024:.2f} GiB (at most {FULL_GIB})."
            for one in full
        ),
        *([""] if full else []),
        f"- Command: `{told['command']}`",
        f"- Machine: {told['machine']}; polars with {told['threads']} threads; seed {told['seed']}; {told['date']}.",
        *([f"- {note}"] if note else []),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    cases: list[dict[str, Any]] = []
    idle = idle_mib()
    with tempfile.TemporaryDirectory(prefix="corsar-prepare-") as folder:
        for rows in (*map(int, given.rows.split(",")), *([FULL_ROWS] if given.full else [])):
            raw, out = (given.raw or Path(folder)) / f"raw{rows}-{given.seed}", Path(folder) / f"data{rows}"
            counts = counts_of(rows)
            if not (raw / "social_network.csv").is_file():  # the one that is written last
                shutil.rmtree(raw, ignore_errors=True)
                write_raw(raw, rows, given.seed)
            megabytes = sum(file.stat().st_size for file in raw.iterdir()) / 1e6
            told = measure(raw, out)
            per_row = {"us_a_row": told["seconds"] / rows * 1e6, "bytes_a_row": (told["peak_mib"] - idle) * 2**20 / rows}
            cases.append({"case": f"{rows} rows", "rows": rows, **counts, "raw_mb": megabytes, **told, **per_row})
            if not given.raw:
                shutil.rmtree(raw)
            shutil.rmtree(out)
            print(f"{rows:,} rows: {told['seconds']:.1f} s, {told['peak_mib']:,.0f} MiB", file=sys.stderr)
    result: dict[str, Any] = {"name": "prepare_kuaisar", "unit": "s", "cases": cases, "machine": machine(), "seed": given.seed}
    result |= {"start_mib": idle, "threads": os.environ.get("POLARS_MAX_THREADS") or os.cpu_count()}
    result |= {
        "command": f"python benchmarks/prepare.py --rows {given.rows}{' --full' if given.full else ''} --seed {given.seed}",
        "date": str(date.today()),
    }
    result["sentences"] = sentences(result, given.note)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "prepare_kuaisar.md").write_text(page(result), encoding="utf-8")
    (RESULTS / "prepare_kuaisar.svg").write_text(plot(cases), encoding="utf-8")
    print(json.dumps(result, indent=1) if given.json else page(result))


if __name__ == "__main__":
    main()
