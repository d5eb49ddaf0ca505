"""A dataset directory in the hands of a person: made of frames, or opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from corsar.api.prepare import prepare_given
from corsar.api.temporary import TemporaryFolder
from corsar.data.store import open_dataset
from corsar.errors import ConfigError, DataError
from corsar.sources.files import as_polars, is_pandas

if TYPE_CHECKING:
    from corsar.sources.files import Frame


@dataclass(frozen=True)
class _Made:
    """The frames and settings that a dataset was made of."""

    events: Frame
    items: Frame | None
    users: Frame | None
    settings: dict[str, Any]


class Dataset:
    """A dataset directory: what `corsar prepare` writes, and what every model is trained on.

    Attributes:
        path: The directory.
        counts: Users, items, words, events, and the cases of each split and task.
        funnel: Rows read, kept and rejected, with reasons.

    Example:
        >>> import corsar
        >>> events, items = corsar.example_logs()
        >>> dataset = corsar.Dataset.from_frames(events, items=items)
        >>> dataset.counts["users"], dataset.counts["items"]
        (30, 12)
        >>> dataset.funnel[0]
        {'table': 'events', 'stage': 'read', 'rows': 300, 'reason': ''}
        >>> corsar.Dataset.open(dataset.path).counts == dataset.counts
        True
    """

    def __init__(self, path: Path | str) -> None:
        opened = open_dataset(path)
        self.path: Path = opened.path
        self.counts: dict[str, Any] = opened.manifest["counts"]
        self.funnel: list[dict[str, Any]] = opened.manifest["funnel"]
        self.is_pandas = False  # whether it was made of a frame of pandas
        self._made: _Made | None = None
        self._home: TemporaryFolder | None = None

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """The dataset in a directory that `prepare` or `from_frames` wrote; DataError where there is none."""
        return cls(path)

    @classmethod
    def from_frames(
        cls,
        events: Frame,
        *,
        items: Frame | None = None,
        users: Frame | None = None,
        candidates: Frame | None = None,
        columns: dict[str, dict[str, Any]] | None = None,
        split: str | None = None,
        out: Path | str | None = None,
        overwrite: bool = False,
        **settings: Any,
    ) -> Dataset:
        """A dataset of frames of polars or pandas, by the rules of `corsar prepare tables`.

        Args:
            events: user_id, item_id, kind (feed or search), time_ms, query, and more where there is more.
            items: item_id, text, categories.
            users: user_id, attributes.
            candidates: Given candidates of the held-out cases.
            columns: Where columns have other names: {"events": {"time_ms": "when"}, "items": {"categories": ["brand"]}}.
            split: leave_last (the default), time, last_fraction, or given by a column `split` of the events.
            out: The directory to write; without it, a temporary one that lives as long as the object.
            overwrite: Replace a dataset directory that is there.
            settings: Further keys of the column map: time_unit="s" (ms, us, iso, ordinal), or for times written in a form of
                their own time={"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}; kinds={"home": "feed"}; drop_blank=True,
                drop_unknown_items=True; valid_days, test_days, require_click, …

        Raises:
            DataError: A frame or a column is not what it should be; the message names both and says what to do.
            ConfigError: An argument has no such key or value.
        """
        told = {"columns": columns or {}, **({"split": split} if split else {}), **settings}
        home = TemporaryFolder() if out is None else None
        path = home.path / "dataset" if home else Path(str(out))
        prepare_given(events, items, users, candidates, path, told, overwrite)
        dataset = cls(path)
        dataset._home, dataset._made = home, _Made(events, items, users, told)
        dataset.is_pandas = is_pandas(events)
        return dataset

    def with_held_out(self, valid: Frame) -> Dataset:
        """A dataset in which all events of this one are for training and `valid` are held out to choose a model by."""
        made = self._made
        if made is None:
            raise ConfigError(
                f"held-out events go with frames, and {self.path} was opened; prepare it with a column split instead, or "
                "give the training events as a frame"
            )
        return held_out_dataset(made.events, valid, made.items, made.users, made.settings)

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}): {self.counts['users']} users, {self.counts['items']} items"


def held_out_dataset(
    events: Frame, valid: Frame, items: Frame | None, users: Frame | None, settings: dict[str, Any]
) -> Dataset:
    """A temporary dataset of training events and held-out ones."""
    parts = [as_polars(events, "events"), as_polars(valid, "valid")]
    marked = [part.with_columns(split=pl.lit(name)) for part, name in zip(parts, ("train", "valid"), strict=True)]
    schemas = [part.collect_schema() for part in parts]
    for name in schemas[0].keys() & schemas[1].keys():
        kinds = [_kind(schema[name]) for schema in schemas]
        if kinds[0] != kinds[1] and "null" not in kinds:
            raise DataError(f"column '{name}' holds {kinds[0]} in the events and {kinds[1]} in valid; give both one type")
    both = pl.concat(marked, how="diagonal_relaxed").collect()
    columns = {name: dict(keys) for name, keys in settings.get("columns", {}).items()}
    columns.get("events", {}).pop("split", None)
    dataset = Dataset.from_frames(both, items=items, users=users, **{**settings, "columns": columns, "split": "given"})
    dataset.is_pandas = is_pandas(events)
    return dataset


def _kind(dtype: pl.DataType) -> str:
    """What a type is for a person: types of one kind can stand in one column."""
    if dtype.is_numeric():
        return "numbers"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "texts"
    return str(dtype.base_type()).lower()
