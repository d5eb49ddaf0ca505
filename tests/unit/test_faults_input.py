"""Input at fault: one sentence with the remedy, exit code 2, no traceback, and nothing new on the disk."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import torch

from corsar.cli import main
from corsar.data.store import open_dataset
from corsar.errors import DataError
from corsar.sources import source_module

sys.path.insert(0, str(Path(__file__).parent))
from fault_kit import assert_one_sentence, flip, snapshot

GOOD = {
    "user_id": [1, 1, 1, 2, 2, 2],
    "item_id": [10, 11, 12, 10, 12, 11],
    "kind": ["feed", "search", "feed"] * 2,
    "time_ms": [1_600_000_000_000 + n for n in range(6)],
    "query": [None, "red shoe", None] * 2,
}
DATES = [f"2024-05-0{n}T10:00:00Z" for n in range(1, 7)]
SMALL = ["--train.max_steps", "1", "--train.batch_size", "8", "--train.align_negatives", "4", "--train.valid_cases", "8"]
SIZES = ["--model.dim", "8", "--model.id_dim", "8", "--model.word_dim", "8"]
Fault = Callable[[pytest.CaptureFixture[str], str], str]


def parquet(folder: Path, **columns: object) -> str:
    pl.DataFrame({**GOOD, **columns}).write_parquet(folder / "e.parquet")
    return "e.parquet"


def csv(folder: Path, text: bytes | None = None, name: str = "e.csv", **columns: object) -> str:
    if text is None:
        text = pl.DataFrame({**GOOD, **columns}).write_csv().encode()
    (folder / name).write_bytes(text)
    return name


def truncated(folder: Path) -> str:
    whole = (folder / parquet(folder)).read_bytes()
    (folder / "e.parquet").write_bytes(whole[: len(whole) // 2])
    return "e.parquet"


def truncated_gzip(folder: Path) -> str:
    return csv(folder, gzip.compress(pl.DataFrame(GOOD).write_csv().encode() * 50)[:40], "e.csv.gz")


def directory(folder: Path) -> str:
    (folder / "e.csv").mkdir()
    return "e.csv"


EVENTS: dict[str, tuple[Callable[[Path], str], str]] = {
    "truncated Parquet": (truncated, r"e.parquet: not readable as parquet \(.*\); give whole Parquet"),
    "truncated gzip": (truncated_gzip, r"e.csv.gz: not readable .*; give whole Parquet, or UTF-8 text"),
    "text named Parquet": (lambda folder: csv(folder, name="e.parquet"), "e.parquet: not readable as parquet"),
    "empty": (lambda folder: csv(folder, b""), r"e.csv: not readable .*; give .* UTF-8 text with a header line"),
    "header alone": (lambda folder: csv(folder, b"user_id,item_id,time_ms\n"), "e.csv: there are no events; give a file"),
    "directory": (directory, "e.csv: this is a directory; name a file in it"),
    "no UTF-8 in the header": (lambda folder: csv(folder, b"us\xe9r_id,item_id,time_ms\n1,2,3\n"), r"utf-8.*; give"),
    "no UTF-8 in a row": (
        lambda folder: csv(folder, b"user_id,item_id,time_ms,query\n" + b"1,2,1600000000000,sh\xf6es\n" * 9),
        "(?i)utf-?8.*; give",
    ),
    "more fields than columns": (lambda folder: csv(folder, b"user_id,item_id,time_ms\n1,2,3,4,5\n"), "e.csv: not readable"),
    "missing column": (lambda folder: csv(folder, b"user_id,time_ms\n1,1600000000000\n"), "no column for 'item_id' among"),
    "list of items": (lambda folder: parquet(folder, item_id=[[1]] * 6), "column 'item_id' must hold whole numbers or texts"),
    "fraction as item": (lambda folder: parquet(folder, item_id=[1.5] * 6), r"column 'item_id' must hold .* 1\.5 is there"),
    "times that are none": (lambda folder: parquet(folder, time_ms=[True] * 6), "must hold times, but is Boolean; state it"),
    "label that is none": (lambda folder: csv(folder, label=[0, 1, 7, 1, 1, 1]), r"column 'label' must hold 0 or 1, but '7'"),
    "unknown kind": (lambda folder: csv(folder, kind=["view"] * 6), r"'kind' holds 'view'; say under \[kinds\]"),
    "NaN time": (
        lambda folder: parquet(folder, time_ms=[1.6e12, math.nan, *[1.6e12] * 4]),
        "'time_ms' is empty in 1 row, first in row 2; fill",
    ),
    "NaN time in text": (lambda folder: csv(folder, time_ms=["1600000000", "nan", *["1600000000"] * 4]), "'nan' beside"),
    "infinite time": (lambda folder: parquet(folder, time_ms=[1.6e12, math.inf, *[1.6e12] * 4]), "infinite values; fill"),
    "no user": (lambda folder: parquet(folder, user_id=[1, None, 1, 2, 2, 2]), "'user_id' is empty in 1 row, first in row 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", EVENTS)
def test_events_at_fault_are_told(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, sentence = EVENTS[fault]
    name = make(tmp_path)
    monkeypatch.chdir(tmp_path)
    with snapshot(tmp_path):
        assert_one_sentence(capsys, sentence, "prepare", "tables", name, "--out", "data")


MAPS = {
    'time_unit = "s"': "is said to be in s, but it holds dates; leave the time unit out, or say iso",
    '[time]\nunit = "ms"': "is said to be in ms, but it holds dates",
    'time_unit = "days"': "unknown time unit 'days'; use one of ms, s",
    '[time]\nunits = "s"': r"unknown key 'units' in \[time\]; use unit, or format and zone",
    'time_units = "s"': "unknown key 'time_units'; did you mean 'time_unit'",
    '[columns.events]\nwhen = "x"': r"unknown key 'when' in \[columns.events\]; use one of user_id",
    '[columns.event]\ntime_ms = "x"': r"unknown table 'event' in \[columns\]; use one of events",
    '[columns.events]\ntime_ms = "x"': r"no column 'x' among 'user_id'.*; correct \[columns.events\] time_ms",
    "split = 3": "split = 3 will not do",
    "split = ": "is no valid TOML",
}


@pytest.mark.parametrize("text", MAPS)
def test_column_map_at_fault_is_told(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    csv(tmp_path, time_ms=DATES)
    (tmp_path / "map.toml").write_text(text + "\n")
    monkeypatch.chdir(tmp_path)
    with snapshot(tmp_path):
        assert_one_sentence(capsys, MAPS[text], "prepare", "tables", "e.csv", "--config", "map.toml", "--out", "data")


def test_dates_need_no_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv(tmp_path, time_ms=DATES)
    for number, text in enumerate(("", 'time_unit = "iso"')):
        (tmp_path / "map.toml").write_text(text)
        argv = [str(tmp_path / "e.csv"), "--config", str(tmp_path / "map.toml"), "--out", str(tmp_path / str(number))]
        main(["prepare", "tables", *argv])
    assert open_dataset(tmp_path / "0").manifest["data_hash"] == open_dataset(tmp_path / "1").manifest["data_hash"]


@pytest.mark.parametrize("items", [b"item_id,text\n10,a\n11,b\n10,c\n", b"text\na\n", b"", b"item_id,text\n,a\n"])
def test_items_at_fault_are_told(items: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events, table = csv(tmp_path), csv(tmp_path, items, "items.csv")
    sentences = {10: "'item_id' holds 10 and 0 others more than once; keep one row an id", 0: "items.csv: "}
    argv = [str(tmp_path / events), "--items", str(tmp_path / table), "--out", str(tmp_path / "data")]
    with snapshot(tmp_path):
        assert_one_sentence(capsys, sentences[10 if b"10,c" in items else 0], "prepare", "tables", *argv)


FLIPS = """
import contextlib, io, shutil, sys
from pathlib import Path
from corsar.cli import main
from fault_kit import flip
file, out = Path(sys.argv[1]), Path(sys.argv[2])
whole = file.read_bytes()
for at in map(int, sys.argv[3:]):
    flip(file, at)
    code, told = 0, io.StringIO()
    print(at, end=" ", flush=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
            main(["prepare", "tables", str(file), "--out", str(out)])
    except SystemExit as stopped:
        code = stopped.code
    finally:
        file.write_bytes(whole)
    print(code, told.getvalue().count("corsar: "), flush=True)
    shutil.rmtree(out, ignore_errors=True)
"""


def test_parquet_with_a_flipped_byte_is_told_or_read(tmp_path: Path) -> None:
    """In a process of its own, which polars ends where the byte tells of more to read than memory holds; nothing else may."""
    seed = random.SystemRandom().randrange(10**9)
    file = tmp_path / parquet(tmp_path)
    whole, draw, codes = file.read_bytes(), random.Random(seed), []
    left = [draw.randrange(len(whole)) for _ in range(40)]
    while left:
        argv = [sys.executable, "-c", FLIPS, str(file), str(tmp_path / "data"), *map(str, left)]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
        lines = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
        if done.returncode:
            assert re.search(r"memory allocation of \d+ bytes failed", done.stderr), (seed, done.stderr[-2000:])
            assert len(lines.pop()) == 1, f"seed {seed}"  # the flip that it died of
            file.write_bytes(whole)
        assert all(told <= 1 for _, _, told in lines), f"seed {seed}"
        codes += [code for _, code, _ in lines]
        left = left[len(lines) + bool(done.returncode) :]
    assert set(codes) <= {0, 2}, f"seed {seed}"
    assert 2 in codes, f"seed {seed}"
    assert os.listdir(tmp_path) == ["e.parquet"]


def test_unknown_source_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with snapshot(tmp_path):
        assert_one_sentence(capsys, "kuaisa.*kuaisar", "prepare", "kuaisa", "raw", "--out", "data")
    with pytest.raises(DataError, match="there is no source 'kuaisa'; choose one of tables, kuaisar, foursquare, simulate"):
        source_module("kuaisa")


@pytest.fixture(scope="module")
def run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    out = tmp_path_factory.mktemp("runs") / "run"
    main(["train", "--data", str(tiny_dataset), "--out", str(out), *SMALL, *SIZES])
    return out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train", "--data", "DATA", "--train.epoch", "3"], r"unknown key 'epoch' in \[train\]; did you mean 'epochs'"),
        (["train", "keys.toml", "--data", "DATA"], r"unknown key 'lr' in \[train\]"),
        (["train", "--data", "DATA", "--model.dmi", "3"], r"unknown key 'dmi' in \[model\]; did you mean 'dim'"),
        (["train", "--data", "DATA", "--model", "unisra"], "unisra.*unisar"),
        (["train", "--data", "DATA", "--run.device", "cudda"], "is no device of torch; write cpu or cuda"),
        (["train", "--data", "empty", "--out", "o"], "'empty' is no dataset directory; make one with `corsar prepare`"),
        (["train", "--data", "DATA", "--out", "full"], "full is there already; add --resume"),
        (["train", "--data", "DATA", "--out", "full", "--resume"], "full holds no run to resume; leave --resume out"),
        (["train", "--data", "DATA", "--out", "RUN", "--resume", "--run.seed", "4", *SMALL, *SIZES], "run.seed = 0, not 4"),
        (["evaluate", "empty"], "empty holds no artifact; name a run"),
        (["evaluate", "DATA"], "holds no artifact; name a run"),
        (["evaluate", "keys.toml"], "keys.toml holds no artifact; name a run"),
        (["evaluate", "RUN", "--run.device", "cudda"], "is no device of torch; write cpu or cuda"),
        (["recommend", "empty", "--user", "u1"], "empty holds no artifact; name a run"),
        (["search", "full", "shoe"], "full holds no artifact; name a run"),
        (["recommend", "none"], "none does not exist; name a run"),
    ],
    ids=lambda value: " ".join(value[:5]) if isinstance(value, list) else "",
)  # fmt: skip
def test_settings_and_runs_at_fault_are_told(
    argv: list[str], sentence: str, run: Path, tiny_dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "keys.toml").write_text("[train]\nlr = 1\n")
    with snapshot(tmp_path), snapshot(run), snapshot(tiny_dataset):
        names = {"RUN": str(run), "DATA": str(tiny_dataset)}
        assert_one_sentence(capsys, sentence, *(names.get(word, word) for word in argv))


def test_evaluate_has_the_threads_it_is_told(run: Path) -> None:
    before = torch.get_num_threads()
    main(["evaluate", str(run), "--no-baselines", "--evaluate.bootstrap", "5", "--run.threads", str(before + 1)])
    assert json.loads((run / "report.json").read_text())["machine"]["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_flipped_byte_in_a_dataset_is_told(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(10**9)
    draw = random.Random(seed)
    data = shutil.copytree(tiny_dataset, tmp_path / "data")
    files = [data / name for name in open_dataset(data).manifest["files"]]
    argv = ["train", "--data", str(data), "--out", str(tmp_path / "run"), *SMALL, *SIZES]
    for file in files:
        whole = file.read_bytes()
        flip(file, draw.randrange(len(whole)))
        sentence = f"{file.name}' is not what prepare wrote; prepare the dataset again"
        assert_one_sentence(capsys, sentence, "doctor", str(data))
        if file.parent.name in ("history", "catalogue", "train_search"):
            assert_one_sentence(capsys, sentence, *argv)
            assert not (tmp_path / "run").exists(), f"seed {seed}, {file}"
        file.write_bytes(whole)
    open_dataset(data).verify()
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["counts"]["users"] += 1
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert_one_sentence(capsys, "manifest.json' is not what prepare wrote; prepare the dataset again", *argv)


def test_flipped_byte_in_an_artifact_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(10**9)
    draw = random.Random(seed)
    artifact = shutil.copytree(run / "artifact", tmp_path / "artifact")
    for file in sorted(artifact.rglob("*")):
        if not file.is_file() or file.name == "manifest.json":
            continue
        whole = file.read_bytes()
        flip(file, draw.randrange(len(whole)))
        assert_one_sentence(capsys, "is not the file that was written; copy it again", "recommend", str(artifact))
        file.write_bytes(whole)
    manifest = artifact / "manifest.json"
    whole = manifest.read_bytes()
    codes = []
    for _ in range(30):
        flip(manifest, draw.randrange(len(whole)))
        try:
            main(["recommend", str(artifact), "-k", "1"])
        except SystemExit as stopped:
            codes.append(stopped.code)
        assert capsys.readouterr().err.count("corsar: ") <= 1, f"seed {seed}"
        manifest.write_bytes(whole)
    assert set(codes) <= {2}, f"seed {seed}"


def test_flipped_byte_in_a_checkpoint_is_told(
    run: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    draw = random.Random(seed)
    mine = shutil.copytree(run, tmp_path / "run")
    for file in sorted((mine / "checkpoint").rglob("*")):
        if file.is_file() and file.name != "latest.json":
            whole = file.read_bytes()
            flip(file, draw.randrange(len(whole)))
            assert_one_sentence(capsys, "the checkpoint in .* is damaged; train again", "train", "--out", str(mine), "--resume")
            file.write_bytes(whole)
    (mine / "metrics.jsonl").write_text("")
    assert_one_sentence(capsys, "has lost lines that its checkpoint counts", "train", "--out", str(mine), "--resume")


def test_other_versions_are_told(run: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def other(folder: Path) -> str:
        manifest = folder / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 99}))
        return str(folder)

    data = other(shutil.copytree(tiny_dataset, tmp_path / "data"))
    argv = ["train", "--data", data, "--out", str(tmp_path / "run")]
    assert_one_sentence(capsys, "was written by another version of corsar; prepare the dataset again", *argv)
    artifact = other(shutil.copytree(run / "artifact", tmp_path / "artifact"))
    assert_one_sentence(capsys, "is of format 99 .*; train again, or use the version", "recommend", artifact)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder that all may read, and a process without the rights of root."""
    folder = Path(tempfile.mkdtemp(prefix="corsar-rights-"))
    folder.chmod(0o755)
    user = os.geteuid()
    try:
        yield folder
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


def test_closed_files_and_folders_are_told(tiny_dataset: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with as_nobody() as folder:
        data, model = shutil.copytree(tiny_dataset, folder / "data"), shutil.copytree(run, folder / "run")
        events, table = folder / csv(folder), folder / parquet(folder)
        for file in (data / "manifest.json", model / "artifact" / "weights.safetensors", table):
            file.chmod(0)
        open_data = shutil.copytree(tiny_dataset, folder / "open")
        argv = ["train", "--data", str(open_data), "--out", str(folder / "new"), *SMALL, *SIZES]
        main([*argv[:4], str(folder / "warm"), *SMALL, *SIZES])  # all that is imported late is imported by now
        before = sorted(folder.rglob("*"))
        if os.geteuid() == 0:
            os.seteuid(65534)
        assert_one_sentence(capsys, "cannot write .*new/config.toml: permission denied; change its rights", *argv)
        prepare = ["prepare", "tables", str(events), "--out", str(folder / "data2")]
        assert_one_sentence(capsys, "cannot write .*data2: permission denied; change its rights", *prepare)
        told = ["prepare", "tables", str(table), "--out", str(folder / "data2")]
        assert_one_sentence(capsys, "e.parquet: not readable .*[Pp]ermission denied.*; see that you may read it", *told)
        assert_one_sentence(capsys, "manifest.json: permission denied; change its rights", "train", "--data", str(data))
        assert_one_sentence(capsys, "(?i)weights.safetensors.*permission denied", "recommend", str(model))
        assert sorted(folder.rglob("*")) == before
