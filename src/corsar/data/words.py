"""Texts and queries as rows of one vocabulary, whose words come from item texts and training queries.

Legend: T distinct query texts.
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

AT_ONCE = 100_000  # texts whose words are spelled out in memory
DIGITS = 7  # of the longest words that are found by their value
_NUMBER = rf"(?:0|[1-9]\d{{0,{DIGITS - 1}}})"
_NUMBERS = rf"^(?:{_NUMBER}(?: {_NUMBER})*)?$"


@dataclass(frozen=True)
class Wording:
    """What the words of the dataset are, and which query each text is."""

    words: Vocab
    word_of_code: Rows  # row of each distinct word of the item texts, 0 where it is too rare
    queries: Ragged  # distinct queries; row 0 is the empty one, then come those of the training part
    num_train_queries: int
    _text: pl.DataFrame  # query, row

    def query_rows(self, texts: pl.Series) -> Rows:
        """Query of each text; 0 for null, which feed events have."""
        rows = texts.to_frame("query").join(self._text, on="query", how="left", maintain_order="left")["row"]
        return rows.fill_null(0).to_numpy(writable=True)


def ragged(owner: Rows, values: Rows, num_rows: int) -> Ragged:
    """Row r holds the values whose owner is r; owners are sorted."""
    lengths = np.bincount(owner, minlength=num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(torch.from_numpy(np.array(values, dtype=np.int64)), torch.from_numpy(offsets))


class Codes:
    """Words of texts as numbers in the order in which they turn up; texts come in parts.

    Words that are short numbers themselves, as all are in KuaiSAR, are found by their value instead of by their letters.
    """

    def __init__(self) -> None:
        self._table = pl.DataFrame(schema={"word": pl.String, "code": pl.Int32})
        self._of_number = np.full(0, -1, dtype=np.int32)  # code of each word that is a short number, -1 while it is none
        self.counts = np.zeros(0, dtype=np.int64)  # of each word, in the texts that were counted

    @property
    def distinct(self) -> pl.Series:
        """The words, in the order of their numbers."""
        return self._table["word"]

    def cut(self, texts: pl.Series, weight: Rows | None = None) -> tuple[Rows, np.ndarray[Any, np.dtype[np.int32]]]:
        """How many words each text has, and the numbers of all of them in their order.

        They are spelled out for some texts at a time, for they take much memory.

        Args:
            weight: how often each text counts; once where not given.
        """
        lengths, codes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int32)]
        for first in range(0, len(texts), AT_ONCE):
            some = texts.slice(first, AT_ONCE)
            spelled = words_column(some)
            lengths.append(spelled.list.len().fill_null(0).to_numpy().astype(np.int64))
            word = spelled.explode(empty_as_null=False, keep_nulls=False).alias("word")
            codes.append(self._by_number(word) if some.str.contains(_NUMBERS).all() else self._by_letters(word))
        length, code = np.concatenate(lengths), np.concatenate(codes)
        each = None if weight is None else np.repeat(weight, length)
        counts = np.bincount(code, each, len(self._table)).astype(np.int64)
        counts[: len(self.counts)] += self.counts
        self.counts = counts
        return length, code

    def _by_number(self, word: pl.Series) -> np.ndarray[Any, np.dtype[np.int32]]:
        if not len(self._of_number):
            self._of_number = np.full(10**DIGITS, -1, dtype=np.int32)
            self._note(self._table)
        number = word.cast(pl.Int64).to_numpy()
        code: np.ndarray[Any, np.dtype[np.int32]] = self._of_number[number]
        if (code < 0).any():
            self._add(pl.Series("word", number[code < 0]).unique(maintain_order=True).cast(pl.String))
            code = self._of_number[number]
        return code

    def _by_letters(self, word: pl.Series) -> np.ndarray[Any, np.dtype[np.int32]]:
        words = word.to_frame()
        found = words.join(self._table, on="word", how="left", maintain_order="left")["code"]
        if found.null_count():
            self._add(words.filter(found.is_null())["word"].unique(maintain_order=True))
            found = words.join(self._table, on="word", how="left", maintain_order="left")["code"]
        return found.to_numpy()

    def _add(self, words: pl.Series) -> None:
        code = pl.Series("code", np.arange(len(words), dtype=np.int32) + np.int32(len(self._table)))
        new = words.to_frame().with_columns(code)
        self._table = pl.concat([self._table, new])
        self._note(new)

    def _note(self, new: pl.DataFrame) -> None:
        if len(self._of_number):
            numbers = new.filter(pl.col("word").str.contains(_NUMBERS))
            self._of_number[numbers["word"].cast(pl.Int64).to_numpy()] = numbers["code"].to_numpy()


def known_words(length: Rows, code: np.ndarray[Any, Any], word_of_code: Rows) -> tuple[Rows, Rows]:
    """How many words of the vocabulary each text has, and their rows."""
    row = word_of_code[code]
    if (row > 0).all():
        return length, row
    known = row > 0
    at = np.repeat(np.arange(len(length)), length)[known]
    return np.bincount(at, minlength=len(length)), row[known]


def make_wording(item_codes: Codes, asked: pl.DataFrame, min_count: int) -> Wording:
    """The vocabulary of the item texts and of the training queries, and the rows of all queries.

    Args:
        item_codes: the words of all item texts.
        asked: query (String), train (in how many training entries); a query may stand there several times.
    """
    texts = asked.group_by("query").agg(pl.col("train").sum()).sort("query")
    train_T = texts["train"].to_numpy().astype(np.int64)
    query_codes = Codes()
    length_T, code = query_codes.cut(texts["query"], train_T)
    counts = [pl.DataFrame({"word": codes.distinct, "count": codes.counts}) for codes in (item_codes, query_codes)]
    known = pl.concat(counts).group_by("word").agg(pl.col("count").sum()).filter(pl.col("count") >= max(1, min_count))
    words = Vocab(known["word"].sort())

    length_T, query_row = known_words(length_T, code, words.rows(query_codes.distinct, missing="pad"))
    query_flat = pl.DataFrame({"at": np.repeat(np.arange(len(length_T)), length_T), "row": query_row})
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
    return Wording(
        words=words,
        word_of_code=words.rows(item_codes.distinct, missing="pad"),
        queries=ragged(flat["query"].to_numpy(), flat["row"].to_numpy(), len(distinct) + 1),
        num_train_queries=int(distinct["train"].sum()),
        _text=texts.select("query").with_columns(row=query_T),
    )
