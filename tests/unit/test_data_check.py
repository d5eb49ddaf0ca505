"""What corsar data list, describe and check tell."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corsar.api import check_data
from corsar.cli import main
from corsar.data.store import file_hash, manifest_hash
from corsar.errors import DataError
from corsar.sources.check_kuaisar import KINDS, NEEDED, check_kuaisar
from corsar.sources.dictionary import FIELD, data_sets, describe
from corsar.sources.findings import LEVELS, Finding
from corsar.sources.simulate import simulate

sys.path.insert(0, str(Path(__file__).parent))
from fault_kit import assert_one_sentence


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("raw") / "raw", users=30, items=200)


@pytest.fixture
def raw(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / "raw"))


def change(raw: Path, name: str, **columns: pl.Expr) -> None:
    pl.read_csv(raw / name, infer_schema=False).with_columns(**columns).write_csv(raw / name)


def at(row: int, value: str, name: str) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(name)


def told(raw: Path, file: str, column: str) -> dict[str, Finding]:
    return {one.what: one for one in check_kuaisar(raw) if (one.file, one.column) == (file, column)}


def test_dictionary_has_every_field_that_the_reader_knows() -> None:
    files = {file["name"]: [field["field"] for field in file["fields"]] for file in describe("kuaisar")["files"]}
    for name, columns in NEEDED.items():
        assert set(columns) <= set(files[name])
    assert set(KINDS) <= {field for fields in files.values() for field in fields}
    pickles = {file["name"] for file in describe("unisar-release")["files"]}
    assert {f"vocab/{name}.pkl" for name in ("user_vocab", "item_vocab_np", "src_session_vocab_np", "query_vocab")} <= pickles


def test_dictionary_has_the_columns_of_simulated_files(simulated: Path) -> None:
    for file in describe("kuaisar")["files"]:
        columns = pl.read_csv(simulated / file["name"], n_rows=1).columns
        assert columns == [field["field"] for field in file["fields"]]


@pytest.mark.parametrize("name", data_sets())
def test_every_data_set_is_described(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "describe", name, "--json"])
    one = json.loads(capsys.readouterr().out)
    assert all(one[key] for key in ("title", "licence", "published", "size", "prepare", "notes"))
    for file in one["files"]:
        assert file["fields"]
        assert all(tuple(field) == FIELD and field["what"] for field in file["fields"])
    main(["data", "describe", name])
    assert one["files"][0]["fields"][-1]["field"] in capsys.readouterr().out


def test_list_names_all_and_a_wrong_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "list"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("kuaisar", "unisar-release", "foursquare", "movielens", "jdsearch", "tables"))
    assert_one_sentence(capsys, "no data set 'kuaisa'; choose one of amazon", "data", "describe", "kuaisa")


def test_simulated_files_have_nothing_suspicious(simulated: Path) -> None:
    found = check_kuaisar(simulated)
    assert {one.level for one in found} == {"note"}
    assert [one.rows for one in found if (one.file, one.what) == ("user_features.csv", "rows")] == [30]
    silent = [one for one in found if one.column == "click_cnt"]
    search = pl.read_csv(simulated / "src_inter.csv").group_by("search_session_id").agg(pl.col("click_cnt").max())
    assert silent[0].rows == search.filter(pl.col("click_cnt") == 0).height
    assert silent[0].what == f"of {search.height} searches got no click"
    pages = [one for one in found if one.column == "timestamp"]
    feed = pl.read_csv(simulated / "rec_inter.csv")
    assert pages[0].rows == feed.height - feed.n_unique(["user_id", "timestamp"])


def test_times_out_of_the_window_are_found(raw: Path) -> None:
    change(raw, "rec_inter.csv", timestamp=at(3, "1686412800000", "timestamp"))
    found = told(raw, "rec_inter.csv", "timestamp")
    outside = found["is outside of 22 May to 10 June 2023, Beijing"]
    assert (outside.rows, outside.first, outside.level) == (1, "line 5: '1686412800000'", "suspicious")
    assert found["is not the second of 'time' (Beijing): rounded, or of another zone"].rows == 1


def test_rounded_times_are_found(raw: Path) -> None:
    rounded = pl.col("timestamp").cast(pl.Float64).map_elements(lambda time: f"{time:.6e}", return_dtype=pl.String)
    change(raw, "rec_inter.csv", timestamp=rounded)
    found = told(raw, "rec_inter.csv", "timestamp")["is not the second of 'time' (Beijing): rounded, or of another zone"]
    rows = pl.read_csv(raw / "rec_inter.csv", infer_schema=False)
    assert rows["timestamp"][0].endswith("e+12")
    assert found.rows > 0.99 * rows.height


def test_swapped_features_and_strange_sizes_are_found(raw: Path) -> None:
    swapped = {"onehot_feat1": pl.col("onehot_feat2"), "onehot_feat2": pl.col("onehot_feat1")}
    change(raw, "user_features.csv", **swapped)
    (found,) = told(raw, "user_features.csv", "onehot_feat1").values()
    assert "swapped" in found.what
    assert found.rows == 30
    change(raw, "user_features.csv", **swapped)
    assert not told(raw, "user_features.csv", "onehot_feat1")
    change(raw, "user_features.csv", onehot_feat2=at(0, "9", "onehot_feat2"))
    (found,) = told(raw, "user_features.csv", "onehot_feat2").values()
    assert found.what == "goes to 9, beyond KuaiSAR's 7"


def test_odd_rows_are_found(raw: Path) -> None:
    sessions = pl.read_csv(raw / "src_inter.csv")["search_session_id"]
    second = int((~sessions.is_first_distinct()).arg_max() or 0)  # the second row of a search
    change(
        raw, "rec_inter.csv",
        search=at(0, "0", "search"), search_item_related=at(0, "1", "search_item_related"), like=at(1, "7", "like"),
        playing_time=at(2, "-5.0", "playing_time"), user_id=at(4, "", "user_id"),
    )  # fmt: skip
    change(
        raw, "src_inter.csv",
        keyword=at(0, "[]", "keyword"), item_type=at(1, "BOOK", "item_type"), click_cnt=at(2, "nan", "click_cnt"),
        user_id=at(second, "29", "user_id"),
    )  # fmt: skip
    for name in ("user_features.csv", "item_features.csv"):
        lines = (raw / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (raw / name).write_text("".join([*lines[:-1], lines[1]]), encoding="utf-8")
    found = {(one.file[:4], one.column, one.what.split(":")[0]): one for one in check_kuaisar(raw) if one.level != "note"}
    assert {key[:2] for key in found} >= {
        ("rec_", "search_item_related"), ("rec_", "like"), ("rec_", "playing_time"), ("rec_", "user_id"),
        ("src_", "keyword"), ("src_", "item_type"), ("src_", "click_cnt"), ("src_", "search_session_id"),
        ("user", "user_id"), ("item", "item_id"),
    }  # fmt: skip
    assert found["rec_", "like", "is neither 0 nor 1"].first == "line 3: '7'"
    assert found["rec_", "playing_time", "is negative"].first == "line 4: '-5.0'"
    assert found["user", "user_id", "is there before; the first row counts"].first == "line 31"
    lost = found["rec_", "user_id", f"of {30} have no row in user_features.csv"]
    assert lost.rows == 1
    assert {one.level for one in found.values()} == {"suspicious"}


def test_twins_are_found(raw: Path) -> None:
    lines = (raw / "rec_inter.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (raw / "rec_inter.csv").write_text("".join([*lines, lines[7]]), encoding="utf-8")
    found = told(raw, "rec_inter.csv", "item_id")["is there with the same user and time before"]
    assert (found.rows, found.first, found.level) == (1, f"line {len(lines) + 1}", "suspicious")


def test_missing_files_and_columns_are_found(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "user_features.csv").unlink()
    (raw / "social_network.csv").unlink()
    pl.read_csv(raw / "rec_inter.csv").drop("timestamp", "like").write_csv(raw / "rec_inter.csv")
    levels = {(one.file, one.column): one.level for one in check_kuaisar(raw) if one.what.startswith("is not")}
    assert levels == {
        ("user_features.csv", ""): "missing",
        ("social_network.csv", ""): "note",
        ("rec_inter.csv", "timestamp"): "missing",
        ("rec_inter.csv", "like"): "suspicious",
    }
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(raw), "--json"])
    out = capsys.readouterr()
    assert stopped.value.code == 2
    assert json.loads(out.out)["is_sound"] is False
    assert (
        out.err
        == "corsar: rec_inter.csv: column 'timestamp': is not among the columns; correct it, or fetch the files again.\n"
    )


def test_a_file_of_ones_own_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "events.csv"
    rows = ["1,10,100,", "1,10,100,", "1,11,100,shoe", "2,10,1700000000,"]
    file.write_text("\n".join(["customer,sku,seconds,query", *rows, ""]))
    config = tmp_path / "columns.toml"
    config.write_text('time_unit = "s"\n[columns.events]\nuser_id = "customer"\ntime_ms = "seconds"\n')
    found = check_data(file, config=config)
    assert (found["kind"], found["is_sound"]) == ("tables", True)
    by = {one["what"]: one for one in found["findings"]}
    assert by["the same user, item, kind and time again"]["first"] == "row 2: '10'"
    assert by["before 1995 or after 2100: is the time unit right?"]["rows"] == 3
    assert by["users with a single event"]["rows"] == 1
    assert {one["level"] for one in found["findings"]} <= set(LEVELS)
    (tmp_path / "items.csv").write_text("sku,title\n10,shoe\n")
    found = check_data(file, config=config, items=tmp_path / "items.csv")
    strange = [one for one in found["findings"] if one["what"] == "not in the table of items"]
    assert [(one["level"], one["rows"], one["first"]) for one in strange] == [("suspicious", 1, "row 3: '11'")]
    main(["data", "check", str(file), "--config", str(config), "--items", str(tmp_path / "items.csv")])
    assert "name 1 item that is not in the items table, first 11; kept" in capsys.readouterr().out
    file.write_text("a,b\n1,2\n")
    assert check_data(file)["is_sound"] is False
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(file)])
    assert stopped.value.code == 2
    assert "no column for 'user_id'" in capsys.readouterr().err


def test_nothing_known_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_one_sentence(capsys, "no files of a known data set", "data", "check", str(tmp_path))
    with pytest.raises(DataError, match="there is no such file or folder"):
        check_data(tmp_path / "none")


def test_a_dataset_is_looked_at(tiny_dataset: Path, tmp_path: Path) -> None:
    found = check_data(tiny_dataset)
    assert (found["kind"], found["is_sound"]) == ("dataset", True)
    assert {"users", "items", "feed_events", "searches"} <= {one["what"] for one in found["findings"]}
    copy = Path(shutil.copytree(tiny_dataset, tmp_path / "copy"))
    times = np.load(copy / "history" / "feed_times.npy")
    times[1] = times[0] - 1
    np.save(copy / "history" / "feed_times.npy", times)
    damaged = check_data(copy)
    assert damaged["is_sound"] is False
    assert "is not what prepare wrote" in damaged["findings"][0]["what"]
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    name = "history/feed_times.npy"
    manifest["files"][name] = {"sha256": file_hash(copy / name), "bytes": (copy / name).stat().st_size}
    manifest["data_hash"] = manifest_hash(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    odd = {one["what"]: one for one in check_data(copy)["findings"]}
    assert odd["lies before the entry that it follows"]["level"] == "malformed"
    assert odd["lies before the entry that it follows"]["first"] == "entry 1: user u0"


@pytest.mark.real
def test_real_data_is_sound(shared_data: Path) -> None:
    for name, kind in (
        ("ml-latest-small", "movielens"),
        ("jdsearch_sample", "jdsearch"),
        ("foursquare_calgary_phoenix/CAL_checkin.csv", "foursquare"),
        ("toys_search_feed/events_noisy.parquet", "tables"),
    ):
        config = None if kind != "tables" else Path(__file__).parents[2] / "configs" / "toys_columns.toml"
        found = check_data(shared_data / name, config=config)
        assert (found["kind"], found["is_sound"]) == (kind, True), found
