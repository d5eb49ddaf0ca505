"""UniSAR as it is served has the scores of the plain model."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from world import COUNTS, NUM_ITEMS, SIZES, batch_of

import corsar
from corsar.batch import Task
from corsar.models.unisar import UniSARNet
from corsar.serve.engine import Engine
from corsar.serve.unisar import ServedUniSAR, served

PEOPLE = list(range(len(COUNTS)))  # both kinds of events, one, or none; longer than the windows


def _model(**config: Any) -> UniSARNet:
    torch.manual_seed(0)
    return UniSARNet(UniSARNet.Config(dim=16, embedding_std=0.5, **config), SIZES).eval()


@pytest.mark.parametrize("config", [{}, {"query_in_attention": False}, {"item_text": False, "heads": 4}])
@pytest.mark.parametrize("task", ["recommend", "search"])
def test_served_scores_are_those_of_the_plain_model(task: Task, config: dict[str, Any]) -> None:
    batch = batch_of(task, PEOPLE, candidates=20)
    for dtype, atol in ((torch.float32, 1e-6), (torch.float64, 1e-13)):
        model = _model(**config).to(dtype)
        with torch.no_grad():
            expected = model.score(batch)
        twin = ServedUniSAR.of(model, batch)
        torch.testing.assert_close(twin.score(batch), expected, rtol=0, atol=atol)
        assert float(expected.std()) > 1e-3
        several = twin.scorer(batch, batch.candidates_BC)
        parts = [several(batch.candidates_BC[:, :7]), several(batch.candidates_BC[:, 7:])]
        torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("user", PEOPLE)
def test_served_scores_of_one_question_alone_are_those_of_the_plain_model(user: int) -> None:
    batch, model = batch_of("search", [user], candidates=5), _model()
    with torch.no_grad():
        expected = model.score(batch)
    torch.testing.assert_close(ServedUniSAR.of(model, batch).score(batch), expected, rtol=0, atol=1e-6)


def test_served_twin_shares_the_weights_and_holds_the_vectors_of_all_items() -> None:
    model, batch = _model(), batch_of("recommend", [1])
    twin = ServedUniSAR.of(model, batch)
    assert twin.items_ID.shape == (NUM_ITEMS + 1, 16)
    assert not twin.items_ID[0].any()
    assert all(one is other for one, other in zip(model.parameters(), twin.parameters(), strict=True))
    assert set(twin.state_dict()) == set(model.state_dict())


def test_engine_serves_the_twin_where_there_is_one() -> None:
    events, items = corsar.example_logs()
    logs = corsar.Dataset.from_frames(events, items=items)
    small = {"dim": 8, "id_dim": 8, "word_dim": 8, "epochs": 1, "feed_len": 4, "search_len": 2}
    plain = corsar.UniSAR(**small).fit(logs).artifact
    assert type(plain.model) is UniSARNet
    assert type(Engine([plain]).by_task["search"].model) is ServedUniSAR
    assert type(plain.model) is UniSARNet  # what was given is as it was
    other = dataclasses.replace(plain, model=_model(mixer="fourier"))
    assert served(other) is other
