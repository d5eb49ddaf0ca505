"""A look at KuaiSAR's raw files, row by row: what is missing, malformed or suspicious in them.

`prepare` refuses what is missing or malformed (`lines`, `sound_kuaisar`) and rejects rows without an id or a time; the rest is
odd and can be read. The files are streamed; of the two logs a few numbers a row are held for the search of twins.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from corsar.sources.dictionary import describe
from corsar.sources.files import Scan, scan_file
from corsar.sources.findings import Finding, Rule, find
from corsar.sources.kuaisar import ATTRIBUTES, CATEGORIES, FEED_COLUMNS, SEARCH_COLUMNS
from corsar.sources.lines import check_lines
from corsar.sources.sound_kuaisar import KINDS, MOST_EMPTY
from corsar.sources.sound_kuaisar import NEEDED as FATAL
from corsar.sources.values import doubtful, empty, faults, number

FIRST_MS, DAY_MS = 1_684_684_800_000, 86_400_000  # 22 May 2023, 00:00 in Beijing
LAST_MS = FIRST_MS + 20 * DAY_MS  # logged until 10 June
BEIJING_MS = 8 * 3_600_000
NEEDED = {
    "rec_inter.csv": FEED_COLUMNS,
    "src_inter.csv": SEARCH_COLUMNS,
    "item_features.csv": ("item_id", "caption", *CATEGORIES),
    "user_features.csv": ("user_id", *ATTRIBUTES),
}
EMPTY = "is empty: prepare rejects and counts such rows, and refuses a file that has them in most"
SHOWN = ("VIDEO", "USER", "IMAGE_ATLAS", "LIVE", "COMMODITY", "MUSIC", "ADVERT")
MOST_WORDS, MOST_CLICKS = 50, 5  # of UniSAR's release


def check_kuaisar(folder: Path) -> list[Finding]:
    """All that is found in the five files of `folder`."""
    found: list[Finding] = []
    scans: dict[str, Scan] = {}
    known = {file["name"]: [field["field"] for field in file["fields"]] for file in describe("kuaisar")["files"]}
    for name, fields in known.items():
        path = folder / name
        if not path.is_file():
            level = "missing" if name in NEEDED else "note"
            found.append(Finding(level, name, "", 0, "", "is not in the folder"))
            continue
        if broken := check_lines(path):
            found += broken  # what a reader makes of such lines says nothing
            continue
        scan = scans[name] = scan_file(path)
        for field in fields:
            if field not in scan.columns:
                level = "missing" if field in NEEDED.get(name, ()) else "suspicious"
                found.append(Finding(level, name, field, 0, "", "is not among the columns"))
        for column in scan.columns:
            if column not in fields:
                found.append(Finding("note", name, column, 0, "", "is no column of KuaiSAR, and is not read"))
        rows = int(scan.read(scan.frame.select(pl.len())).item())
        odd = find(scan, _doubts(scan) + _rules(name, scan.columns))
        found += [Finding("note", name, "", rows, "", "rows"), *(_mostly_empty(one, rows) for one in odd)]
    if not any(one.level in ("missing", "malformed") for one in found):
        found += _feed_twins(scans["rec_inter.csv"]) + _searches(scans["src_inter.csv"])
        found += _features(scans) + _across(scans)
    return found


def _mostly_empty(one: Finding, rows: int) -> Finding:
    return one._replace(level="malformed") if one.what == EMPTY and one.rows > MOST_EMPTY * rows else one


def _doubts(scan: Scan) -> list[Rule]:
    """Rules for the columns that hold something else than sound values."""
    doubts = doubtful(scan, {column: kind for column, kind in KINDS.items() if column in scan.columns})
    rules = faults({column: KINDS[column] for column, is_sound in doubts.items() if not is_sound})
    for column in doubts:
        if column in NEEDED.get(scan.file, ()) and column in FATAL:
            rules.append(Rule("suspicious", column, EMPTY, empty(column)))
    return rules


def _rules(name: str, columns: list[str]) -> list[Rule]:
    rules: list[Rule] = []
    if name == "rec_inter.csv":
        rules += _times("timestamp", "time")
        rules += [
            Rule("suspicious", flag, "is neither 0 nor 1", ~empty(flag) & ~number(flag).is_in([0.0, 1.0]))
            for flag in ("forward", "like", "follow", "search", "search_item_related")
        ]
        related = (number("search_item_related") == 1) & (number("search") == 0)
        rules.append(Rule("suspicious", "search_item_related", "is 1 where search is 0: it says nothing there", related))
        rules += [Rule("suspicious", one, "is negative", number(one) < 0) for one in ("playing_time", "duration_ms")]
    if name == "src_inter.csv":
        rules += _times("search_session_timestamp", "search_session_time")
        words = pl.col("keyword").str.count_matches(r"\d+")
        rules += [
            Rule("suspicious", "keyword", "holds no word", words.fill_null(0) == 0),
            Rule("note", "keyword", f"has over {MOST_WORDS} words; UniSAR's release cuts it", words > MOST_WORDS),
            Rule("suspicious", "click_cnt", "is empty, and is read as 0", empty("click_cnt")),
            Rule("suspicious", "item_type", "is no type of KuaiSAR", ~pl.col("item_type").is_in(SHOWN)),
        ]
    if name == "item_features.csv":
        rules.append(Rule("note", "caption", "holds no word", pl.col("caption").str.count_matches(r"\d+").fill_null(0) == 0))
        level = "first_level_category_id"
        rules.append(Rule("note", level, "is 0 or empty: no category", number(level).fill_null(0) == 0))
    if name == "social_network.csv":
        own = pl.col("user_id") == pl.col("user_follow_id")
        rules.append(Rule("suspicious", "user_follow_id", "is the user", own))
    return [rule for rule in rules if set(rule.holds.meta.root_names()) <= set(columns)]


def _times(stamp: str, told: str) -> list[Rule]:
    outside = ~number(stamp).is_between(FIRST_MS, LAST_MS, closed="left")
    clock = pl.col(told).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms", strict=False).dt.epoch("ms") - BEIJING_MS
    apart = (number(stamp) - clock).abs() >= 1000
    return [
        Rule("suspicious", stamp, "is outside of 22 May to 10 June 2023, Beijing", outside),
        Rule("suspicious", stamp, f"is not the second of '{told}' (Beijing): rounded, or of another zone", apart),
        Rule("suspicious", told, "is no time as 2023-05-22 15:53:20", ~empty(told) & clock.is_null()),
    ]


def _numbers(scan: Scan, *columns: str) -> pl.DataFrame:
    """The columns as Int64, in the order of the file."""
    return scan.read(scan.frame.select(number(name).cast(pl.Int64).alias(name) for name in columns))


def _repeats(frame: pl.DataFrame, keys: list[str]) -> pl.Series:
    """Whether an earlier row has the same keys; told by a hash of 64 bits."""
    return ~frame.select(pl.struct(keys).hash()).to_series().is_first_distinct()


def _twins(file: str, column: str, level: str, what: str, repeated: pl.Series) -> list[Finding]:
    count = int(repeated.sum())
    return [Finding(level, file, column, count, f"line {(repeated.arg_max() or 0) + 2}", what)] if count else []


def _feed_twins(scan: Scan) -> list[Finding]:
    rows = _numbers(scan, "user_id", "item_id", "timestamp")
    page = "shares its user and time with an earlier row: one page, no history of each other"
    same = "is there with the same user and time before"
    return [
        *_twins(scan.file, "timestamp", "note", page, _repeats(rows, ["user_id", "timestamp"])),
        *_twins(scan.file, "item_id", "suspicious", same, _repeats(rows, rows.columns)),
    ]


def _searches(scan: Scan) -> list[Finding]:
    session, stamp = "search_session_id", "search_session_timestamp"
    rows = _numbers(scan, session, "item_id", "user_id", stamp)
    found = _twins(scan.file, "item_id", "suspicious", "is there in the same search before", _repeats(rows, rows.columns[:3]))
    clicks = (number("click_cnt").fill_null(0) > 0).sum()
    told = scan.read(
        scan.frame.group_by("user_id", session).agg(
            clicks=clicks, times=pl.col(stamp).n_unique(), texts=pl.col("keyword").n_unique()
        )
    )
    users = told.group_by(session).len()
    counts = [
        ("note", "click_cnt", told.filter(pl.col("clicks") == 0).height, f"of {told.height} searches got no click"),
        ("note", "click_cnt", told.filter(pl.col("clicks") > MOST_CLICKS).height,
         f"searches have over {MOST_CLICKS} clicked items; UniSAR's release keeps {MOST_CLICKS}"),
        ("suspicious", stamp, told.filter(pl.col("times") > 1).height, "searches have several times; the first counts"),
        ("suspicious", "keyword", told.filter(pl.col("texts") > 1).height, "searches have several queries"),
        ("suspicious", session, users.filter(pl.col("len") > 1).height, "numbers of searches are shared by several users"),
    ]  # fmt: skip
    return found + [Finding(level, scan.file, column, rows, "", what) for level, column, rows, what in counts if rows]


def _features(scans: dict[str, Scan]) -> list[Finding]:
    found = []
    for file, key in (("item_features.csv", "item_id"), ("user_features.csv", "user_id")):
        ids = _numbers(scans[file], key)
        found += _twins(file, key, "suspicious", "is there before; the first row counts", _repeats(ids, [key]))
    scan = scans["user_features.csv"]
    one, two = _numbers(scan, "onehot_feat1", "onehot_feat2").max().row(0)
    if (one or 0) > 2 and (two or 0) <= 2:
        what = f"goes to {one} and onehot_feat2 to {two}: the two are swapped, as in UniSAR's release"
        found.append(Finding("suspicious", scan.file, "onehot_feat1", scan.read().height, "", what))
    else:
        for name, most, highest in (("onehot_feat1", 2, one), ("onehot_feat2", 7, two)):
            if (highest or 0) > most:
                what = f"goes to {highest}, beyond KuaiSAR's {most}"
                found.append(Finding("suspicious", scan.file, name, 0, "", what))
    return found


def _across(scans: dict[str, Scan]) -> list[Finding]:
    """Ids of the logs that the feature files lack, and users of one log alone."""
    found = []
    feed, search = scans["rec_inter.csv"], scans["src_inter.csv"]
    seen: dict[str, list[pl.Series]] = {
        key: [_numbers(scan, key)[key].drop_nulls().unique() for scan in (feed, search)] for key in ("user_id", "item_id")
    }
    for key, file in (("user_id", "user_features.csv"), ("item_id", "item_features.csv")):
        known = _numbers(scans[file], key)[key].unique().implode()
        for log, ids in zip((feed, search), seen[key], strict=True):
            if lost := int((~ids.is_in(known)).sum()):
                what = f"of {len(ids)} have no row in {file}"
                found.append(Finding("note" if key == "item_id" else "suspicious", log.file, key, lost, "", what))
    of_feed, of_search = seen["user_id"]
    for log, mine, other in ((feed, of_feed, of_search), (search, of_search, of_feed)):
        if lone := int((~mine.is_in(other.implode())).sum()):
            found.append(Finding("note", log.file, "user_id", lone, "", f"of {len(mine)} users are in this log alone"))
    return found
