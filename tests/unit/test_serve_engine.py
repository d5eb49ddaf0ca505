"""The engine of the service: routing, live events, what is similar, what is searched for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import near

import corsar
from corsar.api.answers import Question, answer_one
from corsar.batch import Ragged
from corsar.errors import ArtifactError, ConfigError
from corsar.index.queries import QueryIndex, phrase
from corsar.serve.engine import Engine, logged_until
from corsar.serve.store import LiveEvent, SQLiteStore
from corsar.vocab import Vocab
from corsar.windows import History

LATER_MS = 1_900_000_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    events, items = corsar.example_logs()
    dataset = corsar.Dataset.from_frames(events, items=items)
    small = {"dim": 8, "id_dim": 8, "word_dim": 8, "epochs": 1, "feed_len": 4, "search_len": 2, "embedding_std": 0.3}
    corsar.UniSAR(**small).fit(dataset, run_dir=folder / "unisar")
    corsar.BM25().fit(dataset, run_dir=folder / "bm25")
    check_ins, places = corsar.example_check_ins()
    corsar.api.Visits().fit(corsar.Dataset.from_frames(check_ins, items=places), run_dir=folder / "visits")
    return folder


@pytest.fixture(scope="module")
def engine(runs: Path) -> Engine:
    return Engine.open([runs / "bm25", runs / "unisar", runs / "visits"])


def _items(told: object) -> list[Any]:
    assert isinstance(told, dict), told
    return [one["item_id"] for one in told["items"]]


def test_engine_asks_the_first_model_that_knows_the_task(engine: Engine, runs: Path) -> None:
    told = engine.answer(
        [Question("search", "u1", "red shoe", k=3), Question("next_place", "u2", k=1), Question("recommend", "u1", k=3)]
    )
    assert told[0] == corsar.search(runs / "bm25", "red shoe", user="u1", k=3)
    assert told[1] == corsar.next_place(runs / "visits", user="u2", k=1)
    assert told[2] == near(corsar.recommend(runs / "unisar", user="u1", k=3))
    assert [one["tasks"] for one in engine.about()] == [["search"], ["recommend"], ["next_place"]]


def test_engine_that_lacks_a_task_says_so(runs: Path) -> None:
    (told,) = Engine.open([runs / "bm25"]).answer([Question("recommend", "u1")])
    assert isinstance(told, ConfigError)
    assert str(told) == "no served model answers recommend; serve a run that was trained for it"


def test_engine_knows_what_users_did_since(engine: Engine, runs: Path, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.sqlite")
    question = Question("recommend", "u1", k=12)
    before = engine.answer([question], store)
    store.add([[LiveEvent("u1", "feed", LATER_MS, "3"), LiveEvent("u1", "search", LATER_MS + 1, None, "red hat", "s")]])
    store.add([[LiveEvent("u1", "search", LATER_MS + 5, "2", None, "s"), LiveEvent("u1", "feed", LATER_MS + 3, "5")]])
    (now,) = engine.answer([question], store)
    artifact = corsar.open_artifact(runs / "unisar")
    since = [3, {"query": "red hat", "item_id": [2]}, 5]
    assert now == near(answer_one(artifact, Question("recommend", "u1", k=12, since=since)))
    assert now != before[0]
    (left,) = engine.answer([Question("recommend", "u1", k=12, exclude_seen=True)], store)
    assert not {2, 3, 5} & set(_items(left))
    (told,) = engine.answer([Question("recommend", "u1", history=["3"], k=12)], store)
    assert _items(told) == _items(answer_one(artifact, Question("recommend", history=["3"], user="u1", k=12)))
    store.close()


def test_engine_takes_events_within_the_logs_as_part_of_them(engine: Engine, runs: Path, tmp_path: Path) -> None:
    artifact = corsar.open_artifact(runs / "unisar")
    until = logged_until(artifact, "u1")
    assert until is not None
    store = SQLiteStore(tmp_path / "events.sqlite")
    question = Question("recommend", "u1", k=12)
    before = engine.answer([question], store)
    store.add([[LiveEvent("u1", "feed", until, "3")]])
    assert engine.answer([question], store) == before
    store.add([[LiveEvent("u1", "feed", until + 1, "3")]])
    assert engine.answer([question], store) != before
    assert logged_until(artifact, "nobody") is None
    store.close()


def test_engine_knows_where_people_went_since(engine: Engine, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.sqlite")
    stranger = Question("next_place", "new one", k=1)
    store.add([[LiveEvent("new one", "checkin", LATER_MS + at, "7", utc_offset_min=-360) for at in range(2)]])
    (told,) = engine.answer([stranger], store)
    assert isinstance(told, dict)
    assert told["items"][0] | {"score": 0} == {"rank": 1, "item_id": 7, "score": 0, "text": "home", "km": 0.0, "visits": 2}
    (told,) = engine.answer([Question("next_place", "new one", at=LATER_MS + 1, k=1)], store)
    assert isinstance(told, dict)
    assert told["items"][0]["visits"] == 1
    store.close()


def test_engine_finds_similar_items(engine: Engine, runs: Path) -> None:
    told = engine.similar("3", 4)
    frame = corsar.UniSAR.load(runs / "unisar").similar_items(3, k=4)
    assert _items(told) == frame["item"].to_list()
    assert engine.similar("99", 4) is None


def test_engine_serves_on_when_its_files_are_gone(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "unisar", tmp_path / "run")
    engine = Engine.open([tmp_path / "run"])
    questions = [Question("recommend", "u1", k=3, exclude_seen=True), Question("search", "u2", "red", k=3)]
    before = engine.answer(questions)
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    assert engine.answer(questions) == before
    with pytest.raises(ArtifactError):
        Engine.open([tmp_path / "run"])


def test_queries_are_completed_by_frequency(engine: Engine) -> None:
    found = engine.complete("", 99)
    assert [one["count"] for one in found] == sorted((one["count"] for one in found), reverse=True)
    assert {one["query"] for one in engine.complete("Re", 9)} == {"red"}
    assert engine.complete("red", 1)[0]["query"] == "red"
    assert engine.complete("nothing of the kind", 9) == []


def _history(searches: list[tuple[int, str]], before: dict[int, int], words: list[str]) -> tuple[History, Vocab]:
    """One event of the feed for each search whose number is in `before`, right before it."""
    queries = sorted({query for _, query in searches})
    users = max(user for user, _ in searches)
    feed: list[int] = []
    others, feed_offsets, search_offsets, clicks = [], [0, 0], [0, 0], []
    for user in range(1, users + 1):
        own = [at for at, (one, _) in enumerate(searches) if one == user]
        start = len(feed)
        for at in own:
            feed += [before[at]] if at in before else []
            others.append(len(feed) - start)
            clicks.append([9])
        feed_offsets.append(len(feed))
        search_offsets.append(search_offsets[-1] + len(own))
    rows = Ragged.of([[], *[[words.index(word) + 1 for word in query.split()] for query in queries]])
    zeros = torch.zeros(len(feed), dtype=torch.int64)
    history = History(
        torch.tensor(feed, dtype=torch.int64), zeros, zeros, torch.tensor(feed_offsets),
        torch.tensor([queries.index(query) + 1 for _, query in searches]), Ragged.of(clicks),
        torch.zeros(len(searches), dtype=torch.int64), torch.tensor(others), torch.tensor(search_offsets), rows,
    )  # fmt: skip
    return history, Vocab(words)


def test_queries_after_an_item_are_those_right_after_it() -> None:
    words = ["hat", "red", "rose", "secret"]
    searches = [(1, "red hat"), (1, "rose"), (2, "red hat"), (2, "secret"), (3, "rose"), (3, "rose")]
    history, vocab = _history(searches, {0: 4, 2: 4, 3: 4, 4: 4}, words)
    index = QueryIndex(history, vocab)
    assert index.after(4, 9) == [{"query": "red hat", "count": 2}, {"query": "rose", "count": 1}]  # "secret" is of one person
    assert index.after(9, 9) == [{"query": "rose", "count": 2}]  # after the click of an earlier search
    assert index.after(4, 1) == [{"query": "red hat", "count": 2}]
    assert index.after(3, 9) == []
    assert index.complete("r", 9) == [{"query": "rose", "count": 3}, {"query": "red hat", "count": 2}]
    assert index.complete("RED ", 9) == [{"query": "red hat", "count": 2}]
    assert index.complete("rose ", 9) == []
    assert index.complete("s", 9) == []


def test_phrase_puts_runs_of_bigrams_together() -> None:
    assert phrase(["red", "shoe"]) == "red shoe"
    assert phrase(["红色", "色鞋", "iphone", "手机"]) == "红色鞋 iphone 手机"
    assert phrase(["ab", "bc"]) == "ab bc"
    assert phrase([]) == ""


def test_queries_of_logs_without_searches_are_none(tmp_path: Path) -> None:
    events, items = corsar.example_logs()
    feeds = events.filter(events["kind"] == "feed")
    model = corsar.Popularity().fit(corsar.Dataset.from_frames(feeds, items=items))
    engine = Engine([model.artifact])
    assert engine.complete("", 9) == engine.queries_after("3", 9) == []
