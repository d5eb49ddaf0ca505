"""corsar ablate and transfer: killed and gone on with, they end as the unbroken ones and do nothing twice; what they refuse.

The moments of the kills vary from run to run; a failure says how to bring them back: CORSAR_KILL_SEED=… pytest …
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from corsar import evaluate_runs, load_config
from corsar.api import prepare_kuaisar
from corsar.api.runs import BASELINES
from corsar.cli import main
from corsar.evaluate.metrics import case_metric
from corsar.evaluate.report import read_places, read_report
from corsar.sources.simulate import simulate

SEED = int(os.environ.get("CORSAR_KILL_SEED") or random.SystemRandom().randrange(10**9))
BASE = """
seeds = [0, 1]
[base.data]
path = "{data}"
feed_len = 6
search_len = 4
[base.model]
name = "sasrec"
dim = 8
blocks = 1
[base.train]
epochs = 2
batch_size = 24
valid_cases = 8
checkpoint_every = 2
[base.evaluate]
bootstrap = 20
[base.run]
threads = 1
"""
RULES = {*BASELINES["recommend"], *BASELINES["search"]}
VARIANTS = '[variants."two blocks"]\nmodel.blocks = 2\n'


class Starter:
    """A process that forks children which run commands and may be killed on their way: tests/e2e/warm_trainer.py."""

    def __init__(self, process: subprocess.Popen[str], home: Path) -> None:
        self.process, self.home = process, home

    def ask(self, command: str, file: Path, out: Path, **kill: Any) -> int:
        """How a command ended."""
        argv = [command, str(file), "--out", str(out)]
        told = {"argv": [argv], "folder": str(out), "log": f"{out}.log", **kill}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline())["code"])


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    source = str(Path(__file__).parents[2] / "src")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("warm_trainer.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as process:
        yield Starter(process, tmp_path_factory.mktemp("sweeps"))


def grid(folder: Path, data: Path, more: str = "") -> Path:
    file = folder / "grid.toml"
    file.write_text(BASE.replace("{data}", str(data)) + more)
    return file


def told(out: Path, name: str) -> dict[str, Any]:
    """The JSON of a page without what a clock measured and where it lies."""
    found: dict[str, Any] = json.loads((out / name).read_text())
    for row in found["rows"]:
        row.pop("seconds", None)
    for row in found.get("budget", []):
        row.pop("time")
    return {key: value for key, value in found.items() if key != "command"}


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """The newest file of each finished run, and how many there are."""
    runs = [mark.parent for mark in out.rglob("finished.json")]
    files = {run.name: [file.stat().st_mtime_ns for file in run.rglob("*")] for run in runs}
    return {name: (max(times), len(times)) for name, times in files.items()}


def killed_and_gone_on_with(starter: Starter, command: str, file: Path, page: str) -> Path:
    """The unbroken folder, after others were killed at a few moments and compared with it."""
    whole, marks = starter.home / f"{command}_whole", starter.home / f"{command}.json"
    assert starter.ask(command, file, whole, marks=str(marks)) == 0, Path(f"{whole}.log").read_text()[-2000:]
    number, draw = len(json.loads(marks.read_text())), random.Random(f"{SEED} {command}")
    out, seen, kills = starter.home / f"{command}_killed", 0, []
    for part in (0.3, 0.5):  # of what an unbroken one does: the second goes on where the first was killed
        kills.append(int(number * part * draw.uniform(0.5, 1)))
        done = finished(out)
        code = starter.ask(command, file, out, at=kills[-1])
        assert code in (-9, 0), Path(f"{out}.log").read_text()[-2000:]
        assert done.items() <= finished(out).items(), f"seed {SEED}, kills {kills}: a finished run was touched"
        seen += code == -9
    done = finished(out)
    assert starter.ask(command, file, out) == 0, Path(f"{out}.log").read_text()[-2000:]
    where = f"seed {SEED}, kills {kills}"
    assert seen >= 1, where
    assert done.items() <= finished(out).items(), where
    assert told(out, page) == told(whole, page), where
    done = finished(out)
    main([command, str(file), "--out", str(out)])
    assert finished(out) == done, "what was finished was done again"
    return whole


@pytest.mark.slow
def test_killed_ablation_goes_on_and_prices_what_the_unbroken_one_does(
    starter: Starter, tiny_dataset: Path, tmp_path: Path
) -> None:
    out = killed_and_gone_on_with(starter, "ablate", grid(tmp_path, tiny_dataset, VARIANTS), "ablation.json")
    rows = {(row["task"], row["variant"]): row for row in told(out, "ablation.json")["rows"]}
    assert {name for task, name in rows if task == "search"} == {"base", "two blocks", *RULES}
    assert {name for task, name in rows if task == "recommend"} == {"base", "two blocks", *RULES - {"bm25"}}
    gains = []
    for seed in (0, 1):
        values = []
        for variant in ("two_blocks", "base"):
            run = out / "runs" / f"{variant}_s{seed}"
            places = read_places(run, read_report(run)).filter(pl.col("task") == "search").sort("case")
            values.append(case_metric("NDCG@10", places["better"].to_numpy(), places["tied"].to_numpy()))
        gains.append(float((values[0] - values[1]).mean()))
    found = rows["search", "two blocks"]["difference"]
    assert found["by_seed"] == pytest.approx(gains)
    assert found["value"] == pytest.approx(sum(gains) / 2)
    assert found["low"] <= found["users_low"] <= found["value"] <= found["users_high"] <= found["high"]
    page = (out / "ablation.md").read_text()
    for words in (
        f"{found['value']:+.4f} [{found['low']:+.4f}",
        "`model.blocks = 2`",
        "covisit (untrained rule)",
        "## recommend",
    ):
        assert words in page


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a tiny simulated app."""
    home = tmp_path_factory.mktemp("app")
    simulate(home / "raw", users=25, items=60, seed=2)
    prepare_kuaisar(home / "raw", home / "dataset", split="last_fraction")
    return home / "dataset"


@pytest.mark.slow
def test_killed_ledger_goes_on_and_tells_what_the_unbroken_one_does(starter: Starter, simulated: Path, tmp_path: Path) -> None:
    file = grid(tmp_path, simulated)
    quick = {"seeds = [0, 1]": "seeds = [3]", "epochs = 2": "epochs = 1", "batch_size = 24": "batch_size = 120"}
    text = file.read_text()
    for slow, fast in quick.items():
        text = text.replace(slow, fast)
    file.write_text(text)
    out = killed_and_gone_on_with(starter, "transfer", file, "ledger.json")
    ledger, page = told(out, "ledger.json"), (out / "ledger.md").read_text()
    cells = {(row["task"], row["history"], row["loss"]): row["figure"]["by_seed"] for row in ledger["rows"] if "loss" in row}
    assert len(cells) == 8
    gains = {(one["task"], one["gain"], one["segment"]): one for one in ledger["gains"]}
    for task in ("recommend", "search"):
        own, history, loss, both = (
            np.array(cells[task, *cell]) for cell in (("own", "own"), ("both", "own"), ("own", "both"), ("both", "both"))
        )
        wanted = {
            "history": history - own,
            "loss": loss - own,
            "together": both - own,
            "interplay": both - history - loss + own,
        }
        for name, by_seed in wanted.items():
            assert gains[task, name, "all cases"]["by_seed"] == pytest.approx(by_seed)
            assert f"{by_seed.mean():+.4f} [" in page
        segments = [one for (of, name, _), one in gains.items() if (of, name) == (task, "together")]
        assert all(one["low"] <= one["value"] <= one["high"] for one in segments)
        assert 1 < len(segments) < 8  # those without cases are left out
        whole = gains[task, "together", "all cases"]
        parts = [gains.get((task, "together", name)) for name in ("short_history", "long_history", "neither")]
        assert sum(one["cases"] for one in parts if one) == whole["cases"]
        assert sum(one["cases"] * one["value"] for one in parts if one) / whole["cases"] == pytest.approx(whole["value"])
    assert ledger["sentences"][0].startswith("Simulated logs: transfer 0.6")
    assert any(one.startswith("In short: ") for one in ledger["sentences"])
    steps = {row["run"]: int(row["steps an epoch"]) for row in ledger["budget"]}
    assert len(steps) == 6
    assert max(steps.values()) - min(steps.values()) <= 1
    settings = {run.name: load_config(run / "config.toml") for run in (out / "runs").iterdir()}
    assert {(one.data.history, one.train.tasks) for one in settings.values()} == {
        (history, tasks) for history in ("own", "both") for tasks in (("recommend",), ("search",), ("recommend", "search"))
    }


def test_ledger_needs_two_tasks_and_no_variants(
    simulated: Path, tiny_city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("transfer", "--out", tmp_path / "out")
    assert "use corsar ablate" in _sentence(capsys, *ask, grid(tmp_path, simulated, VARIANTS))
    assert "needs two tasks" in _sentence(capsys, *ask, grid(tmp_path, simulated), "--data.history", "own")
    assert "needs two tasks" in _sentence(capsys, *ask, grid(tmp_path, tiny_city))
    assert not (tmp_path / "out").exists()


def _sentence(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, argv)))
    found = capsys.readouterr()
    assert (stopped.value.code, found.out) == (2, ""), found.err
    return found.err.splitlines()[-1]


def test_ablate_refuses_another_grid_in_the_same_folder(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = BASE.replace('name = "sasrec"\ndim = 8\nblocks = 1', 'name = "covisit"').replace("[0, 1]", "[0]")
    text, out = rules.replace("{data}", str(tiny_dataset)), tmp_path / "out"
    file = tmp_path / "grid.toml"
    fewer = '[variants.fewer]\nmodel.name = "popularity"\ntrain.tasks = ["recommend"]\n'
    file.write_text(text + fewer)
    main(["ablate", str(file), "--out", str(out), "--json"])
    rows = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["variant"] == "fewer"]
    assert [row["task"] for row in rows] == ["recommend"]  # it does not know the other one
    assert rows[0]["changes"] == "model.name = popularity, train.tasks = ['recommend']"
    # more variants and seeds may come, and what is there stays
    before = finished(out)
    file.write_text(text.replace("[0]", "[0, 4]") + fewer)
    main(["ablate", str(file), "--out", str(out)])
    assert "not shown" in capsys.readouterr().out
    assert before.items() <= finished(out).items()
    assert len(finished(out)) == len(before) + 2
    # what somebody evaluates under another protocol stays out of the page
    page = (out / "ablation.json").read_text()
    evaluate_runs([out / "runs" / "base_s4"], overrides={"evaluate.split": "valid"}, baselines=False)
    main(["ablate", str(file), "--out", str(out)])
    assert (out / "ablation.json").read_text() == page
    told = _sentence(capsys, "ablate", file, "--out", out, "--data.feed_len", "3")
    assert "was started with data.feed_len = 6, not 3; choose another --out" in told
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    assert "holds no such runs" in _sentence(capsys, "ablate", file, "--out", tmp_path / "full")
    assert "has no variants" in _sentence(capsys, "ablate", grid(tmp_path, tiny_dataset), "--out", tmp_path / "new")
    assert "no settings file" in _sentence(capsys, "ablate", tmp_path / "none.toml")
    assert not (tmp_path / "new").exists()


def test_a_run_that_cannot_be_trained_is_named(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = grid(tmp_path, tiny_dataset, '[variants.places]\ntrain.tasks = ["next_place"]\n')
    assert "variant 'places'" in _sentence(capsys, "ablate", file, "--out", tmp_path / "out")
    file = grid(tmp_path, tiny_dataset, '[variants.words]\nmodel.name = "bm25"\n').read_text()
    (tmp_path / "grid.toml").write_text(file.replace("epochs = 2", "epochs = 1\nlearning_rate = 1e30"))
    told = _sentence(capsys, "ablate", tmp_path / "grid.toml", "--out", tmp_path / "out")
    assert "base, seed 0: " in told
