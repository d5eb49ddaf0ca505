"""Transitions are counted as they are, chance is what a shuffle gives, and known strengths are recovered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from corsar import api
from corsar.api.look import data_transitions
from corsar.cli import main
from corsar.data.build import build_dataset
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError, DataError
from corsar.evaluate.related import COMPARED, COMPARED_WORDS
from corsar.evaluate.transitions import TRANSITIONS, log_of
from corsar.schema import make_tables
from corsar.sources.simulate import simulate

MONDAY_MS = 1_684_684_800_000  # 22 May 2023, 00:00 in Beijing


def _simulated(folder: Path, transfer: float, users: int) -> Path:
    simulate(folder / "raw", users=users, items=600, transfer=transfer, seed=5)
    api.prepare_kuaisar(folder / "raw", folder / "dataset", split="leave_last")
    return folder / "dataset"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _simulated(tmp_path_factory.mktemp("logs"), 0.6, 120)


def _covers(told: dict[str, float], truth: float) -> bool:
    return told["low"] <= truth <= told["high"]


@pytest.mark.parametrize("transfer", [0.0, 0.3, 0.6, 0.9])
def test_known_strength_is_recovered(transfer: float, tmp_path: Path) -> None:
    told = data_transitions(_simulated(tmp_path, transfer, 300))
    for row in told["related"]:
        if row["by"] != "words":
            assert _covers(row["strength"], transfer), row
            assert row["strength"]["high"] - row["strength"]["low"] < 0.15
        assert _covers(row["excess"], 0.0) == (transfer == 0), row
    assert all(_covers(row["excess"], 0.0) for row in told["matrix"])  # the order of kinds is drawn independently


def test_known_order_of_kinds_is_recovered(tmp_path: Path) -> None:
    """Kinds of a Markov chain: a feed event is followed by a search with probability 0.2, a search by another with 0.4."""
    draw, rows = np.random.default_rng(9), []
    for user in range(150):
        is_search = False
        for place in range(60):
            rows.append((user, place % 7, "search" if is_search else "feed", place * 1000, "q" if is_search else None))
            is_search = bool(draw.random() < (0.4 if is_search else 0.2))
    events = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms", "query"], orient="row")
    told = data_transitions(build_dataset(make_tables(events, source="chain"), tmp_path / "dataset", split="leave_last"))
    found = {row["transition"]: row for row in told["matrix"]}
    for name, truth in zip(TRANSITIONS, (0.8, 0.2, 0.6, 0.4), strict=True):
        assert _covers(found[name]["of_first"], truth), name
        assert found[name]["of_first"]["high"] - found[name]["of_first"]["low"] < 0.05
    assert found["search→search"]["excess"]["low"] > 0
    assert found["feed→search"]["excess"]["high"] < 0


def _users(dataset: Dataset) -> list[list[tuple[int, bool, int, int]]]:
    """Plain twin of the log: each user's (time, is_search, item, query) in order, pages of the feed as one."""
    history, users = dataset.history, []
    for user in range(1, len(dataset.users) + 1):
        events = []
        for at in range(int(history.feed_offsets[user]), int(history.feed_offsets[user + 1])):
            place = at - int(history.feed_offsets[user]) + int(history.feed_others[at])
            events.append((place, int(history.feed_times[at]), False, int(history.feed_items[at]), 0))
        for at in range(int(history.search_offsets[user]), int(history.search_offsets[user + 1])):
            place = at - int(history.search_offsets[user]) + int(history.search_others[at])
            start, end = history.search_clicks.offsets[at : at + 2].tolist()
            item = int(history.search_clicks.values[start]) if end > start else 0
            events.append((place, int(history.search_times[at]), True, item, int(history.search_queries[at])))
        kept: list[tuple[int, bool, int, int]] = []
        pages = set()
        for _, *event in sorted(events):
            if event[1] or event[0] not in pages:
                kept.append(tuple(event))  # type: ignore[arg-type]
            if not event[1]:
                pages.add(event[0])
        users.append(kept)
    return users


def test_log_is_what_happened_in_order(logs: Path) -> None:
    log = log_of(open_dataset(logs).history)
    want = [(user + 1, *event) for user, events in enumerate(_users(open_dataset(logs))) for event in events]
    columns = (log.user_E, log.time_E, log.is_search_E, log.item_E, log.query_E)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == want


def test_matrix_counts_pairs_and_expects_what_shuffles_give(logs: Path) -> None:
    told, draw = data_transitions(logs), np.random.default_rng(0)
    users = [np.array([event[1] for event in events]) for events in _users(open_dataset(logs)) if events]

    def counted(kinds: list[Any]) -> Any:
        return sum(np.bincount(2 * one[:-1] + one[1:], minlength=4) for one in kinds)

    counts, shuffles = counted(users), [counted([draw.permutation(one) for one in users]) for _ in range(60)]
    for at, row in enumerate(told["matrix"]):
        assert row["count"] == counts[at]
        assert row["share"]["value"] == pytest.approx(counts[at] / counts.sum())
        assert row["of_first"]["value"] == pytest.approx(counts[at] / counts[at // 2 * 2 : at // 2 * 2 + 2].sum())
        assert row["expected"]["value"] == pytest.approx(np.mean([one[at] for one in shuffles]) / counts.sum(), rel=0.01)
        assert row["excess"]["value"] == pytest.approx(row["share"]["value"] - row["expected"]["value"])
        assert row["share"]["low"] < row["share"]["value"] < row["share"]["high"]


def test_related_equals_its_plain_count(logs: Path) -> None:
    dataset = open_dataset(logs)
    topics = dataset.catalogue.item_categories[:, 1].tolist()
    queries, texts = dataset.history.queries, dataset.catalogue.item_words

    def words(table: Any, row: int) -> set[int]:
        return set(table.values[table.offsets[row] : table.offsets[row + 1]].tolist())

    for row in data_transitions(logs)["related"]:
        is_search, by_words, hits, others = row["direction"] == "search after feed", row["by"] == "words", [], []
        for events in _users(dataset):
            for at, (_, kind, item, query) in enumerate(events):
                before = [one for one in events[:at] if one[1] != kind and (by_words or topics[one[2]])]
                last = [one for one in events[:at] if one[1] != kind][-1:]
                if (
                    kind != is_search
                    or not last
                    or before[-1:] != last
                    or len(before) < 2
                    or not (query if by_words else topics[item])
                ):
                    continue
                if by_words:
                    like = [bool(words(queries, query) & words(texts, one[2])) for one in before[-COMPARED_WORDS - 1 :]]
                else:
                    like = [topics[one[2]] == topics[item] for one in before[-COMPARED - 1 :]]
                hits.append(like[-1])
                others.append(np.mean(like[:-1]))
        assert row["cases"] == len(hits) > 500
        assert row["share"]["value"] == pytest.approx(np.mean(hits))
        assert row["expected"]["value"] == pytest.approx(np.mean(others))
        assert row["excess"]["value"] == pytest.approx(np.mean(hits) - np.mean(others))


def test_searches_without_a_click_are_those_of_the_raw_log(logs: Path) -> None:
    sessions = pl.read_csv(logs.parent / "raw" / "src_inter.csv").group_by("search_session_id").agg(pl.col("click_cnt").max())
    told = data_transitions(logs)["zero_click"]
    assert (told["searches"], told["without_click"]) == (sessions.height, sessions.filter(click_cnt=0).height)
    assert told["rate"]["value"] == pytest.approx(told["without_click"] / told["searches"])
    assert 0.25 < told["rate"]["low"] < told["rate"]["value"] < told["rate"]["high"] < 0.35


def test_days_hours_and_times_between(tmp_path: Path) -> None:
    hour = 3_600_000
    rows = [("u", 1, "feed", MONDAY_MS, None), ("u", 2, "feed", MONDAY_MS, None), ("u", 1, "search", MONDAY_MS + 5 * hour, "x"),
            ("u", None, "search", MONDAY_MS + 31 * hour, "y"), ("u", 3, "feed", MONDAY_MS + 33 * hour, None)]  # fmt: skip
    events = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms", "query"], orient="row")
    path = build_dataset(make_tables(events, source="hours"), tmp_path / "dataset", split="leave_last")
    told = data_transitions(path, utc_offset_min=480)
    assert [row["count"] for row in told["matrix"]] == [0, 1, 1, 1]  # the page is one event
    hours = {row["hour"]: [row[name] for name in TRANSITIONS] for row in told["by_hour"]}
    assert {at: counts for at, counts in hours.items() if any(counts)} == {5: [0, 1, 0, 0], 7: [0, 0, 0, 1], 9: [0, 0, 1, 0]}
    days = {row["day"]: sum(row[name] for name in TRANSITIONS) for row in told["by_day"]}
    assert (days["Monday"], days["Tuesday"], sum(days.values())) == (1, 2, 3)
    assert [row["median_s"] for row in told["between"]] == [None, 5 * 3600.0, 2 * 3600.0, 26 * 3600.0]
    assert told["zero_click"]["without_click"] == 1
    assert told["zero_click"]["rate"]["value"] == 0.5
    utc = data_transitions(path)
    assert utc["utc_offset_min"] == 0
    assert [row["hour"] for row in utc["by_hour"] if any(row[name] for name in TRANSITIONS)] == [1, 21, 23]


def test_positions_have_no_days(tmp_path: Path) -> None:
    events, items = api.example_logs()
    tables = make_tables(events.with_columns(time_ms=pl.col("time_ms") // 3_600_000), items, source="places", clock="ordinal")
    told = data_transitions(build_dataset(tables, tmp_path / "dataset", split="leave_last"))
    assert not {"by_hour", "by_day", "between"} & told.keys()


def test_page_and_table_say_the_same(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "transitions", str(logs), "--page", str(tmp_path / "page.html"), "--json"])
    told = json.loads(capsys.readouterr().out)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    main(["data", "transitions", str(logs)])
    table = capsys.readouterr().out
    for row in told["matrix"]:
        for text in (page, table):
            assert f"{row['excess']['value']:.4f}" in text
            assert row["transition"] in text
    assert "Simulated logs" in page
    assert "Simulated logs" in table
    assert told["utc_offset_min"] == 480
    assert "Content-Security-Policy" in page
    assert '<script src="' not in page
    assert all(f'id="{name}"' in page for name in ("excess", "by_hour", "by_day"))


def test_transitions_say_what_is_wrong(logs: Path, tiny_city: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="second_level_category_id"):
        data_transitions(logs, category="colour")
    with pytest.raises(DataError, match="check-ins"):
        data_transitions(tiny_city)
    with pytest.raises(ConfigError, match="is a directory"):
        data_transitions(logs, page=tmp_path)
