"""corsar data list and describe: what data sets there are and what their fields mean; check: whether files are sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corsar.cli.app import Json, data_app
from corsar.cli.show import fail, tell


@data_app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List the data sets that corsar knows: what they are, their licence, and how they are prepared."""
    from corsar.sources.dictionary import data_sets

    told = {
        name: {key: one[key] for key in ("title", "licence", "published", "size", "prepare")}
        for name, one in data_sets().items()
    }
    tell(json, told, [{"name": name, "licence": one["licence"], "text": one["title"]} for name, one in told.items()])


@data_app.command
def describe(name: str, /, *, json: Json = False) -> None:
    """Tell a data set's licence, place, size and files, and what each field holds, in which unit, and its traps.

    Args:
        name: As corsar data list has it: kuaisar, unisar-release, movielens, …
    """
    from corsar.sources.dictionary import describe as described

    told = described(name)
    shown: list[str | list[dict[str, Any]]] = [told["title"], f"licence: {told['licence']}", f"published: {told['published']}"]
    shown += [f"size: {told['size']}", f"prepare: {told['prepare']}", *(f"- {note}" for note in told["notes"])]
    for file in told["files"]:
        rows = f" ({file['rows']} rows)" if file["rows"] else ""
        shown += [f"\n{file['name']}: {file['what']}{rows}", _fields(file["fields"])]
    tell(json, told, *shown)


def _fields(fields: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows to show: what a field is, and its trap, in the one column that may be broken over lines."""
    return [
        {
            "field": field["field"],
            "holds": field["holds"],
            "unit": field["unit"],
            "text": "; TRAP: ".join(filter(None, (field["what"], field["trap"]))),
        }
        for field in fields
    ]


@data_app.command
def check(path: Path, /, *, items: Path | None = None, config: Path | None = None, json: Json = False) -> None:
    """Look for what is missing, malformed or suspicious in raw files or in a dataset; exits with 2 for the first two.

    Args:
        path: A folder (KuaiSAR, MovieLens, JDsearch, UniSAR's release, a dataset) or a file (check-ins, your own events).
        items: The items that your own events name.
        config: A TOML file that says which column of your own events is which.
    """
    from corsar.api.check import check_data

    told = check_data(path, config=config, items=items)
    shown = [{**one, "rows": one["rows"] or None} for one in told["findings"]]
    rows = [{name: row[name] for name in ("level", "file", "column", "rows")} | {"text": _told(row)} for row in shown]
    bad = [row for row in rows if row["level"] in ("missing", "malformed")]
    end = "nothing is missing or malformed" if told["is_sound"] else f"{len(bad)} things are missing or malformed"
    tell(json, told, f"{told['path']} is read as {told['kind']}", rows, end)
    if bad:
        where = f"{bad[0]['file']}: column '{bad[0]['column']}'" if bad[0]["column"] else bad[0]["file"]
        fail(f"{where}: {bad[0]['text']}; correct it, or fetch the files again.")


def _told(finding: dict[str, Any]) -> str:
    return f"{finding['what']}; first: {finding['first']}" if finding["first"] else finding["what"]
