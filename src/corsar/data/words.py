"""Texts and queries as rows of one vocabulary, whose words come from item texts and training queries.

Legend: I items, E entries, T distinct query texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from corsar.batch import Ragged
from corsar.text import words_column
from corsar.vocab import Rows, Vocab

AT_ONCE = 200_000  # texts whose words are spelled out in memory


@dataclass(frozen=True)
class Wording:
    """Every text of the dataset as word rows."""

    words: Vocab
    item_words: Ragged  # [I + 1]
    queries: Ragged  # distinct queries; row 0 is the empty one, then come those of the training part
    num_train_queries: int
    query_E: Rows  # query of each entry; 0 for feed events


def ragged(owner: Rows, values: Rows, num_rows: int) -> Ragged:
    """Row r holds the values whose owner is r; owners are sorted."""
    lengths = np.bincount(owner, minlength=num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(torch.from_numpy(np.array(values, dtype=np.int64)), torch.from_numpy(offsets))


@dataclass(frozen=True)
class _Cut:
    """The words of many texts: which text each is of, its place among the distinct words, and these."""

    at: Rows
    code: np.ndarray[Any, np.dtype[np.int32]]
    distinct: pl.Series

    def rows(self, words: Vocab) -> tuple[Rows, Rows]:
        """The words that the vocabulary has: which text each is of, and its row."""
        row = words.rows(self.distinct, missing="pad")[self.code]
        known = row > 0
        return (self.at, row) if known.all() else (self.at[known], row[known])


def _cut(texts: pl.Series) -> _Cut:
    """The words of the texts in their order; they are spelled out for some texts at a time, for they take much memory."""
    distinct = pl.Series("word", [], dtype=pl.String)
    at, code = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int32)]
    for first in range(0, len(texts), AT_ONCE):
        some = words_column(texts.slice(first, AT_ONCE)).alias("word")
        lengths = some.list.len().fill_null(0).to_numpy()
        word = some.explode(empty_as_null=False, keep_nulls=False)
        distinct = pl.concat([distinct, word]).unique(maintain_order=True)
        table = pl.DataFrame({"word": distinct, "code": np.arange(len(distinct), dtype=np.int32)})
        code.append(word.to_frame("word").join(table, on="word", how="left", maintain_order="left")["code"].to_numpy())
        at.append(np.repeat(np.arange(first, first + len(some)), lengths))
    return _Cut(np.concatenate(at), np.concatenate(code), distinct)


def _item_words(cut: _Cut, words: Vocab, num_items: int) -> Ragged:
    at, row = cut.rows(words)
    return ragged(at + 1, row, num_items + 1)


def make_wording(text_I: pl.Series, query_E: pl.Series, is_train_E: np.ndarray[Any, Any], min_count: int) -> Wording:
    """Word rows of the item texts (row 1 first) and of the queries (null for feed events)."""
    asked = pl.DataFrame({"query": query_E, "train": is_train_E}).drop_nulls("query")
    texts = asked.group_by("query").agg(pl.col("train").sum()).sort("query")
    item_cut, query_cut = _cut(text_I), _cut(texts["query"])
    train_T = texts["train"].to_numpy().astype(np.int64)
    of_items = np.bincount(item_cut.code, minlength=len(item_cut.distinct))
    of_queries = np.bincount(query_cut.code, train_T[query_cut.at], len(query_cut.distinct)).astype(np.int64)
    counts = [
        pl.DataFrame({"word": cut.distinct, "count": count}) for cut, count in ((item_cut, of_items), (query_cut, of_queries))
    ]
    known = pl.concat(counts).group_by("word").agg(pl.col("count").sum()).filter(pl.col("count") >= max(1, min_count))
    words = Vocab(known["word"].sort())

    query_at, query_row = query_cut.rows(words)
    query_flat = pl.DataFrame({"at": query_at, "row": query_row})
    # texts with the same words are one query
    spelled = query_flat.group_by("at", maintain_order=True).agg("row")
    spelled = spelled.with_columns(key=pl.col("row").cast(pl.List(pl.String)).list.join(" "))
    spelled = spelled.with_columns(train=train_T[spelled["at"].to_numpy()])
    distinct = (
        spelled.group_by("key")
        .agg(pl.col("row").first(), pl.col("train").sum() > 0)
        .sort(["train", "key"], descending=[True, False])
    )
    distinct = distinct.with_columns(query=np.arange(1, len(distinct) + 1))
    numbers = spelled.join(distinct.select("key", "query"), on="key")
    query_T = np.zeros(len(texts), dtype=np.int64)
    query_T[numbers["at"].to_numpy()] = numbers["query"].to_numpy()

    flat = distinct.select("query", "row").explode("row", empty_as_null=True, keep_nulls=True)
    place = texts.select("query").with_columns(row=query_T)
    rows = pl.DataFrame({"query": query_E}).join(place, on="query", how="left", maintain_order="left")["row"]
    return Wording(
        words=words,
        item_words=_item_words(item_cut, words, len(text_I)),
        queries=ragged(flat["query"].to_numpy(), flat["row"].to_numpy(), len(distinct) + 1),
        num_train_queries=int(distinct["train"].sum()),
        query_E=rows.fill_null(0).to_numpy(writable=True),
    )
