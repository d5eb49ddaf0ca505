"""The layout of UniSAR's release, in and out."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from pickle_kit import call, done, name, old_frame, plain

from corsar import api
from corsar.api.release import export_data, prepare_unisar_release
from corsar.cli import main
from corsar.data.build import build_dataset
from corsar.data.store import SPLITS, open_dataset
from corsar.errors import ConfigError, DataError
from corsar.schema import make_tables
from corsar.sources.simulate import simulate
from corsar.sources.unisar_release import read_unisar_release

USER_KEYS = [
    "user_id", "onehot_feat1", "onehot_feat2", "search_active_level", "rec_active_level",
    "rec_his", "rec_his_ts", "src_session_his", "src_session_his_ts", "src_his", "src_his_ts", "src_his_query",
    "all_his", "all_his_ts", "all_his_query",
]  # fmt: skip
ATTRIBUTES = USER_KEYS[1:5]
FILES = [f"vocab/{one}.pkl" for one in
         ("user_vocab", "user_vocab_np", "item_vocab_np", "src_session_vocab_np", "query_vocab")]  # fmt: skip
FILES += [f"dataset/{kind}_{part}.pkl" for kind in ("rec", "src") for part in ("train", "val", "test")]


def _read(file: Path) -> Any:
    return pd.read_pickle(file)  # noqa: S301 (written by these tests)


def _content(folder: Path) -> dict[str, Any]:
    """The files read with plain pandas and numpy."""
    return {one: _read(folder / one) for one in FILES}


def _same(left: Any, right: Any) -> None:
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            _same(left[key], right[key])
    else:
        assert type(left) is type(right)
        assert getattr(left, "dtype", None) == getattr(right, "dtype", None)
        np.testing.assert_equal(left, right)


@pytest.fixture(scope="module")
def kuaisar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of simulated KuaiSAR files, split by days."""
    folder = tmp_path_factory.mktemp("kuaisar")
    simulate(folder / "raw", users=40, items=240, seed=3)
    api.prepare_kuaisar(folder / "raw", folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def release(kuaisar: Path) -> Path:
    out = kuaisar.parent / "release"
    export_data(kuaisar, out)
    return out


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that the layout cannot hold: long texts, many clicks, further categories, unknown items, late clicks."""
    rows: list[dict[str, Any]] = []
    for user in range(6):
        for place in range(14):
            item, base = f"i{(user * 17 + place * 5) % 150}", {"user_id": f"u{user}", "time_ms": place * 1000}
            if place % 3 == 1:  # a search whose clicks come one after the other, the last behind the next event
                query = " ".join(f"w{n}" for n in range(user, user + (70 if place == 4 else 3)))
                for click in range(7 if place == 7 else 2):
                    clicked = f"i{(user * 11 + place + click) % 150}"
                    later = {"time_ms": place * 1000 + 700 * click}
                    rows.append(base | later | {"item_id": clicked, "kind": "search", "query": query, "session_id": place})
            else:
                rows.append(base | {"item_id": "new" if place == 12 else item, "kind": "feed"})
                if place == 5:  # a page
                    rows.append(base | {"item_id": item, "kind": "feed"})
        rows.append({"user_id": f"u{user}", "time_ms": 20_000, "item_id": None, "kind": "search", "query": "unheard of",
                     "session_id": 99})  # fmt: skip
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(150)],
            "text": [" ".join(f"w{(n * 3 + k) % 90}" for k in range(60 if n % 7 == 0 else 4)) for n in range(150)],
            "shape": [None if n % 9 == 0 else ("round", "square")[n % 2] for n in range(150)],
            "size": [n % 4 for n in range(150)],
            "maker": [f"m{n % 5}" for n in range(150)],
        }
    )
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(7)], "onehot_feat1": ["a", "b", None, "a", "b", "a", "c"],
                          "age": [1, 2, 3, 1, 2, 3, 1]})  # fmt: skip
    tables = make_tables(
        pl.DataFrame(rows), items, users, source="awkward", categories=("shape", "size", "maker"),
        attributes=("onehot_feat1", "age"),
    )  # fmt: skip
    return build_dataset(tables, tmp_path_factory.mktemp("awkward") / "dataset", split="last_fraction")


def test_files_have_the_names_keys_dtypes_and_shapes_of_the_release(kuaisar: Path, release: Path) -> None:
    assert sorted(file.relative_to(release).as_posix() for file in release.rglob("*") if file.is_file()) == sorted(FILES)
    counts, held = open_dataset(kuaisar).manifest["counts"], _content(release)
    users, searches, items = counts["users"], counts["searches"], counts["items"]
    assert list(held["vocab/user_vocab.pkl"]) == list(range(users))
    for user, told in held["vocab/user_vocab.pkl"].items():
        assert list(told) == USER_KEYS
        assert told["user_id"] == user
        for key in ("rec_his", "src_session_his", "src_his", "all_his"):
            assert len(told[key]) == len(told[f"{key}_ts"])
            assert all(type(one) is int for one in told[key])
            assert all(type(one) is float for one in told[f"{key}_ts"])
            assert told[f"{key}_ts"] == sorted(told[f"{key}_ts"])
        assert [one for one in told["all_his"] if one] == told["rec_his"]
        assert told["all_his"].count(0) == len(told["src_session_his"])
        assert [words != 0 for words in told["all_his_query"]] == [item == 0 for item in told["all_his"]]
        assert len(told["src_his_query"]) == len(told["src_his"])
    arrays = held["vocab/user_vocab_np.pkl"]
    assert list(arrays) == ATTRIBUTES
    for key in ATTRIBUTES:
        assert (arrays[key].shape, arrays[key].dtype) == ((users,), np.int64)
    arrays = held["vocab/item_vocab_np.pkl"]
    assert list(arrays) == ["caption", "first_level_category_id", "second_level_category_id"]
    assert [one.shape for one in arrays.values()] == [(items + 1, 50), (items + 1,), (items + 1,)]
    assert {one.dtype for one in arrays.values()} == {np.dtype(np.int64)}
    assert not any(one[0].any() for one in arrays.values())
    arrays = held["vocab/src_session_vocab_np.pkl"]
    assert {key: (one.shape, one.dtype) for key, one in arrays.items()} == {
        "keyword": ((searches + 1, 50), np.int64), "pos_items": ((searches + 1, 5), np.int64),
    }  # fmt: skip
    queries = held["vocab/query_vocab.pkl"]
    assert len({tuple(one) for one in queries}) == len(queries)
    asked = {tuple(words) for told in held["vocab/user_vocab.pkl"].values() for words in told["all_his_query"] if words}
    assert {tuple(one) for one in queries} == asked
    for kind, task in (("rec", "recommend"), ("src", "search")):
        for part, split in (("train", "train"), ("val", "valid"), ("test", "test")):
            frame = held[f"dataset/{kind}_{part}.pkl"]
            columns = ["user_id", "item_id", "neg_items", "rec_his", "src_session_his"]
            assert list(frame.columns) == columns + ["keyword"] * (kind == "src")
            assert len(frame) == counts["cases"][split][task] > 0
            numbers = frame[["user_id", "item_id", "rec_his", "src_session_his"]]
            assert (numbers.dtypes == np.int64).all()
            assert {len(row) for row in frame["neg_items"]} == {4 if part == "train" else 99}
            assert all(type(row) is list for row in frame["neg_items"])


def test_counts_of_a_sample_end_before_its_own_event(release: Path) -> None:
    held = _content(release)
    users, sessions = held["vocab/user_vocab.pkl"], held["vocab/src_session_vocab_np.pkl"]
    for part in ("train", "val", "test"):
        for row in held[f"dataset/rec_{part}.pkl"].itertuples():
            told = users[row.user_id]
            times = [
                told["rec_his_ts"][at] for at in range(row.rec_his, len(told["rec_his"])) if told["rec_his"][at] == row.item_id
            ]
            assert all(time < times[0] for time in told["rec_his_ts"][: row.rec_his])
            assert all(time < times[0] for time in told["src_session_his_ts"][: row.src_session_his])
        for row in held[f"dataset/src_{part}.pkl"].itertuples():
            session = users[row.user_id]["src_session_his"][row.src_session_his]
            assert row.item_id in sessions["pos_items"][session]
            assert row.keyword == [one for one in sessions["keyword"][session] if one]


def test_words_of_kuaisar_stay_the_numbers_that_they_were(kuaisar: Path, release: Path) -> None:
    items = pl.read_csv(kuaisar.parent / "raw" / "item_features.csv").sort("item_id")
    caption = _read(release / "vocab/item_vocab_np.pkl")["caption"]
    assert [one for one in caption[7].tolist() if one] == json.loads(items["caption"][6])


@pytest.mark.parametrize("which", ["kuaisar", "awkward"])
def test_export_read_and_exported_again_is_the_same(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    first = request.getfixturevalue(which)
    export_data(first, tmp_path / "one")
    told = prepare_unisar_release(tmp_path / "one", tmp_path / "dataset")
    assert not [line for line in told["funnel"] if line["stage"] == "rejected"]
    again = export_data(tmp_path / "dataset", tmp_path / "two")
    assert not again["lost"]
    one, two = _content(tmp_path / "one"), _content(tmp_path / "two")
    for file in FILES:
        _same(one[file], two[file])
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_release_read_again_is_the_dataset_that_it_was(kuaisar: Path, release: Path, tmp_path: Path) -> None:
    prepare_unisar_release(release, tmp_path / "dataset")
    left, right = open_dataset(kuaisar), open_dataset(tmp_path / "dataset")
    right.verify()
    for kind, what in product(("feed", "search"), ("times", "offsets", "others")):
        assert torch.equal(*(getattr(one.history, f"{kind}_{what}") for one in (left, right)))
    assert torch.equal(left.history.feed_items, right.history.feed_items)
    assert torch.equal(left.history.search_clicks.values, right.history.search_clicks.values)
    assert torch.equal(left.train_events().item_E, right.train_events().item_E)
    for split in SPLITS:
        for task in left.tasks:
            one, two = left.cases(split, task), right.cases(split, task)
            for key in ("user_N", "item_N", "time_N", "feed_end_N", "search_end_N"):
                assert torch.equal(getattr(one, key), getattr(two, key)), (split, task, key)
            assert two.negatives_NC is not None
            assert two.negatives_NC.shape[1] == (4 if split == "train" else 99)


def test_swapped_attributes_stand_as_published(
    kuaisar: Path, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["data", "export", str(kuaisar), "--to", "unisar-release", "--out", str(tmp_path / "one")])
    assert "onehot_feat1 and onehot_feat2 are swapped" in capsys.readouterr().out
    raw = pl.read_csv(kuaisar.parent / "raw" / "user_features.csv")
    names = open_dataset(kuaisar).users.ids(np.arange(1, len(raw) + 1))
    mine = pl.DataFrame({"user_id": names}).join(raw, on="user_id", how="left", maintain_order="left")
    held = _read(release / "vocab/user_vocab_np.pkl")
    assert held["onehot_feat1"].tolist() == mine["onehot_feat2"].to_list()
    assert held["onehot_feat2"].tolist() == mine["onehot_feat1"].to_list()
    users = _read(release / "vocab/user_vocab.pkl")
    assert [one["onehot_feat1"] for one in users.values()] == held["onehot_feat1"].tolist()
    prepare_unisar_release(release, tmp_path / "dataset")
    again = export_data(tmp_path / "dataset", tmp_path / "two")
    assert again["notes"] == []
    assert (again["sizes"]["onehot_feat1_num"], again["sizes"]["onehot_feat2_num"]) == (8, 3)  # as the published code has them


def test_what_the_layout_cannot_hold_is_counted(awkward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "export", str(awkward), "--to", "unisar-release", "--out", str(tmp_path / "one"), "--json"])
    told = json.loads(capsys.readouterr().out)
    lost = {line["what"]: line["count"] for line in told["lost"]}
    assert lost["searches with more than 5 clicks, cut"] == 6
    assert lost["clicks after the first 5 of their search"] == 12
    assert lost["items with more than 50 words, cut"] == 22
    assert lost["further category columns of items"] == 1
    assert lost["further attribute columns of users"] == 1
    assert lost["users whose onehot_feat1 is unknown, now 0"] == 1
    assert lost["feed events of items that the catalogue lacks"] == 6
    assert any(what.startswith("queries of more than 50 words") for what in lost)
    assert sum(count for what, count in lost.items() if "samples of" in what) == 12
    main(["data", "export", str(awkward), "--to", "unisar-release", "--out", str(tmp_path / "two")])
    assert "searches with more than 5 clicks, cut" in capsys.readouterr().out


def test_samples_with_more_history_than_came_before_are_cut(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path / "release")
    frame = _read(release / "dataset/rec_test.pkl")
    frame["src_session_his"] += 500
    frame.to_pickle(tmp_path / "release/dataset/rec_test.pkl")
    told = prepare_unisar_release(tmp_path / "release", tmp_path / "dataset")
    notes = {line["reason"]: line["rows"] for line in told["funnel"]}
    assert notes["counts searches that are not strictly before it; cut"] == len(frame)
    prepare_unisar_release(release, tmp_path / "true")
    cut, true = (open_dataset(tmp_path / one).cases("test", "recommend") for one in ("dataset", "true"))
    assert torch.equal(cut.search_end_N, true.search_end_N)


def test_tables_without_their_padding_row_are_read(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path / "release")
    for file, tables in (("item_vocab_np", ["caption"]), ("src_session_vocab_np", ["keyword", "pos_items"])):
        held = _read(release / f"vocab/{file}.pkl")
        pd.to_pickle(
            {key: one[1:] if key in tables else one for key, one in held.items()}, tmp_path / f"release/vocab/{file}.pkl"
        )
    whole, without = (read_unisar_release(folder) for folder in (release, tmp_path / "release"))
    assert whole.tables.events.equals(without.tables.events)
    assert whole.tables.items is not None
    assert without.tables.items is not None
    assert whole.tables.items.equals(without.tables.items)


def test_files_of_old_pandas_are_read(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path / "release")
    for file in FILES[5:]:
        frame = _read(release / file)
        (tmp_path / "release" / file).write_bytes(old_frame({str(column): frame[column].to_numpy() for column in frame}))
    users = _read(release / "vocab/user_vocab.pkl")
    arrays = {
        user: {key: np.array(one) if key == "rec_his" else one for key, one in told.items()} for user, told in users.items()
    }
    raw = pickle.dumps(arrays, 2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "release/vocab/user_vocab.pkl").write_bytes(raw)
    new, old = (read_unisar_release(folder) for folder in (release, tmp_path / "release"))
    assert new.tables.events.equals(old.tables.events)
    for key, samples in new.samples.items():
        assert samples.table.equals(old.samples[key].table)
        np.testing.assert_equal(samples.negatives_NC, old.samples[key].negatives_NC)


def test_imported_release_trains_and_is_evaluated_on_its_own_candidates(release: Path, tmp_path: Path) -> None:
    prepare_unisar_release(release, tmp_path / "dataset")
    overrides = {"data.path": json.dumps(str(tmp_path / "dataset")), "model.name": '"covisit"'}
    api.train_run(None, tmp_path / "run", overrides=overrides)
    told = api.evaluate_runs([tmp_path / "run"], overrides={"evaluate.bootstrap": "5"}, baselines=False)
    assert told["reports"][0]["protocol"]["tasks"]["recommend"]["candidates"] == "given"
    export_data(tmp_path / "run", tmp_path / "again")  # a run stands for its dataset
    assert (tmp_path / "again" / FILES[0]).read_bytes() == (release / FILES[0]).read_bytes()


def _spoil(what: str, folder: Path) -> None:
    file, frame = folder / "dataset/src_val.pkl", _read(folder / "dataset/src_val.pkl")
    users = _read(folder / "vocab/user_vocab.pkl")
    if what == "missing":
        file.unlink()
    elif what == "hostile":
        mark = folder.parent / "mark"
        (folder / "vocab/user_vocab.pkl").write_bytes(done(call(name("os", "system"), plain(f"touch {mark}"))))
    elif what == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif what == "no column":
        frame.drop(columns="neg_items").to_pickle(file)
    elif what == "ragged negatives":
        frame.at[0, "neg_items"] = [1]
        frame.to_pickle(file)
    elif what == "no frame":
        pd.to_pickle([1, 2], file)
    elif what == "no times":
        del users[3]["rec_his_ts"]
        pd.to_pickle(users, folder / "vocab/user_vocab.pkl")
    elif what == "fewer times":
        users[3]["src_session_his_ts"] = users[3]["src_session_his_ts"][1:]
        pd.to_pickle(users, folder / "vocab/user_vocab.pkl")
    elif what == "items beyond":
        frame["item_id"] = 9999
        frame.to_pickle(file)
    elif what == "other samples":
        frame["src_session_his"] = 999
        frame.to_pickle(file)
    elif what == "text in place of users":
        pd.to_pickle("users", folder / "vocab/user_vocab.pkl")


WRONG = {
    "missing": "there is no such file",
    "hostile": "was not opened",
    "truncated": "no whole pickle",
    "no column": "a column 'neg_items'",
    "ragged negatives": "differ in length",
    "no frame": "holds no frame",
    "no times": "user 3 lacks 'rec_his_ts'",
    "fewer times": "of user 3 are not one time an entry",
    "items beyond": "name row 9999",
    "other samples": "take all files of one release",
    "text in place of users": "holds no dict of users",
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_release_is_told_in_one_sentence(
    what: str, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(release, folder)
    _spoil(what, folder)
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "unisar-release", str(folder), "--out", str(tmp_path / "dataset")])
    assert stopped.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("corsar: ")
    assert WRONG[what] in told
    assert sorted(one.name for one in tmp_path.iterdir()) == ["release"]


def test_export_says_what_it_needs(
    kuaisar: Path, tiny_dataset: Path, tiny_city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="unisar-release"):
        export_data(kuaisar, tmp_path / "out", to="parquet")
    with pytest.raises(DataError, match="bring more items"):
        export_data(tiny_dataset, tmp_path / "out")
    with pytest.raises(DataError, match="check-ins"):
        export_data(tiny_city, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="exists"):
        export_data(kuaisar, tmp_path / "mine", overwrite=True)
    monkeypatch.setattr("corsar.api.release.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"corsar\[pandas\]"):
        export_data(kuaisar, tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]
