"""Why an item is here: weights that sum to 1 over real events, and a planted event that is found; one answer on every way."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import client_of, make_runs

import corsar
from corsar.api.answers import Question, answer, answer_one
from corsar.api.ask import explain
from corsar.api.engine import question_batch, stored_people
from corsar.api.explain import attention, left_out, reasons, target_attention
from corsar.api.past import Past, people_of, stored_past
from corsar.api.questions import query_rows
from corsar.artifact import Artifact, open_artifact
from corsar.batch import TASKS, Ragged, Task
from corsar.cli import main
from corsar.errors import ConfigError, DataError
from corsar.models.unisar import UniSARNet
from corsar.serve.engine import Engine

USERS = ["u1", "u2", "u3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("runs"))[0]


@pytest.fixture
def artifact(run: Path) -> Artifact:
    return open_artifact(run)


def _past(artifact: Artifact, user: str) -> tuple[int, Past]:
    row = int(artifact.users.rows([user])[0])
    return row, stored_past(artifact, row)


@pytest.mark.parametrize("task", TASKS[:2])
def test_attention_read_from_the_outside_gives_the_interests_of_the_model(artifact: Artifact, task: Task) -> None:
    model = artifact.model
    assert isinstance(model, UniSARNet)
    users = torch.arange(6)  # row 0 has no history
    queries = Ragged.of([[1], [2], [1, 2], [], [3], [1]]) if task == "search" else None
    candidates_BC = torch.arange(1, 6).repeat(6, 1) + users[:, None]
    batch = replace(question_batch(artifact, task, stored_people(artifact, users), queries), candidates_BC=candidates_BC)
    with torch.no_grad():
        encoded = model.encode(batch)
        items_BCD = F.embedding(encoded.item_place[candidates_BC], encoded.items_RD)
        expected = model.interests(batch, encoded, items_BCD)
        weights = target_attention(model, batch)
        for wanted_BCD, weights_BCL, at, history_TD, is_real_BL in zip(
            expected, weights, (encoded.feed, encoded.search), (encoded.feed_TD, encoded.search_UD),
            (batch.feed_is_real_BF, batch.search_is_real_BS), strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(weights_BCL @ at.unpack(history_TD), wanted_BCD, rtol=0, atol=1e-6)
            sums_BC = weights_BCL.sum(2)
            torch.testing.assert_close(sums_BC, is_real_BL.any(1, keepdim=True).float().expand_as(sums_BC))
            assert not weights_BCL.masked_select(~is_real_BL[:, None]).any()


def test_attention_sums_to_one_over_real_events_of_the_window(artifact: Artifact) -> None:
    for user in USERS:
        row, past = _past(artifact, user)
        long = past + past + past  # more than the windows of 4 and 2
        for told in (long, past, [entry for entry in past if entry.is_search], past[:1]):
            weights_CE = attention(artifact, "recommend", row, told, [], [3, 1, 7])
            assert weights_CE is not None
            assert weights_CE.shape == (3, len(told))
            assert (weights_CE >= 0).all()
            torch.testing.assert_close(weights_CE.sum(1), torch.ones(3))
        read_E = attention(artifact, "recommend", row, long, [], [3])[0] > 0  # type: ignore[index]
        for is_search, length in ((False, 4), (True, 2)):
            of_kind = [bool(read) for read, entry in zip(read_E, long, strict=True) if entry.is_search == is_search]
            num = min(length, len(of_kind))
            assert not any(of_kind[: len(of_kind) - num])
            assert sum(of_kind) == num


@pytest.mark.parametrize("is_search", [False, True])
def test_attention_finds_the_event_that_was_planted(artifact: Artifact, is_search: bool) -> None:
    """The map of a side is set by hand so that one item looks at one event and at no other."""
    model = artifact.model
    assert isinstance(model, UniSARNet)
    side = model.search_interest if is_search else model.feed_interest
    planted = 0
    for user in USERS:
        row, past = _past(artifact, user)
        at = [e for e, entry in enumerate(past) if entry.is_search == is_search][-(2 if is_search else 4) :]
        if len(at) < 2:
            continue
        for place, event in enumerate(at):
            people = people_of(artifact, [past], torch.tensor([row]))
            batch = replace(question_batch(artifact, "recommend", people, None), candidates_BC=torch.tensor([[5]]))
            with torch.no_grad():
                encoded = model.encode(batch)
                history_LD = encoded.search_UD if is_search else encoded.feed_TD
                target_D = encoded.items_RD[encoded.item_place[5]]
                key_D = torch.linalg.pinv(history_LD)[:, place]  # 1 at the event, 0 at the others
                before = side.weight.clone()
                side.weight.copy_(50 * torch.outer(key_D, target_D) / target_D.square().sum())
            try:
                [why] = reasons(artifact, "recommend", row, past, [], [5])
                [weights_E] = attention(artifact, "recommend", row, past, [], [5])  # type: ignore[misc]
            finally:
                with torch.no_grad():
                    side.weight.copy_(before)
            has_both = len({entry.is_search for entry in past}) == 2
            assert int(weights_E.argmax()) == event
            assert why[0]["weight"] == pytest.approx(0.5 if has_both else 1.0, abs=1e-3)
            assert why[0]["kind"] == ("search" if is_search else "feed")
            entry = past[event]
            if is_search:
                assert entry.words is not None
                assert why[0]["query"].split() == artifact.words.ids(entry.words).to_list()
            else:
                assert why[0]["item_id"] == artifact.items.ids(entry.items)[0]
            planted += 1
    assert planted >= 2


def test_drop_is_the_score_that_is_lost_without_the_event(artifact: Artifact) -> None:
    history: list[Any] = [1, {"query": "red", "item_id": 2}, 5, 3, {"query": "blue"}]
    told = {
        one["item_id"]: one for one in answer_one(artifact, Question("recommend", history=history, k=12, explain=True))["items"]
    }
    for at, event in enumerate(history):
        rest = history[:at] + history[at + 1 :]
        scores = {one["item_id"]: one["score"] for one in corsar.recommend(artifact, history=rest, k=12)["items"]}
        named = event if isinstance(event, int) else event["query"]
        for item, one in told.items():
            [why] = [why for why in one["why"] if why.get("query", why.get("item_id")) == named]
            assert why["drop"] == pytest.approx(one["score"] - scores[item], abs=1e-5)
    assert len({why["drop"] for one in told.values() for why in one["why"]}) > 12


def test_left_out_finds_what_stood_near_the_item() -> None:
    """Milk and bread are bought together by all; nothing else has to do with either."""
    rows = [(f"u{user}", item, at) for user in range(6) for at, item in enumerate(["milk", "bread", "milk", "bread", "x", "y"])]
    rows += [(f"v{user}", item, at) for user in range(6) for at, item in enumerate(["nail", "hammer", "saw", "saw", "x", "y"])]
    events = pl.DataFrame(rows, ["user_id", "item_id", "time_ms"], orient="row").with_columns(kind=pl.lit("feed"))
    model = corsar.CoVisit().fit(corsar.Dataset.from_frames(events, split="leave_last"))
    told = explain(model.artifact, "bread", history=["nail", "milk", "saw"])
    assert told["method"] == "left out"
    assert [(one["item_id"], one["weight"]) for one in told["why"]] == [("milk", 1.0)]
    assert told["why"][0]["drop"] == pytest.approx(told["score"], abs=1e-3)
    [alone] = answer_one(model.artifact, Question("recommend", history=[], about=["bread"]))["items"]
    assert told["without"] == {"feed": alone["rank"], "search": None}
    [other] = reasons(model.artifact, "recommend", 0, [], [], [1])
    assert other == []
    popularity = corsar.Popularity().fit(events).artifact
    assert explain(popularity, "bread", history=["milk"])["why"] == []  # nothing of it rests on the past


def test_left_out_keeps_the_order_of_the_items(artifact: Artifact) -> None:
    row, past = _past(artifact, "u2")
    rows = [9, 2, 11, 1]
    together = left_out(artifact, "search", row, past, [1], rows, [0, 2])
    for c, one in enumerate(rows):
        alone = left_out(artifact, "search", row, past, [1], [one], [0, 2])
        torch.testing.assert_close(together[c], alone[0], rtol=0, atol=1e-5)
    assert not together[:, [e for e in range(len(past)) if e not in (0, 2)]].any()


def test_without_is_the_rank_of_an_answer_without_the_channel(artifact: Artifact) -> None:
    told = answer_one(artifact, Question("search", "u2", "red", k=12, explain=True, mix=0.4, exclude=[3]))
    for channel in ("feed", "search"):
        question = Question("search", "u2", "red", k=12, without=(channel,), mix=0.4, exclude=[3])  # type: ignore[arg-type]
        ranks = {one["item_id"]: one["rank"] for one in answer_one(artifact, question)["items"]}
        assert [one["without"][channel] for one in told["items"]] == [ranks[one["item_id"]] for one in told["items"]]
    half = answer_one(artifact, Question("recommend", history=[1, 2], explain=True, k=2))["items"]
    assert [one["without"]["search"] for one in half] == [None, None]
    assert all(one["without"]["feed"] for one in half)
    nobody = answer_one(artifact, Question("recommend", history=[], explain=True, k=1))["items"]
    assert (nobody[0]["why"], nobody[0]["without"]) == ([], {"feed": None, "search": None})


def test_explanation_changes_nothing_of_the_answer(artifact: Artifact) -> None:
    questions = [
        Question("recommend", "u1", k=4),
        Question("recommend", "u1", k=4, explain=True),
        Question("recommend", "u2", k=4),
        Question("recommend", "u1", explain=True, k=21),
        Question("next_place", "u1", explain=True),
    ]
    plain, told, _, many, place = answer(artifact, questions)
    assert isinstance(plain, dict)
    assert isinstance(told, dict)
    for name in ("rank", "item_id", "text"):
        assert [one[name] for one in told["items"]] == [one[name] for one in plain["items"]]
    scores = [[one["score"] for one in answered["items"]] for answered in (told, plain)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert isinstance(many, ConfigError)
    assert "at most 20 items" in str(many)
    assert isinstance(place, ConfigError)
    with pytest.raises(DataError, match="does not know the item 'nothing'"):
        explain(artifact, "nothing", user="u1")


def test_explanations_online_are_those_of_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with client_of([run], tmp_path / "events.sqlite") as client:
        body = {"user_id": "u2", "k": 3, "explain": True}
        online = client("POST", "/v1/recommend", body).json
        searched = client("POST", "/v1/search", body | {"query": "red shoe"}).json
        refused = client("POST", "/v1/recommend", body | {"k": 21})
    assert refused.status == 422
    assert "at most 20" in refused.json["error"]
    assert online["method"] == "attention"
    for told, query in ((online, []), (searched, ["--query", "red shoe"])):
        for one in told["items"]:
            main(["explain", str(run), "--user", "u2", "--item", str(one["item_id"]), *query, "--json"])
            line = json.loads(capsys.readouterr().out)
            assert line.pop("method") == told["method"]
            assert line.pop("notes") == told["notes"]
            events, others = line.pop("why"), dict(one)
            for wanted, found in zip(others.pop("why"), events, strict=True):
                assert {**found, "weight": 0, "drop": 0} == {**wanted, "weight": 0, "drop": 0}
                assert found["weight"] == pytest.approx(wanted["weight"], abs=1e-5)
                assert found["drop"] == pytest.approx(wanted["drop"], abs=1e-5)
            assert line.pop("score") == pytest.approx(others.pop("score"), abs=1e-5)
            assert line == others
    main(["explain", str(run), "--user", "u2", "--item", "3"])
    assert "no proof of cause" in capsys.readouterr().out


def test_explanations_of_two_stages_say_what_is_not_looked_at(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corsar.serve.engine.EXACT", 5)
    engine = Engine.open([run], candidates=4)
    [told] = engine.answer([Question("recommend", "u2", k=4, explain=True)])
    assert isinstance(told, dict)
    ranks = [one["without"]["feed"] for one in told["items"]]
    assert all(rank is None or 1 <= rank <= 4 for rank in ranks)
    assert query_rows(engine.by_task["search"], ["red"])[1] == [(1, 1)]
