"""corsar ablate and transfer: what the parts of a run, and what both logs, are worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from corsar.cli.app import Json, Settings, app, settings_of
from corsar.cli.show import progress_bar, tell


@app.command
def ablate(
    config: Path,
    /,
    *,
    out: Path | None = None,
    settings: Settings = [],  # noqa: B006 (never changed)
    json: Json = False,
) -> None:
    """Train a run and variants of it, each with several seeds, and price every variant; goes on where it was stopped.

    Args:
        config: A grid as TOML: base (a settings file), seeds, [all] and [variants."NAME"] with the keys that change.
        out: The folder of the runs and of the page ablation.md; runs/ and the name of the grid by default.
    """
    from corsar.api.ablate import ablate_runs
    from corsar.evaluate.ablation import price_rows

    try:
        with progress_bar() as progress:
            told = ablate_runs(config, out, flags=settings_of(settings), progress=progress)
    except KeyboardInterrupt:
        _stopped()
    tell(json, told, price_rows(told), *told["sentences"], f"the page is in {told['page']}")


@app.command
def transfer(
    config: Path,
    /,
    *,
    out: Path | None = None,
    settings: Settings = [],  # noqa: B006 (never changed)
    json: Json = False,
) -> None:
    """Tell what the feed's log and the search log are worth to each other's task; goes on where it was stopped.

    Args:
        config: As for ablate, without variants: base (a settings file of a model that learns both tasks), seeds, [all].
        out: The folder of the runs and of the page ledger.md; runs/ and the name of the file by default.
    """
    from corsar.api.transfer import transfer_runs
    from corsar.evaluate.ledger import cell_rows, gain_rows

    try:
        with progress_bar() as progress:
            told = transfer_runs(config, out, flags=settings_of(settings), progress=progress)
    except KeyboardInterrupt:
        _stopped()
    tell(json, told, cell_rows(told), gain_rows(told), *told["sentences"], f"the page is in {told['page']}")


def _stopped() -> NoReturn:
    print("stopped: the same command goes on", file=sys.stderr)
    raise SystemExit(130) from None
