"""Words of a text."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from corsar.text import words, words_column


def test_words_are_lowercase_runs_of_word_characters() -> None:
    assert words("Red shoes, size_7 (RED)!") == ["red", "shoes", "size_7", "red"]


def test_words_cut_cjk_runs_into_bigrams() -> None:
    assert words("红色鞋") == ["红色", "色鞋"]
    assert words("红") == ["红"]
    assert words("iPhone手机壳 2") == ["iphone", "手机", "机壳", "2"]


def test_words_keep_marks_of_other_scripts() -> None:
    assert words("हिन्दी Straße") == ["हिन्दी", "strasse"]


def test_words_of_nothing_are_none() -> None:
    assert words("") == []
    assert words("?! ...") == []


def test_words_column_gives_an_empty_list_for_null() -> None:
    cut = words_column(pl.Series("text", ["a b", None, "", "红色鞋 c"]))
    assert cut.to_list() == [["a", "b"], [], [], ["红色", "色鞋", "c"]]
    assert cut.name == "text"
    assert words_column(pl.Series([None, None])).to_list() == [[], []]
    assert words_column(pl.Series([], dtype=pl.String)).to_list() == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(alphabet="a1_ ", max_size=8)), min_size=1, max_size=6))
def test_words_column_cuts_plain_texts_as_any_others(texts: list[str | None]) -> None:
    alone, beside_others = (words_column(pl.Series(some, dtype=pl.String)) for some in (texts, [*texts, "?"]))
    assert alone.to_list() == beside_others.to_list()[:-1]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet="ab _-.红色鞋カー", max_size=12), max_size=6))
def test_words_column_equals_words_one_by_one(texts: list[str]) -> None:
    assert words_column(pl.Series(texts, dtype=pl.String)).to_list() == [words(text) for text in texts]


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=12), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_words_of_ascii_are_those_of_the_column(texts: list[str]) -> None:
    assert [words(text) for text in texts] == words_column(pl.Series([*texts, "ß"])).to_list()[:-1]
