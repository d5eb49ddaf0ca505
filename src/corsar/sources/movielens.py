"""MovieLens (GroupLens) with the users' own tags as queries: ratings are the feed, and a tag is a search for its movie.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015. ml-latest-small and its larger kin have
the same files. What is typed is typed by users, but for labelling a movie and not for finding it: `derived` says so beside
each figure. Times are those of the rating or tag, in seconds; many ratings of a sitting share one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from corsar.schema import KINDS, Tables, make_tables
from corsar.sources.columns import must_have
from corsar.sources.files import Scan, scan_file
from corsar.sources.lines import refuse_lines
from corsar.sources.values import number, refuse_values

DERIVED = "Searches are tags that users gave to movies, in their own words; nobody searched with them."
NO_GENRE = "(no genres listed)"
RATINGS = {"userId": "id", "movieId": "id", "timestamp": "seconds"}

Funnel = list[dict[str, Any]]


def read_movielens(raw_dir: str | Path) -> Tables:
    """Canonical tables of `ratings.csv`, `tags.csv` and `movies.csv` in `raw_dir`; rows without an id or a time are rejected.

    A movie's text is its title and its genres, its category the first of these.

    Raises:
        DataError: a file or a column is missing, or a line or a value is malformed.
    """
    folder, funnel = Path(raw_dir), Funnel()
    ratings = _events(_open(folder / "ratings.csv", RATINGS), "ratings", "feed", funnel)
    tags = _events(_open(folder / "tags.csv", RATINGS, ("tag",)), "tags", "search", funnel)
    scan = _open(folder / "movies.csv", {"movieId": "id"}, ("title", "genres"))
    names = pl.when(pl.col("genres") != NO_GENRE).then(pl.col("genres")).str.split("|")
    movies = scan.read(
        scan.frame.select(
            item_id=number("movieId").cast(pl.Int64),
            text=pl.concat_str("title", names.list.join(" "), separator=" ", ignore_nulls=True),
            genre=names.list.first(),
        )
    )
    once = movies.drop_nulls("item_id").unique("item_id", keep="first", maintain_order=True)
    _count(funnel, "movies", movies.height, once.height, "no readable movieId, or one that was there before")
    return make_tables(
        pl.concat([ratings, tags], how="diagonal"),
        once,
        source=f"movielens: {folder.name}",
        funnel=funnel,
        derived=DERIVED,
        categories=("genre",),
    )


def _open(path: Path, kinds: dict[str, str], others: tuple[str, ...] = ()) -> Scan:
    scan = scan_file(path)
    for name in (*kinds, *others):
        must_have(scan, name, "the file: give it as GroupLens publishes it")
    refuse_lines(path)
    refuse_values(scan, kinds)
    return scan


def _events(scan: Scan, table: str, kind: str, funnel: Funnel) -> pl.DataFrame:
    columns = {
        "user_id": number("userId").cast(pl.Int64),
        "item_id": number("movieId").cast(pl.Int64),
        "time_ms": number("timestamp").cast(pl.Int64) * 1000,
        "kind": pl.lit(kind, pl.Enum(KINDS)),
    }
    if kind == "search":
        tag = pl.col("tag").str.strip_chars()
        columns["query"] = pl.when(tag != "").then(tag)
    df = scan.read(scan.frame.select(**columns))
    kept = df.drop_nulls()
    _count(funnel, table, df.height, kept.height, "a value is empty")
    return kept


def _count(funnel: Funnel, table: str, read: int, kept: int, reason: str) -> None:
    for stage, rows, why in (("read", read, ""), ("rejected", read - kept, reason), ("kept", kept, "")):
        if rows or stage != "rejected":
            funnel.append({"table": table, "stage": stage, "rows": rows, "reason": why})
