from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from corsar.batch import Ragged, Task
from corsar.config import DataSection
from corsar.data.build import build_dataset
from corsar.data.loader import case_batches
from corsar.data.split import assign_splits
from corsar.data.store import SPLITS, Cases, Dataset, open_dataset
from corsar.errors import DataError
from corsar.schema import make_tables

Row = dict[str, Any]


TASKS: tuple[Task, ...] = ("recommend", "search")


def feed(user: int, item: int, time: int, split: str | None = None, label: int = 1) -> Row:
    base = {"user_id": user, "item_id": item, "kind": "feed", "time_ms": time}
    return {**base, "query": None, "session_id": None, "label": label, "split": split}


def search(
    user: int, item: int | None, time: int, query: str, session: str | None = None, split: str | None = None, label: int = 1
) -> Row:
    base = {"user_id": user, "item_id": item, "kind": "search", "time_ms": time}
    return {**base, "query": query, "session_id": session, "label": label, "split": split}


def build(
    rows: list[Row], path: Path, *, items: Any = None, candidates: Any = None, users: Any = None, **options: Any
) -> Dataset:
    events = pl.DataFrame(rows, schema_overrides={"query": pl.String, "session_id": pl.String, "split": pl.String})
    if events["split"].null_count():
        events = events.drop("split")
    meta = {name: options.pop(name) for name in ("clock", "categories", "attributes") if name in options}
    tables = make_tables(events, items, users, candidates, source="test", **meta)
    return open_dataset(build_dataset(tables, path / "ds", **options))


def lists(ragged: Ragged) -> list[list[int]]:
    values = ragged.values.tolist()
    return [values[a:b] for a, b in zip(ragged.offsets.tolist(), ragged.offsets.tolist()[1:], strict=False)]


def random_rows(seed: int, num_users: int = 9) -> list[Row]:
    """Events with ties in time, pages, sessions of several rows, clickless searches and unclicked rows."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for user in range(1, num_users + 1):
        for entry in range(rng.randrange(1, 14)):
            time = rng.randrange(0, 20)
            if rng.random() < 0.5:
                rows += [
                    feed(user, rng.randint(1, 30), time, label=int(rng.random() < 0.8)) for _ in range(rng.choice([1, 1, 3]))
                ]
            elif rng.random() < 0.3:
                rows.append(search(user, rng.choice([None, 4]), time, f"w{entry}"))
            else:
                session, query = f"s{user}-{entry}", f"w{rng.randint(1, 6)}"
                for later in rng.choice([[0], [0], [0, 0], [0, 0, 3]]):
                    label = int(rng.random() < 0.7)
                    rows.append(search(user, rng.randint(1, 30), time + later, query, session, label=label))
    rng.shuffle(rows)
    return rows


def entries_by_hand(rows: list[Row]) -> dict[int, list[Row]]:
    """Feed events and searches of each user, in order, from the definitions."""
    searches: dict[Any, list[tuple[int, Row]]] = defaultdict(list)
    users: dict[int, list[Row]] = defaultdict(list)
    for order, row in enumerate(rows):
        if row["kind"] == "search":
            searches[(row["user_id"], row["session_id"] or order)].append((order, row))
        elif row["label"] == 1:
            users[row["user_id"]].append(
                {"search": False, "time": row["time_ms"], "last": row["time_ms"], "order": order, "items": [row["item_id"]]}
            )
    for (user, _), members in searches.items():
        members.sort(key=lambda one: (one[1]["time_ms"], one[0]))
        clicked: dict[int, int] = {}
        for _, row in members:
            if row["label"] == 1 and row["item_id"] is not None:
                clicked.setdefault(row["item_id"], row["time_ms"])
        order, first = members[0]
        last = max(clicked.values(), default=first["time_ms"])
        entry = {"search": True, "time": first["time_ms"], "last": last, "order": order, "items": list(clicked)}
        users[user].append({**entry, "query": first["query"]})
    return {user: sorted(entries, key=lambda one: (one["time"], one["order"])) for user, entries in users.items()}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("split", ["leave_last", "last_fraction", "time"])
def test_dataset_cases_and_histories_equal_those_by_hand(seed: int, split: str, tmp_path: Path) -> None:
    rows = random_rows(seed)
    items = pl.DataFrame({"item_id": range(1, 31), "text": [f"w{item % 7} thing" for item in range(1, 31)]})
    spans = {"valid_ms": 4, "test_ms": 4} if split == "time" else {}
    dataset = build(rows, tmp_path, items=items, split=split, **spans)
    history = dataset.history
    clicks, queries = lists(history.search_clicks), lists(history.queries)
    words = [" ".join(dataset.words.ids(query).to_list()) for query in queries]
    by_hand = entries_by_hand(rows)
    expected, found = [], []
    for user, entries in by_hand.items():
        for entry in entries:
            before = [e for e in entries if e["time"] < entry["time"]]
            hidden = [e["search"] and e["last"] >= entry["time"] for e in before]
            first = hidden.index(True) if True in hidden else len(before)
            seen = [e for at, e in enumerate(before) if not e["search"] or at < first]
            page = [e["items"][0] for e in entries if not e["search"] and e["time"] == entry["time"]]
            together = entry["items"] if entry["search"] else page
            expected += [
                (
                    user, item, entry["time"], entry.get("query", "") if entry["search"] else "",
                    [e["items"][0] for e in seen if not e["search"]],
                    [(e["query"], e["items"]) for e in seen if e["search"]],
                    sorted(one for one in together if one != item),
                )
                for item in entry["items"]
            ]  # fmt: skip
    for part in SPLITS:
        for task in TASKS:
            cases = dataset.cases(part, task)
            mates = lists(cases.mates)
            for row in range(len(cases)):
                user = int(cases.user_N[row])
                feeds = history.feed_items[history.feed_offsets[user] : cases.feed_end_N[row]]
                searches = range(int(history.search_offsets[user]), int(cases.search_end_N[row]))
                past = [(words[int(history.search_queries[at])], clicks[at]) for at in searches]
                name, query = dataset.users.ids([user])[0], words[int(cases.query_N[row])]
                item, time = int(cases.item_N[row]), int(cases.time_N[row])
                found.append((name, item, time, query, feeds.tolist(), past, sorted(mates[row])))
    known = set(words)
    blank = [
        (u, i, t, q if q in known else "", f, [(w if w in known else "", c) for w, c in s], m)
        for u, i, t, q, f, s, m in expected
    ]
    assert sorted(found) == sorted(blank)


@pytest.mark.parametrize("seed", range(4))
def test_windows_hold_nothing_at_or_after_the_time_of_the_case(seed: int, tmp_path: Path) -> None:
    dataset = build(random_rows(seed), tmp_path, split="leave_last", items=pl.DataFrame({"item_id": range(1, 31)}))
    history = dataset.history
    train_last = defaultdict(lambda: -1)
    for task in TASKS:
        cases = dataset.cases("train", task)
        for user, time in zip(cases.user_N.tolist(), cases.time_N.tolist(), strict=True):
            train_last[user] = max(train_last[user], time)
    for split in SPLITS:
        for task in TASKS:
            cases = dataset.cases(split, task)
            for user, end, time in zip(cases.user_N.tolist(), cases.feed_end_N.tolist(), cases.time_N.tolist(), strict=True):
                times = history.feed_times[history.feed_offsets[user] : end]
                assert (times < time).all()
                assert split != "train" or (times <= train_last[user]).all()
            for user, end, time in zip(cases.user_N.tolist(), cases.search_end_N.tolist(), cases.time_N.tolist(), strict=True):
                assert (history.search_times[history.search_offsets[user] : end] < time).all()
            for batch in case_batches(dataset, cases, None, DataSection(feed_len=3, search_len=2), 5):
                assert (batch.candidates_BC.sort(1).values == torch.arange(1, 31)).all()


def test_search_is_one_entry_at_its_earliest_time(tmp_path: Path) -> None:
    rows = [
        feed(1, 1, 0, "train"),
        search(1, 3, 12, "red shoe", "s", "train"),
        search(1, 2, 10, "red shoe", "s", "train"),
        search(1, 4, 11, "red shoe", "s", "train", label=0),
        feed(1, 5, 11, "train"),
        feed(1, 1, 20, "test"),
    ]
    dataset = build(rows, tmp_path)
    history = dataset.history
    assert history.search_times.tolist() == [10]
    assert lists(history.search_clicks) == [[2, 3]]
    cases = dataset.cases("train", "search")
    assert cases.item_N.tolist() == [2, 3]
    assert cases.time_N.tolist() == [10, 10]
    assert lists(cases.mates) == [[3], [2]]
    assert cases.search_end_N.tolist() == [0, 0]
    # at time 11 the click at 12 is still to come
    assert dataset.cases("train", "recommend").search_end_N.tolist() == [0, 0]
    assert dataset.cases("test", "recommend").search_end_N.tolist() == [1]
    assert dataset.cases("test", "recommend").both_histories(history).tolist() == [True]


def test_label_0_is_neither_history_nor_target(tmp_path: Path) -> None:
    rows = [feed(1, 1, 0), feed(1, 2, 1, label=0), feed(1, 3, 2), feed(1, 4, 3), feed(1, 5, 4)]
    dataset = build(rows, tmp_path, split="leave_last")
    assert len(dataset.history.feed_items) == 4
    assert dataset.items.ids(dataset.history.feed_items.numpy()).to_list()[:2] == [1, 3]
    assert {
        "table": "dataset",
        "stage": "rejected",
        "rows": 1,
        "reason": "feed event shown only (label 0)",
    } in dataset.manifest["funnel"]


def test_clickless_search_is_kept_or_dropped_by_option(tmp_path: Path) -> None:
    rows = [search(1, None, 0, "lost"), feed(1, 1, 1), feed(1, 2, 2), feed(1, 3, 3)]
    items = pl.DataFrame({"item_id": [1, 2, 3]})
    kept = build(rows, tmp_path / "kept", split="leave_last", items=items)
    assert lists(kept.history.search_clicks) == [[]]
    assert len(kept.cases("train", "search")) == 0
    assert kept.cases("test", "recommend").search_end_N.tolist() == [1]
    dropped = build(rows, tmp_path / "dropped", split="leave_last", items=items, require_click=True)
    assert len(dropped.history.search_times) == 0


def test_unknown_item_of_a_test_event_is_row_0_and_no_case(tmp_path: Path) -> None:
    rows = [feed(1, 1, 0, "train"), feed(1, 9, 1, "valid"), search(1, 8, 2, "q", None, "test"), feed(1, 1, 3, "test")]
    dataset = build(rows, tmp_path)
    assert len(dataset.items) == 1
    assert dataset.history.feed_items.tolist() == [1, 0, 1]
    assert lists(dataset.history.search_clicks) == [[]]
    assert len(dataset.cases("test", "search")) == 0
    assert dataset.cases("test", "recommend").item_N.tolist() == [1]
    reasons = {line["reason"]: line["rows"] for line in dataset.manifest["funnel"]}
    assert reasons == {"unknown item (valid, recommend)": 1, "unknown item (test, search)": 1}


def test_words_come_from_texts_and_training_queries(tmp_path: Path) -> None:
    rows = [
        search(1, 1, 0, "Red shoe", None, "train"), search(1, 1, 1, "red  SHOE", None, "train"),
        search(1, 1, 2, "later shoe", None, "valid"), search(1, 1, 3, "only now", None, "test"),
    ]  # fmt: skip
    items = pl.DataFrame({"item_id": [1, 2], "text": ["shoe box", None]})
    dataset = build(rows, tmp_path, items=items)
    assert dataset.words.ids([1, 2, 3]).to_list() == ["box", "red", "shoe"]
    assert lists(dataset.catalogue.item_words) == [[], [3, 1], []]
    assert lists(dataset.history.queries) == [[], [2, 3], [3]]
    assert dataset.history.search_queries.tolist() == [1, 1, 2, 0]
    assert dataset.manifest["counts"]["train_queries"] == 1
    assert dataset.item_text([1, 2, 0]) == ["shoe box", "", ""]


def test_categories_and_attributes_are_numbered_from_1(tmp_path: Path) -> None:
    rows = [feed(7, 1, 0, "train"), feed(7, 2, 1, "test")]
    items = pl.DataFrame({"item_id": [2, 1, 3], "text": ["", "", ""], "c1": ["b", "a", None], "c2": [5, 5, 9]})
    users = pl.DataFrame({"user_id": [7, 3], "level": [4, None]}, schema_overrides={"level": pl.Int64})
    dataset = build(rows, tmp_path, items=items, users=users, categories=("c1", "c2"), attributes=("level",))
    assert dataset.catalogue.item_categories.tolist() == [[0, 0], [1, 1], [2, 1], [0, 2]]
    assert dataset.catalogue.user_attributes.tolist() == [[0], [0], [1]]
    sizes = dataset.sizes(4, 3)
    assert (sizes.category_sizes, sizes.attribute_sizes, sizes.num_users, sizes.num_items) == ((2, 2), (1,), 2, 3)
    assert (sizes.feed_len, sizes.search_len) == (4, 3)


def test_string_ids_go_out_as_they_came_in(tmp_path: Path) -> None:
    rows = [dict(feed(1, 1, t), user_id="u", item_id=f"i{t}") for t in range(4)]
    dataset = build(rows, tmp_path, split="leave_last", items=pl.DataFrame({"item_id": [f"i{t}" for t in range(4)]}))
    assert dataset.users.ids([1]).to_list() == ["u"]
    assert dataset.items.ids(dataset.history.feed_items.numpy()).to_list() == ["i0", "i1", "i2", "i3"]


def test_given_split_refuses_to_go_back_in_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 users have training events after"):
        build([feed(1, 1, 0, "train"), feed(1, 2, 1, "test"), feed(1, 3, 2, "train")], tmp_path)
    build([feed(1, 1, 0, "train"), feed(1, 2, 1, "test"), feed(1, 3, 1, "train")], tmp_path)


def test_split_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    rows = [feed(1, 1, 0), feed(1, 2, 1)]
    for options, message in [
        ({"split": "given"}, "column 'split'"),
        ({"split": "time", "test_ms": 1, "clock": "ordinal"}, "positions, not dates"),
        ({"split": "time"}, "test_days"),
        ({"split": "time", "test_ms": 99}, "nothing to train on"),
        ({"split": "leave_last", "test_ms": 99}, "takes no held-out days"),
        ({"split": "half"}, "unknown split"),
    ]:
        with pytest.raises(DataError, match=message):
            build(rows, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_split_time_holds_out_the_last_days() -> None:
    time = np.arange(10)
    split, params = assign_splits(
        np.ones(10, int), time, np.ones(10, int), None, split="time", clock="utc", valid_ms=2, test_ms=3
    )
    assert split.tolist() == [0] * 5 + [1] * 2 + [2] * 3
    assert (params["valid_from_ms"], params["test_from_ms"]) == (5, 7)


def test_splits_by_position_count_clicked_entries() -> None:
    user = np.array([1] * 10 + [2] * 4 + [3])
    click = np.array([1] * 10 + [1, 1, 0, 1] + [1])
    options: Any = {"clock": "ordinal", "valid_ms": None, "test_ms": None}
    last, _ = assign_splits(user, np.arange(15), click, None, split="leave_last", **options)
    assert last.tolist() == [0] * 8 + [1, 2] + [0, 1, 1, 2] + [2]
    fraction, _ = assign_splits(user, np.arange(15), click, None, split="last_fraction", **options)
    assert fraction.tolist() == [0] * 7 + [1] + [2] * 2 + [0] * 5


def given(rows: list[tuple[int, int, str, list[int]]], **more: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "time_ms", "split", "negatives"], orient="row").with_columns(**more)


PAGE = [
    feed(1, 1, 0, "train"),
    feed(1, 2, 0, "train"),
    feed(1, 3, 1, "test"),
    search(1, 4, 2, "a", "s", "test"),
    search(1, 5, 2, "a", "s", "test"),
]
ITEMS = pl.DataFrame({"item_id": range(1, 10)})


def test_candidates_find_their_cases(tmp_path: Path) -> None:
    table = given([(1, 2, "test", [7, 8]), (1, 1, "test", [6, 9]), (1, 2, "test", [8, 1])]).with_columns(
        item_id=pl.Series([5, 3, 4])
    )
    dataset = build(PAGE, tmp_path, items=ITEMS, candidates=table)
    found = [dataset.cases("test", task).negatives_NC for task in TASKS]
    assert [None if one is None else one.tolist() for one in found] == [[[6, 9]], [[8, 1], [7, 8]]]
    assert dataset.cases("train", "recommend").negatives_NC is None
    assert dataset.manifest["candidates"]["test"]["negatives"] == 2


@pytest.mark.parametrize(
    ("rows", "item", "message"),
    [
        ([(1, 9, "test", [7])], None, "1 rows of candidates match no case"),
        ([(1, 1, "valid", [7])], None, "match no case"),
        ([(1, 1, "test", [7]), (1, 2, "test", [8])], None, "1 rows of candidates match several cases"),
        ([(1, 1, "test", [7]), (1, 1, "test", [8])], None, "share a case"),
        ([(1, 1, "test", [7])], None, "2 of 3 test cases have no candidates"),
        ([(1, 1, "test", [7]), (1, 2, "test", [8]), (1, 2, "test", [8, 9])], [3, 4, 5], "numbers of negatives"),
        ([(1, 1, "test", [7]), (1, 2, "test", [8]), (1, 2, "test", [77])], [3, 4, 5], "first: 77"),
        ([(1, 1, "test", [3]), (1, 2, "test", [8]), (1, 2, "test", [8])], [3, 4, 5], "hold the target"),
        ([(1, 1, "test", [7]), (1, 2, "test", [8]), (1, 2, "test", [4])], [3, 4, 5], "1 test rows of candidates hold"),
        ([(1, 0, "train", [7])], None, "belong to the splits"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(rows: Any, item: list[int] | None, message: str, tmp_path: Path) -> None:
    table = given(rows) if item is None else given(rows).with_columns(item_id=pl.Series(item))
    with pytest.raises(DataError, match=message):
        build(PAGE, tmp_path, items=ITEMS, candidates=table)


def test_session_of_two_queries_is_refused(tmp_path: Path) -> None:
    rows = [search(1, 1, 0, "a", "s", "train"), search(1, 1, 1, "b", "s", "train")]
    with pytest.raises(DataError, match="hold several queries"):
        build(rows, tmp_path)


def test_words_are_the_same_however_many_texts_are_cut_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["red shoe", "", "Blue shoe red red", "地図の本", "a b c d"] * 2 + ["x", ""]
    items = pl.DataFrame({"item_id": range(1, 13), "text": texts})
    rows = random_rows(5)
    whole = build(rows, tmp_path / "whole", items=items, split="leave_last")
    monkeypatch.setattr("corsar.data.words.AT_ONCE", 2)
    cut = build(rows, tmp_path / "cut", items=items, split="leave_last")
    assert cut.manifest == whole.manifest
    assert cut.words.ids(cut.catalogue.item_words.select(torch.tensor([3])).values.tolist()).to_list() == [
        "blue",
        "shoe",
        "red",
        "red",
    ]


def test_rebuilding_gives_the_same_hashes(tmp_path: Path) -> None:
    rows = random_rows(3)
    one, two = (build(rows, tmp_path / name, split="leave_last") for name in ("one", "two"))
    assert one.manifest == two.manifest
    one.verify()
    rows[0]["time_ms"] += 100
    assert build(rows, tmp_path / "three", split="leave_last").manifest["data_hash"] != one.manifest["data_hash"]


def test_dataset_directory_is_whole_or_refused(tmp_path: Path) -> None:
    dataset = build(random_rows(1), tmp_path, split="leave_last")
    with pytest.raises(DataError, match="exists"):
        build(random_rows(1), tmp_path, split="leave_last")
    again = build(random_rows(2), tmp_path, split="leave_last", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["ds"]
    assert again.manifest["data_hash"] != dataset.manifest["data_hash"]
    file = again.path / "history" / "feed_items.npy"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DataError, match="not what prepare wrote"):
        open_dataset(again.path).verify()
    file.write_bytes(raw[:-8])
    with pytest.raises(DataError, match="another size"):
        open_dataset(again.path)
    with pytest.raises(DataError, match="no dataset directory"):
        open_dataset(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ds").mkdir()
    with pytest.raises(DataError, match="not overwritten"):
        build(random_rows(1), tmp_path / "mine", split="leave_last", overwrite=True)


@pytest.mark.real
def test_toys_has_the_published_numbers(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "toys_search_feed"
    events, items, candidates = (pl.read_parquet(folder / f"{n}.parquet") for n in ("events", "items", "candidates"))
    tables = make_tables(
        events.rename({"time": "time_ms"}), items.rename({"words": "text"}), None, candidates.rename({"time": "time_ms"}),
        source="toys", clock="ordinal",
    )  # fmt: skip
    dataset = open_dataset(build_dataset(tables, tmp_path / "toys"))

    def cases(split: Any) -> list[Cases]:
        return [dataset.cases(split, task) for task in TASKS]

    assert (len(dataset.users), len(dataset.items)) == (19_412, 11_924)
    assert [sum(map(len, cases(split))) for split in SPLITS] == [128_773, 19_412, 19_412]
    both = {split: [int(part.both_histories(dataset.history).sum()) for part in cases(split)] for split in SPLITS}
    assert both["test"] == [9_071, 9_202]
    assert [-(-num // 1024) for num in both["train"]] == [37, 37]
    assert all(part.negatives_NC is not None and part.negatives_NC.shape[1] == 99 for part in cases("test"))
    assert dataset.manifest["counts"]["same_time"] == {"train": 0, "valid": 0, "test": 0}
