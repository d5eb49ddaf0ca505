"""Raw logs as a dataset directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from corsar.config import Section, check, read_toml
from corsar.data.build import build_dataset
from corsar.data.store import open_dataset
from corsar.errors import ConfigError
from corsar.progress import Progress
from corsar.schema import Tables
from corsar.sources.filters import Filters
from corsar.sources.foursquare import read_foursquare
from corsar.sources.jdsearch import read_jdsearch
from corsar.sources.kuaisar import part_kuaisar
from corsar.sources.movielens import read_movielens
from corsar.sources.tables import read_tables
from corsar.spool import PartedTables

if TYPE_CHECKING:
    from corsar.sources.files import Frame

DAY_MS = 86_400_000
File = Path | str
TIME_NAMES = {
    "time_format",
    "date_format",
    "datetime_format",
    "format",
    "time_zone",
    "timezone",
    "tz",
    "zone",
}  # of none of them


class PrepareConfig(Section):
    """How tables become a dataset directory; the other keys are the column map of `sources.tables`."""

    split: Literal["given", "leave_last", "time", "last_fraction"] | None = None  # None: given where told, else leave_last
    valid_days: float | None = Field(default=None, gt=0)  # lengths of the held-out spans of the split `time`
    test_days: float | None = Field(default=None, gt=0)
    require_click: bool = False  # drop searches without a click
    min_word_count: int = Field(default=1, ge=1)
    valid: bool = True  # whether leave_last and last_fraction hold out a valid part
    derived: str | None = None  # said beside each figure
    drop_blank: bool = False  # leave out events in which an id, a kind or a time is blank, in place of an error
    drop_unknown_items: bool = False  # leave out events whose item the items table does not have
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
    drop_blank: bool = False,
    drop_unknown_items: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Your own files as a dataset directory: its path, the funnel of rows, and counts.

    Args:
        config: TOML with a column map and the keys of `PrepareConfig`; files with plain column names need none.
        split: in place of what `config` says.
        drop_blank: leave out events in which an id, a kind or a time is blank, in place of an error; the funnel counts them.
        drop_unknown_items: leave out events whose item is not in `items`.

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
    flags = {"split": split, "drop_blank": drop_blank, "drop_unknown_items": drop_unknown_items}
    settings = told | {name: value for name, value in flags.items() if value}
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
    for name in TIME_NAMES & told.keys():
        like = 'time={"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}'
        raise ConfigError(f"unknown key '{name}'; times of a form of their own are told as {like} ([time] in a file)")
    settings = check(PrepareConfig, told)
    return _prepare(read_tables(events, items, users, candidates, told), out, settings, overwrite, progress)


def prepare_kuaisar(
    raw: File,
    out: File,
    *,
    split: str | None = None,
    valid_days: float | None = None,
    test_days: float | None = None,
    from_day: date | str | None = None,
    to_day: date | str | None = None,
    item_types: Sequence[str] = (),
    search_types: Sequence[str] = (),
    min_events: int = 0,
    k_core: int = 0,
    require_click: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """KuaiSAR's raw CSV files as a dataset directory; by default the last day is test and the day before valid.

    The files are read part by part, so that their size does not matter to the memory that is needed.

    Args:
        split: time, leave_last or last_fraction.
        valid_days, test_days: lengths of the held-out spans of the split `time`; a day each where not given.
        from_day, to_day: the first and last day that is kept, of Beijing's clock, as 2023-05-22.
        item_types: keep items of these types alone (`item_type` of item_features.csv), and clicks on them.
        search_types: a click on a search result of another type (`item_type` of src_inter.csv) is none; its search stays.
        min_events: leave out users with fewer clicks.
        k_core: keep users and items with this many clicks among each other.
        require_click: leave out searches without a click; else they are history, but no cases.

    Example:
        >>> import corsar, tempfile
        >>> from corsar.sources.simulate import simulate
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = simulate(folder + "/raw", users=20)  # files of the same form
        ...     told = corsar.prepare_kuaisar(folder + "/raw", folder + "/dataset", split="leave_last")
        >>> told["counts"]["users"]
        20
    """
    if split in (None, "time"):
        valid_days = 1 if valid_days is None else valid_days
        test_days = 1 if test_days is None else test_days
    told = {"split": split or "time", "valid_days": valid_days, "test_days": test_days, "require_click": require_click}
    settings = check(PrepareConfig, told)
    days = [_day(name, given) for name, given in (("from_day", from_day), ("to_day", to_day))]
    if min_events < 0 or k_core < 0:
        raise ConfigError("min_events and k_core are numbers of clicks; give 0 or more")
    filters = Filters(days[0], days[1], tuple(item_types), tuple(search_types), min_events, k_core)
    return _prepare(partial(part_kuaisar, Path(raw), filters=filters), Path(out), settings, overwrite, progress)


def _day(name: str, given: date | str | None) -> date | None:
    try:
        return date.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise ConfigError(f"{name} is {given!r}, which is no day; write it as 2023-05-22") from None


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


def prepare_movielens(
    folder: File, out: File, *, split: str | None = None, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """MovieLens with the users' tags as queries as a dataset directory; by default each user's last event is test.

    Args:
        folder: holds ratings.csv, tags.csv and movies.csv.
        split: leave_last; or time: the last tenth of the log's days is test, the tenth before valid.

    Example:
        >>> import pathlib, tempfile
        >>> from corsar.api import prepare_movielens
        >>> rows = [f"{n % 5},{n % 3},4.0,{1_260_759_144 + n}" for n in range(30)]
        >>> files = {"ratings": ["userId,movieId,rating,timestamp", *rows], "tags": ["userId,movieId,tag,timestamp"]}
        >>> files["tags"] += ["0,2,funny,1260760000", '1,0,"slow, long",1260760000']
        >>> files["movies"] = ["movieId,title,genres", "0,Up,Comedy|War", "1,Down,Drama", "2,Out,(no genres listed)"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, lines in files.items():
        ...         _ = pathlib.Path(folder, name + ".csv").write_text("\\n".join([*lines, ""]))
        ...     told = prepare_movielens(folder, folder + "/dataset")
        >>> told["counts"]["items"], told["counts"]["cases"]["test"]
        (3, {'recommend': 3, 'search': 2})
    """
    tables = read_movielens(Path(folder))
    times = tables.events["time_ms"]
    tenth = (times.max() - times.min()) / 10 / DAY_MS  # type: ignore[operator]
    days = {"valid_days": tenth, "test_days": tenth} if split == "time" else {}
    return _prepare(tables, Path(out), check(PrepareConfig, {"split": split or "leave_last", **days}), overwrite, progress)


def prepare_jdsearch(
    folder: File, out: File, *, split: str | None = None, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """JDsearch, or its sample, as a dataset directory; the test search of each user is test, as published.

    A user's test search without a label over 0 has no target: then the last event of the history is test.

    Args:
        folder: holds user_behavior_data.txt and product_meta_data.txt, or the two …_sample.txt.

    Example:
        >>> import pathlib, tempfile
        >>> from corsar.api import prepare_jdsearch
        >>> users = ["query\\tcandidate_wid_list\\tcandidate_label_list\\thistory_qry_list\\thistory_wid_list"]
        >>> users[0] += "\\thistory_type_list\\thistory_time_list"
        >>> users += [f"{n}\\t1_2_3\\t0.0_3.0_0.0\\t-1_7_-1\\t3_1_3\\tORD_CART_CLICK\\t0_12_4_5" for n in range(4)]
        >>> names = [f"{kind}_{at}" for at in range(1, 5) for kind in ("cate_id", "cate_name")]
        >>> header = ["wid", "name", "brand_id", "brand_name", *names, "shop_id"]
        >>> items = ["\\t".join(header), *("\\t".join([f"{n}"] * 13) for n in range(1, 4))]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "user_behavior_data.txt").write_text("\\n".join([*users, ""]))
        ...     _ = pathlib.Path(folder, "product_meta_data.txt").write_text("\\n".join([*items, ""]))
        ...     told = prepare_jdsearch(folder, folder + "/dataset")
        >>> told["counts"]["cases"]["test"]
        {'recommend': 0, 'search': 4}
    """
    settings = check(PrepareConfig, {"split": split or "leave_last"})
    return _prepare(read_jdsearch(Path(folder)), Path(out), settings, overwrite, progress)


def _prepare(
    tables: Tables | Callable[[Path], PartedTables],
    out: Path,
    settings: PrepareConfig,
    overwrite: bool,
    progress: Progress | None,
) -> dict[str, Any]:
    def span(days: float | None) -> int | None:
        return None if days is None else round(days * DAY_MS)

    has_split = isinstance(tables, Tables) and "split" in tables.events.columns
    path = build_dataset(
        tables,
        out,
        split=settings.split or ("given" if has_split else "leave_last"),
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
