"""Logs of foreign names, separators and times are read as their writers meant them, or refused in a sentence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from corsar.api.up_columns import time_of
from corsar.api.up_logs import Logs, read_logs, reading_lines
from corsar.api.up_names import plain_name
from corsar.errors import ConfigError, DataError

START_S = 1_700_000_000
NAMES = ["rote Lampe", "blaue Lampe", "roter Hut", "blauer Hut", "grüne Tasse"]


def _rows(num: int = 60) -> list[dict[str, Any]]:
    """Events of six people on five items, every third a search, in words that no rule knows."""
    rows = []
    for at in range(num):
        item = (at * 7 + at // 6) % 5
        rows.append(
            {
                "who": f"p{at % 6}",
                "what": 100 + item,
                "at": START_S + 60 * at,
                "asked": NAMES[item].split()[at % 2] + " bitte" if at % 3 == 0 else None,
            }
        )
    return rows


def _write(folder: Path, name: str, rows: list[dict[str, Any]], **csv: Any) -> Path:
    file = folder / name
    df = pl.DataFrame(rows, infer_schema_length=None)
    if file.suffix == ".parquet":
        df.write_parquet(file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        df.write_csv(file, **csv)
    return file


def _renamed(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


def _check(logs: Logs, rows: list[dict[str, Any]]) -> None:
    events = logs.events
    assert events["user_id"].to_list() == [row["who"] for row in rows]
    assert events["item_id"].to_list() == [row["what"] for row in rows]
    assert events["time_ms"].to_list() == [row["at"] * 1000 for row in rows]
    assert events["query"].to_list() == [row["asked"] for row in rows]
    assert events["kind"].to_list() == ["search" if row["asked"] else "feed" for row in rows]


@pytest.mark.parametrize(
    ("file", "names", "csv"),
    [
        (
            "a.csv",
            {"who": "Kunden-Nr", "what": "Artikelnummer", "at": "Zeitstempel", "asked": "Suchbegriff"},
            {"separator": ";"},
        ),
        ("a.csv", {"who": "customerId", "what": "productId", "at": "eventTime", "asked": "searchTerm"}, {}),
        ("a.csv", {"who": "usuario", "what": "producto", "at": "fecha", "asked": "consulta"}, {"separator": "\t"}),
        ("a.jsonl", {"who": "visitor", "what": "sku", "at": "ts", "asked": "q"}, {}),
        ("a.parquet", {"who": "Nutzer", "what": "Produkt", "at": "Uhrzeit", "asked": "Suchwort"}, {}),
        ("a.csv", {"who": "c1", "what": "c2", "at": "c3", "asked": "c4"}, {"separator": "|"}),  # what they hold must do
    ],
)
def test_names_of_several_tongues_are_understood(tmp_path: Path, file: str, names: dict[str, str], csv: dict[str, Any]) -> None:
    rows = _rows()
    logs = read_logs([_write(tmp_path, file, _renamed(rows, **names), **csv)], None, {}, {})
    _check(logs, rows)
    told = "\n".join(reading_lines(logs))
    assert f"query = '{names['asked']}'" in told
    assert "--column query=NAME" in told


FORMS = {
    "s": lambda s: str(s),
    "ms": lambda s: str(s * 1000),
    "iso": lambda s: datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "german": lambda s: datetime.fromtimestamp(s, UTC).strftime("%d.%m.%Y %H:%M:%S"),
    "german words": lambda s: datetime.fromtimestamp(s, UTC).strftime("%d.%m.%Y, %H:%M:%S Uhr"),
    "american": lambda s: datetime.fromtimestamp(s, UTC).strftime("%m/%d/%Y %H:%M:%S"),
}


@pytest.mark.parametrize("form", FORMS)
def test_times_of_several_forms_are_one(tmp_path: Path, form: str) -> None:
    rows = _rows()
    for at, row in enumerate(rows):
        row["at"] += 86400 * (at // 3)  # until days over 12 have come
    foreign = [row | {"at": FORMS[form](row["at"])} for row in rows]
    logs = read_logs([_write(tmp_path, "a.csv", _renamed(foreign, at="datum", who="kunde", what="artikel"))], None, {}, {})
    _check(logs, rows)


def test_day_and_hour_of_two_columns_are_one_time(tmp_path: Path) -> None:
    rows = _rows()
    foreign = [
        {
            "Kunde": row["who"], "Artikel": row["what"], "suche": row["asked"],
            "Datum": f"{when:%d.%m.%Y}", "Uhrzeit": f"{when:%H:%M:%S}",
        }
        for row in rows
        for when in [datetime.fromtimestamp(row["at"], UTC)]
    ]  # fmt: skip
    _check(read_logs([_write(tmp_path, "a.csv", foreign)], None, {}, {}), rows)


def test_times_that_are_none_are_none() -> None:
    assert time_of(pl.Series(["1", "2"]), by_name=True) == {"unit": "ordinal"}
    assert time_of(pl.Series(["1", "2"]), by_name=False) is None
    assert time_of(pl.Series(["red", "hat"]), by_name=True) is None
    assert time_of(pl.Series(["03/04/2023", "13/04/2023"]), by_name=False) == {"format": "%d/%m/%Y"}
    assert time_of(pl.Series(["04/03/2023", "04/13/2023"]), by_name=False) == {"format": "%m/%d/%Y"}


def test_kinds_of_events_are_told_by_their_words(tmp_path: Path) -> None:
    rows = _rows()
    for at, row in enumerate(rows):
        row["ereignis"] = "Suche" if row["asked"] else "Impression" if at % 5 == 0 else "Kauf"
    logs = read_logs(
        [_write(tmp_path, "a.csv", _renamed(rows, who="kunde", what="artikel", at="zeit", asked="suchtext"))], None, {}, {}
    )
    assert logs.readings[0].kinds == {"Suche": "search", "Impression": "feed", "Kauf": "feed"}
    shown = logs.events.filter(pl.col("label") == "0")
    assert shown.height == sum(row["ereignis"] == "Impression" for row in rows)
    _check(logs, rows)


def test_what_the_events_hold_of_their_items_becomes_a_table(tmp_path: Path) -> None:
    rows = [
        row | {"Bezeichnung": NAMES[row["what"] - 100], "Warengruppe": "Licht" if row["what"] < 102 else "Kram"}
        for row in _rows()
    ]
    logs = read_logs(
        [_write(tmp_path, "a.csv", _renamed(rows, who="kunde", what="artikel", at="zeit"), separator=";")], None, {}, {}
    )
    assert logs.items is not None
    assert dict(logs.items.sort("item_id").select("item_id", "text").iter_rows()) == dict(enumerate(NAMES, 100))
    assert logs.items.sort("item_id")["category_warengruppe"].to_list() == ["Licht", "Licht", "Kram", "Kram", "Kram"]
    assert logs.settings["columns"]["items"]["categories"] == ["category_warengruppe"]
    assert logs.events["query"].to_list() == [row["asked"] for row in rows]


def test_a_table_of_items_tells_which_column_they_are(tmp_path: Path) -> None:
    rows = _renamed(_rows(), who="b", what="a", at="c", asked="d")
    rows = [{"a2": row["a"] % 2 + 7, **row} for row in rows]  # an id-like column that is none
    items = _write(tmp_path, "items.csv", [{"nr": 100 + n, "name": name, "marke": "xy"[n % 2]} for n, name in enumerate(NAMES)])
    logs = read_logs([_write(tmp_path, "a.csv", rows)], items, {"user_id": "b"}, {})
    assert logs.readings[0].columns["item_id"] == "a"
    assert logs.items is not None
    assert logs.items["text"].to_list() == NAMES
    assert logs.settings["columns"]["items"]["categories"] == ["category_marke"]


def test_two_logs_are_one(tmp_path: Path) -> None:
    rows = _rows()
    feed = [{"kunde": row["who"], "artikel": row["what"], "zeit": row["at"]} for row in rows if not row["asked"]]
    search = [
        {"user": row["who"], "clicked_item": row["what"], "date": row["at"] * 1000, "query": row["asked"]}
        for row in rows
        if row["asked"]
    ]
    files = [_write(tmp_path, "feed.csv", feed, separator=";"), _write(tmp_path, "search.jsonl", search)]
    logs = read_logs(files, None, {}, {})
    _check(Logs(logs.events.sort("time_ms"), None, {}, [], []), rows)


def test_logs_without_times_or_searches_are_read(tmp_path: Path) -> None:
    rows = [{"user": row["who"], "item": row["what"]} for row in _rows()]
    logs = read_logs([_write(tmp_path, "a.csv", rows)], None, {}, {})
    assert logs.events["time_ms"].to_list() == list(range(60))
    assert set(logs.events["kind"]) == {"feed"}
    assert logs.settings["time"] == {"unit": "ordinal"}
    assert any("order in which they happened" in note for note in logs.notes)


def test_places_are_read_with_commas_in_their_numbers(tmp_path: Path) -> None:
    rows = [
        {"nutzer": row["who"], "ort": row["what"], "zeit": row["at"], "breite": f"51,{row['what']}", "laenge": "6,5"}
        for row in _rows()
    ]
    logs = read_logs([_write(tmp_path, "a.csv", rows, separator=";")], None, {}, {})
    assert set(logs.events["kind"]) == {"checkin"}
    assert logs.items is not None
    assert logs.items.sort("item_id")["lat_deg"].to_list() == [51.1, 51.101, 51.102, 51.103, 51.104]


def test_what_a_person_says_wins(tmp_path: Path) -> None:
    rows = _renamed(_rows(), who="user", what="item", at="time", asked="query")
    file = _write(tmp_path, "a.csv", rows)
    logs = read_logs([file], None, {"query": ""}, {})
    assert "query" not in logs.events.columns
    logs = read_logs([file], None, {"user_id": "item", "item_id": "user"}, {})
    assert logs.events["user_id"].to_list() == [row["item"] for row in rows]
    with pytest.raises(ConfigError, match="has no column 'nothing'; it has user, item"):
        read_logs([file], None, {"user_id": "nothing"}, {})
    with pytest.raises(ConfigError, match="no column 'person' of corsar's"):
        read_logs([file], None, {"person": "user"}, {})


def test_logs_that_are_none_are_refused_in_a_sentence(tmp_path: Path) -> None:
    prices = _write(tmp_path, "a.csv", [{"price": n + 0.5, "size": n / 3} for n in range(9)])
    with pytest.raises(
        DataError, match="no column for user_id was found among price, size; say it as in --column user_id=NAME"
    ):
        read_logs([prices], None, {}, {})
    with pytest.raises(DataError, match="there is no such file"):
        read_logs([tmp_path / "nothing.csv"], None, {}, {})
    empty = tmp_path / "b.csv"
    empty.write_text("user,item\n")
    with pytest.raises(DataError, match="has no row"):
        read_logs([empty], None, {}, {})
    broken = tmp_path / "c.jsonl"
    broken.write_text('{"user": 1, "item"\n')
    with pytest.raises(DataError, match="not readable"):
        read_logs([broken], None, {}, {})


def test_plain_names_know_umlauts_and_humps() -> None:
    assert plain_name("Kunden-Nr.") == "kunden_nr"
    assert plain_name("LängenGrad") == "laengen_grad"
    assert plain_name(" searchTerm") == "search_term"
    assert plain_name("Año") == "ano"
