"""KuaiSAR's raw files, by hand: what is kept, what is rejected and counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from corsar.errors import DataError
from corsar.sources.kuaisar import ATTRIBUTES, CATEGORIES, read_kuaisar

FILES = {
    "rec_inter.csv": (
        "user_id,item_id,playing_time,duration_ms,time,timestamp,click,forward,like,follow,search,search_item_related\n"
        "0,10,60792.0,45400.0,2023-05-22 15:53:20,1.684742e+12,1,0,0,0,0,0\n"
        "0,103656000000,5.0,45400.0,2023-05-22 15:53:20,1684742000000.0,0,0,0,0,1,1\n"
        ",11,5.0,45400.0,2023-05-22 15:53:20,1684742000000,0,0,0,0,0,0\n"
        "1,11,5.0,45400.0,,,1,0,0,0,0,0\n"
    ),
    "src_inter.csv": (
        "user_id,search_session_id,search_session_time,search_session_timestamp,keyword,search_source,item_id,click_cnt,item_type\n"
        '0,7,2023-05-22 21:58:52,1684763932919,"[20, 34, 3]",USER_INPUT,11,2,PHOTO\n'
        '0,7,2023-05-22 21:58:52,1684763932919,"[20, 34, 3]",USER_INPUT,12,0,PHOTO\n'
        "1,8,2023-05-22 21:58:52,1684763932919,[5],USER_INPUT,12,,LIVE\n"
        "1,8,2023-05-22 21:58:52,1684763932919,[],USER_INPUT,nan,1,PHOTO\n"
    ),
    "item_features.csv": (
        "item_id,caption,author_id,item_type,upload_time,upload_type,first_level_category_id,first_level_category_name,"
        "first_level_category_name_en,second_level_category_id,second_level_category_name,second_level_category_name_en\n"
        '10,"[1, 2]",0,NORMAL,2023-05-01,x,3.0,a,"b, c",30,d,e\n'
        "11,[],4,NORMAL,2023-05-01,x,,,,31,d,e\n"
        "10,[9],0,NORMAL,2023-05-01,x,3.0,a,b,30,d,e\n"
    ),
    "user_features.csv": "user_id,search_active_level,rec_active_level,onehot_feat1,onehot_feat2\n0,1,2,0,7\n1,0,4,2,3\n",
    "social_network.csv": "user_id,user_follow_id\n0,1\n",
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_kuaisar_rows_become_events(raw: Path) -> None:
    events = read_kuaisar(raw).events
    assert events["user_id"].to_list() == [0, 0, 0, 0, 1]
    assert events["item_id"].to_list() == [10, 103656000000, 11, 12, 12]
    assert events["kind"].to_list() == ["feed", "feed", "search", "search", "search"]
    assert events["time_ms"].to_list() == [1684742000000] * 2 + [1684763932919] * 3
    assert events["label"].to_list() == [1, 0, 1, 0, 0]
    assert events["session_id"].to_list() == [None, None, 7, 7, 8]
    assert events["query"].to_list() == [None, None, "20 34 3", "20 34 3", "5"]
    assert events["utc_offset_min"].unique().to_list() == [480]


def test_kuaisar_features_become_items_and_users(raw: Path) -> None:
    tables = read_kuaisar(raw)
    assert tables.items is not None
    assert tables.users is not None
    assert tables.items["text"].to_list() == ["1 2", ""]
    assert tables.items["first_level_category_id"].to_list() == [3, None]
    assert tables.items["second_level_category_id"].to_list() == [30, 31]
    assert tables.users["onehot_feat2"].to_list() == [7, 3]
    assert (tables.categories, tables.attributes) == (CATEGORIES, ATTRIBUTES)
    assert tables.derived is None


def test_kuaisar_rows_in_are_rows_out_and_rows_rejected(raw: Path) -> None:
    funnel = read_kuaisar(raw).funnel
    rejected = {(one["table"], one["reason"]): one["rows"] for one in funnel if one["stage"] == "rejected"}
    assert rejected == {
        ("events (feed)", "no readable user_id"): 1,
        ("events (feed)", "no readable time_ms"): 1,
        ("events (search)", "no readable item_id"): 1,
        ("items", "item_id was there before"): 1,
    }
    for table in {one["table"] for one in funnel} - {"social_network"}:
        rows = dict.fromkeys(("read", "rejected", "kept"), 0)
        for one in funnel:
            if one["table"] == table:
                rows[one["stage"]] += one["rows"]
        assert rows["read"] == rows["kept"] + rows["rejected"], table


def test_kuaisar_at_fault_is_told(raw: Path) -> None:
    (raw / "src_inter.csv").write_text("user_id,item_id\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"src_inter.csv: no column 'search_session_timestamp' among 'user_id'"):
        read_kuaisar(raw)
    (raw / "src_inter.csv").unlink()
    with pytest.raises(DataError, match=r"src_inter.csv: there is no such file"):
        read_kuaisar(raw)
    with pytest.raises(DataError, match="there is no such folder"):
        read_kuaisar(raw / "none")
