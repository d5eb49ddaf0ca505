"""Arrays that grow on disk: `.npy` files to which rows are appended, equal in every byte to those of np.save."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]


class Growing:
    """The arrays below one folder, each named by its path there without `.npy`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, tuple[IO[bytes], Array]] = {}
        self._lengths: dict[str, int] = {}

    def append(self, name: str, values: Array) -> None:
        """Put the rows of `values` behind those of the array; the first ones settle its type and the shape of a row."""
        values = np.ascontiguousarray(values)
        if name not in self._files:
            path = self._folder / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[name] = (path.open("wb"), values[:0])
            self._lengths[name] = 0
            self._head(name)
        file, first = self._files[name]
        if (values.dtype, values.shape[1:]) != (first.dtype, first.shape[1:]):
            raise ValueError(f"{name} holds {first.dtype} {first.shape[1:]}, not {values.dtype} {values.shape[1:]}")
        file.write(values.data)
        self._lengths[name] += len(values)

    def append_ragged(self, name: str, lengths: Array, values: Array) -> None:
        """Put rows of these lengths behind those of the two arrays of a Ragged."""
        if f"{name}/offsets" not in self._files:
            self.append(f"{name}/offsets", np.zeros(1, dtype=np.int64))
            self._lengths.setdefault(f"{name}/values", 0)
        self.append(f"{name}/offsets", self._lengths[f"{name}/values"] + np.cumsum(lengths, dtype=np.int64))
        self.append(f"{name}/values", values.astype(np.int64, copy=False))

    def length(self, name: str) -> int:
        """Rows of an array so far."""
        return self._lengths.get(name, 0)

    def _head(self, name: str) -> None:
        """Write the header of the array as long as it is now; numpy keeps it of one size while an array grows."""
        file, first = self._files[name]
        told = np.lib.format.header_data_from_array_1_0(first)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, told | {"shape": (self._lengths[name], *first.shape[1:])})

    def close(self) -> None:
        """Finish all arrays."""
        for name, (file, _) in self._files.items():
            self._head(name)
            file.close()
        self._files = {}

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            for file, _ in self._files.values():
                try:
                    file.close()
                except OSError:  # the disk that made the error cannot take what is left either
                    continue
