"""The dataset directory: flat arrays as `.npy`, memory-mapped, vocabularies as Parquet, and `manifest.json`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from corsar.batch import Catalogue, OnDevice, Ragged, Sizes, Task, TrainEvents
from corsar.errors import DataError, writing
from corsar.places import Places
from corsar.vocab import Rows, Vocab
from corsar.windows import History

FORMAT = 1
Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
Flat = TypeVar("Flat", History, Catalogue, TrainEvents, Ragged, Places)


def _save(tables: Any, folder: Path) -> None:
    """One `.npy` for each tensor; a Ragged field is a folder of its own."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for field in dataclasses.fields(tables):
            value = getattr(tables, field.name)
            if isinstance(value, Tensor):
                save_array(folder / f"{field.name}.npy", value.cpu().numpy())
            else:
                _save(value, folder / field.name)


def save_array(file: Path, values: np.ndarray[Any, Any]) -> None:
    """Write a `.npy` file as np.save does, which says nothing where the disk is full and the array is small."""
    values = np.ascontiguousarray(values)
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, np.lib.format.header_data_from_array_1_0(values))
        opened.write(values.data)


def _array(file: Path) -> Tensor:
    # copy-on-write pages: torch warns about memory that it may not write to
    return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))


def _open(kind: type[Flat], folder: Path) -> Flat:
    def value(name: str) -> Tensor | Ragged:
        return _open(Ragged, folder / name) if (folder / name).is_dir() else _array(folder / f"{name}.npy")

    try:
        return kind(**{field.name: value(field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]
    except (OSError, ValueError) as error:
        raise DataError(f"'{folder}' is incomplete or damaged ({error}); prepare the dataset again") from error


def save_history(history: History, folder: Path) -> None:
    """Write the history as `.npy` files."""
    _save(history, folder)


def open_history(folder: Path) -> History:
    """The history stored in `folder`, memory-mapped."""
    return _open(History, folder)


def save_catalogue(catalogue: Catalogue, folder: Path) -> None:
    """Write the catalogue as `.npy` files."""
    _save(catalogue, folder)


def open_catalogue(folder: Path) -> Catalogue:
    """The catalogue stored in `folder`, memory-mapped."""
    return _open(Catalogue, folder)


def save_train_events(events: TrainEvents, folder: Path) -> None:
    """Write the training sequence as `.npy` files."""
    _save(events, folder)


def save_places(places: Places, folder: Path) -> None:
    """Write where places are, and the clocks of check-ins, as `.npy` files."""
    _save(places, folder)


def open_places(folder: Path) -> Places:
    """The places stored in `folder`, memory-mapped."""
    return _open(Places, folder)


def open_ragged(folder: Path) -> Ragged:
    """The Ragged stored in `folder`, memory-mapped."""
    return _open(Ragged, folder)


def save_ragged(table: Ragged, folder: Path) -> None:
    """Write the two arrays of a Ragged as `.npy` files."""
    _save(table, folder)


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def manifest_hash(manifest: dict[str, Any]) -> str:
    """SHA-256 of all that a manifest says of the data, in hex: the name of a dataset."""
    told = {**manifest, "funnel": None, "source": None}
    told.pop("data_hash", None)
    for kind in ("categories", "attributes"):  # their values stand for themselves: the hash stays that of earlier versions
        told[kind] = [{"name": column["name"], "size": column["size"]} for column in manifest[kind]]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cases(OnDevice):
    """Cases of one split and task, in the order user, time, file. Each clicked item is one case."""

    task: Task
    split: Split
    user_N: Tensor
    item_N: Tensor  # the target
    time_N: Tensor
    feed_end_N: Tensor  # first feed entry of the history arrays that is not history of this case
    search_end_N: Tensor
    query_N: Tensor  # rows of `history.queries`; 0 for recommend
    group_N: Tensor  # row of `groups`; 0 = clicked alone
    groups: Ragged  # items clicked together: on one page of the feed, or in one search
    negatives_NC: Tensor | None = None  # the given candidates, without the target

    def __len__(self) -> int:
        return len(self.user_N)

    @property
    def mates(self) -> Ragged:
        """Items clicked together with each target, without the target: neither candidates nor negatives."""
        group = self.groups.select(self.group_N)
        owner = torch.repeat_interleave(torch.arange(len(self), device=self.item_N.device), group.lengths)
        keep = group.values != self.item_N[owner]
        lengths = torch.bincount(owner[keep], minlength=len(self))
        return Ragged(group.values[keep], torch.nn.functional.pad(lengths.cumsum(0), (1, 0)))

    def both_histories(self, history: History) -> Tensor:
        """Which cases have feed events and searches before them, [N] bool."""
        feed_start_N, search_start_N = history.feed_offsets[self.user_N], history.search_offsets[self.user_N]
        return (self.feed_end_N > feed_start_N) & (self.search_end_N > search_start_N)

    def take(self, rows: Tensor) -> Cases:
        """The given cases (row numbers or a bool mask), in that order."""
        changed = {f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self) if f.name.endswith("_N")}
        negatives_NC = None if self.negatives_NC is None else self.negatives_NC[rows]
        return dataclasses.replace(self, **changed, negatives_NC=negatives_NC)


class Dataset:
    """A dataset directory; its parts are opened when they are first asked for."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self._checked: set[str] = set()

    @cached_property
    def users(self) -> Vocab:
        """External user id <-> row."""
        return Vocab.open(self._whole("users.parquet"))

    @cached_property
    def items(self) -> Vocab:
        """External item id <-> row."""
        return Vocab.open(self._whole("items.parquet"))

    @cached_property
    def words(self) -> Vocab:
        """Word <-> row."""
        return Vocab.open(self._whole("words.parquet"))

    @cached_property
    def catalogue(self) -> Catalogue:
        """What is known of items and users apart from events."""
        return open_catalogue(self._whole("catalogue"))

    @cached_property
    def history(self) -> History:
        """All events, once, per user and kind in time order; a case's ends say how far it may look."""
        return open_history(self._whole("history"))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What its cases ask for: recommend and search, or next_place."""
        return tuple(self.manifest["counts"]["cases"]["train"])

    @cached_property
    def places(self) -> Places:
        """Where places are, and the clocks of all check-ins; a dataset of check-ins alone has it."""
        return open_places(self._whole("places"))

    @cached_property
    def seen(self) -> Ragged:
        """The distinct items of each user's events of both kinds: row u holds item rows in their order, [users + 1]."""
        history, width = self.history, self.catalogue.num_items + 1
        feed_user = torch.repeat_interleave(history.feed_offsets.diff())
        search_user = torch.repeat_interleave(history.search_offsets.diff())
        click_user = search_user[torch.repeat_interleave(history.search_clicks.lengths)]
        user, item = torch.cat([feed_user, click_user]), torch.cat([history.feed_items, history.search_clicks.values])
        pairs = torch.unique((user * width + item)[item > 0])
        lengths = torch.bincount(pairs // width, minlength=len(self.users) + 1)
        return Ragged(pairs % width, torch.nn.functional.pad(lengths.cumsum(0), (1, 0)))

    @cached_property
    def _text(self) -> pl.Series:
        return pl.read_parquet(self._whole("item_text.parquet"))["text"]

    @cached_property
    def _groups(self) -> Ragged:
        return _open(Ragged, self._whole("cases/groups"))

    def item_text(self, rows: Rows | Tensor | list[int]) -> list[str]:
        """Text of the items to show to a person; empty where there is none."""
        at = np.asarray(rows, dtype=np.int64)
        if not len(self._text):
            return [""] * len(at)
        texts = self._text.gather(np.maximum(at - 1, 0)).fill_null("").to_list()
        return [text if row else "" for row, text in zip(at.tolist(), texts, strict=True)]

    def cases(self, split: Split, task: Task) -> Cases:
        """The cases of one split and task, memory-mapped."""
        folder = self._whole(f"cases/{split}_{task}")
        names = [f.name for f in dataclasses.fields(Cases) if f.name.endswith("_N")]
        given = folder / "negatives_NC.npy"
        try:
            columns = {name: _array(folder / f"{name}.npy") for name in names}
            negatives_NC = _array(given) if given.exists() else None
        except (OSError, ValueError) as error:
            raise DataError(f"'{folder}' is incomplete or damaged ({error}); prepare the dataset again") from error
        return Cases(task=task, split=split, groups=self._groups, negatives_NC=negatives_NC, **columns)

    def train_events(self) -> TrainEvents:
        """The training part as one sequence a user: what untrained models count."""
        return _open(TrainEvents, self._whole("train_events"))

    def sizes(self, feed_len: int, search_len: int) -> Sizes:
        """What a model must know of the data to lay out its tables."""
        counts = self.manifest["counts"]
        return Sizes(
            num_users=counts["users"],
            num_items=counts["items"],
            num_words=counts["words"],
            category_sizes=tuple(column["size"] for column in self.manifest["categories"]),
            attribute_sizes=tuple(column["size"] for column in self.manifest["attributes"]),
            feed_len=feed_len,
            search_len=search_len,
        )

    def verify(self) -> None:
        """Read every file and compare its hash with the manifest's; DataError where one differs."""
        for name in self.manifest["files"]:
            self._whole(name)

    def _whole(self, part: str) -> Path:
        """The path of a file or folder of the dataset, read once to see that it is what prepare wrote."""
        for name, known in self.manifest["files"].items():
            if name not in self._checked and (name == part or name.startswith(part + "/")):
                if file_hash(self.path / name) != known["sha256"]:
                    raise DataError(f"'{self.path / name}' is not what prepare wrote; prepare the dataset again")
                self._checked.add(name)
        return self.path / part


def open_dataset(path: Path | str) -> Dataset:
    """The dataset directory at `path`; sizes of all files are checked at once, their hashes when they are first asked for."""
    path = Path(path)
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"'{path}' is no dataset directory; make one with `corsar prepare`") from error
    except ValueError as error:
        raise DataError(f"'{path / 'manifest.json'}' is damaged; prepare the dataset again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"'{path}' was written by another version of corsar; prepare the dataset again")
    try:
        is_whole = manifest["data_hash"] == manifest_hash(manifest)
    except (KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise DataError(f"'{path / 'manifest.json'}' is not what prepare wrote; prepare the dataset again")
    for name, known in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != known["bytes"]:
            raise DataError(f"'{file}' is missing or has another size than prepare wrote; prepare the dataset again")
    return Dataset(path, manifest)
