"""The demo: two apps side by side, and the words that it ends on."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from corsar.cli import main
from corsar.demo import GAIN, RUNS, _page, _sentence, run_demo
from corsar.progress import Progress


def test_demo_compares_both_apps_and_shows_how_far_it_is(tmp_path: Path) -> None:
    shown = io.StringIO()
    with Progress(stream=shown) as progress:
        told = run_demo(tmp_path, users=40, seed=0, progress=progress, settings={"train.max_steps": "2"})
    assert [part["title"] for part in told["parts"]] == ["Simulated app, transfer 0.6", "Simulated app, transfer 0"]
    for part in told["parts"]:
        assert set(part["figures"]) == set(RUNS)
        assert {report["fingerprint"] for report in part["reports"]} == {part["reports"][0]["fingerprint"]}
        assert all("Simulated" in report["derived"] for report in part["reports"])
    assert sum("reading both histories" in sentence for sentence in told["sentences"]) == 4
    assert "transfer: unisar" in shown.getvalue()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert told["page"] == str(tmp_path / "report.html")
    assert told["sentences"][-1] == f"The report to look at is in {told['page']}."
    assert all(f"<h2>{part['title']}</h2>" in page for part in told["parts"])
    assert all(f"{part['figures']['unisar']['search']:.4f}" in page for part in told["parts"])


def test_demo_ends_on_the_served_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[Any] = []
    monkeypatch.setattr("corsar.demo.run_demo", lambda out, **settings: did.append("demo") or {"parts": [], "sentences": []})
    monkeypatch.setattr("corsar.serve.run.run_service", lambda settings, ready: did.append(settings))
    main(["demo", "--out", str(tmp_path), "--serve", "--port", "0"])
    assert did[0] == "demo"
    assert [str(run) for run in did[1].runs] == [str(tmp_path / "transfer" / "runs" / "unisar")]
    assert did[1].port == 0
    main(["demo", "--out", str(tmp_path)])
    assert did[2:] == ["demo"]


def test_demo_without_plotly_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    page, told = _page(tmp_path, [])
    assert page is None
    assert told == "No report page was written: the page needs plotly; install it with: pip install 'corsar[report]'."


def test_sentence_calls_a_small_difference_none() -> None:
    assert "neither helps nor hurts" in _sentence(0.0, "search", 0.5 + GAIN / 2, 0.5)
    assert "helps: NDCG@10 is 0.6000 with both and 0.5000 with its own alone (+0.1000)" in _sentence(0.6, "search", 0.6, 0.5)
    assert "hurts" in _sentence(0.6, "recommend", 0.4, 0.5)
