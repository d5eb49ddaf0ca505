"""`corsar up` on a foreign log made for the purpose: one command from a German CSV to an answer over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import corsar
from corsar.api.up import _for_tasks, make_service
from corsar.artifact import find_artifact, open_artifact
from corsar.cli import main
from corsar.errors import CorsarError
from corsar.progress import Progress
from corsar.serve.engine import Engine

SRC = str(Path(__file__).parents[2] / "src")
THINGS = ["Lampe", "Hut", "Tasse", "Stuhl"]
COLOURS = ["rote", "blaue", "grüne"]


def _write(file: Path, *, searches: bool = True, shift: int = 1) -> Path:
    """Forty people; each likes one colour, and searches for every third thing that they take (with 0: the same for all)."""
    lines = ["Kundennummer;Artikel-Nr;Bezeichnung;Zeitpunkt;Ereignis" + ";Suchbegriff" * searches]
    start = datetime(2024, 3, 28, 9, 0, tzinfo=UTC)
    for user in range(40):
        colour = user % 3
        for at in range(9):
            thing = (user + at) % 4
            when = start + timedelta(hours=7 * at, minutes=user)
            is_search = searches and (at + shift * user) % 3 == 2
            line = f"K{user:03d};{1 + thing + 4 * colour};{COLOURS[colour]} {THINGS[thing]};{when:%d.%m.%Y %H:%M}"
            line += f";{'Suche' if is_search else 'Kauf'}"
            lines.append(line + (f";{THINGS[thing] if is_search else ''}" if searches else ""))
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return file


def _ask(url: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answered:
        return json.load(answered)


def test_up_serves_a_foreign_log_by_one_command(tmp_path: Path) -> None:
    log = _write(tmp_path / "verkauf.csv")
    command = [
        sys.executable,
        "-m",
        "corsar.cli",
        "up",
        str(log),
        "--out",
        str(tmp_path / "up"),
        "--minutes",
        "0.05",
        "--port",
        "0",
    ]
    env = {**os.environ, "PYTHONPATH": SRC, "OMP_NUM_THREADS": "1"}
    whole = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    signal.signal(signal.SIGINT, whole)
    with process:
        try:
            assert process.stderr is not None
            told = []
            for line in process.stderr:
                told.append(line)
                if " answers " in line:
                    break
            assert " answers " in told[-1], told
            assert any("query = 'Suchbegriff'" in line for line in told)
            url = told[-1].split()[1]
            found = _ask(url, "/v1/recommend", {"user_id": "K003", "k": 4, "explain": True})["items"]
            assert len(found) == 4
            assert all(one["text"] for one in found)
            assert {"why", "without"} <= found[0].keys()
            searched = _ask(url, "/v1/search", {"query": "Lampe", "user_id": "K003", "k": 3, "mix": 1})["items"]
            assert {one["text"].split()[1] for one in searched} == {"Lampe"}
            event = {"user_id": "K003", "kind": "feed", "item_id": 12}
            assert _ask(url, "/v1/events", {"events": [event]}) == {"stored": 1, "known": 0}
        finally:
            process.send_signal(signal.SIGINT)
        out = process.stdout.read() if process.stdout else ""
        assert process.wait(30) == 130, process.stderr.read()  # as Ctrl-C ends every command
    assert "unisar" in out
    assert "paired" in out
    assert (tmp_path / "up" / "events.sqlite").is_file()


def _times(home: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in home.glob("runs/*/finished.json")}


class _Interrupted(Progress):
    """Ends at a sentence, as Ctrl-C would."""

    def __init__(self, sentence: str) -> None:
        super().__init__(quiet=True)
        self._sentence = sentence

    def say(self, sentence: str) -> None:
        if sentence == self._sentence:
            raise KeyboardInterrupt


def test_up_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, home = _write(tmp_path / "log.csv"), tmp_path / "up"
    with pytest.raises(KeyboardInterrupt):
        make_service([log], home, minutes=0, progress=_Interrupted("bm25_search"))
    before = _times(home)
    assert {"popularity_recommend", "covisit_recommend"} <= before.keys()
    assert "bm25_search" not in before
    first = make_service([log], home, minutes=0)
    after = _times(home)
    assert "bm25_search" in after
    assert {name: after[name] for name in before} == before
    assert make_service([log], home, minutes=0) == first
    assert _times(home) == after
    main(["up", str(log), "--out", str(home), "--minutes", "0", "--no-serve", "--json"])
    assert json.loads(capsys.readouterr().out)["best"] == first["best"]
    assert _times(home) == after

    (home / "events.sqlite").write_text("kept")
    _write(log, searches=False)  # another log in its place: all is made anew but the live events
    told = make_service([log], home, minutes=0)
    assert list(told["best"]) == ["recommend"]
    assert not {"bm25_search"} & _times(home).keys()
    assert (home / "events.sqlite").read_text() == "kept"


def test_up_serves_each_task_by_the_best_run(tmp_path: Path) -> None:
    told = make_service([_write(tmp_path / "log.csv")], tmp_path / "up", minutes=0)
    assert set(told["best"]) == {"recommend", "search"}
    assert [Path(run).name for run in told["runs"]] == list(told["best"].values())
    for task, name in told["best"].items():
        values = {line["model"]: float(line["NDCG@10"].split()[0]) for line in told["table"] if line["task"] == task}
        assert values[name] == max(values.values())
        assert any(line.startswith(f"{task}: {name} is the best rule") for line in told["sentences"])
        assert f'tasks = [\n    "{task}",\n]' in (find_artifact(tmp_path / "up" / "runs" / name) / "model.toml").read_text()


def test_up_serves_a_rule_for_what_cannot_be_compared(tmp_path: Path) -> None:
    told = make_service([_write(tmp_path / "log.csv", shift=0)], tmp_path / "up", minutes=0)  # no search is held out
    assert told["best"]["search"] == "blend_any_word_search"
    assert told["sentences"][0].startswith("search: nothing of it is in the validation part")
    engine = Engine.open([Path(run) for run in told["runs"]])
    assert {task: artifact.config.model["name"] for task, artifact in engine.by_task.items()}["search"] == "blend"


def test_up_restricts_a_run_to_the_tasks_that_it_is_best_at(tmp_path: Path) -> None:
    home = tmp_path / "up"
    events, items = corsar.example_logs()
    corsar.Blend().fit(corsar.Dataset.from_frames(events, items=items), run_dir=home / "runs" / "blend")
    assert _for_tasks(home, "blend", ["search", "recommend"]) == home / "runs" / "blend"
    copy = _for_tasks(home, "blend", ["search"])
    assert copy == _for_tasks(home, "blend", ["search"]) == home / "served" / "blend"
    artifact = open_artifact(copy)
    assert corsar.search(artifact, "red shoe") == corsar.search(home / "runs" / "blend", "red shoe")
    with pytest.raises(CorsarError, match="not trained for recommend"):
        corsar.recommend(artifact)


def test_up_takes_places(tmp_path: Path) -> None:
    check_ins, places = corsar.example_check_ins()
    log = check_ins.join(places.select("item_id", "lat_deg", "lon_deg"), on="item_id")
    log = log.select(Nutzer="user_id", Ort="item_id", Zeit="time_ms", Breite="lat_deg", Laenge="lon_deg")
    log.write_csv(tmp_path / "log.csv", separator=";")
    told = make_service([tmp_path / "log.csv"], tmp_path / "up", minutes=0)
    assert list(told["best"]) == ["next_place"]
    assert corsar.next_place(told["runs"][0], user="u1", k=2)["items"][0]["km"] is not None


@pytest.mark.real
def test_up_takes_the_toys_events(tmp_path: Path, shared_data: Path) -> None:
    toys = shared_data / "toys_search_feed"
    events = pl.read_parquet(toys / "events.parquet")
    events.filter(pl.col("user_id").is_in(events["user_id"].unique(maintain_order=True).head(60).implode())).write_parquet(
        tmp_path / "events.parquet"
    )
    told = make_service([tmp_path / "events.parquet"], tmp_path / "up", items=toys / "items.parquet", minutes=0)
    assert {"  query = 'query' (by its name)", "  split = 'split' (by its name)"} <= set(told["reading"])
    assert "items.parquet: items are named by 'item_id', their text is words" in told["reading"]
    assert told["best"]["search"] in ("bm25_search", "blend_any_word_search", "blend_all_words_search")
    engine = Engine.open([Path(run) for run in told["runs"]])
    assert set(engine.by_task) == {"recommend", "search"}


def test_up_refuses_in_a_sentence_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = _write(tmp_path / "log.csv")
    other = tmp_path / "mine"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    cases = [
        ([str(log), "--out", str(other)], "was not made by corsar up; choose another folder with --out"),
        ([str(log), "--column", "suche"], "write it as in --column query=suchbegriff"),
        ([str(log), "--column", "query=nichts"], "log.csv has no column 'nichts'; it has Kundennummer"),
        ([str(log), "--minutes", "-1"], "minutes is -1.0; give 0"),
        ([str(tmp_path / "none.csv")], "there is no such file; check the path"),
        ([], "name at least one log, as in: corsar up events.csv"),
        ([str(log), "--host", "0.0.0.0"], "open to other machines and there is no key"),
        ([str(log), "--column", "user_id=Zeitpunkt", "--minutes", "0"], "no user has three events or more"),
    ]
    for arguments, sentence in cases:
        own = [] if "--out" in arguments else ["--out", str(tmp_path / "up")]
        served = [] if "--host" in arguments else ["--no-serve"]
        with pytest.raises(SystemExit) as ended:
            main(["up", *arguments, *own, *served])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert sentence in told, told
        assert "Traceback" not in told
    assert (other / "letter.txt").read_text() == "dear"
    (tmp_path / "c.toml").write_text('[columns.events]\nquery = "x"\n')
    with pytest.raises(CorsarError, match="leave \\[columns\\] out"):
        make_service([log], tmp_path / "up", config=tmp_path / "c.toml")
