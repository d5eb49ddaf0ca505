"""corsar prepare: raw logs as a dataset directory."""

from __future__ import annotations

from pathlib import Path

from corsar.cli.app import Json, Overwrite, Split, ids_of, prepare_app
from corsar.cli.show import progress_bar, tell_prepared


@prepare_app.command
def tables(
    events: Path,
    /,
    *,
    out: Path,
    items: Path | None = None,
    users: Path | None = None,
    candidates: Path | None = None,
    config: Path | None = None,
    split: Split = None,
    drop_blank: bool = False,
    drop_unknown_items: bool = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Prepare your own logs: a CSV or Parquet file of events, and what else there is.

    Args:
        events: The events: user_id, item_id, kind (feed or search), time_ms, query, and more if there is more.
        out: The dataset directory to write.
        items: The items: item_id, text, categories.
        users: The users: user_id, attributes.
        candidates: Given candidates of the held-out cases.
        config: A TOML file that says which column is which, and how to split.
        drop_blank: Leave out events in which an id, a kind or a time is blank, in place of an error.
        drop_unknown_items: Leave out events whose item is not in the table of items.
    """
    from corsar import api

    with progress_bar() as progress:
        files: dict[str, Path | None] = {"items": items, "users": users, "candidates": candidates, "config": config}
        told = api.prepare_tables(
            events, out, **files, split=split, drop_blank=drop_blank, drop_unknown_items=drop_unknown_items,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    tell_prepared(told, json)


@prepare_app.command
def kuaisar(
    raw: Path,
    /,
    *,
    out: Path,
    split: Split = None,
    valid_days: float | None = None,
    test_days: float | None = None,
    from_day: str | None = None,
    to_day: str | None = None,
    item_types: str | None = None,
    search_types: str | None = None,
    min_events: int = 0,
    k_core: int = 0,
    require_click: bool = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Prepare KuaiSAR's raw CSV files.

    Args:
        raw: The folder of rec_inter.csv, src_inter.csv and the three feature files.
        out: The dataset directory to write.
        valid_days: Days before the test part that are valid (split time); 1 where not said.
        test_days: Days at the end of the log that are test (split time); 1 where not said.
        from_day: The first day that is kept, of Beijing's clock, as 2023-05-22.
        to_day: The last day that is kept.
        item_types: Keep items of these types and the clicks on them, commas between.
        search_types: Only clicks on search results of these types count, commas between.
        min_events: Leave out users with fewer clicks.
        k_core: Keep users and items with this many clicks among each other.
        require_click: Leave out searches without a click.
    """
    from corsar import api

    with progress_bar() as progress:
        told = api.prepare_kuaisar(
            raw, out, split=split, valid_days=valid_days, test_days=test_days, from_day=from_day, to_day=to_day,
            item_types=ids_of(item_types) or (), search_types=ids_of(search_types) or (), min_events=min_events,
            k_core=k_core, require_click=require_click, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    tell_prepared(told, json)


@prepare_app.command
def movielens(folder: Path, /, *, out: Path, split: Split = None, overwrite: Overwrite = False, json: Json = False) -> None:
    """Prepare MovieLens: ratings as the feed, and the tags that users typed as searches.

    Args:
        folder: The folder of ratings.csv, tags.csv and movies.csv.
        out: The dataset directory to write.
    """
    from corsar import api

    with progress_bar() as progress:
        told = api.prepare_movielens(folder, out, split=split, overwrite=overwrite, progress=progress)
    tell_prepared(told, json)


@prepare_app.command
def jdsearch(folder: Path, /, *, out: Path, split: Split = None, overwrite: Overwrite = False, json: Json = False) -> None:
    """Prepare JDsearch, or its sample: real searches of a shop, and events without one.

    Args:
        folder: The folder of user_behavior_data.txt and product_meta_data.txt.
        out: The dataset directory to write.
    """
    from corsar import api

    with progress_bar() as progress:
        told = api.prepare_jdsearch(folder, out, split=split, overwrite=overwrite, progress=progress)
    tell_prepared(told, json)


@prepare_app.command
def foursquare(
    file: Path,
    /,
    *,
    out: Path,
    split: Split = None,
    k_core: int | None = None,
    trajectory_hours: float | None = None,
    no_valid: bool = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Prepare a file of Foursquare check-ins: TSMC2014's text, or a CSV in the style of TIST2015.

    Args:
        file: The check-ins of a city (.gz too).
        out: The dataset directory to write.
        k_core: Keep users and places with this many check-ins among each other.
        trajectory_hours: Drop check-ins that stand alone within this many hours.
        no_valid: Hold nothing out for validation: all before the test part is for training.
    """
    from corsar import api

    with progress_bar() as progress:
        told = api.prepare_foursquare(
            file, out, split=split, k_core=k_core, trajectory_hours=trajectory_hours, valid=not no_valid,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    tell_prepared(told, json)


@prepare_app.command
def unisar_release(folder: Path, /, *, out: Path, overwrite: Overwrite = False, json: Json = False) -> None:
    """Prepare the eleven pickles of UniSAR's release, with its split, samples and candidates; nothing in them is run.

    Args:
        folder: The folder that holds vocab/ and dataset/.
        out: The dataset directory to write.
    """
    from corsar.api.release import prepare_unisar_release

    with progress_bar() as progress:
        told = prepare_unisar_release(folder, out, overwrite=overwrite, progress=progress)
    tell_prepared(told, json)
