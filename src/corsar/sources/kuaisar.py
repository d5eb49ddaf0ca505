"""KuaiSAR's raw files, both sizes: feed and search logs of a short-video app (CC BY-NC-SA 4.0, kuaisar.github.io).

`rec_inter.csv` is the feed log: `click` means a valid play, `timestamp` is when the system sent the page, so that rows of
a page share it. `src_inter.csv` is the search log: a session is one search with all results shown. Captions and keywords
are lists of anonymous word numbers and become texts of those numbers. `social_network.csv` is counted and not used.

The files are read some megabytes at a time, and what is kept lies on disk in parts of the users and of the items.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from corsar.errors import DataError
from corsar.schema import KINDS, Tables, check_events, check_items, check_users, make_tables
from corsar.sources.features import Features, listed, whole
from corsar.sources.files import ahead, read_blocks, scan_file
from corsar.sources.filters import Core, Filters, Tally
from corsar.sources.lines import refuse_lines
from corsar.sources.sound_kuaisar import sound_blocks
from corsar.spool import PART_ROWS, PartedTables, Spool, cuts, deal
from corsar.vocab import Vocab

CATEGORIES = ("first_level_category_id", "second_level_category_id")  # the two that UniSAR reads
ATTRIBUTES = ("onehot_feat1", "onehot_feat2", "search_active_level", "rec_active_level")
BEIJING_MIN = 480
FEED_COLUMNS = ("user_id", "item_id", "timestamp", "click")
SEARCH_COLUMNS = ("user_id", "item_id", "search_session_timestamp", "search_session_id", "keyword", "click_cnt")
ONE_PART = 1 << 62


def read_kuaisar(raw_dir: str | Path, *, categories: tuple[str, ...] = CATEGORIES, filters: Filters | None = None) -> Tables:
    """Canonical tables of the raw files in `raw_dir`; rows that lack an id, a time or a label are rejected and counted.

    Args:
        categories: columns of `item_features.csv`; third and fourth levels are there too.
        filters: what else is left out.

    Raises:
        DataError: a file or a column is missing, or nothing is left.
    """
    with tempfile.TemporaryDirectory(prefix="corsar-kuaisar-") as folder:
        parts = part_kuaisar(raw_dir, Path(folder) / "parts", categories=categories, filters=filters, part_rows=ONE_PART)
        assert parts.items is not None
        return make_tables(
            parts.events[0],
            parts.items[0],
            parts.users,
            source=parts.source,
            funnel=parts.funnel,
            derived=parts.derived,
            categories=categories,
            attributes=ATTRIBUTES,
        )


def part_kuaisar(
    raw_dir: str | Path,
    folder: Path,
    *,
    categories: tuple[str, ...] = CATEGORIES,
    filters: Filters | None = None,
    part_rows: int = PART_ROWS,
) -> PartedTables:
    """The same tables on disk, in parts of about `part_rows` rows; they are written into `folder`, which is made."""
    raw, filters = Path(raw_dir), filters or Filters()
    if not raw.is_dir():
        raise DataError(f"{raw}: there is no such folder; give the one that holds KuaiSAR's rec_inter.csv.")
    folder.mkdir(parents=True)
    files = {
        "rec_inter.csv": list(FEED_COLUMNS),
        "src_inter.csv": [*SEARCH_COLUMNS, *(["item_type"] if filters.search_types else [])],
        "item_features.csv": ["item_id", "caption", *categories, *(["item_type"] if filters.item_types else [])],
        "user_features.csv": ["user_id", *ATTRIBUTES],
    }
    for name, columns in files.items():
        _check_columns(raw / name, columns)
    items = Features("items", "item_id", folder / "items_read", lambda frame: check_items(frame, categories))
    users = Features("users", "user_id", folder / "users_read", lambda frame: check_users(frame, ATTRIBUTES))
    rough = Spool(folder / "events_read", 1)
    tallies = {"feed": Tally("events (feed)"), "search": Tally("events (search)")}
    with _lines_refused([raw / name for name in files]):
        items.read(ahead(sound_blocks(raw / "item_features.csv", files["item_features.csv"])), filters.item_types)
        users.read(sound_blocks(raw / "user_features.csv", files["user_features.csv"]))
        of_type = Vocab(items.ids()) if filters.item_types else None
        for name, kind, made in (("rec_inter.csv", "feed", _feed()), ("src_inter.csv", "search", _search())):
            for block in ahead(sound_blocks(raw / name, files[name])):
                rough.append(_accepted(block, tallies[kind], made, filters, of_type))
    core = Core(rough, filters, folder / "clicks") if filters.counts_clicks else None
    events = _dealt(rough, core, tallies, folder / "events", part_rows)
    if not sum(tally.kept for tally in tallies.values()):
        told = "; ".join(f"{rows} {reason}" for tally in tallies.values() for reason, rows in tally.rejected.most_common())
        raise DataError(f"{raw}: no event is left ({told or 'the files are empty'}); give KuaiSAR's logs, or leave out less.")
    item_parts = items.dealt(folder / "items", part_rows, None if core is None else core.items)
    user_parts = users.dealt(folder / "users", ONE_PART, None if core is None else core.users)
    funnel = [line for tally in (*tallies.values(), items.tally, users.tally) for line in tally.lines()]
    if (raw / "social_network.csv").is_file():
        columns = scan_file(raw / "social_network.csv").columns
        rows = sum(len(block) for block in read_blocks(raw / "social_network.csv", columns))
        funnel.append({"table": "social_network", "stage": "note", "rows": rows, "reason": "not used"})
    return PartedTables(events, item_parts, user_parts[0], "utc", funnel, "kuaisar", _derived(raw), categories, ATTRIBUTES)


@contextmanager
def _lines_refused(paths: list[Path]) -> Iterator[None]:
    """The lines of the files are looked at beside the block; if one is not whole, that is told and nothing else."""
    with ThreadPoolExecutor(1) as pool:
        checks = [pool.submit(refuse_lines, path) for path in paths]
        try:
            yield
        finally:
            for one in checks:
                one.result()


def _check_columns(file: Path, columns: list[str]) -> None:
    listed = scan_file(file).columns
    for column in columns:
        if column not in listed:
            names = ", ".join(f"'{name}'" for name in listed)
            raise DataError(f"{file.name}: no column '{column}' among {names}; give the file as KuaiSAR publishes it.")


def _kind(kind: str) -> pl.Expr:
    return pl.lit(kind, pl.Enum(KINDS))


def _feed() -> dict[str, pl.Expr]:
    return {
        "user_id": whole("user_id"),
        "item_id": whole("item_id"),
        "time_ms": whole("timestamp"),
        "label": (whole("click") > 0).cast(pl.Int8),
        "kind": _kind("feed"),
    }


def _search() -> dict[str, pl.Expr]:
    return {
        "user_id": whole("user_id"),
        "item_id": whole("item_id"),
        "time_ms": whole("search_session_timestamp"),
        "session_id": whole("search_session_id"),
        "label": (whole("click_cnt").fill_null(0) > 0).cast(pl.Int8),
        "kind": _kind("search"),
        "query": pl.col("keyword"),
    }


def _accepted(
    block: pl.DataFrame, tally: Tally, columns: dict[str, pl.Expr], filters: Filters, of_type: Vocab | None
) -> pl.DataFrame:
    """The rows that have all they need and that the filters let through; the others are counted."""
    if "keyword" in block.columns:
        block = block.with_columns(listed(block["keyword"]))
    more = ["item_type"] if "item_type" in block.columns else []
    frame = block.select(*more, **columns)
    tally.read += len(frame)
    rules = [(pl.col(name).is_null(), f"no readable {name}") for name in columns if name != "query"]
    begin, end = filters.days_ms(BEIJING_MIN)
    if begin is not None:
        rules.append((pl.col("time_ms") < begin, f"before {filters.from_day} (from_day)"))
    if end is not None:
        rules.append((pl.col("time_ms") >= end, f"after {filters.to_day} (to_day)"))
    frame = tally.reject(frame, rules)
    if more:
        others = ~pl.col("item_type").is_in(filters.search_types).fill_null(False)
        reason = f"click on a result that is not {' or '.join(filters.search_types)} (search_types); its search stays"
        frame = tally.unclick(frame, others, reason).drop("item_type")
    if of_type is not None:
        frame = frame.with_columns(_other=pl.Series(of_type.rows(frame["item_id"], missing="pad") == 0))
        kept = " or ".join(filters.item_types)
        if tally.table == "events (search)":
            frame = tally.unclick(
                frame, pl.col("_other"), f"click on an item that is not {kept} (item_types); its search stays"
            )
        else:
            frame = tally.reject(frame, [(pl.col("_other"), f"item that is not {kept} (item_types)")])
        frame = frame.drop("_other")
    return frame


def _dealt(rough: Spool, core: Core | None, tallies: dict[str, Tally], folder: Path, part_rows: int) -> Spool:
    """The events in parts of the users; those that are not in the core are counted."""
    num: pl.DataFrame | None = None
    for frame in rough.frames():
        here = frame["user_id"].value_counts(name="rows")
        num = here if num is None else pl.concat([num, here]).group_by("user_id").agg(pl.col("rows").sum())
    assert num is not None
    if core is not None:
        num = num.filter(pl.Series(core.users.rows(num["user_id"], missing="pad") > 0))
    num = num.sort("user_id")
    firsts = cuts(num["user_id"], num["rows"], part_rows)
    spool = Spool(folder, len(firsts) + 1, _checked_events)
    for frame in rough.frames():
        kind = frame["kind"][0] if len(frame) else None
        kept = frame if core is None or kind is None else core.apply(frame, tallies[kind])
        deal(kept, "user_id", firsts, spool)
    rough.remove()
    return spool


def _checked_events(frame: pl.DataFrame) -> pl.DataFrame:
    return check_events(frame.with_columns(utc_offset_min=pl.lit(BEIJING_MIN, pl.Int16)))


def _derived(folder: Path) -> str | None:
    """What stands beside each figure where the logs are simulated: their truth lies beside them."""
    file = folder / "truth.json"
    if not file.is_file():
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    return f"Simulated logs: transfer {told['truth']['transfer']}, truth {told['hash']}, defaults {told['defaults_hash']}."
