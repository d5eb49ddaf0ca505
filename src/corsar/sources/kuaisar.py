"""KuaiSAR's raw files, both sizes: feed and search logs of a short-video app (CC BY-NC-SA 4.0, kuaisar.github.io).

`rec_inter.csv` is the feed log: `click` means a valid play, `timestamp` is when the system sent the page, so that rows of
a page share it. `src_inter.csv` is the search log: a session is one search with all results shown. Captions and keywords
are lists of anonymous word numbers and become texts of those numbers. `social_network.csv` is counted and not used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from corsar.errors import DataError
from corsar.schema import KINDS, Tables, make_tables
from corsar.sources.files import Scan, scan_file

CATEGORIES = ("first_level_category_id", "second_level_category_id")  # the two that UniSAR reads
ATTRIBUTES = ("onehot_feat1", "onehot_feat2", "search_active_level", "rec_active_level")
BEIJING_MIN = 480
FEED_COLUMNS = ("user_id", "item_id", "timestamp", "click")
SEARCH_COLUMNS = ("user_id", "item_id", "search_session_timestamp", "search_session_id", "keyword", "click_cnt")

Funnel = list[dict[str, Any]]


def read_kuaisar(raw_dir: str | Path, *, categories: tuple[str, ...] = CATEGORIES) -> Tables:
    """Canonical tables of the raw files in `raw_dir`; rows that lack an id, a time or a label are rejected and counted.

    Args:
        categories: columns of `item_features.csv`; third and fourth levels are there too.

    Raises:
        DataError: a file or a column is missing.
    """
    folder = Path(raw_dir)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give the one that holds KuaiSAR's rec_inter.csv.")
    funnel: Funnel = []
    feed = _accepted(_open(folder, "rec_inter.csv", FEED_COLUMNS), "events (feed)", funnel, _feed())
    search = _accepted(_open(folder, "src_inter.csv", SEARCH_COLUMNS), "events (search)", funnel, _search())
    items = _features(_open(folder, "item_features.csv", ("item_id", "caption", *categories)), "item_id", funnel)
    users = _features(_open(folder, "user_features.csv", ("user_id", *ATTRIBUTES)), "user_id", funnel)
    if (folder / "social_network.csv").is_file():
        follows = scan_file(folder / "social_network.csv")
        rows = int(follows.read(follows.frame.select(pl.len())).item())
        funnel.append({"table": "social_network", "stage": "note", "rows": rows, "reason": "not used"})
    return make_tables(
        pl.concat([feed, search], how="diagonal").with_columns(utc_offset_min=pl.lit(BEIJING_MIN, pl.Int16)),
        items.rename({"caption": "text"}),
        users,
        source="kuaisar",
        funnel=funnel,
        derived=_derived(folder),
        categories=categories,
        attributes=ATTRIBUTES,
    )


def _open(folder: Path, name: str, columns: tuple[str, ...]) -> Scan:
    scan = scan_file(folder / name)
    for column in columns:
        if column not in scan.columns:
            listed = ", ".join(f"'{name}'" for name in scan.columns)
            raise DataError(f"{name}: no column '{column}' among {listed}; give the file as KuaiSAR publishes it.")
    return Scan(scan.file, scan.frame.select(columns), list(columns))


def _whole(name: str) -> pl.Expr:
    """A column of numbers, written as 12, 12.0 or 1.2e1, as Int64; null where it is none."""
    return pl.col(name).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)


def _listed(name: str) -> pl.Expr:
    """A list written as "[20, 34]" as the text "20 34"; null where it is empty."""
    text = pl.col(name).str.replace_all(r"[\[\],\s]+", " ").str.strip_chars()
    return pl.when(text != "").then(text)


def _kind(kind: str) -> pl.Expr:
    return pl.lit(kind, pl.Enum(KINDS))


def _feed() -> dict[str, pl.Expr]:
    return {
        "user_id": _whole("user_id"),
        "item_id": _whole("item_id"),
        "time_ms": _whole("timestamp"),
        "label": (_whole("click") > 0).cast(pl.Int8),
        "kind": _kind("feed"),
    }


def _search() -> dict[str, pl.Expr]:
    return {
        "user_id": _whole("user_id"),
        "item_id": _whole("item_id"),
        "time_ms": _whole("search_session_timestamp"),
        "session_id": _whole("search_session_id"),
        "label": (_whole("click_cnt").fill_null(0) > 0).cast(pl.Int8),
        "kind": _kind("search"),
        "query": _listed("keyword"),
    }


def _accepted(scan: Scan, table: str, funnel: Funnel, columns: dict[str, pl.Expr]) -> pl.DataFrame:
    """The rows that have all they need, read part by part; the others are counted under the first thing they lack."""
    needed = [name for name in columns if name != "query"]
    lacks: Any = pl.lit(None, pl.Enum(needed))
    for name in reversed(needed):
        lacks = pl.when(pl.col(name).is_null()).then(pl.lit(name, pl.Enum(needed))).otherwise(lacks)
    df = scan.read(scan.frame.select(**columns).with_columns(_lacks=lacks))
    rejected = df["_lacks"].drop_nulls().value_counts(sort=True)
    kept = df.filter(pl.col("_lacks").is_null()).drop("_lacks") if len(rejected) else df.drop("_lacks")
    funnel.append({"table": table, "stage": "read", "rows": df.height, "reason": ""})
    for name, rows in rejected.iter_rows():
        funnel.append({"table": table, "stage": "rejected", "rows": rows, "reason": f"no readable {name}"})
    funnel.append({"table": table, "stage": "kept", "rows": kept.height, "reason": ""})
    return kept


def _features(scan: Scan, key: str, funnel: Funnel) -> pl.DataFrame:
    """One row an id: the first one; texts of lists, other columns as whole numbers where they are such."""
    columns = {name: _listed(name) if name == "caption" else pl.col(name) for name in scan.columns}
    df = scan.read(scan.frame.select(**columns | {key: _whole(key)}))
    table = key.removesuffix("_id") + "s"
    with_id = df.drop_nulls(key)
    once = with_id.unique(key, keep="first", maintain_order=True)
    for stage, rows, reason in (
        ("read", df.height, ""),
        ("rejected", df.height - with_id.height, f"no readable {key}"),
        ("rejected", with_id.height - once.height, f"{key} was there before"),
        ("kept", once.height, ""),
    ):
        if rows or stage != "rejected":
            funnel.append({"table": table, "stage": stage, "rows": rows, "reason": reason})
    numbers = {}
    for name in scan.columns:
        if name not in (key, "caption"):
            number = once[name].cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
            numbers[name] = number if number.null_count() == once[name].null_count() else once[name]
    return once.with_columns(**numbers)


def _derived(folder: Path) -> str | None:
    """What stands beside each figure where the logs are simulated: their truth lies beside them."""
    file = folder / "truth.json"
    if not file.is_file():
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    return f"Simulated logs: transfer {told['truth']['transfer']}, truth {told['hash']}, defaults {told['defaults_hash']}."
