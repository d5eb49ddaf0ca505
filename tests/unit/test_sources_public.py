"""MovieLens with tags as queries, and JDsearch: what becomes of their rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from corsar.api import prepare_jdsearch, prepare_movielens
from corsar.data.store import open_dataset
from corsar.errors import DataError
from corsar.sources.jdsearch import CATEGORIES, TEXTS, read_jdsearch
from corsar.sources.movielens import DERIVED, read_movielens

MOVIES = {
    "ratings.csv": (
        "userId,movieId,rating,timestamp\n7,1,4.5,1260759144\n7,2,1.0,1260759144\n8,1,3.0,1260759200\n8,,3.0,1260759200\n"
    ),
    "tags.csv": 'userId,movieId,tag,timestamp\n7,3,"slow, but long",1260759300\n8,2, ,1260759300\n',
    "movies.csv": (
        "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '2,"American President, The (1995)",Drama\n3,Nothing,(no genres listed)\n3,Again,War\n'
    ),
}
USERS = ("query", "candidate_wid_list", "candidate_label_list", "history_qry_list", "history_wid_list", "history_type_list")
LINES = (
    "12\x1832\t456_457_789\t3.0_0.0_1.0\t323\x18328_-1_12_12_12\t889_256_345_346_347\tORD_CLICK_CART_CART_ORD\t0_12_4_5_1801_7",
    "9\t456_457\t0.0_0.0\t-1_-1\t889_456\tCLICK_FLW\t0_3_4",
)


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    for name, text in MOVIES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    header = "\t".join([*USERS, "history_time_list"])
    (tmp_path / "user_behavior_data.txt").write_text("\n".join([header, *LINES, ""]), encoding="utf-8")
    names = ["wid", "name", "brand_id", "brand_name", *(f"cate_{kind}_{at}" for at in range(1, 5) for kind in ("id", "name"))]
    rows = [
        ["wid", *names[1:], "shop_id"],
        ["456", "5\x186", "1", "2", *"34567890", "9"],
        ["889", "", "1", "2", *"34567890", ""],
    ]
    (tmp_path / "product_meta_data.txt").write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")
    return tmp_path


def test_movielens_ratings_are_feed_and_tags_are_searches(movies: Path) -> None:
    tables = read_movielens(movies)
    told = tables.events.select("user_id", "item_id", "kind", "time_ms", "query").rows()
    assert told == [
        (7, 1, "feed", 1_260_759_144_000, None),
        (7, 2, "feed", 1_260_759_144_000, None),
        (8, 1, "feed", 1_260_759_200_000, None),
        (7, 3, "search", 1_260_759_300_000, "slow, but long"),
    ]
    assert tables.items is not None
    assert tables.items.rows() == [
        (1, "Toy Story (1995) Adventure Animation", "Adventure"),
        (2, "American President, The (1995) Drama", "Drama"),
        (3, "Nothing", None),
    ]
    assert tables.derived == DERIVED
    rejected = {one["table"]: one["rows"] for one in tables.funnel if one["stage"] == "rejected"}
    assert rejected == {"ratings": 1, "tags": 1, "movies": 1}


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("ratings.csv", "1260759144", "1260759144000", "column 'timestamp', line 2: .* is no time in seconds"),
        ("tags.csv", "movieId", "movie", "tags.csv: no column 'movieId'"),
        ("tags.csv", '"', "", "line 2, has more than the 4 fields"),
        ("movies.csv", "1,Toy", "one,Toy", "column 'movieId', line 2: 'one', is no number"),
    ],
)
def test_movielens_at_fault_is_told(movies: Path, name: str, old: str, new: str, sentence: str) -> None:
    (movies / name).write_text(MOVIES[name].replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        read_movielens(movies)


def test_jdsearch_lists_become_events(shop: Path) -> None:
    tables = read_jdsearch(shop)
    assert tables.clock == "ordinal"
    first = tables.events.filter(user_id=1)
    assert first["time_ms"].to_list() == [0, 12_000, 16_000, 21_000, 1_822_000, *[1_829_000] * 3]
    assert first["query"].to_list() == ["323 328", None, "12", "12", "12", *["12 32"] * 3]
    assert first["item_id"].to_list() == [889, 256, 345, 346, 347, 456, 457, 789]
    assert first["label"].to_list() == [1, 1, 1, 1, 1, 1, 0, 1]
    sessions = first["session_id"].to_list()
    assert sessions[1] is None
    assert sessions[2] == sessions[3]
    assert len({sessions[at] for at in (0, 2, 4, 5)}) == 4  # half an hour and a second cut the third from the fourth
    assert sessions[5] == sessions[6] == sessions[7]
    other = tables.events.filter(user_id=2)
    assert other["session_id"].drop_nulls().n_unique() == 1
    assert not set(other["session_id"].drop_nulls()) & set(sessions)
    assert tables.items is not None
    assert tables.items["text"].to_list() == ["5 6 2 4 6 8 0", "2 4 6 8 0"]
    assert tables.items.select(CATEGORIES).row(0) == (1, 3, 5, 7, 9)
    assert len(TEXTS) == 6


def test_jdsearch_test_search_is_the_test_part(shop: Path, tmp_path: Path) -> None:
    told = prepare_jdsearch(shop, tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    # the second product of the test search is in no table and not in the training part: an unknown item is no target
    targets = dataset.items.ids(dataset.cases("test", "search").item_N.numpy()).to_list()
    assert targets == [456]
    assert told["counts"]["cases"]["test"]["recommend"] == 1  # of the user whose test search got no click


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("0_12_4_5_1801_7", "0_12_4_5_1801", "line 2: its history_time_list is not one longer"),
        ("889_456\t", "889\t", "line 3: its three lists of the history differ"),
        ("0_3_4", "0_-3_4", "line 3: its history_time_list holds something else than seconds"),
        ("889_456\t", "889_x\t", "line 3: a product or a label is no number"),
        ("3.0_0.0_1.0", "3.0_0.0", "line 2: its candidates and labels differ"),
        ("\t0_3_4", "", "line 3, is cut short"),
    ],
)
def test_jdsearch_at_fault_is_told(shop: Path, old: str, new: str, sentence: str) -> None:
    file = shop / "user_behavior_data.txt"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        read_jdsearch(shop)


@pytest.mark.real
def test_movielens_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    told = prepare_movielens(shared_data / "ml-latest-small", tmp_path / "data", split="time")
    assert told["counts"]["users"] == 671
    assert (told["counts"]["items"], told["counts"]["feed_events"], told["counts"]["searches"]) == (9125, 100_004, 1296)
    assert not [line for line in told["funnel"] if line["stage"] == "rejected" and line["table"] in ("ratings", "tags")]


@pytest.mark.real
def test_jdsearch_sample_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    told = prepare_jdsearch(shared_data / "jdsearch_sample", tmp_path / "data")
    events = read_jdsearch(shared_data / "jdsearch_sample").events
    assert events["user_id"].n_unique() == 3
    assert events.filter(label=1).height == 182 + 46 + 2 + 5
    assert told["counts"]["cases"]["test"] == {"recommend": 0, "search": 5}
