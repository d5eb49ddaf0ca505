"""Canonical tables -> a dataset directory. The same tables give the same bytes, hence the same hashes.

Legend: E entries (sorted by user, time, place in the file), K clicks (each a case), I items.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from corsar.batch import Catalogue, Task, TrainEvents
from corsar.data.beside import whole_directory
from corsar.data.cases import save_cases
from corsar.data.entries import Entries, make_entries
from corsar.data.places import make_places
from corsar.data.split import SplitName, assign_splits
from corsar.data.store import (
    FORMAT,
    file_hash,
    manifest_hash,
    save_catalogue,
    save_history,
    save_places,
    save_train_events,
)
from corsar.data.words import Wording, make_wording, ragged
from corsar.errors import DataError, writing
from corsar.vocab import Rows, Vocab
from corsar.windows import History

if TYPE_CHECKING:
    from corsar.progress import Progress
    from corsar.schema import Tables

RULES = {
    "history": "entries strictly before the case's time, none of its own time; a search stands at its earliest row and is"
    " history of a case once its last click lies before it",
    "cases": "one for each clicked item; items of the same search, or of the same page of the feed (same user and time),"
    " are neither its history nor its candidates nor its negatives",
    "items": "the items table and the clicked items of the training part; any other item is row 0 and no target",
    "words": "from item texts and training queries",
}


def build_dataset(
    tables: Tables,
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
    with whole_directory(out) as beside, progress.task("prepare", 4) if progress else nullcontext() as bar:
        funnel = [dict(line) for line in tables.funnel]
        more_users = None if tables.users is None else tables.users["user_id"]
        is_places = bool((tables.events["kind"] == "checkin").all())
        tasks: tuple[Task, ...] = ("next_place",) if is_places else ("recommend", "search")
        entries = make_entries(
            tables.events, more_users, require_click=require_click, funnel=funnel, kind="checkin" if is_places else "feed"
        )
        split_E, params = assign_splits(
            entries.user_E, entries.time_E, entries.has_click_E, entries.given_split_E,
            split=split, clock=tables.clock, valid_ms=valid_ms, test_ms=test_ms, valid=valid,
        )  # fmt: skip
        if bar:
            bar.advance()
        items, text_I = _items(tables, entries, split_E)
        wording = make_wording(text_I, entries.query_E, split_E == 0, min_word_count)
        catalogue, categories, attributes = _catalogue(tables, items, entries.users, wording)
        if bar:
            bar.advance()
        item_K = items.rows(entries.item_K, missing="pad")
        history = _history(entries, item_K, wording)
        counts, candidates = save_cases(
            beside / "cases", entries, split_E, item_K, wording.query_E, items, tables.candidates, funnel, tasks
        )
        if bar:
            bar.advance()
        save_history(history, beside / "history")
        if is_places:
            save_places(make_places(tables, entries, items), beside / "places")
        save_catalogue(catalogue, beside / "catalogue")
        save_train_events(_train_events(entries, split_E, item_K), beside / "train_events")
        for name, vocab in (("users", entries.users), ("items", items), ("words", wording.words)):
            vocab.save(beside / f"{name}.parquet")
        with writing(out, pl.exceptions.PolarsError):
            text_I.to_frame("text").write_parquet(beside / "item_text.parquet")
        manifest = {
            "clock": tables.clock,
            "source": tables.source,
            "derived": tables.derived,
            "split": params,
            "rules": RULES,
            "options": {"require_click": require_click, "min_word_count": min_word_count},
            "counts": {
                "users": len(entries.users),
                "items": len(items),
                "words": len(wording.words),
                "queries": len(wording.queries) - 1,
                "train_queries": wording.num_train_queries,
                "feed_events": len(history.feed_items),
                "searches": len(history.search_queries),
                **counts,
            },
            "categories": categories,
            "attributes": attributes,
            "candidates": candidates,
            "funnel": funnel,
        }
        _write_manifest(beside, manifest)
        if bar:
            bar.advance()
    return out


def _items(tables: Tables, entries: Entries, split_E: Rows) -> tuple[Vocab, pl.Series]:
    """Items of the table and of the training part in the order of their ids, and their texts (empty where unknown)."""
    trained = entries.item_K.filter(pl.Series(split_E[entries.entry_K] == 0))
    if tables.items is None:
        items = Vocab(trained.unique().sort())
        return items, pl.Series("text", [""] * len(items), dtype=pl.String)
    table = tables.items.select("item_id", "text")
    items = Vocab(pl.concat([table["item_id"], trained.cast(table.schema["item_id"])]).unique().sort())
    rows = pl.DataFrame({"item_id": items.ids(np.arange(1, len(items) + 1))})
    return items, rows.join(table, on="item_id", how="left", maintain_order="left")["text"].fill_null("")


def _codes(table: pl.DataFrame | None, key: str, columns: tuple[str, ...], vocab: Vocab) -> tuple[Tensor, list[dict[str, Any]]]:
    """Values of the columns as numbers from 1 on, 0 where unknown, [rows + 1, columns]; and what the numbers stand for."""
    codes = np.zeros((len(vocab) + 1, len(columns)), dtype=np.int64)
    sizes = []
    for at, name in enumerate(columns):
        assert table is not None
        values = Vocab(table[name].drop_nulls().unique().sort())
        codes[vocab.rows(table[key]), at] = values.rows(table[name], missing="pad")
        sizes.append({"name": name, "size": len(values), "values": values.ids(range(1, len(values) + 1)).to_list()})
    return torch.from_numpy(codes), sizes


def _catalogue(
    tables: Tables, items: Vocab, users: Vocab, wording: Wording
) -> tuple[Catalogue, list[dict[str, Any]], list[dict[str, Any]]]:
    item_categories, categories = _codes(tables.items, "item_id", tables.categories, items)
    user_attributes, attributes = _codes(tables.users, "user_id", tables.attributes, users)
    return Catalogue(wording.item_words, item_categories, user_attributes), categories, attributes


def _history(entries: Entries, item_K: Rows, wording: Wording) -> History:
    is_search_E, user_E = entries.is_search_E, entries.user_E
    num_users = len(entries.users)
    before_E = np.cumsum(is_search_E) - is_search_E  # searches before each entry, of all users
    start_U = np.searchsorted(user_E, np.arange(num_users + 2))  # first entry of each user
    searches_U = np.concatenate([before_E, [is_search_E.sum()]])[start_U]
    num_searches_E = before_E - searches_U[user_E]
    num_feeds_E = np.arange(len(user_E)) - start_U[user_E] - num_searches_E
    # a click on an unknown item would be taken for the padding behind the last click
    of_search_K = is_search_E[entries.entry_K] & (item_K > 0)
    return History(
        feed_items=torch.from_numpy(item_K[~is_search_E[entries.entry_K]]),
        feed_times=torch.from_numpy(entries.time_E[~is_search_E]),
        feed_others=torch.from_numpy(num_searches_E[~is_search_E]),
        feed_offsets=torch.from_numpy(start_U - searches_U),
        search_queries=torch.from_numpy(wording.query_E[is_search_E]),
        search_clicks=ragged(before_E[entries.entry_K[of_search_K]], item_K[of_search_K], int(is_search_E.sum())),
        search_times=torch.from_numpy(entries.time_E[is_search_E]),
        search_others=torch.from_numpy(num_feeds_E[is_search_E]),
        search_offsets=torch.from_numpy(searches_U),
        queries=wording.queries,
    )


def _train_events(entries: Entries, split_E: Rows, item_K: Rows) -> TrainEvents:
    of_train_K = split_E[entries.entry_K] == 0
    entry = entries.entry_K[of_train_K]
    return TrainEvents(
        torch.from_numpy(entries.user_E[entry]),
        torch.from_numpy(item_K[of_train_K]),
        torch.from_numpy(entries.is_search_E[entry]),
    )


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Add the hashes of all files, and one over them and the rest of the manifest, and write it."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    files = {name: {"sha256": file_hash(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    manifest = {"format": FORMAT, **manifest, "files": files}
    manifest["data_hash"] = manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
