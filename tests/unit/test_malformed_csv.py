"""Malformed raw files of KuaiSAR: one sentence with the place, exit code 2, and nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corsar.cli import main
from corsar.sources.lines import BLOCK, check_lines

sys.path.insert(0, str(Path(__file__).parent))
from fault_kit import assert_one_sentence, snapshot

FILES = {
    "rec_inter.csv": (
        "user_id,item_id,playing_time,duration_ms,time,timestamp,click,forward,like,follow,search,search_item_related\n"
        "0,10,607.0,454.0,2023-05-22 15:53:20,1684742000000,1,0,0,0,0,0\n"
        "0,11,5.0,454.0,2023-05-22 15:53:20,1684742000000,1,0,0,0,1,1\n"
        "1,10,5.0,454.0,2023-05-22 15:53:21,1684742001000,1,0,0,0,0,0\n"
        "1,12,5.0,454.0,2023-05-23 15:53:21,1684828401000,1,0,0,0,0,0\n"
    ),
    "src_inter.csv": (
        "user_id,search_session_id,search_session_time,search_session_timestamp,keyword,search_source,item_id,click_cnt,item_type\n"
        '0,7,2023-05-22 21:58:52,1684763932919,"[20, 34, 3]",USER_INPUT,11,2,VIDEO\n'
        '0,7,2023-05-22 21:58:52,1684763932919,"[20, 34, 3]",USER_INPUT,12,0,VIDEO\n'
        "1,8,2023-05-23 21:58:52,1684850332919,[5],USER_INPUT,12,1,LIVE\n"
    ),
    "item_features.csv": (
        "item_id,caption,author_id,item_type,upload_time,upload_type,first_level_category_id,first_level_category_name,"
        "first_level_category_name_en,second_level_category_id,second_level_category_name,second_level_category_name_en\n"
        '10,"[1, 2]",0,NORMAL,2023-05-01,x,3,搞笑,"b, c",30,d,e\n'
        "11,[],4,NORMAL,2023-05-01,x,3,搞笑,b,31,d,e\n"
        "12,[9],0,NORMAL,2023-05-01,x,4,b,b,30,d,e\n"
    ),
    "user_features.csv": "user_id,search_active_level,rec_active_level,onehot_feat1,onehot_feat2\n0,1,2,0,7\n1,0,4,2,3\n",
    "social_network.csv": "user_id,user_follow_id\n0,1\n",
}
FEED, SEARCH, ITEMS, USERS = "rec_inter.csv", "src_inter.csv", "item_features.csv", "user_features.csv"
Change = Callable[[str], str | bytes]


def swap(old: str, new: str, most: int = -1) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, most)

    return change


def column_as(name: str, value: str) -> Change:
    """Another value in all rows of a column."""

    def change(text: str) -> str:
        header, *rows = text.splitlines()
        at = header.split(",").index(name)
        cells = [row.split(",") for row in rows]
        return "\n".join([header, *(",".join([*row[:at], value, *row[at + 1 :]]) for row in cells)]) + "\n"

    return change


FAULTS: dict[str, tuple[str, Change, str]] = {
    "empty file": (FEED, lambda text: "", r"rec_inter.csv.*\(empty CSV\); give"),
    "blank file": (FEED, lambda text: "\n\n", r"rec_inter.csv.*empty"),
    "header alone": (SEARCH, lambda text: text.splitlines()[0] + "\n", "src_inter.csv.* header alone"),
    "UTF-16": (FEED, lambda text: text.encode("utf-16"), "rec_inter.csv.*(UTF-8|utf-8)"),
    "Latin-1": (ITEMS, lambda text: text.replace("搞笑", "drôle").encode("latin-1"), "item_features.csv, line 2.* not UTF-8"),
    "GBK": (ITEMS, lambda text: text.encode("gbk"), r"item_features.csv, line 2.* not UTF-8 \(2 rows in all\)"),
    "byte 0": (FEED, swap("607.0", "60\0.0"), "rec_inter.csv, line 2, holds a byte 0"),
    "cut short": (SEARCH, lambda text: text[:-20], "src_inter.csv, line 4, is cut short"),
    "cut within a quote": (SEARCH, lambda text: text[: text.index("34")], "src_inter.csv, line 2, has a quote that is not clo"),
    "open quote": (SEARCH, swap('3]",USER_INPUT,11', "3],USER_INPUT,11"), "src_inter.csv, line 2, has a quote that is not"),
    "blank line": (FEED, swap("\n1,10", "\n\n1,10"), "rec_inter.csv, line 4, is cut short"),
    "list without quotes": (SEARCH, swap('"', ""), r"src_inter.csv, line 2, has more than the 9 fields .*quotes\? \(2 rows"),
    "one field more": (USERS, swap("0,1,2,0,7", "0,1,2,0,7,9"), "user_features.csv, line 2, has more than the 5"),
    "column twice": (FEED, swap("like", "follow"), "rec_inter.csv, line 1, names the column 'follow' twice"),
    "header twice": (FEED, lambda text: text + text, r"column 'user_id', line 6: 'user_id', is the name of the column"),
    "missing column": (FEED, swap("timestamp", "stamp"), "rec_inter.csv.*'timestamp'"),
    "quotes in a list": (SEARCH, swap("[20, 34, 3]", "['20', '34']"), "column 'keyword', line 2: .* is no list"),
    "doubled quotes in a list": (SEARCH, swap("[20, 34, 3]", '[""20"", ""34""]'), "column 'keyword', line 2: .* is no list"),
    "open list": (ITEMS, swap("[9]", "[9"), r"column 'caption', line 4: '\[9', is no list"),
    "words in a list": (ITEMS, swap("[9]", "[red]"), r"column 'caption', line 4: '\[red\]', is no list"),
    "id over 2^53": (FEED, swap("1,12", "1,9007199254740993"), "column 'item_id', line 5: '9007199254740993', is beyond 2"),
    "user over 2^64": (FEED, swap("1,12", "99999999999999999999,12"), "column 'user_id', line 5: .* is beyond 2"),
    "id with a fraction": (SEARCH, swap(",12,1,", ",12.5,1,"), "column 'item_id', line 4: '12.5', is no whole number"),
    "word for an id": (USERS, swap("\n1,", "\nu1,"), "column 'user_id', line 3: 'u1', is no number"),
    "negative id": (ITEMS, swap("\n12,", "\n-12,"), "column 'item_id', line 4: '-12', is negative"),
    "negative time": (FEED, swap("1684742001000", "-1684742001000"), "column 'timestamp', line 4: .* is negative"),
    "times in seconds": (SEARCH, swap("1684763932919", "1684763932"), "'search_session_timestamp', line 2: .* milliseconds"),
    "times as dates": (FEED, swap("1684742001000", "2023-05-22"), "column 'timestamp', line 4: '2023-05-22', is no number"),
    "infinite time": (FEED, swap("1684742001000", "inf"), "column 'timestamp', line 4: 'inf', is no number"),
    "no times": (FEED, column_as("timestamp", "NaN"), "column 'timestamp' is empty in 4 of 4 rows"),
    "click of 2": (FEED, column_as("click", "2"), "column 'click', line 2: '2', is neither 0 nor 1"),
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_whole_files_are_sound_and_prepared(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", str(raw)])
    main(["prepare", "kuaisar", str(raw), "--out", str(tmp_path / "data"), "--split", "leave_last"])
    assert (tmp_path / "data" / "manifest.json").is_file()
    assert "missing" not in capsys.readouterr().out.replace("nothing is missing or malformed", "")


@pytest.mark.parametrize("fault", FAULTS)
def test_malformed_file_is_told_in_one_sentence(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    name, change, sentence = FAULTS[fault]
    changed = change(FILES[name])
    (raw / name).write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    with snapshot(tmp_path):
        assert_one_sentence(capsys, sentence, "prepare", "kuaisar", str(raw), "--out", str(tmp_path / "data"))
        with pytest.raises(SystemExit) as stopped:
            main(["data", "check", str(raw)])
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert name in told.out
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("corsar: ")


@pytest.mark.parametrize("ends", ["\r\n", "\n\n\n"])
def test_lines_may_end_in_several_ways(raw: Path, ends: str) -> None:
    text = FILES[SEARCH].replace("\n", "\r\n") if ends == "\r\n" else FILES[SEARCH].rstrip("\n") + ends
    (raw / SEARCH).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert check_lines(raw / SEARCH) == []


def test_lines_are_judged_alike_in_every_block(tmp_path: Path) -> None:
    line = '1,"[20, 34, 3]",搞笑\n'
    count = BLOCK // len(line.encode()) * 2 + 1000
    file = tmp_path / "long.csv"
    file.write_text("a,b,c\n" + line * count, encoding="utf-8")
    assert check_lines(file) == []
    with file.open("a", encoding="utf-8") as opened:
        opened.write("1,2\n" + line + "1,2")
    (found,) = check_lines(file)
    assert (found.rows, found.first) == (2, f"line {count + 2}")
