"""What a look at data finds: how often, where first, and how bad it is.

Levels: `missing` (a file or column that is needed), `malformed` (cannot mean anything), `suspicious` (can be read, but look at
it) and `note` (how such data is). `prepare` refuses the first two where it finds them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from corsar.schema import Tables
from corsar.sources.files import Scan

LEVELS = ("missing", "malformed", "suspicious", "note")
EARLIEST_MS, LATEST_MS = 788_918_400_000, 4_102_444_800_000  # 1995, before which no app logged, and 2100


class Finding(NamedTuple):
    """One thing found: in how many rows, and the first of them."""

    level: str
    file: str
    column: str
    rows: int
    first: str  # "line 4: 'abc'"; lines of a text file count from 1, with the header
    what: str

    def sentence(self) -> str:
        """File, column, place and what is wrong, without an end."""
        where = f"{self.file}: column '{self.column}'" if self.column else self.file
        rows = f" ({self.rows} rows in all)" if self.rows > 1 else ""
        return f"{where}, {self.first}, {self.what}{rows}" if self.first else f"{where} {self.what}"


class Rule(NamedTuple):
    """What a row of a file may be found to be; `holds` is true in such rows."""

    level: str
    column: str
    what: str
    holds: pl.Expr


def find(scan: Scan, rules: list[Rule], at: str = "line", begins: int = 2) -> list[Finding]:
    """The rules that hold, each with its number of rows and its first one; a second pass is made where some do.

    Args:
        at, begins: what a row is called, and the number of the first one.
    """
    if not rules:
        return []
    counts = scan.read(scan.frame.select(r.holds.sum().alias(str(n)) for n, r in enumerate(rules))).row(0)
    kept = [(rule, count) for rule, count in zip(rules, counts, strict=True) if count]
    if not kept:
        return []
    asked = []
    for number, (rule, _) in enumerate(kept):
        holds = rule.holds.fill_null(False)
        asked += [
            pl.col("_row").filter(holds).first().alias(f"row {number}"),
            pl.col(rule.column).filter(holds).first().cast(pl.String).alias(f"value {number}"),
        ]
    firsts = scan.read(scan.frame.with_row_index("_row").select(asked)).row(0)
    found = []
    for (rule, count), row, value in zip(kept, firsts[::2], firsts[1::2], strict=True):
        first = f"{at} {row + begins}" + (f": {value[:60]!r}" if value is not None else "")
        found.append(Finding(rule.level, scan.file, rule.column, count, first, rule.what))
    return found


def check_tables(tables: Tables, file: str) -> list[Finding]:
    """What is odd in canonical tables, and what their reader rejected; rows count from 1, as the reader put them."""
    sizes = {"events": tables.events, "items": tables.items, "users": tables.users, "candidates": tables.candidates}
    found = [Finding("note", file, "", df.height, "", name) for name, df in sizes.items() if df is not None]
    found += of_funnel(tables.funnel, file)
    events, key = tables.events, ["user_id", "time_ms", "kind"]
    is_search = pl.col("kind") == "search"
    of_one = is_search & pl.col("session_id").is_not_null()
    rules = [
        Rule("suspicious", "item_id", "the same user, item, kind and time again", again(["item_id", *key], of_one)),
        Rule("note", "time_ms", "shares user, kind and time with an earlier row: no history of each other", again(key, of_one)),
        Rule("note", "query", "searches without a query", is_search & pl.col("query").is_null()),
        Rule("note", "label", "shown and not clicked: neither history nor target", pl.col("label") == 0),
        Rule("note", "user_id", "users with a single event", pl.col("user_id").is_unique()),
    ]
    if tables.clock == "utc":
        outside = ~pl.col("time_ms").is_between(EARLIEST_MS, LATEST_MS)
        rules.append(Rule("suspicious", "time_ms", "before 1995 or after 2100: is the time unit right?", outside))
    table = Scan("events", events.lazy(), events.columns)
    found += [one._replace(file=file) for one in find(table, rules, "row", 1)]
    sessions = events.filter(of_one).group_by("user_id", "session_id").agg(pl.col("label").max())
    if silent := sessions.filter(pl.col("label") == 0).height:
        found.append(Finding("note", file, "session_id", silent, "", f"of {sessions.height} searches got no click"))
    if tables.items is not None:
        known = tables.items["item_id"].implode()
        strange = Rule("suspicious", "item_id", "not in the table of items", ~pl.col("item_id").is_in(known))
        found += [one._replace(file=file) for one in find(table, [strange], "row", 1)]
        if silent := tables.items.filter(pl.col("text") == "").height:
            found.append(Finding("note", file, "text", silent, "", f"of {tables.items.height} items have no text"))
    return found


def of_funnel(funnel: list[dict[str, Any]], file: str) -> list[Finding]:
    """What a funnel says of rows that were rejected, or kept with a note."""
    return [
        Finding("suspicious" if line["stage"] == "rejected" else "note", file, "", line["rows"], "", f"{line['table']}: {why}")
        for line in funnel
        if line["stage"] in ("rejected", "note") and (why := line["reason"])
    ]


def again(columns: list[str], unless: pl.Expr) -> pl.Expr:
    """Whether an earlier row has the same values; the rows of one search share theirs and are left out."""
    return ~pl.struct(columns).is_first_distinct() & ~unless
