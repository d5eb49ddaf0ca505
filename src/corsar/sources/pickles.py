"""Other people's pickles, read by an unpickler that makes builtin containers, arrays of numbers and frames, and nothing else.

A pickle is a program that may call whatever it names. This reader calls nothing but the functions below, which build data;
any other name ends the reading. Of pandas nothing is run at all: what a frame is made of is written down and put together
here, so that it does not matter which pandas wrote the file, nor whether one is installed.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from corsar.errors import DataError, writing

Frame = dict[str, np.ndarray[Any, Any]]
PROTOCOL = 4  # the newest that Python 3.4 to 3.7 read too
_DTYPE = r"[<>|=]?(b1|[iufc]\d{1,2}|[SU]\d*|O8?|\?|bool|(u?int|float)\d{1,2})"


class _Refused(Exception):
    """A pickle names something that no data needs."""


class _Thing:
    """What stands for an object of a library that is not run: what it was made from, and its state."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Thing:
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    args: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _bytes(given: Any = b"", encoding: str = "latin-1") -> bytes:
    """Bytes of bytes or of a text; a number would ask for that much memory."""
    return _codec(given, encoding) if isinstance(given, str) else b"".join([given])


def _codec(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them for protocols 0 to 2."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"the codec {encoding}")
    return text.encode("latin-1")


def _dtype(name: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or not re.fullmatch(_DTYPE, name):
        raise _Refused(f"the dtype {name!r}")
    return np.dtype(name)


def _empty(*_: Any) -> np.ndarray[Any, Any]:
    """An array whose shape and values follow as its state."""
    return np.empty(0, dtype="i1")


def _frombuffer(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: str = "C") -> np.ndarray[Any, Any]:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=cast(Any, order))


def _scalar(dtype: np.dtype[Any], raw: bytes) -> Any:
    if dtype.hasobject:
        raise _Refused("a scalar that is an object")
    return np.frombuffer(raw, dtype=dtype, count=1)[0]


def _guarded(made: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as a new object, so that a pickle that gives it attributes changes nothing that lasts."""
    return made if isinstance(made, type) else lambda *args: made(*args)


def _names(modules: str, names: str) -> set[tuple[str, str]]:
    return {(module, name) for module in modules.split() for name in names.split()}


_BUILTINS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind for kind in (list, dict, set, frozenset, tuple, int, float, complex, bool, str, slice)
} | {"bytes": _bytes, "bytearray": _bytes}
_NUMPY: dict[str, Callable[..., Any]] = {"_reconstruct": _empty, "scalar": _scalar, "_frombuffer": _frombuffer}
_NUMPY_MODULES = tuple(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric"))
# where pandas 0.20 to 3 keep the things of which a frame is made
_PANDAS = (
    _names("pandas pandas.core.frame", "DataFrame")
    | _names("pandas.core.internals pandas.core.internals.managers", "BlockManager")
    | _names("pandas._libs.internals", "_unpickle_block")
    | _names("pandas.core.indexes.base pandas.indexes.base", "_new_Index Index")
    | _names("pandas", "Index RangeIndex StringDtype")
    | _names("pandas.core.indexes.range pandas.indexes.range", "RangeIndex")
    | _names("pandas.core.indexes.numeric pandas.indexes.numeric", "Int64Index UInt64Index Float64Index")
    | _names("pandas.core.arrays.string_", "StringDtype StringArray StringArrayNumpySemantics")
    | _names("pandas.arrays", "ArrowStringArray StringArray")
    | _names("pandas.core.arrays.string_arrow", "ArrowStringArray")
    | _names("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked")
    | _names("pyarrow.lib", "_restore_array type_for_alias py_buffer")  # pandas 3 keeps names of columns in them
)


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any) -> None:
        super().__init__(stream, encoding="latin1")
        self._things: dict[str, type[_Thing]] = {}  # made anew for each file, so that none can change the next one

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for; a name that is not known ends the reading."""
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if module == "builtins" and name in _BUILTINS:
            return _guarded(_BUILTINS[name])
        if module == "collections" and name in ("OrderedDict", "defaultdict"):
            return OrderedDict if name == "OrderedDict" else defaultdict
        if (module, name) == ("_codecs", "encode"):
            return _guarded(_codec)
        if (module, name) == ("numpy", "dtype"):
            return _guarded(_dtype)
        if module in _NUMPY_MODULES and name in _NUMPY:
            return _guarded(_NUMPY[name])
        if (module, name) in _PANDAS or (module, name) in (("numpy", "ndarray"), ("builtins", "object")):
            return self._thing(name)
        if (module, name) == ("copyreg", "_reconstructor"):
            return self._reconstructor
        raise _Refused(f"{module}.{name}")

    def _thing(self, name: str) -> type[_Thing]:
        return self._things.setdefault(name, type(name, (_Thing,), {}))

    def _reconstructor(self, kind: Any, *_: Any) -> _Thing:
        """How protocols 0 and 1 make an object before its state follows."""
        if kind not in self._things.values():
            raise _Refused(f"an object of {getattr(kind, '__name__', kind)}")
        made: _Thing = kind()
        return made


def read_pickle(file: Path) -> Any:
    """What a pickle holds: builtin containers, numbers, texts and arrays; a frame comes as {column: values}.

    Raises:
        DataError: the file is missing or broken, or it names anything else; nothing of that is called.
    """
    try:
        with file.open("rb") as stream:
            found = _Reader(stream).load()
        return _plain(found) if isinstance(found, _Thing) else found
    except FileNotFoundError as error:
        raise DataError(f"{file}: there is no such file; give the folder with all files of the release.") from error
    except _Refused as error:
        raise DataError(
            f"{file}: asks for {error}, which no table or list needs, so it was not opened; get it anew from who published it."
        ) from error
    except Exception as error:  # a broken pickle may raise anything
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file}: is no whole pickle of tables or lists ({said}); get it again.") from error


def write_pickle(value: Any, file: Path) -> None:
    """Write builtin containers, arrays and frames of pandas as a pickle."""
    with writing(file), file.open("wb") as stream:
        pickle.dump(value, stream, protocol=PROTOCOL)


def _plain(thing: _Thing) -> Frame:
    """The columns of a frame: axes and blocks, as constructor arguments (pandas 1.3 on) or as a state (before)."""
    if type(thing).__name__ != "DataFrame" or not isinstance(thing.state, dict):
        raise ValueError(f"it holds a {type(thing).__name__}")
    manager: Any = thing.state.get("_mgr", thing.state.get("_data"))
    if isinstance(manager.state, tuple):
        told = manager.state[3]["0.14.1"]
        axes, blocks = told["axes"], [(block["values"], block["mgr_locs"]) for block in told["blocks"]]
    else:
        blocks, axes = [block.args[:2] for block in manager.args[0]], manager.args[1]
    names = [str(name) for name in _labels(axes[0])]
    columns: Frame = {}
    for values, places in blocks:
        at = range(*places.indices(len(names))) if isinstance(places, slice) else np.asarray(places).tolist()
        flat = values if isinstance(values, np.ndarray) else None
        for row, place in enumerate(at):
            if flat is not None:  # others are texts of pandas 3, which nobody asks for here
                columns[names[place]] = flat if flat.ndim == 1 else flat[row]
    return columns


def _labels(axis: _Thing) -> list[Any]:
    """Names of the columns: `_new_Index(Index, {"data": …})`, with an array or pandas' texts in it."""
    data = axis.args[1]["data"]
    if isinstance(data, _Thing):
        data = _texts(data)
    return list(data.tolist() if isinstance(data, np.ndarray) else data)


def _texts(array: _Thing) -> Any:
    """The texts of a string array of pandas: an array of objects, or arrow's offsets and bytes."""
    state = array.state
    parts = [*(state.values() if isinstance(state, dict) else state or ()), *array.args]
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype == object:
            return part
        if isinstance(part, _Thing) and type(part).__name__ == "_restore_array":
            kind, num, _, first, buffers = part.args[0][:5]
            offsets, raw = (bytes(buffer.args[0]) for buffer in buffers[1:3])
            wide = "<i8" if kind.args[0] == "large_string" else "<i4"
            ends = np.frombuffer(offsets, dtype=wide)[first : first + num + 1].tolist()
            return [raw[start:end].decode() for start, end in pairwise(ends)]
    raise ValueError("the names of its columns cannot be read")
