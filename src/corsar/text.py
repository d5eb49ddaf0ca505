"""Words of a text: lowercase runs of word characters, ß as ss; runs of Chinese and Japanese characters become bigrams."""

from __future__ import annotations

import re

import polars as pl

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
_PLAIN = r"^(?:[a-z0-9_]+(?: [a-z0-9_]+)*)?$"  # a text whose words are what stands between its spaces
_ASCII = re.compile(r"\w+", re.ASCII)
_RUN = rf"[{_CJK}]+|[\w&&[^{_CJK}]]+"


def words(text: str) -> list[str]:
    """The words of one text, in order, repeats kept: `words("Red shoes, 红色鞋")` is `["red", "shoes", "红色", "色鞋"]`.

    It goes through `words_column`, so that training and serving cannot cut a text differently; a text in ASCII, whose words
    are the same by any rule, takes a shorter way.
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    cut: list[str] = words_column(pl.Series([text], dtype=pl.String))[0].to_list()
    return cut


def words_column(texts: pl.Series) -> pl.Series:
    """The words of each text: a Series of `list[str]`, an empty list where there is no text."""
    texts = texts.cast(pl.String)
    if texts.str.contains(_PLAIN).all():
        return texts.replace("", None).str.split(" ").fill_null([])
    runs = texts.str.to_lowercase().str.replace_all("ß", "ss", literal=True).str.extract_all(_RUN).fill_null([])
    if not texts.str.contains(f"[{_CJK}]").any():
        return runs
    return _bigrams(runs).rename(texts.name)


def _bigrams(runs: pl.Series) -> pl.Series:
    """The same lists, each run of CJK characters cut into its bigrams; a single character stays one word."""
    run, first = pl.col("run"), pl.col("first")
    is_cjk = run.str.contains(f"^[{_CJK}]")
    num_words = pl.when(is_cjk).then(pl.max_horizontal(run.str.len_chars().cast(pl.Int64) - 1, 1)).otherwise(1)
    flat = pl.DataFrame({"run": runs}).with_row_index("text").explode("run", empty_as_null=True, keep_nulls=True)
    cut = (
        flat.drop_nulls("run")
        .with_columns(first=pl.int_ranges(0, num_words))
        .explode("first", empty_as_null=True, keep_nulls=True)
        .select("text", word=pl.when(is_cjk).then(run.str.slice(first, 2)).otherwise(run))
        .group_by("text", maintain_order=True)
        .agg("word")
    )
    texts = pl.DataFrame({"text": pl.Series(range(len(runs)), dtype=flat["text"].dtype)})
    return texts.join(cut, on="text", how="left", maintain_order="left")["word"].fill_null([])
