"""Which column of a foreign file is which, and how its values become ids, lists and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from corsar.errors import ConfigError, DataError
from corsar.schema import Column
from corsar.sources.files import Scan

# Obvious names, the surest first; case, hyphens and blanks do not matter.
NAMES: dict[str, tuple[str, ...]] = {
    "user_id": ("user_id", "userid", "user", "uid", "customer_id", "visitor_id", "member_id"),
    "item_id": ("item_id", "itemid", "item", "iid", "product_id", "video_id", "movie_id", "movieid", "article_id",
                "content_id", "document_id", "asin", "sku"),
    "kind": ("kind", "event_kind", "event_type", "channel"),
    "time_ms": ("time_ms", "timestamp_ms", "timestamp", "time", "datetime", "date", "event_time", "created_at", "ts",
                "unix_time", "time_s", "timestamp_s"),
    "query": ("query", "search_query", "search_text", "search_term", "keyword", "keywords", "q"),
    "session_id": ("session_id", "search_session_id", "search_id", "sessionid", "session"),
    "label": ("label", "click", "clicked", "is_click"),
    "utc_offset_min": ("utc_offset_min",),
    "split": ("split",),
    "text": ("text", "words", "title", "name", "caption", "description"),
    "lat_deg": ("lat_deg", "latitude", "lat"),
    "lon_deg": ("lon_deg", "longitude", "lon", "lng"),
    "negatives": ("negatives", "neg_items"),
}  # fmt: skip
# A column of the items file whose name holds one of these is a category without being told.
CATEGORY_NAMES = ("categor", "genre", "brand", "department", "author", "artist", "seller", "shop", "publisher")
MOST_VALUES = 1000  # of a user attribute that nobody named; more would be a free text or a number
_WHOLE = r"^(0|-?[1-9]\d{0,17})(\.0)?$"  # "007" stays text, so that ids come out as they went in


def find_columns(
    scan: Scan, contract: Mapping[str, Column], told: Mapping[str, Any], table: str, optional: tuple[str, ...] = ()
) -> dict[str, str]:
    """Canonical -> source names of the columns that the file has; a told name wins over an obvious one.

    Raises:
        DataError: a told column or a required one is not in the file.
    """
    found: dict[str, str] = {}
    for name, source in told.items():
        if not isinstance(source, str):
            raise ConfigError(f"[columns.{table}] {name} must be one column name in quotes, not {source!r}.")
        must_have(scan, source, f"[columns.{table}] {name}")
        found[name] = source
    plain = {_plain(column): column for column in reversed(scan.columns)}
    for name, column in contract.items():
        free = [plain[one] for one in NAMES[name] if one in plain and plain[one] not in found.values()]
        if name not in found and free:
            found[name] = free[0]
        if name not in found and column.missing == "error" and name not in optional:
            raise DataError(
                f"{scan.file}: no column for '{name}' among {_listed(scan)}; say which it is under "
                f'[columns.{table}], as in {name} = "the name in your file".'
            )
    return {name: found[name] for name in contract if name in found}


def choose(scan: Scan, told: list[str] | str | None, used: set[str], table: str, key: str) -> list[str]:
    """The category columns of items or the attribute columns of users: those told, or the plain ones."""
    schema = scan.frame.collect_schema()
    if told is not None:
        told = [told] if isinstance(told, str) else list(told)
        for name in told:
            must_have(scan, name, f"[columns.{table}] {key}")
            if schema[name].is_nested():
                raise DataError(f"{scan.file}: column '{name}' holds lists, but {key} hold one value; leave it out.")
        return told
    free = [name for name in scan.columns if name not in used and not schema[name].is_nested()]
    if key == "categories":
        return [name for name in free if any(part in _plain(name) for part in CATEGORY_NAMES)]
    free = [name for name in free if not schema[name].is_float()]
    if not free:
        return []
    counts = scan.read(scan.frame.select(pl.col(name).n_unique() for name in free)).row(0)
    return [name for name, count in zip(free, counts, strict=True) if count <= MOST_VALUES]


def read_ids(series: pl.Series, is_text: bool = True) -> pl.Series:
    """Ids of a text file as Int64 where every one is a whole number, else as they are; empty texts are missing.

    Args:
        is_text: they come from a text file; elsewhere a text that looks like a number was meant as a text.
    """
    if series.dtype != pl.String:
        return series
    series = pl.select(pl.when(series.str.strip_chars() != "").then(series.str.strip_chars())).to_series()
    if is_text and series.null_count() < len(series) and series.str.contains(_WHOLE).all():
        series = series.str.strip_suffix(".0").cast(pl.Int64)
    return series


def read_lists(series: pl.Series) -> pl.Series:
    """Lists of ids; in a text file they are written as "[1, 2]", "1 2" or the like."""
    if series.dtype != pl.String:
        return series
    lists = series.str.extract_all(r"""[^\s,;|\[\]"']+""")
    inner = lists.explode(empty_as_null=True, keep_nulls=True).drop_nulls()
    return lists.cast(pl.List(pl.Int64)) if inner.str.contains(r"^(0|-?[1-9]\d{0,17})$").all() else lists


def join_text(df: pl.DataFrame, names: list[str]) -> pl.Series:
    """One text an item: the named columns with blanks between them; lists of words are joined too."""
    parts = []
    for name in names:
        is_list = isinstance(df.schema[name], pl.List)
        part = pl.col(name).cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True) if is_list else pl.col(name)
        parts.append(part.cast(pl.String))
    return df.select(text=pl.concat_str(parts, separator=" ", ignore_nulls=True))["text"]


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _listed(scan: Scan) -> str:
    return ", ".join(f"'{name}'" for name in scan.columns)


def must_have(scan: Scan, name: str, told_by: str) -> None:
    """Raises a DataError where the file has no such column."""
    if name not in scan.columns:
        raise DataError(f"{scan.file}: no column '{name}' among {_listed(scan)}; correct {told_by}.")
