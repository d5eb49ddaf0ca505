"""Check-ins from tables to batches and figures: what a case may know, and the untrained rules."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from place_kit import EACH, START_MS, USERS, check_ins, city, make_city, settings

from corsar.api import evaluate_runs, prepare_foursquare
from corsar.api.runs import train_run
from corsar.artifact import open_artifact
from corsar.data.build import build_dataset
from corsar.data.loader import TrainLoader, case_batches
from corsar.data.store import Cases, Dataset, open_dataset
from corsar.errors import ConfigError, DataError
from corsar.evaluate.segments import segment_masks
from corsar.models import MODELS, model_class
from corsar.places import UNKNOWN_MIN, PlaceBatch, hour_of_week
from corsar.train.loop import fresh_model, train
from corsar.train.places import place_settings

COUNTED = [name for name in MODELS if "next_place" in model_class(name).tasks and not model_class(name).trained]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_city(tmp_path_factory.mktemp("city") / "dataset")


def batch_of(dataset: Dataset, cases: Cases, **told: object) -> PlaceBatch:
    section = place_settings(settings(dataset.path), dataset).data.model_copy(update=told)
    (batch,) = case_batches(dataset, cases, None, section, 1000)
    assert isinstance(batch, PlaceBatch)
    return batch


def test_places_hours_are_local() -> None:
    monday = torch.tensor(START_MS)
    hours = hour_of_week(monday + torch.tensor([0, 59, 60, -1]) * 60_000, torch.zeros(4, dtype=torch.int64))
    assert hours.tolist() == [1, 1, 2, 168]
    assert hour_of_week(monday, torch.tensor(-360)) == 168 - 6 + 1
    assert hour_of_week(monday, torch.tensor(UNKNOWN_MIN)) == 0


def test_places_history_is_what_came_before(data: Path) -> None:
    dataset, events = open_dataset(data), check_ins()
    for split in ("train", "valid", "test"):
        cases = dataset.cases(split, "next_place")
        batch = batch_of(dataset, cases)
        for row in range(len(cases)):
            user, time = dataset.users.ids([int(cases.user_N[row])])[0], int(cases.time_N[row])
            before = events.filter((pl.col("user_id") == user) & (pl.col("time_ms") < time))
            real = batch.feed_is_real_BF[row]
            assert dataset.items.ids(batch.feed_items_BF[row][real].numpy()).to_list() == before["item_id"].to_list()
            assert batch.times_BF[row][real].tolist() == before["time_ms"].to_list()
            hours = (before["time_ms"] - 360 * 60_000 - START_MS) // 3_600_000 % 168 + 1
            assert batch.hours_BF[row][real].tolist() == hours.to_list()
    assert [len(dataset.cases(split, "next_place")) for split in ("train", "valid", "test")] == [
        USERS * (EACH - 2),
        USERS,
        USERS,
    ]


def test_places_target_time_is_told_by_option_alone(data: Path) -> None:
    dataset = open_dataset(data)
    cases = dataset.cases("test", "next_place")
    assert not batch_of(dataset, cases).hour_B.any()
    told = batch_of(dataset, cases, target_time=True).hour_B
    assert told.tolist() == hour_of_week(cases.time_N, torch.full_like(cases.time_N, -360)).tolist()
    both = [settings(data, model__name="visits", data__target_time=flag) for flag in ("false", "true")]
    prints = []
    for at, config in enumerate(both):
        run = data.parent / f"told{at}"
        train(config, run)
        prints.append(evaluate_runs([run], baselines=False)["reports"][0]["fingerprint"])
    assert prints[0] != prints[1]


def test_places_of_other_logs_stay_as_they_were(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    assert dataset.tasks == ("recommend", "search")
    assert not (tiny_dataset / "places").exists()
    config = settings(tiny_dataset)
    assert place_settings(config, dataset) == config
    with pytest.raises(ConfigError, match=r'holds no cases of next_place; set train.tasks = \["recommend", "search"\]'):
        place_settings(settings(tiny_dataset, train__tasks='["next_place"]'), dataset)


def test_places_settings_are_those_of_check_ins_unless_told(data: Path) -> None:
    dataset = open_dataset(data)
    config = place_settings(settings(data), dataset)
    assert (config.train.tasks, config.data.feed_len, config.evaluate.ks) == (("next_place",), 2000, (1, 5, 10, 20))
    assert place_settings(settings(data, data__feed_len="7"), dataset).data.feed_len == 7
    with pytest.raises(ConfigError, match="holds no cases of recommend"):
        place_settings(settings(data, train__tasks='["recommend"]'), dataset)


def test_places_split_without_valid_leaves_more_to_train_on(tmp_path: Path) -> None:
    counts = open_dataset(make_city(tmp_path / "a", valid=False)).manifest["counts"]["cases"]
    assert counts == {"train": {"next_place": USERS * (EACH - 1)}, "valid": {"next_place": 0}, "test": {"next_place": USERS}}
    with pytest.raises(DataError, match="says itself what is valid"):
        make_city(tmp_path / "b", split="time", test_ms=1, valid=False)


def test_places_last_fraction_holds_out_a_fifth_of_each_person(tmp_path: Path) -> None:
    counts = open_dataset(make_city(tmp_path / "a", split="last_fraction")).manifest["counts"]["cases"]
    assert counts["test"] == {"next_place": USERS * (EACH * 2 // 10)}


def test_places_refuse_coordinates_that_cannot_be(tmp_path: Path) -> None:
    tables = city()
    wrong = dataclasses.replace(tables, items=tables.items.with_columns(lat_deg=pl.lit(91.0)))  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"lat_deg holds 91.0, and 15 in all"):
        build_dataset(wrong, tmp_path / "a", split="leave_last")


def test_places_segments_tell_returns_from_discoveries(data: Path) -> None:
    dataset = open_dataset(data)
    cases = dataset.cases("train", "next_place")
    masks = segment_masks(cases, dataset.history, dataset.train_events())
    batch = batch_of(dataset, cases)
    expected = (batch.feed_items_BF == cases.item_N[:, None]).any(1).numpy()
    assert 0 < expected.mean() < 1
    assert np.array_equal(masks["returns"], expected)
    assert np.array_equal(masks["discoveries"], ~expected)
    assert list(masks) == ["returns", "discoveries", "neither", "short_history", "long_history", "new_items"]


def test_places_negatives_are_all_but_the_target(data: Path) -> None:
    dataset = open_dataset(data)
    config = place_settings(settings(data, train__num_negatives="40", train__batch_size="200"), dataset)
    loader = TrainLoader(dataset, config.data, config.train, 0)
    batch = loader.step(0, 0)["next_place"]
    assert (batch.candidates_BC[:, 1:] != batch.candidates_BC[:, :1]).all()
    visited = (batch.candidates_BC[:, 1:, None] == batch.feed_items_BF[:, None]).any()
    assert visited  # a place that a person knows must be told from the one that comes next
    assert isinstance(batch, PlaceBatch)
    assert batch.drawn_N is None
    few = TrainLoader(dataset, config.data, config.train.model_copy(update={"drawn_places": 6}), 0)
    drawn = [few.step(epoch, 0)["next_place"].drawn_N for epoch in (0, 0, 1)]  # type: ignore[attr-defined]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert len(drawn[0].unique()) == 6


def by_hand(dataset: Dataset, cases: Cases, name: str) -> np.ndarray:
    """Scores of all places by the rules of the reference points."""
    events, num = dataset.train_events(), dataset.catalogue.num_items + 1
    popularity, moves = np.zeros(num), np.zeros((num, num))
    user, item = events.user_E.numpy(), events.item_E.numpy()
    np.add.at(popularity, item, 1)
    for at in range(1, len(user)):
        if user[at] == user[at - 1]:
            moves[item[at - 1], item[at]] += 1
    rows = []
    for case in range(len(cases)):
        start, end = int(dataset.history.feed_offsets[cases.user_N[case]]), int(cases.feed_end_N[case])
        past = dataset.history.feed_items[start:end].numpy()
        count, last = np.bincount(past, minlength=num).astype(float), np.zeros(num)
        for place, visited in enumerate(past, 1):
            last[visited] = place
        moved = moves[past[-1]] if len(past) else np.zeros(num)
        rows.append(
            {
                "popularity": popularity,
                "visits": count + 1e-4 * last + 1e-9 * popularity,
                "markov": moved + 1e-3 * count + 1e-9 * popularity,
                "visits_markov": count / max(1, len(past))
                + 0.5 * moved / max(1, moved.sum())
                + 1e-6 * last
                + 1e-9 * popularity,
            }[name]
        )
    return np.stack(rows)


@pytest.mark.parametrize("name", ["popularity", "visits", "markov", "visits_markov"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_places_rules_score_as_written_down(data: Path, name: str, split: str) -> None:
    dataset = open_dataset(data)
    model, _ = fresh_model(settings(data, model__name=name), dataset)
    model.count(dataset.train_events(), dataset.catalogue)
    cases = dataset.cases(split, "next_place")  # type: ignore[arg-type]
    batch = batch_of(dataset, cases)
    found = model.score(batch).numpy()
    expected = np.take_along_axis(by_hand(dataset, cases, name), batch.candidates_BC.numpy(), 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_places_nearest_comes_first(data: Path) -> None:
    dataset = open_dataset(data)
    model, _ = fresh_model(settings(data, model__name="nearest"), dataset)
    model.count(dataset.train_events(), dataset.catalogue)
    batch = batch_of(dataset, dataset.cases("test", "next_place"))
    last = batch.feed_items_BF.gather(1, batch.feed_is_real_BF.sum(1, keepdim=True) - 1)
    first = batch.candidates_BC.gather(1, model.score(batch).argmax(1, keepdim=True))
    assert torch.equal(first, last)


def test_places_are_evaluated_with_their_baselines(data: Path, tmp_path: Path) -> None:
    train_run(settings(data, model__name="sasrec", model__dim="8"), tmp_path / "run")
    told = evaluate_runs([tmp_path / "run"])
    assert [line["model"] for line in told["table"]] == ["run", "popularity", "nearest", "markov", "visits", "visits_markov"]
    assert list(told["table"][0])[2:] == ["HR@1", "HR@5", "HR@10", "HR@20", "MRR"]
    assert told["reports"][0]["protocol"]["target_time"] is False
    assert set(told["reports"][0]["segments"]["next_place"]) >= {"returns", "discoveries"}


def scores_of(dataset: Dataset, name: str) -> torch.Tensor:
    """Scores that a model which was made by the training part gives all places for each test case."""
    config = place_settings(settings(dataset.path, model__name=name, train__max_steps="3", train__epochs="1"), dataset)
    run = dataset.path.with_name(f"{dataset.path.name}_run")
    train(config, run)
    model = open_artifact(run).model
    cases = dataset.cases("test", "next_place")
    batch = batch_of(dataset, cases)
    rows = torch.arange(1, dataset.catalogue.num_items + 1).expand(len(cases), -1)
    with torch.no_grad():
        return model.score(dataclasses.replace(batch, candidates_BC=rows))


def with_canary(place: str, ms_before: int) -> pl.DataFrame:
    """Each person's last check-in at `place`, and a row before it in the file, `ms_before` earlier, that gives it away."""
    events = check_ins().with_row_index("line")
    is_last = pl.col("time_ms") == pl.col("time_ms").max().over("user_id")
    place_from_end = pl.col("time_ms").rank("ordinal", descending=True).over("user_id")
    split = pl.when(place_from_end == 1).then(pl.lit("test")).when(place_from_end == 2).then(pl.lit("valid"))
    told = events.with_columns(
        item_id=pl.when(is_last).then(pl.lit(place)).otherwise("item_id"), split=split.otherwise(pl.lit("train"))
    )
    canary = told.filter(pl.col("split") == "test").with_columns(pl.col("time_ms") - ms_before, split=pl.lit("valid"))
    return pl.concat([canary, told]).drop("line")


@pytest.mark.parametrize("name", [name for name in MODELS if "next_place" in model_class(name).tasks])
def test_places_canary_rows_change_no_score(tmp_path: Path, name: str) -> None:
    """The test check-ins, and rows at their very moment, tell a place that nothing else does; no score may show it."""

    def scores(place: str, ms_before: int) -> torch.Tensor:
        data = make_city(tmp_path / f"{place}_{ms_before}", with_canary(place, ms_before), split="given")
        return scores_of(open_dataset(data), name)

    assert torch.equal(scores("p00", 0), scores("p07", 0))
    if name != "popularity":  # a row that lies earlier is history, so the test can fail
        assert not torch.equal(scores("p00", 1), scores("p07", 1))


def test_places_canary_column_changes_nothing(tmp_path: Path) -> None:
    header = "UserId,VenueId,TimeZone,Latitude,Longitude,Category,Time,time_sort"
    rows = [f"{n % 4},v{n * n % 7},-360,51.{n * n % 7},-114.0,Cafe,10:00:{n},2012-04-03" for n in range(10, 58)]
    (tmp_path / "plain.csv").write_text("\n".join([header, *rows]))
    canary = [f"{one},v{(n + 4) ** 2 % 7}" for n, one in zip(range(10, 58), rows, strict=True)]
    (tmp_path / "canary.csv").write_text("\n".join([header + ",next_venue", *canary]))
    hashes = []
    for name in ("plain", "canary"):
        prepare_foursquare(tmp_path / f"{name}.csv", tmp_path / name)
        hashes.append(json.loads((tmp_path / name / "manifest.json").read_text())["data_hash"])
    assert hashes[0] == hashes[1]


REFERENCE = {
    "CAL_checkin.csv": {
        "popularity": (0.1538, 0.2231, 0.2538, 0.1877),
        "visits": (0.2538, 0.5462, 0.6077, 0.3721),
        "markov": (0.2308, 0.3846, 0.4769, 0.3147),
        "visits_markov": (0.2692, 0.5269, 0.6154, 0.3834),
    },
    "PHO_checkin.csv.gz": {
        "popularity": (0.1799, 0.2216, 0.2321, 0.2044),
        "visits": (0.2308, 0.4668, 0.5508, 0.3325),
        "markov": (0.2269, 0.3390, 0.4224, 0.2877),
        "visits_markov": (0.2581, 0.4615, 0.5346, 0.3514),
    },
}


@pytest.mark.real
@pytest.mark.parametrize("name", REFERENCE)
def test_places_reference_points_come_out(shared_data: Path, tmp_path: Path, name: str) -> None:
    prepare_foursquare(shared_data / "foursquare_calgary_phoenix" / name, tmp_path / "data", valid=False)
    train_run(settings(tmp_path / "data", model__name="popularity", evaluate__bootstrap="0"), tmp_path / "popularity")
    told = evaluate_runs([tmp_path / "popularity"])
    figures = {report["name"]: report["metrics"]["next_place"] for report in told["reports"]}
    for model, expected in REFERENCE[name].items():
        found = [round(figures[model][metric]["value"], 4) for metric in ("HR@1", "HR@5", "HR@10", "MRR")]
        assert found == list(expected), model
    returns = told["reports"][0]["segments"]["next_place"]["returns"]["cases"] / told["reports"][0]["cases"]["next_place"]
    assert round(returns, 2) == (0.66 if name.startswith("CAL") else 0.56)
