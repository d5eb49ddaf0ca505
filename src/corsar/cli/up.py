"""corsar up: from logs of any columns to a service, in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from corsar.cli.app import Json, app
from corsar.cli.show import progress_bar, tell
from corsar.errors import ConfigError

Columns = Annotated[list[str], Parameter(name="--column", help="What is guessed otherwise, as query=NAME; may be repeated.")]


@app.command
def up(
    *logs: Path,
    items: Path | None = None,
    column: Columns = [],  # noqa: B006 (never changed)
    config: Path | None = None,
    out: Path = Path("corsar-up"),
    minutes: float = 3.0,
    host: str = "127.0.0.1",
    port: int = 8000,
    key_env: str | None = None,
    public: bool = False,
    no_serve: bool = False,
    json: Json = False,
) -> None:
    """Read logs, train on them, compare, and serve what is best: one command, which goes on where it was stopped.

    Args:
        logs: CSV, Parquet or JSON-lines files of events; what their columns are is guessed, and told.
        items: A table of the items: ids, texts, categories.
        config: A TOML file with [time], [kinds], split and the like, in place of what is guessed.
        out: The folder for all of it.
        minutes: How long models may train, all together; 0 for rules alone.
        host: The address to listen on; by default this machine alone can reach it.
        port: The port; 0 takes any that is free.
        key_env: Environment variable with the key that clients send as `Authorization: Bearer KEY`.
        public: Serve other machines without a key.
        no_serve: End before serving.
    """
    from corsar.api.up import make_service

    told_columns = dict(pair.partition("=")[::2] for pair in column)
    if wrong := [pair for pair in column if "=" not in pair]:
        raise ConfigError(f"--column {wrong[0]} names no column; write it as in --column query=suchbegriff")
    if not no_serve:
        _can_serve(host, port, key_env, public)
    with progress_bar() as progress:
        told = make_service(logs, out, items=items, columns=told_columns, config=config, minutes=minutes, progress=progress)
    command = f"corsar serve {' '.join(told['runs'])} --state {told['state']}"
    tell(json, told, told["table"], *told["sentences"], f"to serve it again: {command}")
    if no_serve:
        return
    sys.stdout.flush()
    from corsar.serve.run import Settings, run_service

    runs = [Path(run) for run in told["runs"]]
    run_service(Settings(runs, host, port, Path(told["state"]), key_env, public), _tell)


def _can_serve(host: str, port: int, key_env: str | None, public: bool) -> None:
    """Raise before minutes of training what would be raised after them."""
    from importlib.util import find_spec

    from corsar.serve.run import Settings, read_key

    for needed in ("uvicorn", "fastapi"):
        if find_spec(needed) is None:
            raise ConfigError(f"serving needs {needed}; install it with: pip install 'corsar[serve]', or add --no-serve")
    read_key(Settings([], host, port, key_env=key_env, public=public))


def _tell(sentence: str) -> None:
    print(f"corsar: {sentence}", file=sys.stderr, flush=True)
