"""corsar compare: one table in four forms, and what does not go into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corsar import evaluate_runs, load_config, train_run
from corsar.cli import main
from corsar.data.build import build_dataset
from corsar.evaluate.metrics import case_metric
from corsar.evaluate.report import read_places, read_report
from corsar.schema import Tables

QUICK = {"evaluate.candidates": "full", "evaluate.bootstrap": "40"}
MODELS = ("popularity", "covisit", "bm25")


@pytest.fixture(scope="module")
def runs(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("runs")
    for model in MODELS:
        tasks = {"train.tasks": '["search"]'} if model == "bm25" else {}
        train_run(load_config(None, {"model.name": model, "data.path": str(tiny_dataset), **QUICK, **tasks}), home / model)
    evaluate_runs([home / model for model in MODELS], baselines=False)
    return [home / model for model in MODELS]


def _out(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    capsys.readouterr()
    main(["compare", *map(str, argv)])
    return capsys.readouterr().out


def _sentence(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *map(str, argv)])
    told = capsys.readouterr()
    assert (stopped.value.code, told.out, told.err.count("\n")) == (2, "", 1), told.err
    return told.err


def test_differences_are_those_of_the_cases_and_holm_counts_them_all(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(_out(capsys, *runs, "--reference", "popularity", "--json"))
    rows = {(row["task"], row["run"]): row for row in told["rows"]}
    assert set(rows) == {("recommend", one) for one in MODELS[:2]} | {("search", one) for one in MODELS}
    gains = {}
    for run in runs[1:]:
        for task in ("recommend", "search"):
            if (task, run.name) not in rows:
                continue
            values = []
            for one in (run, runs[0]):
                places = read_places(one, read_report(one)).filter(pl.col("task") == task).sort("case")
                values.append(case_metric("NDCG@10", places["better"].to_numpy(), places["tied"].to_numpy()))
            gains[task, run.name] = float(np.mean(values[0] - values[1]))
    found = {key: row["difference"] for key, row in rows.items() if row["difference"]}
    assert set(found) == set(gains)
    for key, one in found.items():
        assert one["value"] == pytest.approx(gains[key])
        assert one["low"] <= one["value"] <= one["high"]
        assert one["p"] <= one["p_holm"] <= min(1, len(found) * one["p"]) + 1e-12
    assert min(found.values(), key=lambda one: one["p"])["p_holm"] == pytest.approx(
        min(1, len(found) * min(one["p"] for one in found.values()))
    )
    assert "Holm" in told["sentences"][-1]
    both = next(one for one in told["segments"] if (one["task"], one["segment"]) == ("search", "both_histories"))
    assert set(both["figures"]) == set(MODELS)


def test_best_baseline_is_the_reference_unless_one_is_named(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(_out(capsys, *runs, "--metric", "MRR", "--json"))
    for task in ("recommend", "search"):
        rows = [row for row in told["rows"] if row["task"] == task]
        best = max(rows, key=lambda row: row["metrics"]["MRR"]["value"])
        assert best["difference"] is None
        assert {row["difference"]["reference"] for row in rows if row["difference"]} == {best["run"]}


def test_four_forms_hold_the_same_figures(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(_out(capsys, *runs, "--json"))
    text, page = _out(capsys, *runs), tmp_path / "page.html"
    assert str(page) in _out(capsys, *runs, "--html", page)
    pages = {"terminal": text, "markdown": _out(capsys, *runs, "--markdown"), "html": page.read_text(encoding="utf-8")}
    for form, shown in pages.items():
        for row in told["rows"]:
            assert f"{row['metrics']['NDCG@10']['value']:.4f}" in shown, form
            if row["difference"]:
                assert f"{row['difference']['value']:+.4f}" in shown, form
                assert f"{row['difference']['p_holm']:.4f}" in shown, form
        assert "both histories" in shown, form
        assert "randomisation test" in shown, form
        assert "p (Holm)" in shown, form
    lines = pages["markdown"].splitlines()
    assert sum(line.startswith("|---") for line in lines) == 3
    assert all(line.count("|") == lines[at - 1].count("|") for at, line in enumerate(lines) if line.startswith("|---"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"evaluate.candidates": "sampled:9"}, ("candidates", "full against sampled:9")),
        ({"evaluate.split": "valid"}, ("split", "test against valid")),
        ({"evaluate.exclude_seen": "true"}, ("seen items", "False against True")),
        ({"evaluate.ties": "target_first"}, ("tie rule", "expected against target_first")),
    ],
    ids=["candidates", "split", "seen items", "tie rule"],
)
def test_unlike_runs_are_refused_and_what_differs_is_named(
    overrides: dict[str, str], words: tuple[str, ...], runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(runs[1], tmp_path / "other")
    shutil.rmtree(other / "reports")
    evaluate_runs([other], overrides=overrides, baselines=False)
    told = _sentence(capsys, runs[0], other)
    assert all(word in told for word in (*words, "'popularity' and 'other'")), told


def test_runs_of_other_data_are_refused(
    runs: list[Path], tiny_tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tiny_tables.events.with_columns(time_ms=pl.col("time_ms") + 1)
    moved = type(tiny_tables)(**{**vars(tiny_tables), "events": events})
    dataset = build_dataset(moved, tmp_path / "dataset", split="leave_last")
    train_run(load_config(None, {"model.name": "popularity", "data.path": str(dataset), **QUICK}), tmp_path / "run")
    evaluate_runs([tmp_path / "run"], baselines=False)
    assert "they differ in data (" in _sentence(capsys, runs[0], tmp_path / "run")


def test_faults_are_told_in_one_sentence(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "corsar compare runs/unisar runs/blend" in _sentence(capsys)
    assert "no run" in _sentence(capsys, tmp_path / "nowhere")
    assert "no run is named 'best'" in _sentence(capsys, *runs, "--reference", "best")
    assert "no figure 'AUC'" in _sentence(capsys, *runs, "--metric", "AUC")
