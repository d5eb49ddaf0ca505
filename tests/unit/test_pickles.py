"""Other people's pickles: whatever wrote them, what comes back is data, and nothing else is called."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pickle_kit import call, done, name, old_frame, pair, plain, table

from corsar.errors import DataError
from corsar.sources.pickles import read_pickle, write_pickle

COLUMNS = {"user_id": [3, 4, 5], "item_id": [7, 8, 9], "rec_his": [0, 1, 2]}


def _objects(rows: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_frame_of_todays_pandas_is_read(protocol: int, tmp_path: Path) -> None:
    frame = pd.DataFrame(COLUMNS | {"neg_items": [[1, 2], [3, 4], [5, 6]], "keyword": ["[1]", "[2]", "[3]"]})
    file = tmp_path / "frame.pkl"
    file.write_bytes(pickle.dumps(frame, protocol))
    found = read_pickle(file)
    for column in (*COLUMNS, "neg_items"):
        assert list(found[column]) == list(frame[column])


@pytest.mark.parametrize("index", ["pandas.core.indexes.numeric", "pandas.indexes.numeric"])
def test_frame_of_old_pandas_is_read(index: str, tmp_path: Path) -> None:
    file = tmp_path / "frame.pkl"
    file.write_bytes(old_frame(COLUMNS | {"neg_items": _objects([[1, 2], [3, 4], [5, 6]])}, index))
    found = read_pickle(file)
    assert {column: list(values) for column, values in found.items()} == COLUMNS | {"neg_items": [[1, 2], [3, 4], [5, 6]]}


def test_frame_of_pandas_2_is_read(tmp_path: Path) -> None:
    """Blocks as arguments of the manager, the names under the modules that held them then."""
    frame = pd.DataFrame(COLUMNS)
    frame.columns = pd.Index(list(COLUMNS), dtype=object)
    raw = pickle.dumps(frame, 2)
    for new, old in ((b"DataFrame", b".core.frame\nDataFrame"), (b"Index", b".core.indexes.base\nIndex"),
                     (b"RangeIndex", b".core.indexes.range\nRangeIndex")):  # fmt: skip
        raw = raw.replace(b"cpandas\n" + new + b"\n", b"cpandas" + old + b"\n")
    assert b"pandas.core.indexes.range" in raw
    file = tmp_path / "frame.pkl"
    file.write_bytes(raw)
    assert {column: list(values) for column, values in read_pickle(file).items()} == COLUMNS


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_are_read(protocol: int, tmp_path: Path) -> None:
    value = {
        0: {"his": [1, 2], "ts": np.array([1.5, 2.5]), "words": _objects([[1], [2, 3]])},
        1: {"his": np.arange(6).reshape(2, 3), "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)), "one": np.int64(7)},
        2: {"set": {1}, "tuple": (1, None, True), "bytes": b"\xff", "empty": np.zeros((0, 50), dtype=np.int32)},
    }
    file = tmp_path / "value.pkl"
    file.write_bytes(pickle.dumps(value, protocol))
    found = read_pickle(file)
    for user, told in value.items():
        for key, want in told.items():
            np.testing.assert_equal(found[user][key], want)
            assert np.asarray(found[user][key]).dtype == np.asarray(want).dtype


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_pickle({"a": np.arange(3)}, tmp_path / "value.pkl")
    np.testing.assert_equal(read_pickle(tmp_path / "value.pkl"), {"a": np.arange(3)})


class _Runs:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return open, (str(self.file), "w")


def _hostile(mark: Path) -> dict[str, bytes]:
    """Pickles that would write the file `mark`, or take all memory, and broken ones."""
    touch = plain(f"touch {mark}")
    code = plain(f"open({str(mark)!r}, 'w')")
    getter = call(name("builtins", "getattr"), call(name("builtins", "__import__"), plain("os")), plain("system"))
    scalar, dtype = name("numpy.core.multiarray", "scalar"), name("numpy", "dtype")
    valid = pickle.dumps({0: np.arange(5)}, 4)
    return {
        "os.system": done(call(name("os", "system"), touch)),
        "eval": done(call(name("builtins", "eval"), code)),
        "python2 eval": done(call(name("__builtin__", "eval"), code)),
        "getattr": done(call(getter, touch)),
        "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + touch + b"\x85R.",
        "class": done(name("subprocess", "Popen") + pair(plain(["touch", str(mark)])) + b"\x81"),
        "instance": b"(" + plain(f"touch {mark}") + b"ios\nsystem\n.",
        "behind good data": done(b"(" + plain(np.arange(9)) + call(name("os", "system"), touch) + b"l"),
        "method of a frame": b"\x80\x04\x8c\x06pandas\x8c\x0eDataFrame.eval\x93" + plain("1") + b"\x85R.",
        "pandas reader": done(call(name("pandas.io.pickle", "read_pickle"), plain(str(mark)))),
        "numpy object": done(call(scalar, call(dtype, plain("O")), plain(b"x"))),
        "numpy loader": done(call(name("numpy", "load"), plain(str(mark)))),
        "partial": done(call(name("functools", "partial"), name("os", "system"), touch)),
        "codec": done(call(name("_codecs", "encode"), plain("x"), plain("idna"))),
        "an object": pickle.dumps(_Runs(mark), 2),
        "state of a class": done(name("pandas.core.frame", "DataFrame") + pair(plain(None), table(eval=plain(1))) + b"b"),
        "persistent id": b"\x80\x02" + plain("x") + b"Q.",
        "extension": b"\x80\x02\x82\x01.",
        "much memory": done(call(name("builtins", "bytearray"), plain(10**13))),
        "large array": done(
            call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), plain((0,)), plain("b"))
            + pair(plain(1), plain((10**9, 10**9)), call(dtype, plain("i8")), plain(False), plain(b"x"))
            + b"b"
        ),
        "a number of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
        "truncated": valid[:-9],
        "empty": b"",
        "text": b"user_id,item_id\n1,2\n",
        "other object": done(name("pandas.core.indexes.range", "RangeIndex") + b")\x81"),
        "stack underflow": b"\x80\x02R.",
    }  # fmt: skip


@pytest.mark.parametrize("what", _hostile(Path("mark")))
def test_hostile_or_broken_pickle_is_refused(what: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "value.pkl"
    file.write_bytes(_hostile(mark)[what])
    with pytest.raises(DataError, match=r"value\.pkl: ") as caught:
        read_pickle(file)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_hostile_pickles_would_run_elsewhere(tmp_path: Path) -> None:
    """What the tests above refuse is real: the standard unpickler calls it."""
    mark = tmp_path / "mark"
    (tmp_path / "value.pkl").write_bytes(_hostile(mark)["os.system"])
    with (tmp_path / "value.pkl").open("rb") as stream:
        pickle.load(stream)  # noqa: S301 (that is the point)
    assert mark.exists()


def test_pickle_changes_nothing_that_lasts(tmp_path: Path) -> None:
    file = tmp_path / "value.pkl"
    file.write_bytes(done(name("numpy.core.multiarray", "_reconstruct") + plain({"lasting": 1}) + b"b"))
    assert callable(read_pickle(file))
    from corsar.sources import pickles

    assert not hasattr(pickles._empty, "lasting")
