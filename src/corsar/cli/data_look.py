"""corsar data export, audit and transitions: what looks into a dataset directory."""

from __future__ import annotations

from pathlib import Path

from corsar.cli.app import Json, Overwrite, Settings, data_app, settings_of
from corsar.cli.show import progress_bar, tell
from corsar.errors import ConfigError


@data_app.command
def export(
    source: Path,
    /,
    *,
    to: str,
    out: Path,
    depth: int | None = None,
    overwrite: Overwrite = False,
    settings: Settings = [],  # noqa: B006 (never changed)
    json: Json = False,
) -> None:
    """Write a dataset as the files that published code reads, or a run's rankings as those that trec_eval reads.

    Args:
        source: A dataset directory, a run or an artifact.
        to: The layout: unisar-release, or trec (of a run: a run and a qrels file a task, under its newest report's protocol).
        out: The folder to write.
        depth: Of trec over the whole catalogue: how many items of a case are written; 1,000 where not said.
    """
    if to == "trec":
        _export_trec(source, out, depth, overwrite, settings, json)
        return
    if depth is not None or settings:
        raise ConfigError("--depth and settings are for --to trec; leave them out")
    from corsar.api.release import export_data

    told = export_data(source, out, to=to, overwrite=overwrite)
    lost = told["lost"] or [{"what": "nothing is lost", "count": 0}]
    sizes = [{"size": name, "is": value} for name, value in told["sizes"].items()]
    tell(
        json,
        told,
        sizes,
        lost,
        *told["notes"],
        f"{len(told['files'])} files are in {told['path']}; read them with pandas 1.3 and numpy 1.26 or newer",
    )


def _export_trec(source: Path, out: Path, depth: int | None, overwrite: bool, settings: list[str], json: bool) -> None:
    from corsar.api.trec import export_trec

    deep = {} if depth is None else {"depth": depth}
    with progress_bar() as progress:
        told = export_trec(source, out, overrides=settings_of(settings), overwrite=overwrite, progress=progress, **deep)
    rows = [{"task": task, **counts} for task, counts in told["tasks"].items()]
    task = rows[0]["task"]
    again = f"ir_measures {out / task}.qrels {out / task}.run 'nDCG@10 RR'"
    tell(json, told, rows, f"{len(told['files'])} files are in {told['path']}; figures from them: {again}")


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
