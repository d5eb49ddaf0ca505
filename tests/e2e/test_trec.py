"""corsar data export --to trec: ir-measures computes from the files what the report says."""

from __future__ import annotations

import json
from pathlib import Path

import ir_measures
import polars as pl
import pytest
from ir_measures import RR, nDCG

from corsar import evaluate_runs, load_config, train_run
from corsar.cli import main
from corsar.data.build import build_dataset
from corsar.data.store import open_dataset
from corsar.evaluate.metrics import case_metric
from corsar.evaluate.report import read_places, read_report
from corsar.schema import Tables, make_tables

QUICK = {"data.feed_len": "5", "data.search_len": "5", "train.max_steps": "3", "train.batch_size": "60", "model.dim": "8"}


@pytest.fixture(scope="module")
def dataset(tiny_tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny log, with blanks in the names of its items."""
    spaced = {name: pl.col("item_id").str.replace("i", "50% off ", literal=True) for name in ("item_id",)}
    frames = [frame.with_columns(**spaced) for frame in (tiny_tables.events, tiny_tables.items)]
    tables = make_tables(*frames, source="tiny", categories=("thing",))
    return build_dataset(tables, tmp_path_factory.mktemp("data") / "dataset", split="leave_last")


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run: real-valued scores, so that no two of them are equal."""
    home = tmp_path_factory.mktemp("runs") / "sasrec"
    settings = {**QUICK, "data.path": str(dataset), "model.name": "sasrec", "evaluate.bootstrap": "10"}
    train_run(load_config(None, settings), home)
    return home


def _figures(folder: Path, task: str) -> dict[str, float]:
    qrels = list(ir_measures.read_trec_qrels(str(folder / f"{task}.qrels")))
    ranked = list(ir_measures.read_trec_run(str(folder / f"{task}.run")))
    found = ir_measures.calc_aggregate([nDCG @ 5, nDCG @ 10, RR], qrels, ranked)
    return {"NDCG@5": found[nDCG @ 5], "NDCG@10": found[nDCG @ 10], "MRR": found[RR]}


@pytest.mark.parametrize("candidates", ["full", "sampled:9"])
def test_ir_measures_computes_the_figures_of_the_report(
    candidates: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_runs([run], overrides={"evaluate.candidates": candidates}, baselines=False)
    report = read_report(run)
    places = read_places(run, report)
    assert (places["tied"] == 1).all()  # else the expectation is over several orders, and a file holds one of them
    capsys.readouterr()
    main(["data", "export", str(run), "--to", "trec", "--out", str(tmp_path / "trec"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["fingerprint"] == report["fingerprint"]
    assert told["files"] == ["protocol.json", "recommend.qrels", "recommend.run", "search.qrels", "search.run"]
    for task in ("recommend", "search"):
        assert told["tasks"][task]["cases"] == report["cases"][task]
        assert (told["tasks"][task]["tied"], told["tasks"][task]["target_not_listed"]) == (0, 0)
        for name, value in _figures(tmp_path / "trec", task).items():
            assert value == pytest.approx(report["metrics"][task][name]["value"], abs=1e-6), (task, name)
    ranked = (tmp_path / "trec" / "search.run").read_text().splitlines()
    assert len(ranked) == told["tasks"]["search"]["lines"]
    assert {line.split()[5] for line in ranked} == {"sasrec"}
    assert {len(line.split()) for line in ranked} == {6}
    assert all(line.split()[2].startswith("50%25%20off%20") for line in ranked)
    if candidates == "full":
        mates = open_dataset(Path(report["config"]["data"]["path"])).cases("test", "search").mates
        assert len(ranked) == 20 * report["cases"]["search"] - len(mates.values)


def test_each_topic_is_the_case_of_the_report(run: Path, tmp_path: Path) -> None:
    evaluate_runs([run], overrides={"evaluate.candidates": "full", "evaluate.max_cases": "3"}, baselines=False)
    main(["data", "export", str(run), "--to", "trec", "--out", str(tmp_path / "trec")])
    places = read_places(run, read_report(run)).filter(pl.col("task") == "recommend")
    want = dict(zip(places["case"], case_metric("MRR", places["better"].to_numpy(), places["tied"].to_numpy()), strict=True))
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "trec" / "recommend.qrels")))
    ranked = list(ir_measures.read_trec_run(str(tmp_path / "trec" / "recommend.run")))
    found = {int(one.query_id): one.value for one in ir_measures.iter_calc([RR], qrels, ranked)}
    assert found == pytest.approx(want, abs=1e-6)
    assert len(found) == 3


def test_depth_ties_and_flags_are_told(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_run(load_config(None, {"data.path": str(dataset), "model.name": "popularity"}), tmp_path / "run")
    capsys.readouterr()
    flags = ["--depth", "2", "--evaluate.split", "valid", "--json"]
    main(["data", "export", str(tmp_path / "run"), "--to", "trec", "--out", str(tmp_path / "trec"), *flags])
    told = json.loads(capsys.readouterr().out)
    assert told["protocol"]["split"] == "valid"
    for task, counts in told["tasks"].items():
        assert counts["lines"] == 2 * counts["cases"], task
        assert counts["target_not_listed"] > 0
    assert sum(counts["tied"] for counts in told["tasks"].values()) > 0
    assert json.loads((tmp_path / "trec" / "protocol.json").read_text())["fingerprint"] == told["fingerprint"]


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--to", "trek"], "choose unisar-release, or trec"),
        (["--to", "unisar-release", "--depth", "3"], "leave them out"),
        (["--to", "trec", "--depth", "0"], "give 1 or more"),
        (["--to", "trec", "--evaluate.split", "train"], "evaluate.split"),
        (["--to", "trec", "--out", "."], "exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_faults_are_told_in_one_sentence(
    argv: list[str], word: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = [] if "--out" in argv else ["--out", str(tmp_path / "trec")]
    with pytest.raises(SystemExit) as stopped:
        main(["data", "export", str(run), *argv, *out])
    told = capsys.readouterr()
    assert (stopped.value.code, told.out, told.err.count("\n")) == (2, "", 1), told.err
    assert word in told.err
    assert list(tmp_path.iterdir()) == []
