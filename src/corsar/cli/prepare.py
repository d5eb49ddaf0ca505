"""corsar prepare: raw logs as a dataset directory."""

from __future__ import annotations

from pathlib import Path

from corsar.cli.app import Json, Overwrite, Split, prepare_app
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
    """
    from corsar import api

    with progress_bar() as progress:
        files: dict[str, Path | None] = {"items": items, "users": users, "candidates": candidates, "config": config}
        told = api.prepare_tables(events, out, **files, split=split, overwrite=overwrite, progress=progress)
    tell_prepared(told, json)


@prepare_app.command
def kuaisar(raw: Path, /, *, out: Path, split: Split = None, overwrite: Overwrite = False, json: Json = False) -> None:
    """Prepare KuaiSAR's raw CSV files.

    Args:
        raw: The folder of rec_inter.csv, src_inter.csv and the three feature files.
        out: The dataset directory to write.
    """
    from corsar import api

    with progress_bar() as progress:
        told = api.prepare_kuaisar(raw, out, split=split, overwrite=overwrite, progress=progress)
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
