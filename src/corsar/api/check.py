"""A look at raw files or a dataset directory: what is there, missing, malformed or suspicious."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corsar.api.check_dataset import check_dataset
from corsar.config import read_toml
from corsar.errors import CorsarError, DataError
from corsar.schema import Tables
from corsar.sources.check_kuaisar import NEEDED, check_kuaisar
from corsar.sources.findings import Finding, check_tables
from corsar.sources.foursquare import TIST, TSMC, read_foursquare
from corsar.sources.jdsearch import find_file, read_jdsearch
from corsar.sources.movielens import read_movielens
from corsar.sources.tables import read_tables
from corsar.sources.unisar_release import read_unisar_release

File = Path | str
BAD = ("missing", "malformed")


def check_data(path: File, *, config: File | None = None, items: File | None = None) -> dict[str, Any]:
    """What is found at `path`: {"path", "kind", "is_sound", "findings"}; each finding says where, how often, and where first.

    A folder may hold KuaiSAR's raw files, MovieLens, JDsearch, UniSAR's release, or a dataset; a file may hold check-ins of
    Foursquare, or else events of your own. `is_sound` is false where something is missing or malformed.

    Args:
        config: a column map for a file of your own events.
        items: the table of items that belongs to them.

    Raises:
        DataError: there is nothing there, or nothing that is known.

    Example:
        >>> import corsar, tempfile
        >>> from corsar.api.check import check_data
        >>> from corsar.sources.simulate import simulate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     told = check_data(simulate(folder + "/raw", users=20))
        >>> told["kind"], told["is_sound"]
        ('kuaisar', True)
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; check the path.")
    kind, look = _kind(path, config, items)
    try:
        found = look()
    except CorsarError as error:
        found = [Finding("malformed", path.name, "", 1, "", f"cannot be read: {error}")]
    is_sound = not any(one.level in BAD for one in found)
    return {"path": str(path), "kind": kind, "is_sound": is_sound, "findings": [one._asdict() for one in found]}


def _kind(path: Path, config: File | None, items: File | None) -> tuple[str, Callable[[], list[Finding]]]:
    """What lies at the path, by the names of its files, and how to look at it."""

    def tables(read: Callable[[], Tables]) -> Callable[[], list[Finding]]:
        return lambda: check_tables(read(), path.name)

    if path.is_file():
        with path.open("rb") as file:
            header = file.readline(1 << 16).decode("utf-8", "replace")
        if header.count("\t") == len(TSMC) - 1 or {"VenueId", "UserId"} <= set(header.strip().split(",")) & set(TIST):
            return "foursquare", tables(lambda: read_foursquare(path))
        told = read_toml(Path(config)) if config else {}
        return "tables", tables(lambda: read_tables(path, items, config=told))
    if (path / "manifest.json").is_file():
        return "dataset", lambda: check_dataset(path)
    if any((path / name).is_file() for name in NEEDED):
        return "kuaisar", lambda: check_kuaisar(path)
    if (path / "ratings.csv").is_file():
        return "movielens", tables(lambda: read_movielens(path))
    if find_file(path, "user_behavior_data").is_file():
        return "jdsearch", tables(lambda: read_jdsearch(path))
    if (path / "vocab").is_dir():
        return "unisar-release", tables(lambda: read_unisar_release(path).tables)
    raise DataError(f"{path}: no files of a known data set, nor a dataset; name a file of events, or see corsar data list.")
