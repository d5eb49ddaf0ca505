"""A disk that is full: one sentence, nothing half-written, and a run goes on once there is room.

RLIMIT_FSIZE makes a write fail in earnest, in Python and in the libraries behind it alike; the audit hook lets every single
thing fail that Python asks of the file system.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from corsar.artifact import replacing
from corsar.cli import main
from corsar.data.store import open_dataset
from corsar.errors import OutputError
from corsar.sources.simulate import simulate

sys.path.insert(0, str(Path(__file__).parent))
from fault_kit import assert_one_sentence, content

FULL = r"cannot write .*: (file too large|no space left on device); make room on that disk and "
SETTINGS = {
    "model.name": "sasrec", "model.dim": "8", "data.feed_len": "6", "data.search_len": "4", "train.epochs": "2",
    "train.tasks": '["recommend"]', "train.batch_size": "24", "train.align_negatives": "4", "train.valid_cases": "8",
    "train.checkpoint_every": "2",
}  # fmt: skip
FLAGS = [token for key, value in SETTINGS.items() for token in (f"--{key}", value)]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A block in which no file can be made longer than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ, so that writes fail with EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FullDisk:
    """From its `at`-th new file, folder or renaming below `folder` on, all of them fail."""

    hooked: FullDisk | None = None

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at, self.seen = str(folder), at, 0

    def __enter__(self) -> FullDisk:
        FullDisk.hooked = self
        return self

    def __exit__(self, *_: object) -> None:
        FullDisk.hooked = None

    @staticmethod
    def hook(event: str, args: tuple[Any, ...]) -> None:
        disk = FullDisk.hooked
        if disk is None or event not in ("open", "os.rename", "os.mkdir") or not str(args[0]).startswith(disk.folder):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if event == "os.rename" and ".old" in Path(args[0]).name:  # to give a thing its name back takes no room
            return
        disk.seen += 1
        if disk.seen > disk.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), args[0])


@pytest.fixture(scope="module", autouse=True)
def hooked() -> None:
    """The audit hook, which can be added once and not be taken away."""
    sys.addaudithook(FullDisk.hook)


def numbers(most: int, how_many: int, what: str) -> list[int]:
    """Random numbers below `most`, with 0 among them; a failure shows them in its arguments."""
    draw = random.Random(f"{random.SystemRandom().randrange(10**9)} {what}")
    return [0, *sorted(draw.sample(range(1, most), how_many))]


def events(folder: Path) -> str:
    user = [n // 8 for n in range(400)]
    queries = [f"word{n % 7}" if n % 3 == 0 else None for n in range(400)]
    table = {
        "user_id": user,
        "item_id": [n * 7 % 31 for n in range(400)],
        "time_ms": range(10**12, 10**12 + 400),
        "query": queries,
    }
    pl.DataFrame(table).write_parquet(folder / "events.parquet")
    return str(folder / "events.parquet")


def test_full_disk_leaves_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["prepare", "tables", events(tmp_path), "--out", str(tmp_path / "out" / "data")]
    with FullDisk(tmp_path, 10**9) as disk:
        main(argv)
    whole = content(tmp_path / "out")
    largest = max(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file())
    for size in numbers(largest, 4, "bytes"):
        for old in (False, True):  # with a dataset that is to be overwritten, and without
            if not old:
                os.rename(tmp_path / "out" / "data", tmp_path / "kept")
            with files_of_at_most(size):
                assert_one_sentence(capsys, FULL + "run it again", *argv, *["--overwrite"] * old)
            if not old:
                assert os.listdir(tmp_path / "out") == [], size
                os.rename(tmp_path / "kept", tmp_path / "out" / "data")
            assert content(tmp_path / "out") == whole, size
    for at in numbers(disk.seen, 8, "operations"):
        with FullDisk(tmp_path, at):
            assert_one_sentence(capsys, FULL + "run it again", *argv, "--overwrite")
        assert content(tmp_path / "out") == whole, at


def test_full_disk_leaves_a_run_that_goes_on(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def argv(run: Path) -> list[str]:
        resume = ["--resume"] if (run / "config.toml").is_file() else []
        return ["train", "--data", str(tiny_dataset), "--out", str(run), *FLAGS, *resume]

    whole = tmp_path / "whole"
    with FullDisk(whole, 10**9) as disk:
        main(argv(whole))
    largest = max(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    steps = [line for line in (whole / "metrics.jsonl").read_text().splitlines() if '"steps"' in line]
    limits = [("bytes", size) for size in numbers(largest, 3, "bytes")] + [("bytes", len(steps[0]))]
    for kind, number in limits + [("operations", at) for at in numbers(disk.seen, 6, "operations")]:
        run = tmp_path / f"{kind}{number}"
        with files_of_at_most(number) if kind == "bytes" else FullDisk(run, number):
            told = assert_one_sentence(capsys, FULL, *argv(run))
        left = {file.name for file in run.rglob("*")} if run.exists() else set()
        assert not {name for name in left if name.startswith(".") or name.endswith(".new")}, (kind, number, left)
        for line in (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []:
            json.loads(line)
        assert "go on with --resume" in told or not (run / "config.toml").exists(), (kind, number, told)
        main(argv(run))
        names = [name for name in content(whole) if name.endswith("weights.safetensors") or name.startswith("artifact")]
        assert {name: content(run)[name] for name in names} == {name: content(whole)[name] for name in names}, (kind, number)
        assert content(run).keys() == content(whole).keys(), (kind, number)


@pytest.mark.parametrize("at", [0, 1, 2])  # making the new folder, taking the old one away, putting the new one there
def test_full_disk_gives_the_old_artifact_its_place_back(at: int, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "manifest.json").write_text("{}")
    with pytest.raises(OutputError, match="no space left"), FullDisk(tmp_path, at), replacing(tmp_path / "artifact"):
        pass
    assert [str(one.relative_to(tmp_path)) for one in sorted(tmp_path.rglob("*"))] == ["artifact", "artifact/manifest.json"]


def test_full_disk_leaves_the_report_that_was_there(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main(["train", "--data", str(tiny_dataset), "--out", str(run), "--model", "popularity"])
    argv = ["evaluate", str(run), "--no-baselines", "--evaluate.bootstrap", "5"]
    with FullDisk(run, 10**9) as disk:
        main(argv)
    before = content(run)
    for size in (0, *numbers((run / "report.json").stat().st_size, 2, "bytes")):
        with files_of_at_most(size):
            assert_one_sentence(capsys, FULL, *argv)
        assert content(run).keys() == before.keys(), size
    for at in range(disk.seen):
        with FullDisk(run, at):
            assert_one_sentence(capsys, FULL, *argv)
        assert content(run).keys() == before.keys(), at
    json.loads((run / "report.json").read_text())


def test_full_disk_leaves_no_sampled_candidates(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, folder = tmp_path / "run", tiny_dataset / "candidates"
    main(["train", "--data", str(tiny_dataset), "--out", str(run), "--model", "popularity"])
    argv = ["evaluate", str(run), "--no-baselines", "--evaluate.bootstrap", "5", "--evaluate.candidates", "sampled:7"]
    before = content(folder)
    with files_of_at_most(130):
        assert_one_sentence(capsys, FULL, *argv)
    assert content(folder) == before
    assert main(argv) is None
    open_dataset(tiny_dataset).verify()


def test_full_disk_leaves_no_simulated_logs(tmp_path: Path) -> None:
    for size in (0, 3000):
        with files_of_at_most(size), pytest.raises(OutputError, match=FULL):
            simulate(tmp_path / "raw", users=30, items=200, days=3)
        assert os.listdir(tmp_path) == []
    with FullDisk(tmp_path, 2), pytest.raises(OutputError, match=FULL):
        simulate(tmp_path / "raw", users=30, items=200, days=3)
    assert os.listdir(tmp_path) == []


def test_full_output_is_told(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    full = open("/dev/full", "w")  # noqa: SIM115 (closed below, which fails)
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", str(tiny_dataset), "--json"])
    monkeypatch.undo()
    with suppress(OSError):
        full.close()
    assert stopped.value.code == 2
    assert "cannot use a file or the output: no space left on device; make room" in capsys.readouterr().err


def test_reader_that_has_had_enough_is_no_fault() -> None:
    hear, speak = os.pipe()
    os.close(hear)
    command = [sys.executable, "-m", "corsar.cli", "--help"]
    done = subprocess.run(command, stdout=speak, stderr=subprocess.PIPE, text=True, check=False)
    os.close(speak)
    assert done.returncode != 0
    assert done.stderr == ""
