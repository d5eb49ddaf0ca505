"""The items of a dataset: which there are, their words, their categories and their texts, part by part of their ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from corsar.data.growing import Growing
from corsar.data.words import Codes, Wording, known_words
from corsar.spool import PartedTables, Spool
from corsar.vocab import Rows, Vocab

TEXTS_A_GROUP = 122_880  # rows in a group of the texts' Parquet file, whatever the parts are: the same texts, the same bytes


class SpelledItems:
    """Items in the order of their rows, on disk: their texts and categories, and the words of their texts as numbers."""

    def __init__(self, rough: Path, num_parts: int, values: list[pl.Series]) -> None:
        """None yet; `values` are the distinct values of each category."""
        self.rows, self.lengths, self.codes = (
            Spool(rough / name, num_parts) for name in ("item_rows", "item_lengths", "item_codes")
        )
        self.values = values


def item_rows(parts: PartedTables, trained: pl.Series, rough: Path) -> tuple[Vocab, Codes, SpelledItems]:
    """Items of the table and of the training part in the order of their ids, the words of their texts, and the rest.

    Args:
        trained: distinct ids of the training part, sorted.
    """
    tables = parts.items
    num_parts = 1 if tables is None else len(tables)
    words, ids = Codes(), []
    spelled = SpelledItems(rough, num_parts, [])
    begin = 0  # of the training part's items that are still to come
    for part in range(num_parts):
        table = _table(tables[part] if tables is not None else None, trained.dtype, parts.categories)
        extra = trained.cast(table.schema["item_id"])
        end = len(extra)
        if part + 1 < num_parts:
            highest = table["item_id"].sort().tail(1)
            end = int(extra.search_sorted(highest, side="right")[0])
        ids.append(pl.concat([table["item_id"], extra.slice(begin, end - begin)]).unique().sort())
        begin = end
        rows = ids[-1].to_frame().join(table, on="item_id", how="left", maintain_order="left")
        rows = rows.drop("item_id").with_columns(pl.col("text").fill_null(""))
        length, code = words.cut(rows["text"])
        spelled.rows.append(rows, part)
        spelled.lengths.append(pl.DataFrame({"length": length}), part)
        spelled.codes.append(pl.DataFrame({"code": code}), part)
        here = [table[name].drop_nulls().unique() for name in parts.categories]
        before = spelled.values or [one.clear() for one in here]
        spelled.values = [pl.concat(pair).unique().sort() for pair in zip(before, here, strict=True)]
    return Vocab(pl.concat(ids, rechunk=True)), words, spelled


def _table(table: pl.DataFrame | None, dtype: pl.DataType, categories: tuple[str, ...]) -> pl.DataFrame:
    if table is None:
        return pl.DataFrame(schema={"item_id": dtype, "text": pl.String})
    return table.select("item_id", "text", *categories)


def save_items(
    spelled: SpelledItems, wording: Wording, categories: tuple[str, ...], arrays: Growing, folder: Path
) -> list[dict[str, Any]]:
    """Write words, categories and texts of all items; what the numbers of each category stand for comes back."""
    vocabs = [Vocab(values) for values in spelled.values]
    # row 0 is padding
    arrays.append("catalogue/item_categories", np.zeros((1, len(categories)), dtype=np.int64))
    arrays.append_ragged("catalogue/item_words", np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64))
    for part, rows in enumerate(spelled.rows):
        columns = [vocab.rows(rows[name], missing="pad") for name, vocab in zip(categories, vocabs, strict=True)]
        arrays.append(
            "catalogue/item_categories", np.stack(columns, 1) if columns else np.zeros((len(rows), 0), dtype=np.int64)
        )
        length, code = spelled.lengths[part]["length"].to_numpy(), spelled.codes[part]["code"].to_numpy()
        arrays.append_ragged("catalogue/item_words", *known_words(length, code, wording.word_of_code))
    _save_texts(spelled.rows, folder / "item_text.parquet")
    return [_told(name, vocab) for name, vocab in zip(categories, vocabs, strict=True)]


def _save_texts(rows: Spool, file: Path) -> None:
    def texts(columns: Any, predicate: Any, most: Any, size: Any) -> Iterator[pl.DataFrame]:
        for part in rows:
            yield part.select("text")

    register_io_source(texts, schema={"text": pl.String}).sink_parquet(file, row_group_size=TEXTS_A_GROUP)


def codes(table: pl.DataFrame | None, key: str, columns: tuple[str, ...], vocab: Vocab) -> tuple[Rows, list[dict[str, Any]]]:
    """Values of the columns as numbers from 1 on, 0 where unknown, [rows + 1, columns]; and what the numbers stand for."""
    found = np.zeros((len(vocab) + 1, len(columns)), dtype=np.int64)
    sizes = []
    for at, name in enumerate(columns):
        assert table is not None
        values = Vocab(table[name].drop_nulls().unique().sort())
        found[vocab.rows(table[key]), at] = values.rows(table[name], missing="pad")
        sizes.append(_told(name, values))
    return found, sizes


def _told(name: str, values: Vocab) -> dict[str, Any]:
    return {"name": name, "size": len(values), "values": values.ids(range(1, len(values) + 1)).to_list()}
