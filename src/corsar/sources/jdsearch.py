"""JDsearch (Liu et al., SIGIR 2023): product search of JD.com with real queries, and events without a query.

`user_behavior_data.txt` has a line a user: a history, a test search, and the candidates that it showed. Lists are joined by
"_", terms by byte 24. An event is told by the seconds since the one before, the first by 0, so that times are counted from 0
for each user: the clock is `ordinal`. Events of one query in a row are one search, unless half an hour lies between two.

The test search comes last, so that the split `leave_last` is the published one. Candidates with a label over 0 are its clicks,
the others are rows of label 0: they differ in number and are no given candidates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from corsar.errors import DataError
from corsar.schema import KINDS, Tables, make_tables
from corsar.sources.columns import must_have
from corsar.sources.files import Scan, scan_file
from corsar.sources.lines import refuse_lines
from corsar.sources.values import number

LISTS = ("history_qry_list", "history_wid_list", "history_type_list")
USERS = ("query", "candidate_wid_list", "candidate_label_list", *LISTS, "history_time_list")
CATEGORIES = ("brand_id", "cate_id_1", "cate_id_2", "cate_id_3", "cate_id_4")
TEXTS = ("name", "brand_name", "cate_name_1", "cate_name_2", "cate_name_3", "cate_name_4")
NO_QUERY, TERMS = "-1", "\x18"
APART_S = 1800

Funnel = list[dict[str, Any]]


def find_file(folder: Path, name: str) -> Path:
    """The file of the data set, or of its sample; the former's path where there is neither."""
    sample = folder / f"{name}_sample.txt"
    return sample if sample.is_file() else folder / f"{name}.txt"


def read_jdsearch(raw_dir: str | Path) -> Tables:
    """Canonical tables of the two files in `raw_dir`; a user is the number of the line, products are items.

    Raises:
        DataError: a file or a column is missing, or a line is malformed.
    """
    folder = Path(raw_dir)
    scan = _open(find_file(folder, "user_behavior_data"), USERS)
    users = (
        scan.read(scan.frame.select(USERS)).with_row_index("user_id", offset=1).with_columns(pl.col("user_id").cast(pl.Int64))
    )
    past = users.select("user_id", *(pl.col(name).str.split("_") for name in (*LISTS, "history_time_list")))
    shown = users.select(
        "user_id",
        "query",
        item_id=pl.col("candidate_wid_list").str.split("_"),
        label=pl.col("candidate_label_list").str.split("_"),
    )
    sizes = [pl.col(name).list.len() for name in LISTS]
    _alike(scan.file, past, (sizes[0] == sizes[1]) & (sizes[0] == sizes[2]), "its three lists of the history differ in length")
    _alike(scan.file, past, pl.col("history_time_list").list.len() == sizes[0] + 1, "its history_time_list is not one longer")
    _alike(scan.file, shown, pl.col("item_id").list.len() == pl.col("label").list.len(), "its candidates and labels differ")
    events, funnel = _events(scan.file, past, shown)
    items = _items(find_file(folder, "product_meta_data"), funnel)
    return make_tables(
        events, items, source=f"jdsearch: {scan.file}", clock="ordinal", funnel=funnel, categories=CATEGORIES
    )  # fmt: skip


def _open(path: Path, columns: tuple[str, ...]) -> Scan:
    scan = scan_file(path)
    for name in columns:
        must_have(scan, name, "the file: give it as JDsearch publishes it")
    refuse_lines(path)
    return scan


def _alike(file: str, users: pl.DataFrame, holds: pl.Expr, what: str) -> None:
    wrong = users.filter(~holds.fill_null(False))
    if wrong.height:
        raise DataError(f"{file}: line {wrong['user_id'][0] + 1}: {what} ({wrong.height} lines in all); fetch the file again.")


def _events(file: str, past: pl.DataFrame, shown: pl.DataFrame) -> tuple[pl.DataFrame, Funnel]:
    """History and test searches as events in the order of their users and times."""
    times = past.select("user_id", s=pl.col("history_time_list").cast(pl.List(pl.Int64), strict=False)).explode("s")
    _alike(file, times, pl.col("s") >= 0, "its history_time_list holds something else than seconds")
    times = times.with_columns(s=pl.col("s").cum_sum().over("user_id"))
    is_last = pl.col("user_id").ne_missing(pl.col("user_id").shift(-1))
    history = past.select("user_id", *LISTS).explode(LISTS)
    history = history.with_columns(times.filter(~is_last)["s"])
    query = pl.when(pl.col("history_qry_list") != NO_QUERY).then("history_qry_list")
    same = (query == query.shift()) & (pl.col("s") - pl.col("s").shift() <= APART_S)
    history = history.select(
        "user_id", "s", query, item_id="history_wid_list", begins=~same.over("user_id").fill_null(False), label=pl.lit(1)
    ).rename({"history_qry_list": "query"})
    test = shown.with_columns(times.filter(is_last)["s"]).explode("item_id", "label")
    label = (pl.col("label").cast(pl.Float64, strict=False) > 0).cast(pl.Int32)
    test = test.select("user_id", "s", "query", "item_id", begins=pl.col("user_id").is_first_distinct(), label=label)
    rows = pl.concat([history, test]).with_columns(item_id=pl.col("item_id").cast(pl.Int64, strict=False))
    _alike(file, rows, pl.col("item_id").is_not_null() & pl.col("label").is_not_null(), "a product or a label is no number")
    funnel: Funnel = [
        {"table": "events", "stage": "read", "rows": rows.height, "reason": ""},
        {"table": "events", "stage": "kept", "rows": rows.height, "reason": ""},
        {"table": "events", "stage": "note", "rows": test.height, "reason": "of them candidates of the test searches"},
    ]
    is_search = pl.col("query").is_not_null()
    return rows.select(
        "user_id",
        "item_id",
        "label",
        time_ms=pl.col("s") * 1000,
        kind=pl.when(is_search).then(pl.lit("search")).otherwise(pl.lit("feed")).cast(pl.Enum(KINDS)),
        query=pl.col("query").str.replace_all(TERMS, " ", literal=True),
        session_id=pl.when(is_search).then(pl.col("begins").cast(pl.Int64).cum_sum()),
    ), funnel


def _items(path: Path, funnel: Funnel) -> pl.DataFrame:
    scan = _open(path, ("wid", *TEXTS, *CATEGORIES))
    texts = [pl.col(name).str.replace_all(TERMS, " ", literal=True) for name in TEXTS]
    df = scan.read(
        scan.frame.select(
            item_id=number("wid").cast(pl.Int64, strict=False),
            text=pl.concat_str(texts, separator=" ", ignore_nulls=True),
            **{name: number(name).cast(pl.Int64, strict=False) for name in CATEGORIES},
        )
    )
    once = df.drop_nulls("item_id").unique("item_id", keep="first", maintain_order=True)
    for stage, rows, reason in (
        ("read", df.height, ""),
        ("rejected", df.height - once.height, "no readable wid, or one that was there before"),
        ("kept", once.height, ""),
    ):
        if rows or stage != "rejected":
            funnel.append({"table": "products", "stage": stage, "rows": rows, "reason": reason})
    return once
