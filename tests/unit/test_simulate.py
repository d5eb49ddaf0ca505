"""Simulated logs hold the truth that they say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corsar.errors import DataError
from corsar.sources.kuaisar import read_kuaisar
from corsar.sources.simulate import simulate
from corsar.sources.truth import DEFAULTS, FEED, SEARCH, Events, live, truth_hash


def _lived(transfer: float | tuple[float, float]) -> Events:
    return live(dataclasses.replace(DEFAULTS, transfer=transfer), np.arange(400), np.random.default_rng(3))[1]


def _copies(events: Events, of: tuple[int, ...] = (FEED, SEARCH)) -> float:
    """How often an event of these kinds has the topic of the last event of the other kind."""
    hits, last, user = [], [-1, -1], -1
    for now, kind, topic, clicked in zip(events.user, events.kind, events.topic, events.clicked, strict=True):
        last, user = ([-1, -1] if now != user else last), now
        if last[1 - kind] >= 0 and kind in of:
            hits.append(topic == last[1 - kind])
        if kind == SEARCH or clicked:
            last[kind] = topic
    return float(np.mean(hits))


def test_defaults_were_fixed_before_any_model_saw_the_logs() -> None:
    assert truth_hash() == "9b5c2da30a73"


def test_truth_hash_changes_with_each_number() -> None:
    assert truth_hash(dataclasses.replace(DEFAULTS, transfer=0.5)) != truth_hash()


def test_without_transfer_an_event_has_the_others_topic_by_chance() -> None:
    assert abs(_copies(_lived(0.0)) - 1 / DEFAULTS.topics) < 0.01


def test_with_transfer_an_event_copies_the_others_topic() -> None:
    assert _copies(_lived(1.0)) == 1.0
    assert _copies(_lived(0.6)) > 0.6


def test_transfer_may_go_one_way() -> None:
    events = _lived((0.0, 1.0))
    assert _copies(events, (SEARCH,)) == 1
    # a feed event has the topic of the last search as often as that of the last feed event, which the search copied
    last = _copies(events, (FEED,))
    assert 0.25 < last < 0.6
    assert _lived((0.6, 0.6)).topic.tolist() == _lived(0.6).topic.tolist()


def test_transfer_changes_topics_alone() -> None:
    without, with_transfer = _lived(0.0), _lived(0.6)
    for name in ("user", "time_ms", "kind", "clicked"):
        assert (getattr(without, name) == getattr(with_transfer, name)).all()


def test_times_of_a_user_rise_strictly_in_a_daily_and_weekly_rhythm() -> None:
    events = _lived(0.0)
    same_user = events.user[1:] == events.user[:-1]
    assert (np.diff(events.time_ms)[same_user] > 0).all()
    beijing = pl.from_epoch(pl.Series(events.time_ms + 8 * 3_600_000), time_unit="ms")
    hours = np.bincount(beijing.dt.hour().to_numpy())
    assert hours[20] > 5 * hours[3]
    is_weekend = beijing.dt.weekday() >= 6
    assert 1.2 < (is_weekend.sum() / 2) / ((~is_weekend).sum() / 5) < 1.4
    assert beijing.dt.date().n_unique() == DEFAULTS.days


def test_users_have_events_of_both_kinds() -> None:
    events = _lived(0.6)
    counts = np.bincount(events.user)
    assert counts.min() >= DEFAULTS.fewest_events
    assert 45 < counts.mean() < 55
    assert 0.4 < (events.kind == FEED).mean() < 0.6


def test_simulated_files_are_read_as_kuaisar(tmp_path: Path) -> None:
    out = simulate(tmp_path / "raw", users=60, items=600, seed=1)
    tables = read_kuaisar(out)
    assert not [one for one in tables.funnel if one["stage"] == "rejected"]
    assert tables.items is not None
    assert tables.users is not None
    assert (tables.items.height, tables.users.height) == (600, 60)
    assert tables.events["item_id"].is_in(tables.items["item_id"].implode()).all()
    truth = json.loads((out / "truth.json").read_text())
    assert tables.derived is not None
    assert truth["hash"] in tables.derived
    assert "transfer 0.6" in tables.derived

    search = tables.events.filter(kind="search")
    sessions = search.group_by("session_id").agg(pl.col("user_id", "time_ms", "query").n_unique())
    assert sessions.select(pl.max("user_id", "time_ms", "query")).row(0) == (1, 1, 1)
    clicked = search.group_by("session_id").agg(pl.col("label").max())["label"].mean()
    assert isinstance(clicked, float)
    assert 0.6 < clicked < 0.8
    pages = tables.events.filter(kind="feed").group_by("user_id", "time_ms").len()["len"]
    assert pages.to_list() != [1] * len(pages)
    assert pages.max() == 3

    # the words of a query are words of the items of its clicked item's topic
    topics = pl.read_parquet(out / "truth_items.parquet")
    words = tables.items.join(topics, on="item_id").group_by("topic").agg(pl.col("text").str.join(" "))
    hits = (
        search.filter(label=1)
        .join(topics, on="item_id")
        .join(words, on="topic")
        .select(pl.col("query").str.split(" ").list.set_difference(pl.col("text").str.split(" ")).list.len() == 0)
        .to_series()
    )
    assert len(hits) > 300
    assert hits.sum() / len(hits) > 0.95  # a word of a group may be in no item of one topic


def test_simulated_files_hang_on_the_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        simulate(tmp_path / name, users=5, items=60, seed=seed)
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    same = [(tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files]
    assert all(same)
    assert (tmp_path / "a/rec_inter.csv").read_bytes() != (tmp_path / "c/rec_inter.csv").read_bytes()


def test_more_users_leave_the_first_block_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corsar.sources.simulate.USERS_A_BLOCK", 4)
    for name, users in (("few", 4), ("more", 8)):
        simulate(tmp_path / name, users=users, items=60)
    few, more = ((tmp_path / name / "src_inter.csv").read_text() for name in ("few", "more"))
    assert more.startswith(few)
    sessions = read_kuaisar(tmp_path / "more").events.filter(kind="search").group_by("session_id")
    assert sessions.agg(pl.col("user_id").n_unique())["user_id"].max() == 1


def test_simulate_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a transfer from 0 to 1; got 5, 60, 14 and 2"):
        simulate(tmp_path / "raw", users=5, items=60, transfer=2)
    with pytest.raises(DataError, match=r"got 5, 60, 14 and \(0, 2\)"):
        simulate(tmp_path / "raw", users=5, items=60, transfer=(0, 2))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        simulate(tmp_path / "mine", users=5, items=60, overwrite=True)
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"
    simulate(tmp_path / "raw", users=5, items=60)
    simulate(tmp_path / "raw", users=5, items=60, overwrite=True)
