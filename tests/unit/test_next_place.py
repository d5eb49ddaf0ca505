"""Answers to "where next?": from Python, from the command line, and as a page."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from place_kit import START_MS, check_ins, city, make_city, settings

import corsar
from corsar import api
from corsar.api.check_ins import people_at, read_moment
from corsar.api.engine import stored_people
from corsar.artifact import Artifact, open_artifact
from corsar.cli import main
from corsar.data.loader import case_batches
from corsar.data.store import open_dataset
from corsar.errors import ConfigError
from corsar.train.loop import train

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    data = make_city(folder / "data")
    for name in ("automtn", "visits", "nearest"):
        more = {"model__dim": "8", "train__epochs": "1"} if name == "automtn" else {}
        train(settings(data, model__name=name, data__target_time=str(name == "automtn").lower(), **more), folder / name)
    return folder


@pytest.fixture(scope="module")
def automtn(runs: Path) -> Artifact:
    return open_artifact(runs / "automtn")


def test_next_place_scores_are_those_of_the_evaluation(runs: Path, automtn: Artifact) -> None:
    dataset = open_dataset(runs / "data")
    cases = dataset.cases("test", "next_place")
    rows = torch.arange(1, dataset.catalogue.num_items + 1).expand(len(cases), -1)
    (batch,) = case_batches(dataset, cases, rows, automtn.config.data, 100)
    with torch.inference_mode():
        expected = automtn.model.score(batch)
    for case in range(len(cases)):
        user = dataset.users.ids([int(cases.user_N[case])])[0]
        told = corsar.next_place(automtn, user=user, at=int(cases.time_N[case]), k=99)
        found = {one["item_id"]: one["score"] for one in told["items"]}
        ids = dataset.items.ids(range(1, dataset.catalogue.num_items + 1))
        torch.testing.assert_close(torch.tensor([found[item] for item in ids]), expected[case], rtol=1e-4, atol=1e-5)


def test_next_place_at_a_moment_cuts_the_history(runs: Path) -> None:
    events = check_ins().filter(pl.col("user_id") == 3).sort("time_ms")
    moment = events["time_ms"][5]
    told = corsar.next_place(runs / "visits", user=3, at=moment, k=99)
    before = events.filter(pl.col("time_ms") < moment)["item_id"].value_counts()
    assert {one["item_id"]: one["visits"] for one in told["items"] if one["visits"]} == dict(before.iter_rows())
    whole = corsar.next_place(runs / "visits", user=3, k=99)
    assert sum(one["visits"] for one in whole["items"]) == events.height
    nothing = corsar.next_place(runs / "visits", user=3, at="2001-01-01")
    assert nothing["notes"] == ["user 3 has no check-in before 2001-01-01"]
    assert nothing["items"][0]["km"] is None


def test_next_place_knows_the_hour_where_the_model_may(runs: Path, automtn: Artifact) -> None:
    user = torch.tensor([2])
    people = people_at(automtn, stored_people(automtn, user), START_MS + 30 * 24 * HOUR_MS + 8 * HOUR_MS)
    assert people.hour_B is not None
    assert people.hour_B.tolist() == [2 * 24 + 8 - 6 + 1]  # a Wednesday, at two by the person's clock
    visits = open_artifact(runs / "visits")
    assert people_at(visits, stored_people(visits, user), START_MS).hour_B is None


def test_next_place_reads_moments() -> None:
    assert read_moment("2012-04-02T00:00") == read_moment("2012-04-02") == START_MS
    assert read_moment("2012-04-01T18:00-06:00") == read_moment(str(START_MS)) == START_MS
    with pytest.raises(ConfigError, match="'soon' is no moment"):
        read_moment("soon")


def test_next_place_of_somebody_unknown(runs: Path, automtn: Artifact) -> None:
    told = corsar.next_place(automtn, user="nobody", k=4)
    assert told["notes"] == ["user nobody is not in the logs, so nothing is known of their history"]
    assert len(told["items"]) == 4


def test_next_place_needs_check_ins(tiny_dataset: Path, tmp_path: Path) -> None:
    train(settings(tiny_dataset, model__name="popularity"), tmp_path / "run")
    with pytest.raises(ConfigError, match="was not trained for next_place"):
        corsar.next_place(tmp_path / "run", user="u1")


def test_next_place_estimator_answers_as_the_function(tmp_path: Path) -> None:
    tables = city()
    dataset = corsar.Dataset.from_frames(tables.events, items=tables.items, out=tmp_path / "data")
    model = api.VisitsMarkov().fit(dataset)
    frame = model.next_place([1, 2], k=3, at="2012-04-05")
    told = corsar.next_place(model.artifact, user=2, k=3, at="2012-04-05")
    assert frame.filter(pl.col("user") == 2)["item"].to_list() == [one["item_id"] for one in told["items"]]  # type: ignore[arg-type]
    assert not set(model.next_place(1, k=99, exclude_seen=True)["item"]) & set(
        check_ins().filter(pl.col("user_id") == 1)["item_id"]
    )
    assert model.get_params()["tasks"] == ("next_place",) or model.artifact.config.train.tasks == ("next_place",)
    assert corsar.load(model.artifact.path).next_place(2, k=3).height == 3  # type: ignore[union-attr]


def test_next_place_of_a_told_history_is_that_of_the_stored_one(runs: Path) -> None:
    model, events = corsar.load(runs / "automtn" / "artifact"), check_ins().sort("time_ms", maintain_order=True)
    assert isinstance(model, corsar.AutoMTN)
    mine = events.filter(pl.col("user_id").is_in([3, 4])).select("user_id", "item_id", "time_ms", "utc_offset_min")
    moment = int(mine["time_ms"].max()) + 1  # type: ignore[call-overload]
    stored = model.next_place([3, 4], k=5, at=moment)
    as_lists = [mine.filter(pl.col("user_id") == user).drop("user_id").to_dicts() for user in (3, 4)]
    for told in (model.next_place(history=mine, k=5, at=moment), model.next_place([3, 4], history=as_lists, k=5, at=moment)):
        assert told.drop("score").equals(stored.drop("score"))
        np.testing.assert_allclose(told["score"], stored["score"], rtol=1e-5)
    early = as_lists[0][len(as_lists[0]) // 2]["time_ms"]
    cut, whole = (model.next_place(history=as_lists[0], k=99, at=at)["score"].to_list() for at in (early, moment))
    assert cut != whole
    assert (
        model.next_place(history=as_lists[0], k=99, at=early)["item"].to_list()
        == model.next_place(history=[one for one in as_lists[0] if one["time_ms"] < early], k=99, at=early)["item"].to_list()
    )


def test_next_place_of_places_alone_has_no_hours(runs: Path) -> None:
    model = corsar.load(runs / "visits" / "artifact")
    assert isinstance(model, api.Visits)
    found = model.next_place(history=[["p03", "p03", "p05", "nowhere"], []], k=2)
    assert found["user"].to_list() == [0, 0, 1, 1]
    assert found["item"].to_list()[:2] == ["p03", "p05"]
    assert model.next_place(9, history=["p05"], k=1, exclude_seen=True)["item"][0] != "p05"


@pytest.mark.parametrize(
    ("history", "at", "match"),
    [
        (None, None, "name users to ask for"),
        ([{"item_id": "p03", "hour": 3}], None, "unknown key 'hour' of a check-in"),
        ([{"time_ms": 3}], None, "has no place"),
        ([{"item_id": "p03", "time_ms": 3.5}], None, "time_ms = 3.5 is no whole number"),
        ([{"item_id": "p03", "time_ms": 3}, "p04"], None, "give time_ms to all of them"),
        ([{"item_id": "p03", "time_ms": 3}, {"item_id": "p03", "time_ms": 2}], None, "put the oldest first"),
        (["p03"], "2012-04-05", "leave `at` out"),
    ],
)
def test_next_place_says_what_is_wrong_with_a_history(runs: Path, history: object, at: str | None, match: str) -> None:
    model = corsar.load(runs / "visits" / "artifact")
    with pytest.raises(ConfigError, match=match):
        model.next_place(history=history, at=at)  # type: ignore[union-attr]


def test_next_place_command_prints_and_writes_a_page(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    main(["next-place", str(runs / "automtn"), "--user", "3", "-k", "4", "--page", str(page), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [one["rank"] for one in told] == [1, 2, 3, 4]
    assert set(told[0]) == {"rank", "item_id", "score", "text", "km", "visits"}
    text = page.read_text()
    start = text.index('id="figures">') + len('id="figures">')
    plots = json.loads(text[start : text.index("</script>", start)])
    names = [trace.get("name") or trace["type"] for trace in plots["map"]["data"]]
    assert names == ["heatmap", "history", "newest check-in", "candidates"]
    assert sum(map(sum, plots["week"]["data"][0]["z"])) == 14
    main(["next-place", str(runs / "nearest"), "--user", "3", "--page", str(page)])
    assert "the page is in" in capsys.readouterr().out
    assert '"heatmap", "x": [0' not in page.read_text().partition('"week"')[0]  # no distance term, no shade


def test_next_place_command_says_what_is_wrong(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["next-place", str(runs / "visits"), "--user", "3", "--at", "soon"])
    assert "'soon' is no moment; write it as" in capsys.readouterr().err
