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
from corsar.sources.foursquare import read_foursquare
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
    valid: bool = True  # whether leave_last and last_fraction hold out a valid part
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


def prepare_foursquare(
    file: File,
    out: File,
    *,
    split: str | None = None,
    k_core: int | None = None,
    trajectory_hours: float | None = None,
    valid: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """A file of Foursquare check-ins as a dataset directory; by default each user's last check-in is test.

    Args:
        file: TSMC2014's text or a CSV in the style of TIST2015 (.gz too).
        split: leave_last, or last_fraction: the last 20 % of each user's check-ins.
        k_core: Keep users and places with this many check-ins among each other.
        trajectory_hours: Drop check-ins that stand alone within this many hours.
        valid: Whether the check-ins before the test part are valid; else they are for training.

    Example:
        >>> import corsar, pathlib, tempfile
        >>> header = "UserId,VenueId,TimeZone,Latitude,Longitude,Category,Time,time_sort"
        >>> rows = [f"{n % 5},v{n % 3},-360,51.1,-114.0{n % 3},Cafe,10:00:{n},2012-04-03" for n in range(30, 60)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "city.csv")
        ...     _ = file.write_text("\\n".join([header, *rows]))
        ...     told = corsar.prepare_foursquare(file, folder + "/dataset")
        >>> told["counts"]["items"], told["counts"]["cases"]["test"]
        (3, {'next_place': 5})
    """
    settings = check(PrepareConfig, {"split": split or "leave_last", "valid": valid})
    tables = read_foursquare(Path(file), k_core=k_core, trajectory_hours=trajectory_hours)
    return _prepare(tables, Path(out), settings, overwrite, progress)


def _prepare(tables: Tables, out: Path, settings: PrepareConfig, overwrite: bool, progress: Progress | None) -> dict[str, Any]:
    def span(days: float | None) -> int | None:
        return None if days is None else round(days * DAY_MS)

    path = build_dataset(
        tables,
        out,
        split=settings.split or ("given" if "split" in tables.events.columns else "leave_last"),
        require_click=settings.require_click,
        min_word_count=settings.min_word_count,
        valid_ms=span(settings.valid_days),
        test_ms=span(settings.test_days),
        valid=settings.valid,
        overwrite=overwrite,
        progress=progress,
    )
    manifest = open_dataset(path).manifest
    return {"path": str(path), "funnel": manifest["funnel"], "counts": manifest["counts"]}
