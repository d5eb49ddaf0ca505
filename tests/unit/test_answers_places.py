"""Answers to "where next?" for a told history have the scores of the evaluation for the same one in a dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).parent))
from place_kit import PLACES, START_MS, city, settings

from corsar.api.answers import Question, answer
from corsar.artifact import open_artifact
from corsar.data.build import build_dataset
from corsar.data.loader import case_batches
from corsar.data.store import open_dataset
from corsar.schema import KINDS
from corsar.train.loop import train

PEOPLE, HOUR_MS = 300, 3_600_000


def _check_ins(draw: np.random.Generator) -> tuple[pl.DataFrame, dict[str, list[dict[str, Any]]]]:
    """People of the training part, and others with told histories: empty, over-long, with unknown places."""
    rows: list[tuple[Any, ...]] = []
    for user in range(40):
        rows += [(f"t{user}", f"p{(user + at) % PLACES:02}", START_MS + at * HOUR_MS, -360, "train") for at in range(8)]
    told: dict[str, list[dict[str, Any]]] = {}
    for number in range(PEOPLE):
        user, history = f"u{number}", []
        for at in range(int(draw.choice([0, 1, 3, 8, 25]))):
            place = f"p{draw.integers(PLACES + 4):02}"  # the last four are on no map and in no training part
            time, offset = START_MS + int(3 * at + draw.integers(3)) * HOUR_MS, int(draw.choice([-360, 60]))
            rows.append((user, place, time, offset, "valid"))
            history.append({"item_id": place, "time_ms": time, "utc_offset_min": offset})
        rows.append((user, f"p{draw.integers(PLACES):02}", START_MS + 99 * HOUR_MS, -360, "test"))
        told[user] = history
    names = ["user_id", "item_id", "time_ms", "utc_offset_min", "split"]
    events = pl.DataFrame(rows, names, orient="row", infer_schema_length=None)
    return events.with_columns(kind=pl.lit("checkin", pl.Enum(KINDS))), told


def test_next_places_of_three_hundred_histories_are_those_of_the_evaluation(tmp_path: Path) -> None:
    events, told = _check_ins(np.random.default_rng(5))
    build_dataset(city(events), tmp_path / "data", split="given")
    more = {"model__name": "automtn", "model__dim": "8", "train__epochs": "1", "data__feed_len": "5"}
    train(settings(tmp_path / "data", **more), tmp_path / "run")
    dataset, artifact = open_dataset(tmp_path / "data"), open_artifact(tmp_path / "run")
    cases, num = dataset.cases("test", "next_place"), len(artifact.items)
    assert len(cases) == PEOPLE
    users = dataset.users.ids(cases.user_N.tolist()).to_list()
    questions = [Question("next_place", user, history=told[user], k=num) for user in users]
    answers = [one for at in range(0, PEOPLE, 7) for one in answer(artifact, questions[at : at + 7])]
    rows_NC = torch.arange(1, num + 1).expand(PEOPLE, -1)
    with torch.inference_mode():
        batches = case_batches(dataset, cases, rows_NC, artifact.config.data, 100)
        offline = torch.cat([artifact.model.score(batch) for batch in batches])
    assert {0, 25} <= {len(history) for history in told.values()}
    ids = artifact.items.ids(range(1, num + 1)).to_list()
    for case, one in enumerate(answers):
        assert isinstance(one, dict)
        found = {line["item_id"]: line["score"] for line in one["items"]}
        torch.testing.assert_close(torch.tensor([found[item] for item in ids]), offline[case], rtol=0, atol=1e-5)
        in_order = offline[case][[ids.index(line["item_id"]) for line in one["items"]]]
        assert (in_order.diff() < 1e-5).all()
    assert offline.std(0).mean() > 1e-3  # the history matters
    assert any(isinstance(one, dict) and any("of the history are not in" in note for note in one["notes"]) for one in answers)
