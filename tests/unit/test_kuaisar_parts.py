"""KuaiSAR in parts: in how many the raw files are worked through changes nothing, and what filters leave out is told."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import corsar
from corsar.data import words
from corsar.data.build import build_dataset
from corsar.data.growing import Growing
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, DataError
from corsar.sources import files
from corsar.sources.filters import Filters
from corsar.sources.kuaisar import part_kuaisar, read_kuaisar
from corsar.sources.simulate import simulate
from corsar.spool import Spool, cuts, deal

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated logs whose items are not in order, with an item twice, one without an id, and two types."""
    folder = simulate(tmp_path_factory.mktemp("kuaisar") / "raw", users=24, items=150, days=4)
    items = pl.read_csv(folder / "item_features.csv", infer_schema=False)
    items = items.with_columns(item_type=pl.Series(["NORMAL", "NORMAL", "AD"] * (len(items) // 3)))
    lost = items[:1].with_columns(item_id=pl.lit(None, pl.String))
    pl.concat([items.reverse(), items[5:6], lost]).write_csv(folder / "item_features.csv")
    searches = pl.read_csv(folder / "src_inter.csv", infer_schema=False)
    kind = pl.Series(["PHOTO", "PHOTO", "LIVE"] * (len(searches) // 3 + 1))[: len(searches)]
    searches.with_columns(item_type=kind).write_csv(folder / "src_inter.csv")
    return folder


def built(raw: Path, out: Path, part_rows: int, split: Any, filters: Filters | None = None) -> corsar.Dataset | Any:
    spans = {"valid_ms": DAY_MS, "test_ms": DAY_MS} if split == "time" else {}
    read = partial(part_kuaisar, raw, part_rows=part_rows, filters=filters)
    return open_dataset(build_dataset(read, out, split=split, **spans))


@pytest.mark.parametrize(
    ("split", "filters"),
    [("time", Filters()), ("leave_last", Filters(k_core=3, item_types=("NORMAL",)))],
    ids=["all", "filtered"],
)
def test_parts_of_any_size_give_the_same_bytes(
    raw: Path, split: str, filters: Filters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = built(raw, tmp_path / "whole", 1 << 60, split, filters)
    monkeypatch.setattr(files, "BLOCK_BYTES", 30_000)
    parted = built(raw, tmp_path / "parted", 400, split, filters)
    assert len(part_kuaisar(raw, tmp_path / "spool", part_rows=400).events) > 3
    assert parted.manifest == whole.manifest
    parted.verify()
    tables = build_dataset(
        read_kuaisar(raw, filters=filters), tmp_path / "frames", split=split,  # type: ignore[arg-type]
        **({"valid_ms": DAY_MS, "test_ms": DAY_MS} if split == "time" else {}),
    )  # fmt: skip
    assert open_dataset(tables).manifest == whole.manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "parted", "spool", "whole"]


def core_by_hand(clicks: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    while True:
        users, items = Counter(user for user, _ in clicks), Counter(item for _, item in clicks)
        left = [(user, item) for user, item in clicks if users[user] >= k and items[item] >= k]
        if len(left) == len(clicks):
            return left
        clicks = left


def clicks_of(tables: Any) -> list[tuple[int, int]]:
    return sorted(tables.events.filter(pl.col("label") == 1).select("user_id", "item_id").iter_rows())


def test_core_holds_the_clicks_of_its_definition(raw: Path) -> None:
    everything, kept = read_kuaisar(raw), read_kuaisar(raw, filters=Filters(k_core=9))
    expected = sorted(core_by_hand(clicks_of(everything), 9))
    assert 0 < len(expected) < len(clicks_of(everything))
    assert clicks_of(kept) == expected
    assert kept.items is not None
    assert set(kept.items["item_id"]) <= {item for _, item in expected}
    assert kept.events["user_id"].is_in({user for user, _ in expected}).all()


def test_few_clicks_of_a_user_leave_him_out(raw: Path) -> None:
    num = Counter(user for user, _ in clicks_of(read_kuaisar(raw)))
    least = sorted(num.values())[len(num) // 2]
    kept = read_kuaisar(raw, filters=Filters(min_events=least))
    assert set(kept.events["user_id"]) == {user for user, clicks in num.items() if clicks >= least}
    assert any("min_events" in line["reason"] for line in kept.funnel)


def test_days_are_those_of_beijing(raw: Path) -> None:
    everything = read_kuaisar(raw).events
    day = (pl.col("time_ms") + 480 * 60_000).cast(pl.Datetime("ms")).dt.date()
    first = everything.select(day.min()).item()
    some = [first.replace(day=first.day + 1), first.replace(day=first.day + 2)]
    kept = read_kuaisar(raw, filters=Filters(some[0], some[1])).events
    assert kept.height == everything.filter(day.is_in(some)).height > 0
    with pytest.raises(DataError, match="hold nothing"):
        read_kuaisar(raw, filters=Filters(some[1], some[0]))


def test_clicks_on_other_types_are_none_and_their_searches_stay(raw: Path) -> None:
    everything = read_kuaisar(raw)
    normal = set(
        pl.read_csv(raw / "item_features.csv").filter(pl.col("item_type") == "NORMAL")["item_id"].drop_nulls().to_list()
    )
    kept = read_kuaisar(raw, filters=Filters(item_types=("NORMAL",), search_types=("PHOTO",)))
    assert kept.items is not None
    assert set(kept.items["item_id"]) == normal
    assert {item for _, item in clicks_of(kept)} <= normal
    of_search = pl.col("kind") == "search"
    assert (
        kept.events.filter(of_search)["session_id"].n_unique() == everything.events.filter(of_search)["session_id"].n_unique()
    )
    assert set(kept.events.filter(~of_search)["item_id"]) <= normal
    names = " ".join(line["reason"] for line in kept.funnel)
    assert "item_types" in names
    assert "search_types" in names
    with pytest.raises(DataError, match="no item is of the type 'ad'; those that are there: AD, NORMAL"):
        read_kuaisar(raw, filters=Filters(item_types=("ad",)))


@pytest.mark.parametrize("filters", [Filters(), Filters(k_core=5, min_events=12, item_types=("AD",), search_types=("LIVE",))])
def test_funnel_of_filters_adds_up(raw: Path, filters: Filters, tmp_path: Path) -> None:
    parts = part_kuaisar(raw, tmp_path / "spool", filters=filters, part_rows=500)
    assert parts.items is not None
    rows: dict[tuple[str, str], int] = Counter()
    for line in parts.funnel:
        rows[line["table"], line["stage"]] += line["rows"]
    kept = {"items": sum(map(len, parts.items)), "users": len(parts.users)}  # type: ignore[arg-type]
    for kind in ("feed", "search"):
        kept[f"events ({kind})"] = sum(len(part.filter(pl.col("kind") == kind)) for part in parts.events)
    for table, num in kept.items():
        assert rows[table, "read"] == rows[table, "rejected"] + rows[table, "kept"], table
        assert rows[table, "kept"] == num, table


def test_prepare_kuaisar_takes_the_options(raw: Path, tmp_path: Path) -> None:
    told = corsar.prepare_kuaisar(raw, tmp_path / "a", split="leave_last", min_events=5, require_click=True)
    assert any("require_click" in line["reason"] for line in told["funnel"])
    spans = open_dataset(tmp_path / "a").manifest["split"]
    assert spans["name"] == "leave_last"
    corsar.prepare_kuaisar(raw, tmp_path / "b", valid_days=0.5, test_days=2)
    assert open_dataset(tmp_path / "b").manifest["split"]["test_ms"] == 2 * DAY_MS
    with pytest.raises(ConfigError, match=r"from_day is '22.5.2023', which is no day"):
        corsar.prepare_kuaisar(raw, tmp_path / "c", from_day="22.5.2023")
    with pytest.raises(ConfigError, match="numbers of clicks"):
        corsar.prepare_kuaisar(raw, tmp_path / "c", k_core=-1)
    with pytest.raises(DataError, match="no event is left"):
        corsar.prepare_kuaisar(raw, tmp_path / "c", k_core=10_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_block_ends_where_a_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pl.DataFrame({"a": [f'{at} "x\n{at}"' if at % 3 == 0 else str(at) for at in range(400)], "b": ["[1, 2]"] * 400})
    table.write_csv(tmp_path / "a.csv")
    for size in (64, 1000, 1 << 20):
        monkeypatch.setattr(files, "BLOCK_BYTES", size)
        blocks = list(files.read_blocks(tmp_path / "a.csv", ["a", "b"]))
        assert pl.concat(blocks).equals(table)
        assert (len(blocks) > 1) == (size < 1 << 20)
    (tmp_path / "b.csv").write_text("a,b\n" + '1,5" wide\n' + "2,z\n" * 500 + "3,end", encoding="utf-8")
    monkeypatch.setattr(files, "BLOCK_BYTES", 200)
    with pytest.raises(DataError, match=r"b.csv: not readable \(CSV malformed"):
        list(files.read_blocks(tmp_path / "b.csv", ["a"]))
    (tmp_path / "c.csv").write_text("a,b\n", encoding="utf-8")
    assert pl.concat(files.read_blocks(tmp_path / "c.csv", ["b"])).schema == {"b": pl.String}


def test_arrays_grow_to_what_numpy_saves(tmp_path: Path) -> None:
    values = {"one": np.arange(1003), "in/two": np.arange(60).reshape(20, 3), "none": np.zeros(0, dtype=bool)}
    with Growing(tmp_path) as arrays:
        for name, array in values.items():
            for part in np.array_split(array, 7):
                arrays.append(name, part)
    for name, array in values.items():
        np.save(tmp_path / "twin.npy", array)
        assert (tmp_path / f"{name}.npy").read_bytes() == (tmp_path / "twin.npy").read_bytes()
    with Growing(tmp_path / "other") as arrays:
        arrays.append("one", np.arange(3))
        with pytest.raises(ValueError, match="holds int64"):
            arrays.append("one", np.arange(3.0))


def test_cuts_and_deal_keep_an_id_in_one_part(tmp_path: Path) -> None:
    ids, rows = pl.Series([2, 3, 5, 8, 9]), pl.Series([4, 1, 12, 1, 3])
    firsts = cuts(ids, rows, 5)
    assert firsts.to_list() == [3, 5, 9]
    assert cuts(ids, rows, 1000).to_list() == []
    spool = Spool(tmp_path / "spool", len(firsts) + 1)
    frame = pl.DataFrame({"id": [9, 2, 5, 2, 8, 3, 9], "at": range(7)})
    for part in (frame[:4], frame[4:], frame[:0]):
        deal(part, "id", firsts, spool)
    assert [part["at"].to_list() for part in spool] == [[1, 3], [5], [2, 4], [0, 6]]


def test_words_are_coded_alike_by_value_and_by_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.Series(["7 31 7", "", "red 31 007", "12345678 7", None, "0 31", "7 9 9999999"])
    monkeypatch.setattr(words, "AT_ONCE", 2)
    coded = words.Codes()
    length, code = coded.cut(texts[:4])
    more = coded.cut(texts[4:])
    length, code = np.concatenate([length, more[0]]), np.concatenate([code, more[1]])
    expected = [text.split() if text else [] for text in texts.to_list()]
    assert length.tolist() == [len(one) for one in expected]
    assert coded.distinct.gather(code).to_list() == [word for one in expected for word in one]
    assert dict(zip(coded.distinct, coded.counts.tolist(), strict=True)) == Counter(word for one in expected for word in one)
    weighed = words.Codes()
    weighed.cut(pl.Series(["7 8", "8"]), np.array([3, 2]))
    assert weighed.counts.tolist() == [3, 5]
