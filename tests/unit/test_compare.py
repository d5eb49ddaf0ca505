"""Evaluated runs side by side: what is read of them, and differences paired by case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corsar.errors import ConfigError, DataError
from corsar.evaluate.compare import differences, main_metric
from corsar.evaluate.gather import Epoch, Evaluated, open_runs
from corsar.evaluate.metrics import ndcg, summary, user_intervals
from corsar.evaluate.report import PLACES, Result, read_places, read_report, write_report

USERS = np.repeat(np.arange(20), 3)


def result(seed: int, *, trained: bool = True, split: str = "test", shift: int = 0, bootstrap: int = 50) -> Result:
    """A made-up evaluation of 60 recommend cases."""
    better = np.random.default_rng(seed).integers(0, 15, len(USERS)) + shift
    tied = np.ones_like(better)
    columns = {"task": ["recommend"] * 60, "case": np.arange(60), "user_row": USERS, "better": better, "tied": tied}
    return Result(
        model="sasrec",
        trained=trained,
        metrics={"recommend": summary(better, tied, USERS, (5, 10), 50)},
        lists={"recommend": {}},
        cases={"recommend": 60},
        users={"recommend": 20},
        segments={"recommend": {}},
        protocol={"split": split},
        fingerprint=f"{split:0>16}{'f' * 48}",
        seeds={"run": 0, "bootstrap": 0},
        wall_s=0.0,
        machine={},
        config={"evaluate": {"bootstrap": bootstrap}},
        derived=None,
        places=pl.DataFrame(columns, schema=PLACES),
    )


def runs_of(home: Path, **results: Result) -> list[Evaluated]:
    for name, one in results.items():
        write_report(one, home / name)
    return open_runs([home / name for name in results])


def test_differences_are_paired_by_case_and_resample_users(tmp_path: Path) -> None:
    one, two = result(1), result(2)
    runs = runs_of(tmp_path, one=one, two=two)
    (found,) = differences(runs, "NDCG@10")
    assert (found.name, found.reference, found.task) == ("two", "one", "recommend")  # nothing counts: the first run is meant
    better = [told.places["better"].to_numpy() for told in (two, one)]
    gain = [ndcg(places, np.ones_like(places), 10) for places in better]
    assert found.value == pytest.approx((gain[0] - gain[1]).mean())
    low, high = user_intervals((gain[0] - gain[1])[:, None], USERS, 50)
    assert (found.low, found.high) == (low[0], high[0])
    same = differences(runs_of(tmp_path / "same", one=one, again=result(1, bootstrap=0)), "MRR")[0]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_reference_is_the_best_that_counts_unless_one_is_named(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, trained=result(1), poor=result(2, trained=False, shift=8), good=result(3, trained=False))
    assert {one.reference for one in differences(runs, "NDCG@10")} == {"good"}
    assert [one.name for one in differences(runs, "NDCG@10", "poor")] == ["trained", "good"]
    with pytest.raises(ConfigError, match="trained, poor, good"):
        differences(runs, "NDCG@10", "best")
    assert main_metric(runs) == "NDCG@10"
    with pytest.raises(ConfigError, match=r"HR@5, HR@10, .*, MRR"):
        main_metric(runs, "AUC")


def test_runs_of_other_cases_are_not_paired(tmp_path: Path) -> None:
    other = result(2)
    moved = other.places.with_columns(pl.col("case") + 1)
    runs = runs_of(tmp_path, one=result(1), two=Result(**{**other.told(), "places": moved}))
    with pytest.raises(DataError, match="not asked the same cases"):
        differences(runs, "MRR")


def test_each_protocol_keeps_its_report_and_the_newest_is_the_one_that_is_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_report(result(1), run)
    write_report(result(1, split="valid"), run)
    assert sorted(file.name for file in (run / "reports").iterdir()) == [
        "000000000000test.json", "000000000000test.parquet", "00000000000valid.json", "00000000000valid.parquet",
    ]  # fmt: skip
    assert read_report(run)["protocol"] == {"split": "valid"}
    test = read_report(run, result(1).fingerprint)
    assert test["protocol"] == {"split": "test"}
    assert read_places(run, test).equals(result(1).places)
    with pytest.raises(DataError, match="has 2 reports of fingerprint 000; it has 000000000000test, 00000000000valid"):
        read_report(run, "000")
    (run / "reports" / "000000000000test.parquet").write_bytes(b"PAR1 no more than that")
    with pytest.raises(DataError, match="make it anew"):
        read_places(run, test)


def test_places_that_do_not_fit_their_report_are_an_error(tmp_path: Path) -> None:
    write_report(result(1), tmp_path)
    report = read_report(tmp_path)
    result(1).places.head(59).write_parquet(tmp_path / "reports" / "000000000000test.parquet")
    with pytest.raises(DataError, match="does not fit"):
        read_places(tmp_path, report)


def test_learning_curve_weighs_lines_by_their_steps_and_stops_at_a_torn_one(tmp_path: Path) -> None:
    lines = [
        {"kind": "steps", "epoch": 0, "step": 20, "loss": 3.0},
        {"kind": "steps", "epoch": 0, "step": 25, "loss": 1.0},
        {"kind": "epoch", "epoch": 0, "step": 25, "score": 0.25, "best": True},
        {"kind": "steps", "epoch": 1, "step": 45, "loss": 0.5},
    ]
    write_report(result(1), tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "st')
    (run,) = open_runs([tmp_path / "run"])
    assert run.epochs == [Epoch(1, pytest.approx(65 / 25), 0.25, True), Epoch(2, 0.5, None, False)]


def test_runs_of_one_name_are_told_by_their_paths(tmp_path: Path) -> None:
    for home in ("a", "b"):
        write_report(result(1), tmp_path / home / "run")
    paths = [tmp_path / home / "run" for home in ("a", "b")]
    assert [run.name for run in open_runs([*paths, paths[0]])] == [str(path) for path in paths]
