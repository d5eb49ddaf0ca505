"""Pickles put together by hand: what old libraries wrote, and what nobody should run."""

from __future__ import annotations

import pickle
from typing import Any


def plain(value: Any) -> bytes:
    """The opcodes that push a value; arrays as numpy 1 wrote them."""
    return pickle.dumps(value, 2)[2:-1].replace(b"numpy._core", b"numpy.core")


def name(module: str, of: str) -> bytes:
    return f"c{module}\n{of}\n".encode()


def pair(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + pair(*arguments) + b"R"


def table(**values: bytes) -> bytes:
    return b"(" + b"".join(plain(key) + value for key, value in values.items()) + b"d"


def done(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def old_frame(columns: dict[str, Any], index: str = "pandas.core.indexes.numeric") -> bytes:
    """A frame as pandas before 1.3 wrote it: a manager whose state names its blocks, and rows numbered by an Int64Index."""
    import numpy as np

    def axis(kind: bytes, data: Any) -> bytes:
        return call(name("pandas.core.indexes.base", "_new_Index"), kind, table(data=plain(data), name=plain(None)))

    numbers = {one: np.asarray(values) for one, values in columns.items() if np.asarray(values).dtype != object}
    names = np.array(list(columns), dtype=object)
    rows = len(next(iter(columns.values())))
    blocks = [(np.stack(list(numbers.values())), [list(columns).index(one) for one in numbers])]
    for one in columns:
        if one not in numbers:
            blocks.append(
                (np.array([columns[one]], dtype=object), slice(list(columns).index(one), list(columns).index(one) + 1))
            )
    axes = (
        b"(" + axis(name("pandas.core.indexes.base", "Index"), names) + axis(name(index, "Int64Index"), np.arange(rows)) + b"l"
    )
    told = b"".join(
        table(values=plain(values), mgr_locs=plain(at if isinstance(at, slice) else np.array(at))) for values, at in blocks
    )
    state = b"(" + plain("0.14.1") + table(axes=axes, blocks=b"(" + told + b"l") + b"d"
    manager = name("pandas.core.internals.managers", "BlockManager") + b")\x81" + pair(axes, plain([]), plain([]), state) + b"b"
    frame = name("pandas.core.frame", "DataFrame") + b")\x81"
    return done(frame + table(_data=manager, _typ=plain("dataframe"), _metadata=plain([])) + b"b")
