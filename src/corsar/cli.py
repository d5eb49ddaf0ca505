"""The command line: parsing and printing only. Results go to stdout, progress and errors to stderr.

Why so long: one function a command, its flags and their help, and all printing of the package.
"""

from __future__ import annotations

import json as jsonlib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from corsar.errors import ConfigError, CorsarError

if TYPE_CHECKING:
    from corsar.progress import Progress

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


@app.command
def demo(*, out: Path = Path("demo"), users: int = 600, seed: int = 0, json: Json = False) -> None:
    """Simulate two logs, train four models on them and compare: about three minutes.

    Args:
        out: Directory to write to; what it holds of an earlier demo is replaced.
        users: Users to simulate.
        seed: Seed of the simulation and of the training.
    """
    from corsar.demo import run_demo

    with _progress() as progress:
        told = run_demo(out, users=users, seed=seed, progress=progress)
    shown = [one for part in told["parts"] for one in (part["title"], part["table"])]
    _tell(json, told, *shown, *told["sentences"])


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

    with _progress() as progress:
        files: dict[str, Path | None] = {"items": items, "users": users, "candidates": candidates, "config": config}
        told = api.prepare_tables(events, out, **files, split=split, overwrite=overwrite, progress=progress)
    _tell_prepared(told, json)


@prepare_app.command
def kuaisar(raw: Path, /, *, out: Path, split: Split = None, overwrite: Overwrite = False, json: Json = False) -> None:
    """Prepare KuaiSAR's raw CSV files.

    Args:
        raw: The folder of rec_inter.csv, src_inter.csv and the three feature files.
        out: The dataset directory to write.
    """
    from corsar import api

    with _progress() as progress:
        told = api.prepare_kuaisar(raw, out, split=split, overwrite=overwrite, progress=progress)
    _tell_prepared(told, json)


@app.command
def train(
    config: Path | None = None,
    /,
    *,
    out: Path | None = None,
    data: str | None = None,
    model: str | None = None,
    resume: bool = False,
    settings: Settings = [],  # noqa: B006 (never changed)
    json: Json = False,
) -> None:
    """Train a model on a dataset directory and write a run directory.

    Args:
        config: Settings as TOML; without it, the defaults.
        out: The run directory; by default runs/NAME of the configuration or of the model.
        data: The dataset directory; short for --data.path.
        model: The model; short for --model.name.
        resume: Go on from the run's last checkpoint.
    """
    from corsar import api

    overrides = _settings(settings)
    if data is not None:
        overrides["data.path"] = jsonlib.dumps(data)
    if model is not None:
        overrides["model.name"] = jsonlib.dumps(model)
    run = api.run_dir(config, out, overrides)
    try:
        with _progress() as progress:
            told = api.train_run(config, run, overrides=overrides, resume=resume, progress=progress)
    except KeyboardInterrupt:
        # the loop has written its checkpoint by now
        again = f"corsar train {config or ''}".rstrip()
        print(f"stopped: go on with `{again} --out {run} --resume`", file=sys.stderr)
        raise SystemExit(130) from None
    done = f"{told['model']} is in {told['run']} after {told['seconds']:.0f} s; next: corsar evaluate {told['run']}"
    _tell(json, told, done)


@app.command
def evaluate(*runs: Path, no_baselines: bool = False, settings: Settings = [], json: Json = False) -> None:  # noqa: B006
    """Score runs on the held-out cases and print one table.

    Args:
        runs: Runs; the settings of the first are the protocol, unless flags as --evaluate.candidates full say otherwise.
        no_baselines: Leave out the untrained baselines, which are counted anew beside the first run.
    """
    from corsar import api

    if not runs:
        raise ConfigError("name at least one run, as in: corsar evaluate runs/unisar")
    with _progress() as progress:
        told = api.evaluate_runs(runs, overrides=_settings(settings), baselines=not no_baselines, progress=progress)
    _tell(json, told["reports"], told["table"], *told["sentences"])


@app.command
def recommend(run: Run, /, *, user: User = None, history: Past = None, k: K = 10, json: Json = False) -> None:
    """Items for a user, best first."""
    from corsar import api

    _tell_found(api.recommend(run, user=user, history=_ids(history), k=k), json)


@app.command
def search(run: Run, query: str, /, *, user: User = None, history: Past = None, k: K = 10, json: Json = False) -> None:
    """Items for a query of a user, best first.

    Args:
        query: The text that is searched for.
    """
    from corsar import api

    _tell_found(api.search(run, query, user=user, history=_ids(history), k=k), json)


@app.command
def doctor(path: Path | None = None, /, *, json: Json = False) -> None:
    """Say what this machine has, and whether a dataset directory or a run is whole.

    Args:
        path: A dataset directory, a run or an artifact.
    """
    from corsar import api

    told = api.doctor(path)
    _tell(json, told, [{"what": name, "is": value} for name, value in told.items()])


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exits with 2 on input at fault, with 130 on Ctrl-C."""
    try:
        tokens = gather_settings(sys.argv[1:] if argv is None else argv)
        app(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except CorsarError as error:
        _fail(str(error))
    except CycloptsError as error:
        _fail(f"{str(error).strip()} See corsar --help.")
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"cannot use {error.filename}: {(error.strerror or 'unknown reason').lower()}; check the path")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


def gather_settings(argv: Sequence[str]) -> list[str]:
    """The same arguments with each `--section.key value` told as one `--section.key=section.key=value`."""
    tokens, out = list(argv), []
    while tokens:
        token = tokens.pop(0)
        match = re.fullmatch(r"--(preset|[a-z]+\.[A-Za-z_][\w-]*)(?:=(.*))?", token, re.DOTALL)
        if match is None:
            out.append(token)
            continue
        name, value = match.groups()
        if value is None:
            if not tokens or tokens[0].startswith("--"):
                raise ConfigError(f"--{name} needs a value, as in: --{name} 3")
            value = tokens.pop(0)
        out.append(f"--section.key={name}={value}")
    return out


def _settings(pairs: Iterable[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs)


def _ids(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _progress() -> Progress:
    from corsar.progress import Progress

    return Progress()


def _fail(sentence: str) -> None:
    print(f"corsar: {' '.join(sentence.split())}", file=sys.stderr)
    raise SystemExit(2)


def _tell(json: bool, value: Any, *shown: str | list[dict[str, Any]]) -> None:
    """Print the value as JSON, or else what there is to show of it: sentences and tables."""
    if json:
        print(jsonlib.dumps(value, indent=2, default=str))
        return
    for one in shown:
        if isinstance(one, str):
            print(one)
        else:
            _print_table(one)


def _tell_prepared(told: dict[str, Any], json: bool) -> None:
    from corsar.evaluate.report import leaves

    counts = [{"what": name, "count": value} for name, value in leaves(told["counts"])]
    then = f"the dataset is in {told['path']}; next: corsar train --data {told['path']} --model unisar"
    _tell(json, told, told["funnel"], counts, then)


def _tell_found(told: dict[str, Any], json: bool) -> None:
    for note in told["notes"]:
        print(note, file=sys.stderr)
    _tell(json, told["items"], told["items"])


def _print_table(rows: list[dict[str, Any]]) -> None:
    """One aligned table; the columns are the keys of the first row, numbers stand right."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table(box=SIMPLE, pad_edge=False)
    for name in rows[0]:
        is_number = not name.endswith("_id") and all(_cell(row.get(name))[:1] in "-0123456789" for row in rows)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=name not in ("text", "reason"))
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in rows[0]))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
