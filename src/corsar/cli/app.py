"""The command tree, and the flags that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

Settings = Annotated[list[str], Parameter(name="--section.key", help="Any setting, as --train.epochs 3.")]
Json = Annotated[bool, Parameter(help="Print one JSON value in place of a table.")]
Split = Annotated[str | None, Parameter(help="given, leave_last, time or last_fraction.")]
Overwrite = Annotated[bool, Parameter(help="Replace the directory if it exists.")]
Run = Annotated[Path, Parameter(help="A run directory or an artifact.")]
User = Annotated[str | None, Parameter(help="A user of the logs; an unknown one has an empty history.")]
Past = Annotated[str | None, Parameter(help="In place of the stored history: item ids, oldest first, commas between.")]
K = Annotated[int, Parameter(name=("-k", "--k"), help="How many items; 10 where not said.")]

app = App(
    name="corsar",
    help="One model for search and recommendation, from the logs of a feed and a search box.",
    help_format="plaintext",
    help_formatter="plain",
    version_flags=[],
    default_parameter=Parameter(negative="", show_default=False),
)
prepare_app = App(name="prepare", help="Turn raw logs into a dataset directory.")
app.command(prepare_app)
data_app = App(name="data", help="Look at data: raw files, dataset directories, and what other code reads.")
app.command(data_app)


def settings_of(pairs: Iterable[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs)


def ids_of(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
