"""Raw logs as a dataset directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from corsar.config import Section, check, read_toml
from corsar.data.build import build_dataset
from corsar.data.store import open_dataset
from corsar.progress import Progress
from corsar.schema import Tables
from corsar.sources.kuaisar import read_kuaisar
from corsar.sources.tables import read_tables

if TYPE_CHECKING:
    from corsar.sources.files import Frame

DAY_MS = 86_400_000
File = Path | str


class PrepareConfig(Section):
    """How tables become a dataset directory; the other keys are the column map of `sources.tables`."""

    split: Literal["given", "leave_last", "time", "last_fraction"] | None = None  # None: given where told, else leave_last
    valid_days: float | None = Field(default=None, gt=0)  # lengths of the held-out spans of the split `time`
    test_days: float | None = Field(default=None, gt=0)
    require_click: bool = False  # drop searches without a click
    min_word_count: int = Field(default=1, ge=1)
    derived: str | None = None  # said beside each figure
    time_unit: str | None = None
    time: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    columns: dict[str, dict[str, Any]] = {}


def prepare_tables(
    events: File,
    out: File,
    *,
    items: File | None = None,
    users: File | None = None,
    candidates: File | None = None,
    config: File | None = None,
    split: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Your own files as a dataset directory: its path, the funnel of rows, and counts.

    Args:
        config: TOML with a column map and the keys of `PrepareConfig`; files with plain column names need none.
        split: in place of what `config` says.

    Example:
        >>> import corsar, tempfile
        >>> events, items = corsar.example_logs()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     events.write_csv(folder + "/events.csv")
        ...     items.write_csv(folder + "/items.csv")
        ...     told = corsar.prepare_tables(folder + "/events.csv", folder + "/dataset", items=folder + "/items.csv")
        >>> told["counts"]["users"], told["counts"]["items"]
        (30, 12)
    """
    told = read_toml(Path(config)) if config else {}
    settings = told | ({"split": split} if split else {})
    return prepare_given(events, items, users, candidates, Path(out), settings, overwrite, progress)


def prepare_given(
    events: File | Frame,
    items: File | Frame | None,
    users: File | Frame | None,
    candidates: File | Frame | None,
    out: Path,
    told: dict[str, Any],
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Files or frames as a dataset directory; `told` has the keys of `PrepareConfig`."""
    settings = check(PrepareConfig, told)
    return _prepare(read_tables(events, items, users, candidates, told), out, settings, overwrite, progress)


def prepare_kuaisar(
    raw: File, out: File, *, split: str | None = None, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """KuaiSAR's raw CSV files as a dataset directory; by default the last day is test and the day before valid.

    Example:
        >>> import corsar, tempfile
        >>> from corsar.sources.simulate import simulate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = simulate(folder + "/raw", users=20)  # files of the same form
        ...     told = corsar.prepare_kuaisar(folder + "/raw", folder + "/dataset", split="leave_last")
        >>> told["counts"]["users"]
        20
    """
    days = {"valid_days": 1, "test_days": 1} if split in (None, "time") else {}
    settings = check(PrepareConfig, {"split": split or "time", **days})
    return _prepare(read_kuaisar(Path(raw)), Path(out), settings, overwrite, progress)


def _prepare(tables: Tables, out: Path, settings: PrepareConfig, overwrite: bool, progress: Progress | None) -> dict[str, Any]:
    spans = {"valid_ms": settings.valid_days, "test_ms": settings.test_days}
    path = build_dataset(
        tables,
        out,
        split=settings.split or ("given" if "split" in tables.events.columns else "leave_last"),
        require_click=settings.require_click,
        min_word_count=settings.min_word_count,
        overwrite=overwrite,
        progress=progress,
        **{name: None if days is None else round(days * DAY_MS) for name, days in spans.items()},
    )
    manifest = open_dataset(path).manifest
    return {"path": str(path), "funnel": manifest["funnel"], "counts": manifest["counts"]}
