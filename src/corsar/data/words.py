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


def _flat(texts: pl.Series) -> pl.DataFrame:
    """The words of the texts, one a line: at (which text), word."""
    cut = pl.DataFrame({"word": words_column(texts)}).with_columns(at=np.arange(len(texts)))
    return cut.explode("word", empty_as_null=True, keep_nulls=True).drop_nulls("word")


def make_wording(text_I: pl.Series, query_E: pl.Series, is_train_E: np.ndarray[Any, Any], min_count: int) -> Wording:
    """Word rows of the item texts (row 1 first) and of the queries (null for feed events)."""
    asked = pl.DataFrame({"query": query_E, "train": is_train_E}).drop_nulls("query")
    texts = asked.group_by("query").agg(pl.col("train").sum()).sort("query")
    item_flat, query_flat = _flat(text_I), _flat(texts["query"])
    train_T = texts["train"].to_numpy().astype(np.int64)
    query_flat = query_flat.with_columns(count=train_T[query_flat["at"].to_numpy()])
    counts = pl.concat([item_flat.select("word", count=pl.lit(1, pl.Int64)), query_flat.select("word", "count")])
    known = counts.group_by("word").agg(pl.col("count").sum()).filter(pl.col("count") >= max(1, min_count))
    words = Vocab(known["word"].sort())

    item_flat = item_flat.with_columns(row=words.rows(item_flat["word"], missing="pad")).filter(pl.col("row") > 0)
    query_flat = query_flat.with_columns(row=words.rows(query_flat["word"], missing="pad")).filter(pl.col("row") > 0)
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
        item_words=ragged(item_flat["at"].to_numpy() + 1, item_flat["row"].to_numpy(), len(text_I) + 1),
        queries=ragged(flat["query"].to_numpy(), flat["row"].to_numpy(), len(distinct) + 1),
        num_train_queries=int(distinct["train"].sum()),
        query_E=rows.fill_null(0).to_numpy(writable=True),
    )
