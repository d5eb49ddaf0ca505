"""The estimators: one interface for all models, answers as frames, and an engine whose answers are those of the plain way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import corsar
from corsar.api import engine, estimator
from corsar.api.engine import best_items, stored_people
from corsar.api.estimator import SECTIONS, Estimator
from corsar.api.estimators import ESTIMATORS
from corsar.api.questions import read_histories, told_people
from corsar.batch import Ragged
from corsar.config import EvaluateSection
from corsar.errors import ArtifactError, ConfigError, DataError
from corsar.models import MODELS, model_class
from corsar.windows import make_batch

SMALL: dict[str, dict[str, Any]] = {
    "unisar": {"dim": 8, "id_dim": 8, "word_dim": 8, "epochs": 1, "batch_size": 64, "align_negatives": 8, "threads": 1},
    "sasrec": {"dim": 8, "blocks": 1, "epochs": 1, "batch_size": 64, "threads": 1},
}
SEARCHERS = [name for name in ESTIMATORS if "search" in model_class(name).tasks]  # the others know places alone
RECOMMENDERS = [name for name in SEARCHERS if name != "bm25"]
Logs = tuple[pl.DataFrame, pl.DataFrame]


@pytest.fixture(scope="module")
def logs() -> Logs:
    return corsar.example_logs()


@pytest.fixture(scope="module")
def dataset(logs: Logs) -> corsar.Dataset:
    return corsar.Dataset.from_frames(logs[0], items=logs[1])


@pytest.fixture(scope="module")
def fitted(dataset: corsar.Dataset) -> dict[str, Estimator]:
    return {name: cls(**SMALL.get(name, {})).fit(dataset) for name, cls in ESTIMATORS.items() if name in SEARCHERS}


def test_every_model_has_an_estimator() -> None:
    assert set(MODELS) - {"tiny", "counted"} == set(ESTIMATORS)  # those two are of other tests


def test_no_setting_has_a_name_twice() -> None:
    for name in ESTIMATORS:
        names = [*model_class(name).Config.model_fields, *(key for kind in SECTIONS.values() for key in kind.model_fields)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_settings_are_told_back_and_make_the_same_estimator(name: str) -> None:
    one = ESTIMATORS[name](seed=3, feed_len=7, **SMALL.get(name, {}))
    again = ESTIMATORS[name](**one.get_params())
    assert again.get_params() == one.get_params()
    assert repr(again) == repr(one)
    assert repr(one).startswith(f"{type(one).__name__}(")
    assert "feed_len=7, seed=3" in repr(one)
    assert one.get_params()["seed"] == 3


def test_preset_sets_what_is_not_told() -> None:
    assert corsar.UniSAR(preset="paper").get_params()["empty_history"] == "nan"
    assert corsar.UniSAR(preset="paper", empty_history="zero").get_params()["empty_history"] == "zero"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dmi": 8}, "unknown setting 'dmi' of the model unisar; did you mean 'dim'"),
        ({"epoch": 8}, "unknown setting 'epoch' of the model unisar; did you mean 'epochs'"),
        ({"path": "x"}, "unknown setting 'path'"),
        ({"name": "sasrec"}, "unknown setting 'name'"),
        ({"dim": 0}, r"model\.dim = 0 will not do"),
        ({"epochs": "many"}, r"train\.epochs = 'many' will not do"),
        ({"preset": "papr"}, "did you mean 'paper'"),
    ],
)
def test_wrong_setting_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        corsar.UniSAR(**settings)
    assert "\n" not in str(caught.value)


def test_fit_shows_a_bar_on_a_terminal_unless_it_is_told(dataset: corsar.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    plain = estimator.Progress
    monkeypatch.setattr(estimator, "Progress", lambda quiet: [shown.append(not quiet), plain(quiet=True)][1])
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda answer=is_terminal: answer)
        for progress in (None, False, True):
            corsar.Popularity().fit(dataset, progress=progress)
    assert shown == [False, False, True, True, False, True]


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_recommend_gives_a_frame_of_ranked_items(name: str, fitted: dict[str, Estimator]) -> None:
    with pytest.warns(UserWarning, match="1 of 3 users are not in the logs, .*; first: 'nobody'") as told:
        found = fitted[name].recommend(["u1", "u2", "nobody"], k=4)
    assert [one.filename for one in told] == [__file__]
    assert found.columns == ["user", "item", "score", "rank"]
    assert found["user"].to_list() == ["u1"] * 4 + ["u2"] * 4 + ["nobody"] * 4
    assert found["rank"].to_list() == [1, 2, 3, 4] * 3
    assert found["item"].dtype == pl.Int64
    for part in found.partition_by("user"):
        assert part["score"].is_sorted(descending=True)
        assert part["item"].n_unique() == 4
    assert found["score"].is_finite().all()


@pytest.mark.parametrize("name", SEARCHERS)
def test_search_gives_a_frame_of_ranked_items(name: str, fitted: dict[str, Estimator]) -> None:
    found = fitted[name].search(["red shoe", "zzz"], ["u1", "u2"], k=3)
    assert found.columns == ["user", "query", "item", "score", "rank"]
    assert found["query"].to_list() == ["red shoe"] * 3 + ["zzz"] * 3
    for_all = fitted[name].search("red shoe", ["u1", "u2"], k=3)
    assert for_all["user"].to_list() == ["u1"] * 3 + ["u2"] * 3
    assert for_all.filter(user="u1").drop("score").equals(found.filter(user="u1").drop("score"))
    several = fitted[name].search(["red shoe", "zzz"], "u1", k=3)
    several, for_one = several.filter(query="red shoe"), for_all.filter(user="u1")
    assert several.drop("score").equals(for_one.drop("score"))
    np.testing.assert_allclose(several["score"].to_numpy(), for_one["score"].to_numpy(), rtol=1e-5)
    assert fitted[name].search("red shoe", k=2)["user"].to_list() == [None, None]


@pytest.mark.parametrize("name", SEARCHERS)
def test_similar_items_leave_out_the_item_itself(name: str, fitted: dict[str, Estimator]) -> None:
    found = fitted[name].similar_items([1, 5, 1], k=20)
    assert found.columns == ["source", "item", "score", "rank"]
    assert found.height == 3 * 11  # there are no more
    assert found.filter(pl.col("source") == pl.col("item")).is_empty()
    assert found[:11].equals(found[22:])
    for part in found[:22].partition_by("source"):
        assert part["score"].is_sorted(descending=True)
    with pytest.raises(DataError, match=r"ids unknown: 1 \(99\)"):
        fitted[name].similar_items(99)


def test_similar_items_are_what_each_model_knows(fitted: dict[str, Estimator], logs: Logs) -> None:
    texts = dict(logs[1].select("item_id", "text").iter_rows())
    near = fitted["bm25"].similar_items(1, k=5)
    assert all(set(texts[item].split()) & {"red", "shoe"} for item in near["item"])
    counts = fitted["popularity"].artifact.model.counts
    popular = fitted["popularity"].similar_items(1, k=3)["score"].to_list()
    assert popular == counts[2:].sort(descending=True).values[:3].tolist()
    model = fitted["unisar"].artifact.model
    cosine = fitted["unisar"].similar_items(1, k=11)["score"].to_numpy()
    assert np.abs(cosine).max() <= 1 + 1e-6
    weight = fitted["sasrec"].artifact.model.item.weight.detach()
    expected = torch.nn.functional.cosine_similarity(weight[1:2], weight[2:]).sort(descending=True).values
    np.testing.assert_allclose(fitted["sasrec"].similar_items(1, k=11)["score"].to_numpy(), expected.numpy(), atol=1e-6)
    assert model.training is False


@pytest.mark.parametrize("name", SEARCHERS)
def test_saved_estimator_answers_the_same(name: str, fitted: dict[str, Estimator], tmp_path: Path) -> None:
    one = fitted[name]
    one.save(tmp_path / "model")
    one.save(tmp_path / "model")  # in place of the first
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    again = corsar.load(tmp_path / "model")
    assert type(again) is type(one)
    assert repr(again) == repr(one)
    assert type(one).load(str(tmp_path / "model")).search("red", "u1").equals(one.search("red", "u1"))
    assert again.search("red", "u1").equals(one.search("red", "u1"))


def test_files_that_are_no_artifact_are_left_alone(fitted: dict[str, Estimator], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ArtifactError, match="is there already and is no artifact"):
        fitted["popularity"].save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    fitted["popularity"].save(tmp_path / "popularity")
    with pytest.raises(ConfigError, match=r"holds the model popularity, not unisar; open it with corsar\.load"):
        corsar.UniSAR.load(tmp_path / "popularity")


def test_estimator_keeps_its_files_as_long_as_it_lives(logs: Logs, tmp_path: Path) -> None:
    model = corsar.Popularity().fit(logs[0])
    path = model.artifact.path
    model.fit(logs[0])
    assert not path.exists()
    path = model.artifact.path
    del model
    assert not path.exists()
    model = corsar.Popularity().fit(logs[0], run_dir=tmp_path / "run")
    assert model.artifact.path == tmp_path / "run" / "artifact"
    del model
    assert corsar.load(tmp_path / "run").recommend("u1").height == 10


def test_training_goes_on_in_a_run_directory(logs: Logs, tmp_path: Path) -> None:
    settings = SMALL["sasrec"]
    whole = corsar.SASRec(**{**settings, "epochs": 2}).fit(logs[0], run_dir=tmp_path / "whole")
    corsar.SASRec(**settings).fit(logs[0], run_dir=tmp_path / "run")
    resumed = corsar.SASRec(**{**settings, "epochs": 2}).fit(logs[0], run_dir=tmp_path / "run", resume=True)
    assert resumed.recommend("u1").equals(whole.recommend("u1"))
    with pytest.raises(ConfigError, match="name its run_dir"):
        corsar.SASRec().fit(logs[0], resume=True)


def test_seen_allowed_and_excluded_items_are_masked(fitted: dict[str, Estimator], logs: Logs) -> None:
    seen = set(logs[0].filter(user_id="u1")["item_id"])
    assert len(seen) < 12
    for name in RECOMMENDERS:
        model = fitted[name]
        left = model.recommend("u1", k=12, exclude_seen=True)
        assert set(left["item"]) == set(range(1, 13)) - seen, name
        assert set(model.recommend("u1", allow=[2, 3, 99], k=12)["item"]) == {2, 3}
        assert set(model.recommend("u1", exclude=pl.Series([2, 3]), k=12)["item"]) == set(range(1, 13)) - {2, 3}
        assert set(model.recommend("u1", allow=[2, 3], exclude=[3])["item"]) == {2}
        assert set(model.search("red", "u1", allow=[2, 3], k=12)["item"]) == {2, 3}
        assert set(model.recommend(history=[1, 2], k=12, exclude_seen=True)["item"]) == set(range(3, 13))
    assert model.recommend("u1", allow=[2], exclude=[2]).is_empty()
    with pytest.raises(DataError, match="none of the 2 allowed items is in the catalogue"):
        model.recommend("u1", allow=[98, 99])


def test_all_that_a_user_had_is_seen_and_not_the_newest_alone(logs: Logs) -> None:
    model = corsar.Popularity(feed_len=1, search_len=1).fit(logs[0])
    seen = set(logs[0].filter(user_id="u1")["item_id"])
    assert set(model.recommend("u1", k=12, exclude_seen=True)["item"]) == set(range(1, 13)) - seen


def test_history_in_any_form_is_the_same_history(fitted: dict[str, Estimator]) -> None:
    model = fitted["unisar"]
    events = [4, {"item_id": 5, "query": "blue"}, {"query": "green"}, {"item_id": 7}]
    frame = pl.DataFrame(
        {
            "item_id": [7, None, 4, 5],
            "query": [None, "green", None, "blue"],
            "kind": ["feed", "search", "feed", "search"],
            "time": [9, 8, 6, 7],
        }
    )
    plain = model.recommend(history=events)
    assert plain["user"].to_list() == [0] * 10
    assert model.recommend(history=[events]).equals(plain)
    assert model.recommend(history=frame).equals(plain)
    named = model.recommend(history=frame.with_columns(user_id=pl.lit("u9")))
    assert named["user"].to_list() == ["u9"] * 10
    assert named.drop("user").equals(model.recommend("u9", history=events).drop("user"))
    assert not named["score"].equals(plain["score"])  # the model knows u9
    assert isinstance(model.recommend(history=frame.to_pandas()), pd.DataFrame)
    assert model.recommend(history=np.array([1, 2])).equals(model.recommend(history=[1, 2]))
    assert model.recommend(history=[[1, 2], []])["user"].to_list() == [0] * 10 + [1] * 10


def test_told_history_is_that_of_the_logs(fitted: dict[str, Estimator], logs: Logs) -> None:
    model = fitted["unisar"]
    frame = logs[0].filter(pl.col("user_id").is_in(["u1", "u2"]))
    told, stored = model.recommend(history=frame, k=12), model.recommend(["u1", "u2"], k=12)
    assert told["item"].to_list() == stored["item"].to_list()
    np.testing.assert_allclose(told["score"].to_numpy(), stored["score"].to_numpy(), rtol=1e-5, atol=1e-6)


def test_answers_do_not_hang_on_batches_and_chunks(fitted: dict[str, Estimator], monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"u{n}" for n in range(30)]
    whole = {name: fitted[name].recommend(users, k=5) for name in RECOMMENDERS}
    monkeypatch.setattr(engine, "PAIRS", 14)
    monkeypatch.setattr(engine, "QUESTIONS", 7)
    monkeypatch.setattr(engine, "ITEMS", 5)
    for name, before in whole.items():
        after = fitted[name].recommend(users, k=5)
        np.testing.assert_allclose(after["score"].to_numpy(), before["score"].to_numpy(), rtol=1e-5, atol=1e-6)
        if name == "popularity":
            assert after.equals(before)  # ties stand in catalogue order, however the catalogue is cut
        one = fitted[name].recommend("u3", k=5)
        assert one["item"].to_list() == after.filter(user="u3")["item"].to_list()
    assert fitted["unisar"].similar_items(1)["rank"].to_list() == list(range(1, 11))


def test_engine_ranks_as_the_plain_way(fitted: dict[str, Estimator]) -> None:
    artifact = fitted["unisar"].artifact
    user_B = torch.tensor([1, 2, 3])
    past = artifact.history
    ends = past.feed_offsets[user_B + 1], past.search_offsets[user_B + 1]
    candidates_BC = torch.arange(1, 13).expand(3, -1)
    words = Ragged.of([[1], [2, 3], []])
    batch = make_batch(
        "search", past, artifact.catalogue, user_B, *ends, candidates_BC, torch.arange(3),
        feed_len=artifact.sizes.feed_len, search_len=artifact.sizes.search_len, queries=words,
    )  # fmt: skip
    with torch.inference_mode():
        expected = artifact.model.score(batch).sort(dim=1, descending=True)
    rows, scores = best_items(artifact, "search", stored_people(artifact, user_B), words, 12)
    torch.testing.assert_close(scores, expected.values)
    assert torch.equal(rows, expected.indices + 1)


def test_own_history_reads_one_side_alone(dataset: corsar.Dataset) -> None:
    model = corsar.UniSAR(history="own", **SMALL["unisar"]).fit(dataset)
    both, feed = [4, {"item_id": 5, "query": "blue"}], [4]
    assert model.recommend(history=both).equals(model.recommend(history=feed))
    assert not model.search("red", history=both)["score"].equals(model.search("red", history=feed)["score"])


def test_answers_are_of_the_kind_of_frame_that_was_given(logs: Logs) -> None:
    of_pandas = corsar.Popularity().fit(logs[0].to_pandas())
    found = of_pandas.recommend(["u1"], k=2)
    assert isinstance(found, pd.DataFrame)
    assert list(found.columns) == ["user", "item", "score", "rank"]
    assert isinstance(of_pandas.recommend(pl.Series(["u1"])), pl.DataFrame)
    of_polars = corsar.Popularity().fit(logs[0])
    assert isinstance(of_polars.recommend(["u1"]), pl.DataFrame)
    assert isinstance(of_polars.recommend(pd.Series(["u1"])), pd.DataFrame)
    assert of_pandas.search("red", "u1")["query"].tolist() == ["red"] * 10


def test_held_out_events_choose_the_epoch(logs: Logs) -> None:
    late = logs[0]["time_ms"] >= logs[0]["time_ms"].quantile(0.8)
    model = corsar.Popularity().fit(logs[0].filter(~late), logs[0].filter(late))
    assert int(model.artifact.model.counts.sum()) == int((~late).sum())
    whole = corsar.Dataset.from_frames(logs[0].filter(~late), items=logs[1])
    trained = corsar.SASRec(**SMALL["sasrec"]).fit(whole, logs[0].filter(late))
    assert trained.artifact.manifest["dataset"]["counts"]["cases"]["test"] == {"recommend": 0, "search": 0}


def test_logs_without_searches_train_recommend_alone(logs: Logs) -> None:
    feed = logs[0].filter(kind="feed")
    model = corsar.SASRec(**SMALL["sasrec"]).fit(feed)
    assert model.recommend("u1", k=2).height == 2
    with pytest.raises(ConfigError, match="this sasrec was not trained for search; ask a model that was"):
        model.search("red", "u1")
    with pytest.raises(DataError, match="no training cases of search"):
        corsar.SASRec(tasks=["recommend", "search"], **SMALL["sasrec"]).fit(feed)


def test_what_cannot_be_answered_is_one_sentence(fitted: dict[str, Estimator]) -> None:
    model = fitted["unisar"]
    for ask, sentence in [
        (lambda: corsar.UniSAR().recommend("u1"), "this UniSAR is not fitted; call fit, or load one"),
        (lambda: fitted["bm25"].recommend("u1"), "this bm25 was not trained for recommend; ask a model that was"),
        (lambda: model.recommend(), "name users to recommend for, or give a history"),
        (lambda: model.recommend("u1", k=0), "k is 0; ask for at least one item"),
        (lambda: model.similar_items(1, k=0), "k is 0; ask for at least one item"),
        (lambda: model.search(["a", "b"], ["u1", "u2", "u3"]), "there are 2 queries for 3 users"),
        (lambda: model.search([1, 2], "u1"), "a query is a text"),
        (lambda: model.recommend(["u1", "u2"], history=[1]), "there are 1 histories for 2 users"),
        (lambda: model.recommend(history=[{"itm_id": 1}]), "unknown key 'itm_id' of an event; did you mean 'item_id'"),
        (lambda: model.recommend(history=[{"kind": "feed"}]), "an event of a history has no item"),
        (lambda: model.recommend(["u1", 2]), "users must be numbers or texts, all of one kind"),
    ]:
        with pytest.raises((ConfigError, DataError), match=sentence) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_scores_that_are_not_finite_are_told(dataset: corsar.Dataset) -> None:
    model = corsar.UniSAR(preset="paper", **SMALL["unisar"]).fit(dataset)
    assert model.recommend("u1", k=2).height == 2
    with pytest.raises(ConfigError, match="no finite score for a history with an empty side"), pytest.warns(match="nobody"):
        model.recommend("nobody")


def test_artifact_of_an_earlier_version_does_not_know_what_was_seen(fitted: dict[str, Estimator]) -> None:
    model = copy.copy(fitted["popularity"])
    model._artifact = copy.copy(model.artifact)
    object.__setattr__(model._artifact, "seen", None)
    assert model.recommend("u1", k=2).height == 2
    with pytest.raises(ArtifactError, match="does not hold what users have seen; train again"):
        model.recommend("u1", exclude_seen=True)


def test_told_people_count_what_is_unknown(fitted: dict[str, Estimator]) -> None:
    artifact = fitted["popularity"].artifact
    histories, users = read_histories([[1, 99, {"item_id": [2, 98], "query": "red"}], [3]])
    people, unknown = told_people(artifact, histories, torch.zeros(2, dtype=torch.int64))
    assert (users, unknown) == (None, 2)
    assert people.history.feed_items.tolist() == [1, 0, 3]  # as in a dataset, an unknown item keeps its place
    assert people.history.search_clicks.values.tolist() == [2]
    assert people.history.search_others.tolist() == [2]
    assert people.seen is not None
    assert people.seen.select(people.owner_B).values.tolist() == [1, 2, 3]


def test_evaluate_section_is_no_setting_of_an_estimator() -> None:
    assert not set(EvaluateSection.model_fields) & set(corsar.UniSAR().get_params())
