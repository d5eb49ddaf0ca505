"""Answers to a told history have the scores of the evaluation for the same one in a dataset; batches change nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch

import corsar
from corsar.api.answers import Question, answer, answer_one
from corsar.artifact import Artifact, open_artifact
from corsar.batch import Task
from corsar.config import load_config
from corsar.data.build import build_dataset
from corsar.data.loader import case_batches
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError, DataError
from corsar.index.words import WordIndex
from corsar.schema import make_tables
from corsar.train.loop import train

ITEMS, USERS, FEED_LEN, SEARCH_LEN = 30, 500, 5, 4
WORDS = ["red", "blue", "shoe", "hat", "never", "heard"]  # the last two are in no text and in no training query


class World(NamedTuple):
    dataset: Dataset
    artifact: Artifact
    told: dict[str, list[Any]]  # of each user of the test part
    query: dict[str, str | None]


def _events(draw: np.random.Generator) -> tuple[list[tuple[Any, ...]], dict[str, list[Any]], dict[str, str | None]]:
    """Rows of events; told histories: empty ones, over-long ones, with items and words that training has not."""
    rows: list[tuple[Any, ...]] = []
    for user in range(60):
        rows += [(f"t{user}", f"i{(user * 7 + 3 * at) % ITEMS}", "feed", at, None, None, "train") for at in range(6)]
        rows.append((f"t{user}", f"i{user % ITEMS}", "search", 6, WORDS[user % 4], None, "train"))
    told: dict[str, list[Any]] = {}
    asked: dict[str, str | None] = {}
    for number in range(2 * USERS):
        user, history = f"u{number}", []
        for at in range(int(draw.choice([0, 1, 3, 8, 25]))):
            if draw.random() < 0.5:
                item = f"i{draw.integers(ITEMS + 8)}"  # the last eight are in no training part
                rows.append((user, item, "feed", at, None, None, "valid"))
                history.append(item)
                continue
            query = " ".join(draw.choice(WORDS, 2))
            clicks = [f"i{one}" for one in draw.integers(ITEMS + 8, size=draw.integers(4))]
            rows += [(user, item, "search", at, query, f"{user}/{at}", "valid") for item in clicks or [None]]
            history.append({"query": query, "item_id": clicks})
        searches = number % 2 == 1
        asked[user] = " ".join(draw.choice(WORDS, 2)) if searches else None
        target = f"i{draw.integers(ITEMS)}"
        rows.append(
            (user, target, "search" if searches else "feed", 99, asked[user], f"{user}/99" if searches else None, "test")
        )
        told[user] = history
    return rows, told, asked


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("answers")
    rows, told, asked = _events(np.random.default_rng(7))
    names = ["user_id", "item_id", "kind", "time_ms", "query", "session_id", "split"]
    events = pl.DataFrame(rows, names, orient="row", infer_schema_length=None)
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "text": [WORDS[n % 4] for n in range(ITEMS)]})
    build_dataset(make_tables(events, items, source="answers"), folder / "data", split="given")
    flags = {
        "data.path": str(folder / "data"), "data.feed_len": str(FEED_LEN), "data.search_len": str(SEARCH_LEN),
        "model.dim": "8", "model.id_dim": "8", "model.word_dim": "8", "model.embedding_std": "0.3",
        "train.epochs": "1", "train.valid_cases": "8", "train.align_negatives": "4", "run.threads": "1",
    }  # fmt: skip
    train(load_config(None, flags), folder / "run")
    return World(open_dataset(folder / "data"), open_artifact(folder / "run"), told, asked)


@pytest.mark.parametrize("task", ["recommend", "search"])
def test_answers_to_five_hundred_histories_are_those_of_the_evaluation(world: World, task: Task) -> None:
    cases = world.dataset.cases("test", task)
    assert len(cases) == USERS
    rows_NC = torch.arange(1, ITEMS + 1).expand(len(cases), -1)
    ids = world.dataset.items.ids(range(1, ITEMS + 1)).to_list()
    users = world.dataset.users.ids(cases.user_N.tolist()).to_list()
    questions = [Question(task, user, world.query[user], world.told[user], k=ITEMS) for user in users]
    told = [one for at in range(0, len(questions), 7) for one in answer(world.artifact, questions[at : at + 7])]
    with torch.inference_mode():
        batches = case_batches(world.dataset, cases, rows_NC, world.artifact.config.data, 100)
        offline = torch.cat([world.artifact.model.score(batch) for batch in batches])
    lengths = {len(world.told[user]) for user in users}
    assert {0, 25} <= lengths
    for case, one in enumerate(told):
        assert isinstance(one, dict)
        found = {line["item_id"]: line["score"] for line in one["items"]}
        scores = torch.tensor([found[item] for item in ids])
        torch.testing.assert_close(scores, offline[case], rtol=0, atol=1e-5)
        in_order = offline[case][[ids.index(line["item_id"]) for line in one["items"]]]
        assert (in_order.diff() < 1e-5).all()
    assert offline.std(0).mean() > 1e-3  # the history matters
    assert any(isinstance(one, dict) and any("of the history are not in" in note for note in one["notes"]) for one in told)


def test_answers_do_not_depend_on_the_batch(world: World) -> None:
    questions = [
        Question("recommend", "u1", k=3),
        Question("search", "u2", "red hat", k=5),
        Question("recommend", "nobody", k=2, exclude_seen=True, exclude=["i3"]),
        Question("recommend", "u2", k=30, exclude_seen=True),
        Question("search", None, "blue", [], k=4, allow=["i1", "i2", "i5"]),
        Question("recommend", "u1", k=3, without=("search",)),
    ]
    together = answer(world.artifact, questions)
    for question, one in zip(questions, together, strict=True):
        alone = answer_one(world.artifact, question)
        assert isinstance(one, dict)
        assert one["notes"] == alone["notes"]
        assert [line["item_id"] for line in one["items"]] == [line["item_id"] for line in alone["items"]]
        scores = [[line["score"] for line in answered["items"]] for answered in (one, alone)]
        np.testing.assert_allclose(*scores, atol=1e-5)
    assert isinstance(together[4], dict)
    assert {line["item_id"] for line in together[4]["items"]} == {"i1", "i2", "i5"}


def test_answers_without_a_channel_are_those_of_a_history_without_it(world: World) -> None:
    user = next(user for user, told in world.told.items() if any(isinstance(one, str) for one in told) and len(told) == 8)
    history = world.told[user]
    feed = [one for one in history if isinstance(one, str)]
    searches = [one for one in history if not isinstance(one, str)]
    for left, without in ((feed, ("search",)), (searches, ("feed",)), ([], ("feed", "search"))):
        switched = answer_one(world.artifact, Question("recommend", user, history=history, without=without, k=ITEMS))  # type: ignore[arg-type]
        told = answer_one(world.artifact, Question("recommend", user, history=left, k=ITEMS))
        assert switched["items"] == told["items"]
    whole = answer_one(world.artifact, Question("recommend", user, history=history, k=ITEMS))
    assert whole["items"] != told["items"]


def test_answers_leave_out_what_was_seen_whatever_the_channel(world: World) -> None:
    question = Question(
        "recommend", history=["i1", {"query": "red", "item_id": "i2"}], without=("search",), exclude_seen=True, k=ITEMS
    )
    found = {line["item_id"] for line in answer_one(world.artifact, question)["items"]}
    assert len(found) == ITEMS - 2
    assert not found & {"i1", "i2"}


def test_answers_know_what_happened_since(world: World) -> None:
    user = "t3"
    since = ["i9", {"query": "red", "item_id": ["i4"]}]
    whole = [*(f"i{(21 + 3 * at) % ITEMS}" for at in range(6)), {"query": WORDS[3], "item_id": "i3"}, *since]
    lived = answer_one(world.artifact, Question("recommend", user, since=since, k=ITEMS))
    told = answer_one(world.artifact, Question("recommend", user, history=whole, k=ITEMS))
    assert [line["item_id"] for line in lived["items"]] == [line["item_id"] for line in told["items"]]
    assert lived["items"] != answer_one(world.artifact, Question("recommend", user, k=ITEMS))["items"]


def test_answers_with_an_error_spare_the_others(world: World) -> None:
    questions = [Question("recommend", "u1", k=1), Question("next_place", "u1"), Question("recommend", allow=["i99"])]
    one, place, nothing = answer(world.artifact, questions)
    assert isinstance(one, dict)
    assert isinstance(place, ConfigError)
    assert isinstance(nothing, DataError)


def test_answers_mix_words_and_model(world: World) -> None:
    index = WordIndex(world.artifact.catalogue)

    def found(mix: float, **more: Any) -> list[str]:
        [told] = answer(world.artifact, [Question("search", "u1", "red", k=9, mix=mix, **more)], words=index)
        assert isinstance(told, dict)
        return [line["item_id"] for line in told["items"]]

    red = {f"i{n}" for n in range(0, ITEMS, 4)}
    assert set(found(1.0)[:8]) == red
    assert set(found(0.9)[:8]) == red
    assert found(1e-9) == found(0)
    assert set(found(0.5, allow=["i0", "i1"], exclude=["i0"])) == {"i1"}
    unknown = answer_one(world.artifact, Question("search", "u1", "never", k=9, mix=0.5))
    plain = answer_one(world.artifact, Question("search", "u1", "never", k=9))
    assert [line["item_id"] for line in unknown["items"]] == [line["item_id"] for line in plain["items"]]


def test_word_index_scores_as_bm25_does() -> None:
    events, items = corsar.example_logs()
    model = corsar.BM25().fit(corsar.Dataset.from_frames(events, items=items))
    told = {line["item_id"]: line["score"] for line in corsar.search(model.artifact, "red shoe shoe", k=12)["items"]}
    index, vocab = WordIndex(model.artifact.catalogue), model.artifact
    queries = corsar.api.questions.query_rows(vocab, ["red shoe shoe"])[0]
    rows = torch.tensor([model.artifact.items.rows(list(told)).tolist()])
    assert index.scores(queries, rows)[0].tolist() == pytest.approx(list(told.values()))
    best = [row for row in index.best(queries, 12)[0].tolist() if row]
    assert best[0] == rows[0, 0]
    assert set(best) == {row for row, score in zip(rows[0].tolist(), told.values(), strict=True) if score > 0}
