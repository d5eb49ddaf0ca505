"""Datasets made of frames: the same as of files, from polars or pandas, and with ids as they were given."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import corsar
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def logs() -> tuple[pl.DataFrame, pl.DataFrame]:
    return corsar.example_logs(users=12)


def _data_hash(dataset: corsar.Dataset) -> str:
    return str(open_dataset(dataset.path).manifest["data_hash"])


def test_frames_and_files_make_the_same_dataset(logs: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path) -> None:
    events, items = logs
    events.write_csv(tmp_path / "events.csv")
    items.write_parquet(tmp_path / "items.parquet")
    told = corsar.prepare_tables(tmp_path / "events.csv", tmp_path / "files", items=tmp_path / "items.parquet")
    of_files = corsar.Dataset.open(told["path"])
    of_polars = corsar.Dataset.from_frames(events, items=items)
    of_lazy = corsar.Dataset.from_frames(events.lazy(), items=items.lazy())
    of_pandas = corsar.Dataset.from_frames(events.to_pandas(), items=items.to_pandas(), out=tmp_path / "pandas")
    assert _data_hash(of_files) == _data_hash(of_polars) == _data_hash(of_lazy) == _data_hash(of_pandas)
    assert of_pandas.path == tmp_path / "pandas"
    assert (of_pandas.is_pandas, of_polars.is_pandas) == (True, False)
    assert repr(of_pandas).endswith("12 users, 12 items")


def test_temporary_dataset_goes_with_its_object(logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    dataset = corsar.Dataset.from_frames(logs[0])
    path = dataset.path
    assert path.is_dir()
    del dataset
    assert not path.exists()


def test_ids_of_frames_keep_their_type(logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    texts = logs[0].with_columns(pl.col("item_id").cast(pl.String))
    assert open_dataset(corsar.Dataset.from_frames(texts).path).items.dtype == pl.String
    assert open_dataset(corsar.Dataset.from_frames(logs[0]).path).items.dtype == pl.Int64


def test_columns_times_and_kinds_of_pandas_are_mapped(logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    frame = logs[0].to_pandas()
    frame["when"] = pd.to_datetime(frame.pop("time_ms"), unit="ms", utc=True)
    frame["kind"] = frame["kind"].map({"feed": "home", "search": "looked"}).astype("category")
    frame = frame.rename(columns={"user_id": "who", "query": "said"})
    dataset = corsar.Dataset.from_frames(
        frame,
        columns={"events": {"user_id": "who", "time_ms": "when", "query": "said"}},
        kinds={"home": "feed", "looked": "search"},
    )
    assert _data_hash(dataset) == _data_hash(corsar.Dataset.from_frames(logs[0]))


def test_searches_without_an_item_in_pandas_are_missing_values(logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    one = pl.DataFrame(
        {"user_id": ["u0"], "item_id": [None], "kind": ["search"], "time_ms": [1_700_000_000_000], "query": ["cup"]}
    )
    events = pl.concat([logs[0], one.cast(dict(logs[0].schema))])
    dataset = corsar.Dataset.from_frames(events.to_pandas())  # where item_id has become float
    assert dataset.counts["searches"] == corsar.Dataset.from_frames(logs[0]).counts["searches"] + 1
    assert open_dataset(dataset.path).items.dtype == pl.Int64


def test_held_out_events_are_for_choosing_and_all_others_for_training(logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    events, items = logs
    late = events["time_ms"] >= events["time_ms"].quantile(0.8)
    dataset = corsar.Dataset.from_frames(events.filter(~late), items=items).with_held_out(events.filter(late))
    assert sum(dataset.counts["cases"]["train"].values()) == int((~late).sum())
    assert sum(dataset.counts["cases"]["valid"].values()) == int(late.sum())
    assert sum(dataset.counts["cases"]["test"].values()) == 0
    with pytest.raises(ConfigError, match="was opened; prepare it with a column split instead"):
        corsar.Dataset.open(dataset.path).with_held_out(events)


@pytest.mark.parametrize(
    ("change", "more", "sentence"),
    [
        ({"drop": "user_id"}, {}, "events: no column for 'user_id' among"),
        ({}, {"columns": {"event": {}}}, "unknown table 'event' in"),
        ({}, {"time_unt": "s"}, "unknown key 'time_unt'; did you mean 'time_unit'?"),
        ({}, {"time_format": "%d.%m.%Y"}, r'unknown key .time_format.; .* time={"format": "%d.%m.%Y %H:%M", "zone"'),
        ({}, {"split": "half"}, "split = 'half' will not do"),
        ({"mixed": True}, {}, "events: a column holds values of several types"),
        ({"list": True}, {}, "events is a list; give a frame of polars or pandas"),
    ],
)
def test_frame_at_fault_is_one_sentence(
    logs: tuple[pl.DataFrame, pl.DataFrame], change: dict[str, object], more: dict[str, object], sentence: str
) -> None:
    events: object = logs[0]
    if "drop" in change:
        events = logs[0].drop(str(change["drop"]))
    if "mixed" in change:
        events = pd.DataFrame({"user_id": ["a", 1], "item_id": [1, 2], "time_ms": [1_700_000_000_000] * 2})
    if "list" in change:
        events = logs[0].to_dicts()
    with pytest.raises((ConfigError, DataError), match=sentence) as caught:
        corsar.Dataset.from_frames(events, **more)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_two_frames_that_do_not_fit_are_one_sentence(logs: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    for other, kind in [
        (logs[0].with_columns(time_ms=pl.from_epoch("time_ms", "ms")), "datetime"),
        (logs[0].with_columns(time_ms=pl.col("time_ms").cast(pl.String)), "texts"),
    ]:
        with pytest.raises(DataError, match=f"'time_ms' holds numbers in the events and {kind} in valid; give both one type"):
            corsar.Popularity().fit(logs[0], other)
