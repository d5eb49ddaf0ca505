"""corsar data export, audit and transitions: what looks into a dataset directory."""

from __future__ import annotations

from pathlib import Path

from corsar.cli.app import Json, Overwrite, data_app
from corsar.cli.show import tell


@data_app.command
def export(source: Path, /, *, to: str, out: Path, overwrite: Overwrite = False, json: Json = False) -> None:
    """Write a dataset as the files that published code reads, and say what they cannot hold.

    Args:
        source: A dataset directory, a run or an artifact.
        to: The layout: unisar-release.
        out: The folder to write.
    """
    from corsar.api.release import export_data

    told = export_data(source, out, to=to, overwrite=overwrite)
    lost = told["lost"] or [{"what": "nothing is lost", "count": 0}]
    sizes = [{"size": name, "is": value} for name, value in told["sizes"].items()]
    tell(
        json,
        told,
        sizes,
        lost,
        f"{len(told['files'])} files are in {told['path']}; read them with pandas 1.3 and numpy 1.26 or newer",
    )


@data_app.command
def audit(path: Path, /, *, json: Json = False) -> None:
    """Search a dataset directory for cases that could know what had not happened yet; exits with 1 where there are any.

    Args:
        path: A dataset directory.
    """
    from corsar.api.look import audit_data

    told = audit_data(path)
    leaks = [{"check": leak["check"], "count": leak["count"], "what": leak["what"]} for leak in told["leaks"]]
    rows = [f"{leak['check']}, first: {row}" for leak in told["leaks"] for row in leak["first"]]
    shared = ", ".join(f"{count} of kind {kind}" for kind, count in told["same_time"].items())
    done = f"{len(leaks)} kinds of leaks in {told['cases']} cases of {told['path']}"
    tell(json, told, leaks, *rows, done, f"entries that share user and time, and are not each other's history: {shared}")
    if leaks:
        raise SystemExit(1)


@data_app.command
def transitions(
    path: Path,
    /,
    *,
    category: str | None = None,
    utc_offset_min: int | None = None,
    page: Path | None = None,
    json: Json = False,
) -> None:
    """Tell how feed events and searches follow each other, and how much of it is more than chance within a user.

    Args:
        path: A dataset directory.
        category: The category column of items that says what is related; by default the one with the most values.
        utc_offset_min: Minutes from UTC of the clock for days and hours; Beijing for KuaiSAR, else UTC, where not said.
        page: Write an HTML page of it as well, with plots; it needs no network.
    """
    from corsar.api.look import data_transitions
    from corsar.evaluate.transition_page import tables_of

    told = data_transitions(path, category=category, utc_offset_min=utc_offset_min, page=page)
    shown = [one for caption, rows in tables_of(told).items() for one in (caption, rows)]
    counts = [one for what in ("by_hour", "by_day") if what in told for one in (what.replace("_", " "), told[what])]
    more = [f"the page is in {told['page']}"] if page is not None else []
    tell(json, told, *shown, *counts, *([told["derived"]] if told["derived"] else []), *more)
