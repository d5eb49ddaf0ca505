"""Asking a run: rows to show, and notes on what was not known."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

import corsar
from corsar.artifact import Artifact
from corsar.errors import ConfigError


@pytest.fixture(scope="module")
def blend() -> Artifact:
    events, items = corsar.example_logs()
    model = corsar.Blend().fit(corsar.Dataset.from_frames(events, items=items))
    artifact = model.artifact
    object.__setattr__(artifact, "owner", model)  # the files live as long as the estimator
    return artifact


def test_found_items_have_rank_score_and_text(blend: Artifact) -> None:
    told = corsar.search(blend, "red shoe", k=3)
    assert [list(one) for one in told["items"]] == [["rank", "item_id", "score", "text"]] * 3
    assert told["items"][0]["text"] == "red shoe"
    assert [one["rank"] for one in told["items"]] == [1, 2, 3]
    assert told["notes"] == []


def test_command_line_and_estimator_agree(blend: Artifact) -> None:
    model = corsar.Blend.of(blend)
    for user in ("u1", "u2", "nobody"):
        told = corsar.recommend(blend, user=user, k=12)["items"]
        with pytest.warns(match="not in the logs") if user == "nobody" else nullcontext():
            found = model.recommend(user, k=12)
        assert [one["item_id"] for one in told] == found["item"].to_list()
        assert [one["score"] for one in told] == found["score"].to_list()


def test_what_is_not_known_is_noted(blend: Artifact) -> None:
    told = corsar.recommend(blend, user="nobody", history=["1", "99", "2"])
    assert told["notes"] == [
        "user nobody is not in the logs, so nothing is known of their history",
        "1 of 3 items of the history are not in the catalogue",
    ]
    assert corsar.search(blend, "red qqq")["notes"] == ["1 of 2 words of the query are not in the logs"]
    assert "ranked by the history alone" in corsar.search(blend, "qqq")["notes"][0]
    assert corsar.recommend(blend, history=[])["notes"] == []


def test_seen_items_are_left_out_of_stored_and_of_told_histories(blend: Artifact) -> None:
    everything = {one["item_id"] for one in corsar.recommend(blend, user="u1", k=99)["items"]}
    had = set(corsar.example_logs()[0].filter(user_id="u1")["item_id"])
    left = corsar.recommend(blend, user="u1", k=99, exclude_seen=True)["items"]
    assert {one["item_id"] for one in left} == everything - had
    told = corsar.recommend(blend, user="u1", history=["1", "2"], k=99, exclude_seen=True)["items"]
    assert {one["item_id"] for one in told} == everything - {1, 2}
    assert [one["rank"] for one in told] == list(range(1, len(told) + 1))


def test_history_may_hold_searches(blend: Artifact) -> None:
    told = corsar.recommend(blend, history=[1, {"item_id": 2, "query": "blue"}], k=3)
    assert len(told["items"]) == 3


def test_asking_for_nothing_is_told(blend: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k is 0"):
        corsar.recommend(blend, user="u1", k=0)
    bm25 = corsar.BM25().fit(corsar.example_logs()[0], run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="this bm25 was not trained for recommend"):
        corsar.recommend(tmp_path / "run", user="u1")
    assert len(corsar.search(bm25.artifact, "red", k=2)["items"]) == 2
