"""Canonical tables -> a dataset directory. The same tables give the same bytes, hence the same hashes.

Users are worked through part by part (`_entries`, `_splits`, `_write_parts`), and so are items (`items.py`): in memory lie
a part, the vocabularies, and the distinct queries. In how many parts the tables come changes no byte.

Legend: E entries (sorted by user, time, place in the file), K clicks (each a case).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from corsar.data.beside import whole_directory
from corsar.data.cases import CaseFiles
from corsar.data.entries import Entries, make_entries
from corsar.data.growing import Growing
from corsar.data.items import codes, item_rows, save_items
from corsar.data.places import item_places, offsets_min
from corsar.data.split import SplitName, assign_splits
from corsar.data.store import FORMAT, file_hash, manifest_hash
from corsar.data.words import Wording, make_wording
from corsar.errors import DataError
from corsar.progress import Progress
from corsar.schema import Tables
from corsar.spool import PartedTables, Spool
from corsar.vocab import Rows, Vocab

RULES = {
    "history": "entries strictly before the case's time, none of its own time; a search stands at its earliest row and is"
    " history of a case once its last click lies before it",
    "cases": "one for each clicked item; items of the same search, or of the same page of the feed (same user and time),"
    " are neither its history nor its candidates nor its negatives",
    "items": "the items table and the clicked items of the training part; any other item is row 0 and no target",
    "words": "from item texts and training queries",
}


def build_dataset(
    tables: Tables | Callable[[Path], PartedTables],
    out: Path | str,
    *,
    split: SplitName = "given",
    valid_ms: int | None = None,
    test_ms: int | None = None,
    require_click: bool = False,
    min_word_count: int = 1,
    valid: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The path of the dataset directory made of the tables; it appears whole or not at all.

    Args:
        tables: or what reads them into an empty folder, which is gone at the end.
        split: `given` (column of the events), `leave_last`, `time` (spans at the end of the log) or `last_fraction`.
        valid_ms: length of the valid span of the split `time`; it lies before the test span.
        test_ms: length of the test span.
        require_click: drop searches without a click; else they are history, but no cases.
        min_word_count: rarer words are left out of the vocabulary.
        valid: whether `leave_last` and `last_fraction` hold out a valid part.

    Raises:
        DataError: the tables contradict the rules, or `out` exists and may not be overwritten.
        OutputError: the disk is full or the like; a dataset that was there is still there.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise DataError(f"'{out}' exists; choose another directory, or add --overwrite (overwrite=True)")
    if out.exists() and not (out / "manifest.json").is_file():
        raise DataError(f"'{out}' is no dataset directory and is not overwritten; choose another one")
    with whole_directory(out) as beside, progress.task("prepare", 5) if progress else nullcontext() as bar:

        def advance() -> None:
            if bar:
                bar.advance()

        rough = beside / "rough"
        rough.mkdir()
        parts = _parted(tables) if isinstance(tables, Tables) else tables(rough / "tables")
        candidates = tables.candidates if isinstance(tables, Tables) else None
        funnel = [dict(line) for line in parts.funnel]
        advance()
        log = _entries(parts, rough, require_click, funnel)
        advance()
        splits = _splits(log, split, parts.clock, valid_ms, test_ms, valid)
        items, item_codes, spelled = item_rows(parts, splits.trained, rough)
        wording = make_wording(item_codes, splits.asked, min_word_count)
        advance()
        with Growing(beside) as arrays:
            categories = save_items(spelled, wording, parts.categories, arrays, beside)
            attribute_codes, attributes = codes(parts.users, "user_id", parts.attributes, log.users)
            arrays.append("catalogue/user_attributes", attribute_codes)
            arrays.append("history/queries/offsets", wording.queries.offsets.numpy())
            arrays.append("history/queries/values", wording.queries.values.numpy())
            if log.is_places:
                arrays.append("places/lat_lon_deg", item_places(parts.items, items))
            advance()
            cases = CaseFiles(arrays, ("next_place",) if log.is_places else ("recommend", "search"))
            for part, split_E in splits.of_parts(log):
                _write_part(arrays, cases, part, split_E, items, wording, candidates, log.is_places)
            for name, num_U in zip(("feed", "search"), log.num_2U, strict=True):
                arrays.append(f"history/{name}_offsets", np.concatenate([[0], np.cumsum(num_U)]))
        funnel += cases.funnel()
        for name, vocab in (("users", log.users), ("items", items), ("words", wording.words)):
            vocab.save(beside / f"{name}.parquet")
        shutil.rmtree(rough)
        manifest = {
            "clock": parts.clock,
            "source": parts.source,
            "derived": parts.derived,
            "split": splits.params,
            "rules": RULES,
            "options": {"require_click": require_click, "min_word_count": min_word_count},
            "counts": {
                "users": len(log.users),
                "items": len(items),
                "words": len(wording.words),
                "queries": len(wording.queries) - 1,
                "train_queries": wording.num_train_queries,
                "feed_events": int(log.num_2U[0].sum()),
                "searches": int(log.num_2U[1].sum()),
                **cases.counts(),
            },
            "categories": categories,
            "attributes": attributes,
            "candidates": cases.candidates,
            "funnel": funnel,
        }
        _write_manifest(beside, manifest)
        advance()
    return out


def _parted(tables: Tables) -> PartedTables:
    """The tables as a single part."""
    return PartedTables(
        [tables.events], None if tables.items is None else [tables.items], tables.users, tables.clock, tables.funnel,
        tables.source, tables.derived, tables.categories, tables.attributes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Log:
    """All entries and clicks, on disk, and what there is of users."""

    entries: Spool
    clicks: Spool
    users: Vocab
    num_2U: Rows  # feed events and searches of each user row
    last_ms: int
    is_places: bool

    def __iter__(self) -> Iterator[Entries]:
        for part in range(len(self.entries)):
            yield Entries.of(self.users, self.entries[part], self.clicks[part])


def _entries(parts: PartedTables, rough: Path, require_click: bool, funnel: list[dict[str, Any]]) -> _Log:
    is_places = all(bool((events["kind"] == "checkin").all()) for events in parts.events)
    entries, clicks = (Spool(rough / name, len(parts.events)) for name in ("entries", "clicks"))
    counts: Counter[tuple[str, str]] = Counter()
    of_users, last = [], None
    for part, events in enumerate(parts.events):
        made = make_entries(events, require_click=require_click, counts=counts, kind="checkin" if is_places else "feed")
        for spool, frame in zip((entries, clicks), made, strict=True):
            spool.append(frame, part)
        is_search = pl.col("is_search")
        of_users.append(made[0].group_by("user_id").agg(feeds=(~is_search).sum(), searches=is_search.sum()))
        latest = made[0]["time_ms"].max()
        last = latest if last is None or (latest is not None and latest > last) else last  # type: ignore[operator]
    funnel += [
        {"table": "dataset", "stage": stage, "rows": rows, "reason": reason} for (stage, reason), rows in counts.items() if rows
    ]
    seen = pl.concat(of_users)
    ids = seen["user_id"]
    if parts.users is not None:
        ids = pl.concat([ids, parts.users["user_id"].cast(ids.dtype)])
    users = Vocab(ids.unique().sort())
    num_2U = np.zeros((2, len(users) + 1), dtype=np.int64)
    num_2U[:, users.rows(seen["user_id"])] = seen["feeds"].to_numpy(), seen["searches"].to_numpy()
    return _Log(entries, clicks, users, num_2U, last or 0, is_places)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Splits:
    """How entries are split, and what the training part holds."""

    params: dict[str, Any]
    trained: pl.Series  # the distinct items clicked in the training part, sorted
    asked: pl.DataFrame  # query, and in how many training entries; once a part
    _split: Callable[[Entries], tuple[Rows, dict[str, Any]]]

    def of_parts(self, log: _Log) -> Iterator[tuple[Entries, Rows]]:
        """Each part with the split of its entries."""
        for entries in log:
            yield entries, self._split(entries)[0]


def _splits(log: _Log, split: SplitName, clock: str, valid_ms: int | None, test_ms: int | None, valid: bool) -> _Splits:
    def split_of(entries: Entries) -> tuple[Rows, dict[str, Any]]:
        return assign_splits(
            entries.user_E, entries.time_E, entries.has_click_E, entries.given_split_E,
            split=split, clock=clock, valid_ms=valid_ms, test_ms=test_ms, valid=valid, last_ms=log.last_ms,
        )  # fmt: skip

    trained, asked = None, []
    params: dict[str, Any] = {}
    num, num_train = 0, 0
    for entries in log:
        split_E, params = split_of(entries)
        is_train_E = split_E == 0
        num, num_train = num + len(split_E), num_train + int(is_train_E.sum())
        here = entries.item_K.filter(pl.Series(is_train_E[entries.entry_K])).unique()
        trained = here if trained is None else pl.concat([trained, here]).unique()
        queries = pl.DataFrame({"query": entries.query_E, "train": is_train_E}).drop_nulls("query")
        asked.append(queries.group_by("query").agg(pl.col("train").sum()))
    if num and not num_train:
        raise DataError(f"split '{split}' leaves nothing to train on; hold out less, or bring more events")
    assert trained is not None
    return _Splits(params, trained.sort(), pl.concat(asked), split_of)


def _write_part(
    arrays: Growing,
    cases: CaseFiles,
    entries: Entries,
    split_E: Rows,
    items: Vocab,
    wording: Wording,
    candidates: pl.DataFrame | None,
    is_places: bool,
) -> None:
    """Append the histories, the cases and the training events of one part."""
    is_search_E, user_E = entries.is_search_E, entries.user_E
    item_K, query_E = items.rows(entries.item_K, missing="pad"), wording.query_rows(entries.query_E)
    before = arrays.length("history/feed_times"), arrays.length("history/search_times")
    before_E = np.cumsum(is_search_E) - is_search_E  # searches before each entry
    first_E = np.searchsorted(user_E, user_E)  # first entry of its user
    num_searches_E = before_E - before_E[first_E]
    num_feeds_E = np.arange(len(user_E)) - first_E - num_searches_E
    is_search_K = is_search_E[entries.entry_K]
    # a click on an unknown item would be taken for the padding behind the last click
    of_search_K = is_search_K & (item_K > 0)
    lengths = np.bincount(before_E[entries.entry_K[of_search_K]], minlength=int(is_search_E.sum()))
    for name, values in (
        ("feed_items", item_K[~is_search_K]),
        ("feed_times", entries.time_E[~is_search_E]),
        ("feed_others", num_searches_E[~is_search_E]),
        ("search_queries", query_E[is_search_E]),
        ("search_times", entries.time_E[is_search_E]),
        ("search_others", num_feeds_E[is_search_E]),
    ):
        arrays.append(f"history/{name}", values)
    arrays.append_ragged("history/search_clicks", lengths, item_K[of_search_K])
    if is_places:
        arrays.append("places/offsets_min", offsets_min(entries))
    cases.append(entries, split_E, item_K, query_E, items, before, candidates)
    of_train_K = split_E[entries.entry_K] == 0
    arrays.append("train_events/user_E", user_E[entries.entry_K[of_train_K]])
    arrays.append("train_events/item_E", item_K[of_train_K])
    arrays.append("train_events/is_search_E", is_search_K[of_train_K])


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Add the hashes of all files, and one over them and the rest of the manifest, and write it."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    files = {name: {"sha256": file_hash(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    manifest = {"format": FORMAT, **manifest, "files": files}
    manifest["data_hash"] = manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
