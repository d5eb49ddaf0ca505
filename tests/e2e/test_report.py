"""The report page: whole, offline, escaped, with the figures of the reports in it; and what is told where there is no page."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest

from corsar import evaluate_runs, load_config, train_run
from corsar.cli import main
from corsar.evaluate.page import with_interval

SMALL = {
    "data.feed_len": "5", "data.search_len": "5", "train.max_steps": "4", "train.epochs": "2", "train.batch_size": "60",
    "train.align_negatives": "4", "model.dim": "8", "evaluate.candidates": "full", "evaluate.bootstrap": "40",
    "run.threads": "1",
}  # fmt: skip
VOID = {"meta", "br", "hr", "img", "input", "link", "source"}
MODELS = ("popularity", "bm25", "sasrec")


class Page(HTMLParser):
    """What a page is made of; an element that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)
        else:
            self.text.append(data)


@pytest.fixture(scope="module")
def runs(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three evaluated runs; the name of one needs escaping."""
    home = tmp_path_factory.mktemp("runs")
    folders = [home / name for name in ("popularity", "bm25", 'sas<b>&"rec')]
    for model, folder in zip(MODELS, folders, strict=True):
        own = {} if model == "sasrec" else {"model.dim": None}
        keys = {**SMALL, "model.name": model, "data.path": str(tiny_dataset), **own}
        tasks = {"train.tasks": '["search"]'} if model == "bm25" else {}
        train_run(load_config(None, {key: value for key, value in {**keys, **tasks}.items() if value is not None}), folder)
    evaluate_runs(folders, baselines=False)
    return folders


def _page(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[Page, str]:
    capsys.readouterr()
    main(["report", *map(str, argv), "--json"])
    text = Path(json.loads(capsys.readouterr().out)["page"]).read_text(encoding="utf-8")
    return Page(text), text


def _sentence(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["report", *map(str, argv)])
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    return told.err


def test_page_is_whole_and_holds_the_figures_of_the_reports(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, _ = _page(capsys, *runs, "--out", tmp_path / "new" / "page.html")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.html"]
    cells = {text.strip() for text in page.text}
    for run in runs:
        report = json.loads((run / "report.json").read_text())
        assert report["name"] in cells
        assert report["fingerprint"] in cells
        for task, metrics in report["metrics"].items():
            assert {"Recall@10", "MAP@10", "MRR"} <= set(metrics)
            assert {with_interval(figure) for figure in metrics.values()} <= cells
            assert {f"{value:.4f}" for value in report["lists"][task].values()} <= cells
            for told in report["segments"][task].values():
                assert not told["cases"] or with_interval(told["metrics"]["NDCG@10"]) in cells
    for line in map(json.loads, (runs[2] / "metrics.jsonl").read_text().splitlines()):
        assert line["kind"] != "epoch" or f"{line['score']:.4f}" in cells
    assert f"corsar evaluate {runs[0]} {runs[1]}" in "".join(page.text)
    captions = sum(tag == "caption" for tag, _ in page.elements)
    assert captions == sum(tag == "table" for tag, _ in page.elements) > 8
    assert sum(told.get("scope") == "row" for tag, told in page.elements if tag == "th") > 20


def test_each_plot_has_its_place_and_is_one_that_plotly_knows(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, _ = _page(capsys, *runs, "--out", tmp_path / "page.html")
    (plots,) = [json.loads(text) for told, text in page.scripts if told.get("type") == "application/json"]
    places = [told["id"] for tag, told in page.elements if tag == "div" and told.get("class") == "plot"]
    assert places == list(plots)
    assert {name.split("-", 1)[1] for name in plots} == {
        "forest-recommend", "forest-search", "curve-loss", "curve-score", "segments-recommend", "segments-search",
    }  # fmt: skip
    for plot in plots.values():
        drawn = go.Figure(plot)  # an unknown key is an error
        assert all(len(trace.x) == len(trace.y) > 0 for trace in drawn.data)
    reports = {name: json.loads((run / "report.json").read_text()) for name, run in zip(MODELS, runs, strict=True)}
    forest = plots["part0-forest-search"]["data"][0]
    ours, base = (reports[name]["metrics"]["search"]["NDCG@10"]["value"] for name in ("sasrec", "bm25"))
    better = max(base, reports["popularity"]["metrics"]["search"]["NDCG@10"]["value"])
    assert forest["x"][forest["y"].index('sas<b>&"rec')] == pytest.approx(ours - better)


def test_page_loads_nothing_and_lets_no_name_in_as_markup(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, text = _page(capsys, *runs, "--out", tmp_path / "page.html")
    for tag, told in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "source", "b"), tag
        assert not {"src", "srcset", "data", "action", "background", "style"} & set(told), (tag, told)
        assert (told.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|@font-face|https?:", "".join(page.styles))
    (policy,) = [told["content"] for _, told in page.elements if "http-equiv" in told]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    own = [script for told, script in page.scripts if told or "plotly.js" not in script[:200]]
    assert len(own) == len(page.scripts) - 1  # the library stands in it once
    assert text.count("plotly.js v") == 1
    assert not any(re.search(r"https?:|fetch\(|import\(", script) for script in own)
    assert "prefers-color-scheme: dark" in "".join(page.styles)


def test_options_choose_reference_metric_and_protocol(
    runs: list[Path], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = json.loads((runs[0] / "report.json").read_text())["fingerprint"]
    folders = [shutil.copytree(run, tmp_path / "runs" / run.name) for run in runs[:2]]
    evaluate_runs(folders, overrides={"evaluate.candidates": "sampled:9"}, baselines=False)
    assert len(list((folders[0] / "reports").glob("*.json"))) == 2
    newest = json.loads((folders[0] / "report.json").read_text())["fingerprint"]
    assert newest != first
    for wanted, flags in ((newest, []), (first, ["--fingerprint", first[:8]])):
        page, text = _page(capsys, *folders, "--out", tmp_path / "page.html", *flags, "--title", "A <title>")
        assert wanted in {one.strip() for one in page.text}
        assert "A &lt;title&gt;" in text
    # the newest reports differ, and both have one of the first run's protocol
    page, _ = _page(capsys, runs[0], folders[1], "--out", tmp_path / "page.html", "--metric", "HR@5", "--reference", "bm25")
    assert "search: HR@5 minus that of bm25, paired by case, 95 % intervals over users" in page.text
    for flags, word in (
        (["--metric", "HR@7"], "HR@5"), (["--reference", "x"], "bm25"), (["--fingerprint", "zz"], "reports"),
        (["--out", str(tmp_path)], "name a file"),
    ):  # fmt: skip
        assert word in _sentence(capsys, *folders, *flags)


def test_baselines_of_an_evaluation_stand_beside_the_run(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(runs[2], tmp_path / "sasrec")
    evaluate_runs([run])
    main(["report", str(run), "--json"])
    told = json.loads(capsys.readouterr().out)
    rules = ["blend_all_words", "blend_any_word", "bm25", "covisit", "popularity"]
    assert told == {"page": str(run / "report.html"), "runs": ["sasrec", *rules]}
    main(["report", str(run), "--no-baselines", "--json"])
    assert json.loads(capsys.readouterr().out)["runs"] == ["sasrec"]


def test_what_hinders_a_page_is_told_in_one_sentence(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "page.html")]
    run = shutil.copytree(runs[0], tmp_path / "run")
    assert "name at least one run" in _sentence(capsys)
    assert "no run" in _sentence(capsys, tmp_path / "nowhere", *out)
    (tmp_path / "empty").mkdir()
    assert "corsar evaluate" in _sentence(capsys, tmp_path / "empty", *out)
    evaluate_runs([run], overrides={"evaluate.candidates": "sampled:9"}, baselines=False)
    shutil.rmtree(run / "reports")
    (run / "reports").mkdir()
    assert "do not go into one table" in _sentence(capsys, runs[0], run, *out)
    assert "make it anew" in _sentence(capsys, run, *out)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert "pip install 'corsar[report]'" in _sentence(capsys, runs[0], *out)
    assert not (tmp_path / "page.html").exists()
