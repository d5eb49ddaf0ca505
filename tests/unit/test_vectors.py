"""The items nearest to a user's vector: the search by blocks and faiss against the whole product, and the union with others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from world import world

import corsar
from corsar.api.answers import Question
from corsar.api.engine import nearest_items, question_batch, stored_people
from corsar.index import vectors
from corsar.index.first import TURNS, Candidates
from corsar.index.vectors import VectorIndex
from corsar.models.towers import two_tower_of
from corsar.serve import engine as engines
from corsar.serve.engine import Engine


def drawn(num: int, seed: int = 0, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(40, width, generator=g)
    items = centres[torch.randint(40, (num,), generator=g)] + torch.randn(num, width, generator=g)
    return items, torch.randn(20, width, generator=g)


def whole(items_IE: torch.Tensor, users_BE: torch.Tensor, num: int) -> list[list[int]]:
    found: list[list[int]] = ((users_BE @ items_IE[1:].T).sort(descending=True).indices[:, :num] + 1).tolist()
    return found


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_give_what_the_whole_product_gives(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "BLOCK", block)
    items_IE, users_BE = drawn(300)
    for num in (1, 10, 299, 1000):
        found = VectorIndex(items_IE).best(users_BE, num)
        assert found.tolist() == whole(items_IE, users_BE, num)
    assert VectorIndex(items_IE).best(users_BE[:0], 5).shape == (0, 5)


def test_blocks_give_what_a_flat_index_of_faiss_gives() -> None:
    faiss = pytest.importorskip("faiss")
    items_IE, users_BE = drawn(3000)
    flat = faiss.IndexFlatIP(items_IE.shape[1])
    flat.add(items_IE[1:].numpy())
    _, rows_BK = flat.search(users_BE.numpy(), 100)
    assert VectorIndex(items_IE).best(users_BE, 100).tolist() == (rows_BK + 1).tolist()


def test_faiss_is_exact_where_it_looks_into_every_group_and_near_where_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    items_IE, users_BE = drawn(5000)
    told = whole(items_IE, users_BE, 100)
    monkeypatch.setattr(vectors, "PROBES", 5000)
    assert VectorIndex(items_IE, approximate=True).best(users_BE, 100).tolist() == told
    monkeypatch.setattr(vectors, "PROBES", 12)
    near = VectorIndex(items_IE, approximate=True).best(users_BE, 100)
    recall = sum(len(set(some) & set(one)) for some, one in zip(near.tolist(), told, strict=True)) / 2000
    assert 0.9 < recall < 1
    assert torch.equal(near, VectorIndex(items_IE, approximate=True).best(users_BE, 100))
    monkeypatch.setattr(vectors, "PROBES", 1)
    few = VectorIndex(items_IE, approximate=True).best(users_BE, 4000)
    assert (few == 0).any()
    assert all(len(set(row) - {0}) == sum(one > 0 for one in row) for row in few.tolist())


def test_faiss_is_for_large_catalogues_and_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    items_IE, users_BE = drawn(400)
    assert VectorIndex(items_IE)._groups is None
    monkeypatch.setattr(vectors, "APPROXIMATE", 300)
    assert VectorIndex(items_IE)._groups is not None
    monkeypatch.setattr(vectors.importlib.util, "find_spec", lambda name: None)
    assert VectorIndex(items_IE)._groups is None
    assert VectorIndex(items_IE).best(users_BE, 9).tolist() == whole(items_IE, users_BE, 9)


@pytest.fixture(scope="module")
def model() -> corsar.UniSAR:
    events, items = corsar.example_logs()
    small = {"dim": 8, "id_dim": 8, "word_dim": 8, "epochs": 1, "feed_len": 4, "search_len": 2, "embedding_std": 0.3}
    return corsar.UniSAR(**small, two_tower=True).fit(corsar.Dataset.from_frames(events, items=items))


def test_list_of_the_towers_takes_its_turn(model: corsar.UniSAR) -> None:
    artifact = model.artifact
    nearest, towers = nearest_items(artifact), two_tower_of(artifact.model)
    assert nearest is not None
    assert towers is not None
    batch = question_batch(artifact, "recommend", stored_people(artifact, torch.tensor([1, 2])), None)
    rows_I = torch.arange(len(artifact.items) + 1)
    items_IE = towers.item_vectors(rows_I, artifact.model.item_vectors(batch, rows_I))
    told = whole(items_IE.detach(), towers.user_vectors(artifact.model, batch).detach(), 5)
    assert nearest.best(batch, 5).tolist() == told
    stage = Candidates(artifact.history, len(artifact.items), None, TURNS + 1, nearest)
    rows = stage.candidates("recommend", [[], []], None, batch).tolist()
    [popular] = stage.candidates("recommend", [[]], None).tolist()
    for found, by_towers in zip(rows, told, strict=True):
        assert found[:TURNS] == by_towers[:TURNS]
        assert popular[0] in found
        assert set(found) <= {*by_towers, *popular}
    history, *_ = world()
    assert Candidates(history, 10, None, 4).candidates("recommend", [[]], None, batch.take(torch.tensor([0]))).shape == (1, 4)


def test_service_asks_the_towers_of_a_large_catalogue(model: corsar.UniSAR, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Engine([model.artifact])
    monkeypatch.setattr(engines, "EXACT", 5)
    asked: list[int] = []
    best = vectors.Nearest.best
    monkeypatch.setattr(vectors.Nearest, "best", lambda self, batch, num: asked.append(len(batch)) or best(self, batch, num))
    stages = Engine([model.artifact], candidates=12)
    questions = [Question("recommend", "u1", k=12), Question("search", "u2", "red shoe", k=5), Question("recommend", k=3)]
    for one, other in zip(exact.answer(questions), stages.answer(questions), strict=True):
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        assert [line["item_id"] for line in one["items"]] == [line["item_id"] for line in other["items"]]
    assert sorted(asked) == [1, 2]
