"""Benchmarks run; their sizes here say nothing about speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_autocorrelation_benchmark_tells_time_memory_and_lengths(tmp_path: Path) -> None:
    flags = ["--tiny", "--json", "--repeats=1", "--processes=1", "--threads=1"]
    command = [sys.executable, BENCHMARKS / "autocorrelation.py", *flags, "--out", tmp_path / "page.md"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"name", "unit", "cases", "machine"} <= set(told)
    for one in told["cases"]:
        assert one["ratio"] == pytest.approx(one["twin"] / one["ours"])
    assert {one["unit"] for one in told["cases"]} == {"ms", "MiB"}
    assert [one["slots"] for one in told["lengths"]] == [16, 64, 256, 512]
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert all(f"| {one['case']} |" in page for one in told["cases"])
    assert "](page.svg)" in page
    assert (tmp_path / "page.svg").stat().st_size < 60_000
