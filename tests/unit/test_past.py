"""Pasts event by event: what is stored, told or lived becomes the same tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from corsar.api.engine import place_batch
from corsar.api.past import Entry, people_of, stored_past
from corsar.artifact import Artifact, open_artifact
from corsar.batch import SearchRecommendBatch
from corsar.config import load_config
from corsar.train.loop import train
from corsar.windows import make_batch


@pytest.fixture(scope="module")
def artifact(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    run = tmp_path_factory.mktemp("past") / "run"
    flags = {"data.path": str(tiny_dataset), "model.name": "popularity", "data.feed_len": "4", "data.search_len": "2"}
    train(load_config(None, flags), run)
    return open_artifact(run)


def _windows(artifact: Artifact, history: object, user_B: torch.Tensor) -> SearchRecommendBatch:
    ends = (history.feed_offsets[user_B + 1], history.search_offsets[user_B + 1])  # type: ignore[attr-defined]
    none = torch.zeros(len(user_B), 0, dtype=torch.int64)
    return make_batch("recommend", history, artifact.catalogue, user_B, *ends, none, feed_len=4, search_len=2)  # type: ignore[arg-type]


def test_past_of_stored_events_gives_their_windows_again(artifact: Artifact) -> None:
    user_B = torch.arange(0, len(artifact.users) + 1)
    people = people_of(artifact, [stored_past(artifact, row) for row in user_B.tolist()], user_B)
    one, other = _windows(artifact, artifact.history, user_B), _windows(artifact, people.history, people.owner_B)
    for name in ("feed_items_BF", "feed_slots_BF", "feed_is_real_BF", "search_slots_BS", "search_is_real_BS"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.search_clicks_BSK, other.search_clicks_BSK)
    for b, s in one.search_is_real_BS.nonzero().tolist():
        words = [batch.queries.select(batch.search_queries_BS[b, s : s + 1]).values for batch in (one, other)]
        assert torch.equal(*words)
    assert one.feed_is_real_BF.any()
    assert one.search_is_real_BS.any()


def test_past_is_in_the_order_of_time(artifact: Artifact) -> None:
    for row in range(1, len(artifact.users) + 1):
        times = [entry.time_ms or 0 for entry in stored_past(artifact, row)]
        assert times == sorted(times)
    assert stored_past(artifact, 0) == []


def test_past_of_check_ins_keeps_times_and_clocks(tiny_city: Path, tmp_path: Path) -> None:
    flags = {"data.path": str(tiny_city), "model.name": "visits", "train.tasks": '["next_place"]', "data.feed_len": "5"}
    train(load_config(None, flags), tmp_path / "run")
    artifact = open_artifact(tmp_path / "run")
    user_B = torch.tensor([2, 5])
    people = people_of(artifact, [stored_past(artifact, row) for row in user_B.tolist()], user_B)
    batch = place_batch(artifact, people)
    assert batch.feed_items_BF.shape == (2, 5)
    assert (batch.hours_BF > 0).all()
    for name in ("times_BF", "hours_BF"):
        from corsar.api.engine import stored_people

        assert torch.equal(getattr(batch, name), getattr(place_batch(artifact, stored_people(artifact, user_B)), name))


def test_seen_items_may_be_told_apart_from_the_past(artifact: Artifact) -> None:
    past = [Entry((3,)), Entry((0,)), Entry((5, 2), (1,))]
    people = people_of(artifact, [past, past], torch.tensor([0, 0]), [[7, 0, 7], []])
    assert people.seen is not None
    assert people.seen.select(people.owner_B).offsets.tolist() == [0, 1, 1]
    own = people_of(artifact, [past], torch.tensor([0])).seen
    assert own is not None
    assert own.values.tolist() == [2, 3, 5]
