"""Canonical tables are checked at the door."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from corsar.errors import DataError
from corsar.schema import Origin, check_candidates, check_events, check_items, check_users, make_tables


def _events(**changes: Any) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "user_id": [1, 1, 2],
        "item_id": [5, 6, 5],
        "kind": ["feed", "search", "feed"],
        "time_ms": [10, 20, 30],
    }
    columns |= changes
    return pl.DataFrame({name: values for name, values in columns.items() if values is not None}, strict=False)


def test_events_get_defaults_and_dtypes() -> None:
    events = check_events(_events())
    assert events.schema["user_id"] == pl.Int64
    assert events["kind"].to_list() == ["feed", "search", "feed"]
    assert events["label"].to_list() == [1, 1, 1]
    assert events["query"].to_list() == events["session_id"].to_list() == [None] * 3
    assert events["utc_offset_min"].null_count() == 3
    assert "split" not in events.columns


def test_events_keep_text_ids_and_given_split() -> None:
    events = check_events(_events(user_id=["a", "a", "007"], split=["train", "valid", "test"]))
    assert events["user_id"].to_list() == ["a", "a", "007"]
    assert events["split"].to_list() == ["train", "valid", "test"]


def test_events_query_of_a_feed_event_is_dropped() -> None:
    events = check_events(_events(query=["x", "red", "y"]))
    assert events["query"].to_list() == [None, "red", None]


def test_events_search_without_item_is_a_search_without_click() -> None:
    events = check_events(_events(item_id=[5, None, 5]))
    assert events["item_id"].to_list() == [5, None, 5]
    assert events["label"].to_list() == [1, 0, 1]


def test_events_null_label_is_one() -> None:
    assert check_events(_events(label=[0, None, 1.0]))["label"].to_list() == [0, 1, 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"user_id": None}, "no column for 'user_id'"),
        ({"user_id": [1, None, 2]}, "column 'user_id' is empty in 1 row, first in row 2"),
        ({"item_id": [None, 6, 5]}, "column 'item_id' is empty in 1 rows that are no search"),
        ({"kind": ["feed", "view", "feed"]}, "must hold one of feed, search, checkin, but 'view'"),
        ({"time_ms": [1.0, float("nan"), 2.0]}, "column 'time_ms' is empty in 1 row"),
        ({"time_ms": ["1", "soon", "2"]}, "must hold whole numbers, but 'soon'"),
        ({"time_ms": [[1], [2], [3]]}, "must hold whole numbers"),
        ({"label": [0, 2, 1]}, "must hold 0 or 1, but 2"),
        ({"user_id": [1.5, 2.0, 3.0]}, "must hold whole numbers or texts"),
        ({"split": ["train", "dev", "test"]}, "must hold one of train, valid, test, but 'dev'"),
    ],
)
def test_events_at_fault_are_told_in_one_sentence(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as error:
        check_events(_events(**changes), Origin("log.csv"))
    assert told in str(error.value)
    assert str(error.value).startswith("log.csv: ")
    assert str(error.value).count("\n") == 0


def test_events_at_fault_are_told_under_the_persons_own_name() -> None:
    with pytest.raises(DataError, match=r"log.csv: column 'when' \(time_ms\) is empty in 1 row"):
        check_events(_events(time_ms=[1, None, 2]), Origin("log.csv", {"time_ms": "when"}))


def test_events_without_rows_are_refused() -> None:
    with pytest.raises(DataError, match="there are no events"):
        check_events(_events().clear())


def test_items_twice_are_refused() -> None:
    with pytest.raises(DataError, match="column 'item_id' holds 5 and 0 others more than once"):
        check_items(pl.DataFrame({"item_id": [5, 6, 5], "text": ["a", "b", "c"]}))
    with pytest.raises(DataError, match="'user_id'"):
        check_users(pl.DataFrame({"user_id": ["a", "a"]}))


def test_items_get_empty_text_and_categories_in_two_types() -> None:
    frame = pl.DataFrame({"item_id": [5, 6], "brand": ["x", None], "level": pl.Series([1, 2], dtype=pl.Int32)})
    items = check_items(frame, ("brand", "level"))
    assert items["text"].to_list() == ["", ""]
    assert items.schema["brand"] == pl.String
    assert items.schema["level"] == pl.Int64
    with pytest.raises(DataError, match="no column 'maker' among item_id, brand, level"):
        check_items(frame, ("maker",))


def test_candidates_hold_lists_of_ids() -> None:
    good = pl.DataFrame({"user_id": [1], "time_ms": [3], "split": ["test"], "negatives": [[7, 8]]})
    assert check_candidates(good).schema["negatives"] == pl.List(pl.Int64)
    with pytest.raises(DataError, match="'negatives' must hold lists of ids"):
        check_candidates(good.with_columns(negatives=pl.lit("7 8")))


def test_tables_have_one_type_of_ids() -> None:
    tables = make_tables(
        _events(),
        items=pl.DataFrame({"item_id": ["5", "6", "b7"]}),
        candidates=pl.DataFrame({"user_id": [1], "time_ms": [3], "split": ["test"], "negatives": [[6]]}),
        source="test",
    )
    assert tables.events["item_id"].to_list() == ["5", "6", "5"]
    assert tables.candidates is not None
    assert tables.candidates["negatives"].to_list() == [["6"]]
    assert tables.events.schema["user_id"] == pl.Int64
