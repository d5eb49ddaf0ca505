from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from corsar.errors import DataError
from corsar.vocab import Vocab


@pytest.mark.parametrize("ids", [pl.Series([30, 10, 20], dtype=pl.Int32), np.array([30, 10, 20]), ["c", "a", "b"]])
def test_vocab_gives_each_id_its_row_and_back(ids: pl.Series | np.ndarray | list[str]) -> None:
    vocab = Vocab(ids)
    rows = vocab.rows(ids)
    assert len(vocab) == 3
    assert rows.dtype == np.int64
    assert rows.tolist() == [1, 2, 3]
    assert vocab.ids(np.array([3, 0, 1])).to_list() == [*list(ids)[2:], None, *list(ids)[:1]]


def test_vocab_keeps_the_type_of_the_ids() -> None:
    assert Vocab(pl.Series([1], dtype=pl.UInt16)).ids([1]).dtype == pl.Int64
    assert Vocab(["1"]).ids([1]).dtype == pl.String


def test_vocab_unknown_ids_raise_or_pad() -> None:
    vocab = Vocab([5, 6])
    assert vocab.rows([6, 7, 5], missing="pad").tolist() == [2, 0, 1]
    assert vocab.rows(pl.Series([None, 5]), missing="pad").tolist() == [0, 1]
    with pytest.raises(DataError, match=r"unknown: 2 \(7, 8\)"):
        vocab.rows([7, 5, 8])


def test_vocab_reads_ids_of_the_other_type() -> None:
    assert Vocab([5, 6]).rows(["6", "six"], missing="pad").tolist() == [2, 0]
    assert Vocab(["5", "x"]).rows([5], missing="pad").tolist() == [1]


@pytest.mark.parametrize("ids", [[1, 1], pl.Series([1, None]), np.array([1.5, 2.0])])
def test_vocab_refuses_ids_that_are_no_ids(ids: list[int] | pl.Series | np.ndarray) -> None:
    with pytest.raises(DataError):
        Vocab(ids)


@pytest.mark.parametrize("kind", [str, int])
def test_vocab_finds_few_ids_as_it_finds_many(kind: type) -> None:
    draw = np.random.default_rng(0)
    ids = [kind(one) for one in draw.permutation(5000)[:3000].tolist()]
    vocab, asked = Vocab(ids), [*(kind(one) for one in draw.integers(0, 5100, 29).tolist()), None, ids[0], ids[-1]]
    few, many = vocab.rows(asked, missing="pad"), vocab.rows(pl.Series(asked), missing="pad")
    assert few.dtype == many.dtype
    assert few.tolist() == many.tolist() == [0 if one not in ids else ids.index(one) + 1 for one in asked]
    assert vocab.rows(["\0", "zz"], missing="pad").tolist() == [0, 0]
    assert vocab.rows([], missing="pad").tolist() == []
    assert vocab.ids([3, 0, 1]).to_list() == [ids[2], None, ids[0]] == vocab.ids(np.array([3, 0, 1] * 50)).to_list()[:3]
    assert vocab.ids([3, 0]).dtype == vocab.dtype
    with pytest.raises(DataError, match="unknown: 1"):
        vocab.rows([ids[0], kind(5100)])


@pytest.mark.parametrize("ids", [list(range(0, 3000, 2)), [*range(2000, 0, -2)], [str(n) for n in range(1000)]])
def test_vocab_reads_odd_ids_alike_one_by_one_and_together(ids: list[int] | list[str]) -> None:
    vocab = Vocab(ids)
    for asked in (["-4", "007", "1e3", "4", " 4", "+4", "4.0", "", "99999999999999999999"], [4, 5, -4, 2**40]):
        together = vocab.rows(pl.Series(asked), missing="pad").tolist()
        assert [int(vocab.rows([one], missing="pad")[0]) for one in asked] == together


def test_vocab_refuses_rows_outside() -> None:
    with pytest.raises(DataError, match="0 … 1"):
        Vocab([7]).ids([2])


@pytest.mark.parametrize("ids", [pl.Series([3, 1], dtype=pl.Int64), pl.Series(["b", "é"]), pl.Series([], dtype=pl.String)])
def test_vocab_opens_as_it_was_saved(ids: pl.Series, tmp_path: Path) -> None:
    Vocab(ids).save(tmp_path / "v.parquet")
    again = Vocab.open(tmp_path / "v.parquet")
    assert again.dtype == ids.dtype
    assert again.ids(np.arange(1, len(ids) + 1)).to_list() == ids.to_list()
    assert again.rows(["nobody"], missing="pad").tolist() == [0]
