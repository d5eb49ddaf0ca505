"""A person's own files become canonical tables, or one sentence says why not."""

from __future__ import annotations

import gzip
import tomllib
from pathlib import Path

import polars as pl
import pytest

from corsar.errors import ConfigError, CorsarError, DataError
from corsar.sources import SOURCES, source_module
from corsar.sources.tables import read_tables

LOG = "user_id,item_id,kind,time_ms,query\n1,5,feed,1700000000000,\n1,6,search,1700000001000,red shoes\n"


def _file(folder: Path, text: str, name: str = "log.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_sources_are_importable_by_name() -> None:
    for name in SOURCES:
        assert source_module(name).__name__ == SOURCES[name]
    with pytest.raises(DataError, match="there is no source 'mine'; choose one of tables"):
        source_module("mine")


def test_csv_in_five_columns_is_read(tmp_path: Path) -> None:
    tables = read_tables(_file(tmp_path, LOG))
    assert tables.events["item_id"].to_list() == [5, 6]
    assert tables.events["query"].to_list() == [None, "red shoes"]
    assert tables.clock == "utc"
    assert tables.items is tables.users is tables.candidates is None
    rows = [(one["stage"], one["rows"]) for one in tables.funnel if one["stage"] != "note"]
    assert rows == [("read", 2), ("kept", 2)]


@pytest.mark.parametrize(("separator", "name"), [("\t", "log.tsv"), ("\t", "log.csv"), (";", "log.csv")])
def test_separator_is_seen(tmp_path: Path, separator: str, name: str) -> None:
    assert read_tables(_file(tmp_path, LOG.replace(",", separator), name)).events.height == 2


def test_byte_order_mark_crlf_and_gzip_are_read(tmp_path: Path) -> None:
    assert read_tables(_file(tmp_path, "\ufeff" + LOG.replace("\n", "\r\n"))).events["user_id"].to_list() == [1, 1]
    packed = tmp_path / "log.csv.gz"
    packed.write_bytes(gzip.compress(LOG.encode()))
    assert read_tables(packed).events["query"].to_list() == [None, "red shoes"]


def test_kind_is_inferred_from_the_query(tmp_path: Path) -> None:
    events = read_tables(_file(tmp_path, "user,item,timestamp,q\na,5,1700000000,\na,6,1700000001,red\n")).events
    assert events["kind"].to_list() == ["feed", "search"]
    assert events["time_ms"].to_list() == [1700000000000, 1700000001000]
    assert read_tables(_file(tmp_path, "user,item,time\na,5,1700000000\n")).events["kind"].to_list() == ["feed"]


def test_kinds_are_mapped(tmp_path: Path) -> None:
    file = _file(tmp_path, LOG.replace("feed", "View"))
    with pytest.raises(DataError, match=r"column 'kind' holds 'View'; say under \[kinds\] .*, as in View = \"feed\"\."):
        read_tables(file)
    assert read_tables(file, config={"kinds": {"View": "feed"}}).events["kind"].to_list() == ["feed", "search"]


@pytest.mark.parametrize(
    ("kinds", "example"),
    [
        ("kauf suche ansicht", 'feed or search, as in suche = "search" and kauf = "feed".'),
        ("Suche Suche Suche", 'feed or search, as in Suche = "search".'),
        ("a.b a.b a.b", 'feed or search, as in "a.b" = "feed".'),
        ("check_in feed feed", 'feed or search or checkin, as in check_in = "feed".'),
    ],
)
def test_kinds_of_ones_own_are_guessed_in_the_sentence(tmp_path: Path, kinds: str, example: str) -> None:
    rows = [f"1,5,{kind},17000000000{at:02}" for at, kind in enumerate(kinds.split())]
    with pytest.raises(DataError) as error:
        read_tables(_file(tmp_path, "\n".join(["user_id,item_id,kind,time_ms", *rows, ""])))
    assert str(error.value).endswith(example)


def test_blank_rows_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = ("1,5,feed,1700000000000,", ",5,feed,1700000000000,", "1,,feed,1700000000000,", "1,,search,1700000000000,red")
    rows += ("1,5, ,1700000000000,", "1,5,feed, ,", "2,,feed,,", "1,6,search,1700000000001,red")
    file = _file(tmp_path, "\n".join(["user_id,item_id,kind,when,query", *rows, ""]))
    config = {"columns": {"events": {"time_ms": "when"}}}
    with pytest.raises(DataError, match=r"'user_id' is empty in 1 row, first in line 3; .* --drop-blank \(drop_blank=True\)"):
        read_tables(file, config=config)
    tables = read_tables(file, config=config | {"drop_blank": True})
    assert tables.events["item_id"].to_list() == [5, None, 6]
    rejected = {one["reason"]: one["rows"] for one in tables.funnel if one["stage"] == "rejected"}
    assert rejected == {
        "column 'user_id' is blank (user_id)": 1,
        "column 'kind' is blank (kind)": 1,
        "column 'when' is blank (time_ms)": 2,
        "column 'item_id' is blank (item_id)": 1,
    }
    with pytest.raises(DataError, match="there are no events"):
        read_tables(_file(tmp_path, "user_id,item_id,time_ms\n,5,1700000000000\n"), config={"drop_blank": True})


def test_rows_of_a_frame_are_counted_and_not_its_lines() -> None:
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [5, 5], "time_ms": [1_700_000_000_000, None]})
    with pytest.raises(DataError, match="'time_ms' is empty in 1 row, first in row 2; fill"):
        read_tables(frame)


def test_repeated_rows_are_told_in_the_funnel(tmp_path: Path) -> None:
    file = _file(tmp_path, LOG + 2 * "1,5,feed,1700000000000,\n")
    notes = [(one["rows"], one["reason"]) for one in read_tables(file).funnel if one["stage"] == "note"]
    assert notes == [(2, "repeat an earlier row in all columns that are read; kept")]
    assert read_tables(file).events.height == 4


def test_items_that_the_items_table_does_not_have_are_told_or_left_out(tmp_path: Path) -> None:
    log = "user_id,item_id,kind,time_ms,query\n1,A,feed,1700000000000,\n1,X,feed,1700000000001,\n1,X,search,1700000000002,a\n"
    file, items = _file(tmp_path, log + "1,,search,1700000000003,a\n"), _file(tmp_path, "item_id,title\nA,a\n", "items.csv")
    told = {"table": "events", "stage": "note", "rows": 2, "reason": "name 1 item that is not in the items table, first X"}
    kept = read_tables(file, items)
    assert kept.events.height == 4
    assert told | {"reason": told["reason"] + "; kept without text (--drop-unknown-items leaves them out)"} in kept.funnel
    left = read_tables(file, items, config={"drop_unknown_items": True})
    assert left.events["item_id"].to_list() == ["A", None]
    assert told | {"stage": "rejected"} in left.funnel
    assert [one["rows"] for one in left.funnel if (one["table"], one["stage"]) == ("events", "kept")] == [2]
    with pytest.raises(DataError, match=r"no event is left: 1 name 1 item .* first B; see that both files"):
        read_tables(_file(tmp_path, "user_id,item_id,time_ms\n1,B,1700000000000\n"), items, config={"drop_unknown_items": True})


def test_ids_come_out_as_they_went_in(tmp_path: Path) -> None:
    log = "user_id,item_id,time_ms\n007,5.0,1700000000000\n12,6.0,1700000000001\n"
    events = read_tables(_file(tmp_path, log)).events
    assert events["user_id"].to_list() == ["007", "12"]
    assert events["item_id"].to_list() == [5, 6]


@pytest.mark.parametrize(
    ("unit", "time", "ms"),
    [
        ("s", "1700000000", 1700000000000),
        ("s", "1700000000.25", 1700000000250),
        ("ms", "1700000000123", 1700000000123),
        ("us", "1700000000123456", 1700000000123),
        ("iso", "2023-11-14T22:13:20Z", 1700000000000),
        ("iso", "2023-11-15 00:13:20+02:00", 1700000000000),
        (None, "2023-11-14 22:13:20", 1700000000000),
        (None, "2023-11-14", 1699920000000),
        (None, "1700000000", 1700000000000),
    ],
)
def test_times_of_any_unit_become_ms(tmp_path: Path, unit: str | None, time: str, ms: int) -> None:
    config = {"time": {"unit": unit}} if unit else {}
    events = read_tables(_file(tmp_path, f"user,item,time\n1,5,{time}\n"), config=config).events
    assert events["time_ms"].to_list() == [ms]


def test_times_of_a_told_form_are_read_by_the_clocks_of_a_zone(tmp_path: Path) -> None:
    log = "user,item,time\n1,5,15.11.2023 00:13:20\n1,6,15.06.2023 00:13:20\n"
    told = {"format": "%d.%m.%Y %H:%M:%S", "zone": "Europe/Berlin"}
    summer, winter = 1686780800000, 1700003600000
    assert read_tables(_file(tmp_path, log), config={"time": told}).events["time_ms"].to_list() == [winter, summer]
    for wrong, sentence in (
        ({**told, "format": "%Y"}, r"holds '15\.11\.2023 00:13:20', which is not of the form '%Y'; correct \[time\] format"),
        ({**told, "zone": "Europe/Bonn"}, "no time zone 'Europe/Bonn'"),
        ({"zone": "Europe/Berlin"}, "a zone but no format"),
    ):
        with pytest.raises(CorsarError, match=sentence):
            read_tables(_file(tmp_path, log), config={"time": wrong})


def test_times_without_a_zone_are_told_in_the_funnel(tmp_path: Path) -> None:
    def notes(time: str) -> list[str]:
        funnel = read_tables(_file(tmp_path, f"user,item,time\n1,5,{time}\n")).funnel
        return [one["reason"] for one in funnel if one["stage"] == "note"]

    assert notes("2023-11-14 22:13:20") == ["times without a zone are read as UTC"]
    assert notes("2023-11-14T22:13:20Z") == notes("2023-11-14 22:13:20+02:00") == []


def test_ordinal_clock_keeps_positions(tmp_path: Path) -> None:
    tables = read_tables(_file(tmp_path, "user,item,time\n1,5,0\n1,6,1\n"), config={"time_unit": "ordinal"})
    assert tables.clock == "ordinal"
    assert tables.events["time_ms"].to_list() == [0, 1]


def test_unstated_unit_is_told_in_the_funnel(tmp_path: Path) -> None:
    funnel = read_tables(_file(tmp_path, LOG.replace("time_ms", "ts"))).funnel
    assert [one["reason"] for one in funnel if one["stage"] == "note"] == ["the time unit is not stated; read as ms"]
    assert not [one for one in read_tables(_file(tmp_path, LOG)).funnel if one["stage"] == "note"]


def test_session_that_is_a_whole_visit_is_cut_into_searches(tmp_path: Path) -> None:
    rows = ("1,5,v1,1,", "1,6,v1,2,red", "1,7,v1,2,red", "1,8,v1,3,hat", "2,8,v1,3,hat")
    file = _file(tmp_path, "\n".join(("user_id,item_id,session,time_ms,query", *rows)))
    tables = read_tables(file)
    sessions = tables.events["session_id"].to_list()
    assert sessions[0] is None
    assert sessions[1] == sessions[2]
    assert len({*sessions}) == 4
    assert [one["rows"] for one in tables.funnel if one["stage"] == "note"] == [1, 1]


def test_parquet_with_dates_and_lists_of_words_is_read(tmp_path: Path) -> None:
    when = pl.Series(["2023-11-14T22:13:20"]).str.to_datetime()
    pl.DataFrame({"user_id": [1], "item_id": [5], "time": when}).write_parquet(tmp_path / "log.parquet")
    pl.DataFrame({"item_id": [5], "words": [["red", "shoe"]]}).write_parquet(tmp_path / "items.parquet")
    tables = read_tables(tmp_path / "log.parquet", tmp_path / "items.parquet")
    assert tables.events["time_ms"].to_list() == [1700000000000]
    assert tables.items is not None
    assert tables.items["text"].to_list() == ["red shoe"]


def test_column_map_names_texts_categories_and_attributes(tmp_path: Path) -> None:
    items = _file(tmp_path, "item_id,title,notes,c1,c2,price\n5,Red shoe,,a,1,9.5\n6,Hat,warm,b,,3\n", "items.csv")
    users = _file(tmp_path, "user_id,age,mail\n1,30-40,x@y\n", "users.csv")
    config = {
        "columns": {
            "items": {"text": ["title", "notes"], "categories": ["c1", "c2"]},
            "users": {"attributes": ["age"]},
        }
    }
    tables = read_tables(_file(tmp_path, LOG), items, users, config=config)
    assert tables.items is not None
    assert tables.users is not None
    assert tables.items["text"].to_list() == ["Red shoe", "Hat warm"]
    assert tables.items["c2"].to_list() == [1, None]
    assert tables.categories == ("c1", "c2")
    assert tables.attributes == ("age",)
    assert tables.users.columns == ["user_id", "age"]
    assert any("columns not used: price" in one["reason"] for one in tables.funnel)


def test_plain_names_are_categories_and_attributes_without_a_map(tmp_path: Path) -> None:
    items = _file(tmp_path, "itemId,name,main_category,price\n5,Red shoe,a,9.5\n", "items.csv")
    users = _file(tmp_path, "user_id,age,city\n1,30,Rome\n", "users.csv")
    tables = read_tables(_file(tmp_path, LOG), items, users)
    assert tables.categories == ("main_category",)
    assert tables.attributes == ("age", "city")


def test_candidates_of_a_csv_are_lists(tmp_path: Path) -> None:
    text = 'user_id,time_ms,split,negatives\n1,1700000001000,test,"[7, 8]"\n'
    tables = read_tables(_file(tmp_path, LOG), candidates=_file(tmp_path, text, "given.csv"))
    assert tables.candidates is not None
    assert tables.candidates["negatives"].to_list() == [[7, 8]]
    assert tables.candidates["time_ms"].to_list() == [1700000001000]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("user_id", "person", "log.csv: no column for 'user_id' among 'person', 'item_id', "),
        ("1700000000000", "", r"log.csv: column 'time_ms' is empty in 1 row, first in line 2; fill .*--drop-blank"),
        ("1700000000000", "NaN", "log.csv: column 'time_ms' holds 'NaN' beside numbers"),
        ("time_ms", "when", "log.csv: no column for 'time_ms' among 'user_id', 'item_id', 'kind', 'when'"),
        ("1,5,feed", ",5,feed", "log.csv: column 'user_id' is empty in 1 row"),
        ("1,5,feed", "1,,feed", "log.csv: column 'item_id' is empty in 1 row that is no search, first in line 2; fill"),
        (LOG[LOG.index("\n") + 1 :], "", "there are no events"),
        (LOG, "", "log.csv: not readable as csv"),
        ("feed,", "feed,9,9,9,", "log.csv: not readable"),
    ],
)
def test_csv_at_fault_is_told_in_one_sentence(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as error:
        read_tables(_file(tmp_path, LOG.replace(old, new)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("time", ["01/02/2024", "17/01/2024 10:00", "yesterday"])
def test_time_that_is_not_plain_is_refused(tmp_path: Path, time: str) -> None:
    with pytest.raises(DataError, match=f"column 'ts' .time_ms. holds '{time}'"):
        read_tables(_file(tmp_path, f"user,item,ts\n1,5,2024-01-01\n1,5,{time}\n"))


@pytest.mark.parametrize(
    ("time", "form"),
    [
        ("01.09.2026 00:20", "%d.%m.%Y %H:%M"),
        ("1.9.26", "%d.%m.%y"),
        ("09/17/2026 10:00:30", "%m/%d/%Y %H:%M:%S"),
        ("17/09/2026", "%d/%m/%Y"),
        ("2026/09/17T10:00:30.5", "%Y/%m/%dT%H:%M:%S%.f"),
        ("yesterday", "%d.%m.%Y %H:%M:%S"),
    ],
)
def test_form_that_is_told_reads_the_time_that_was_refused(tmp_path: Path, time: str, form: str) -> None:
    file = _file(tmp_path, f"user,item,time\n1,5,{time}\n")
    with pytest.raises(DataError) as error:
        read_tables(file)
    assert f'`[time]` with `format = "{form}"` and `zone = "Europe/Berlin"`.' in str(error.value)
    if time != "yesterday":
        assert read_tables(file, config={"time": {"format": form, "zone": "Europe/Berlin"}}).events.height == 1
        with pytest.raises(DataError, match=rf"is not of the form '%Y'; correct \[time\] format, as in '{form}'"):
            read_tables(file, config={"time": {"format": "%Y"}})


def test_time_of_open_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="runs from 17 to 99, which leaves the time unit open; state it as"):
        read_tables(_file(tmp_path, "user,item,ts\n1,5,17\n1,6,99\n"))


def test_time_that_contradicts_its_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="said to be in ms, but its values can only be s"):
        read_tables(_file(tmp_path, "user,item,time_ms\n1,5,1700000000\n"))
    with pytest.raises(DataError, match="said to be in s, but its values can only be ms"):
        read_tables(_file(tmp_path, LOG), config={"time_unit": "s"})


def test_items_twice_are_refused_with_the_file(tmp_path: Path) -> None:
    items = _file(tmp_path, "sku,title\n5,a\n5,b\n", "items.csv")
    with pytest.raises(DataError, match=r"items.csv: column 'sku' \(item_id\) holds 5"):
        read_tables(_file(tmp_path, LOG), items)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_tables(tmp_path / "none.csv")
    (tmp_path / "log.csv").write_bytes(LOG.encode().replace(b"red shoes", b"\xff\xfe"))
    with pytest.raises(DataError, match=r"log.csv: not readable"):
        read_tables(tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"log.parquet: not readable as parquet"):
        read_tables(_file(tmp_path, LOG, "log.parquet"))


def test_column_map_at_fault_is_told(tmp_path: Path) -> None:
    file = _file(tmp_path, LOG)
    with pytest.raises(ConfigError, match=r"unknown key 'tim' in \[columns.events\]"):
        read_tables(file, config={"columns": {"events": {"tim": "time_ms"}}})
    with pytest.raises(ConfigError, match="unknown table 'event'"):
        read_tables(file, config={"columns": {"event": {}}})
    with pytest.raises(ConfigError, match="unknown time unit 'sec'"):
        read_tables(file, config={"time_unit": "sec"})
    with pytest.raises(DataError, match=r"no column 'when' among .*; correct \[columns.events\] time_ms"):
        read_tables(file, config={"columns": {"events": {"time_ms": "when"}}})
    items = _file(tmp_path, "item_id,title\n5,a\n", "items.csv")
    with pytest.raises(DataError, match=r"items.csv: no column 'c9'"):
        read_tables(file, items, config={"columns": {"items": {"categories": ["c9"]}}})


@pytest.mark.real
def test_toys_is_read(shared_data: Path) -> None:
    folder = shared_data / "toys_search_feed"
    config = {"time_unit": "ordinal", "columns": {"events": {"time_ms": "time"}, "items": {"text": "words"}}}
    tables = read_tables(
        folder / "events.parquet",
        folder / "items.parquet",
        candidates=folder / "candidates.parquet",
        config=config | {"derived": "Queries are derived from categories."},
    )
    assert tables.events.height == 167_597
    assert tables.events["split"].value_counts().sort("split")["count"].to_list() == [19_412, 128_773, 19_412]
    assert tables.clock == "ordinal"
    assert tables.derived == "Queries are derived from categories."
    assert tables.items is not None
    assert tables.candidates is not None
    assert tables.items["text"][0] == "w399 w2 w220 w262"
    assert tables.candidates["negatives"].list.len().unique().to_list() == [99]


@pytest.mark.real
def test_grocery_is_read(shared_data: Path) -> None:
    folder = shared_data / "amazon_grocery"
    config = tomllib.loads('time_unit = "s"\n[columns.events]\ntime_ms = "time"\n')
    tables = read_tables(folder / "train.csv", folder / "item_meta.csv", config=config)
    assert tables.events.height == 121_892
    assert tables.events["kind"].unique().to_list() == ["feed"]
    assert tables.events["time_ms"][0] == 965_779_200_000
    assert tables.categories == ("i_category",)
