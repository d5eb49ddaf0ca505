"""corsar demo, train and evaluate: what makes runs and figures."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path

from corsar.cli.app import Json, Settings, app, settings_of
from corsar.cli.show import progress_bar, tell, tell_dry
from corsar.errors import ConfigError


@app.command
def demo(
    *, out: Path = Path("demo"), users: int = 600, seed: int = 0, serve: bool = False, port: int = 8000, json: Json = False
) -> None:
    """Simulate two logs, train four models on them and compare: about three minutes.

    Args:
        out: Directory to write to; what it holds of an earlier demo is replaced.
        users: Users to simulate.
        seed: Seed of the simulation and of the training.
        serve: At the end, serve the model that reads both logs, with its page.
        port: Where to serve it; 0 takes any that is free.
    """
    from corsar.demo import run_demo

    with progress_bar() as progress:
        told = run_demo(out, users=users, seed=seed, progress=progress)
    shown = [one for part in told["parts"] for one in (part["title"], part["table"])]
    tell(json, told, *shown, *told["sentences"])
    if serve:
        from corsar.serve.run import Settings as Served
        from corsar.serve.run import run_service

        home = out / "transfer"
        run_service(Served([home / "runs" / "unisar"], port=port, state=home / "events.sqlite"), _say)


def _say(sentence: str) -> None:
    print(f"corsar: {sentence}; Ctrl-C ends it", file=sys.stderr, flush=True)


@app.command
def train(
    config: Path | None = None,
    /,
    *,
    out: Path | None = None,
    data: str | None = None,
    model: str | None = None,
    resume: bool = False,
    dry_run: bool = False,
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
        dry_run: Print settings, parameters, memory and time to expect, and write nothing.
    """
    from corsar import api
    from corsar.api.torchrun import is_first_process

    overrides = settings_of(settings)
    if data is not None:
        overrides["data.path"] = jsonlib.dumps(data)
    if model is not None:
        overrides["model.name"] = jsonlib.dumps(model)
    run, first = api.run_dir(config, out, overrides), is_first_process()
    try:
        with progress_bar(quiet=not first) as progress:
            told = api.train_run(config, run, overrides=overrides, resume=resume, dry=dry_run, progress=progress)
    except KeyboardInterrupt:
        # the loop has written its checkpoint by now
        if not first:
            raise SystemExit(130) from None
        again = f"corsar train {config or ''}".rstrip()
        print(f"stopped: go on with `{again} --out {run} --resume`", file=sys.stderr)
        raise SystemExit(130) from None
    if not first:
        return
    if dry_run:
        tell_dry(told, json)
        return
    done = f"{told['model']} is in {told['run']} after {told['seconds']:.0f} s; next: corsar evaluate {told['run']}"
    tell(json, told, done)


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
    with progress_bar() as progress:
        told = api.evaluate_runs(runs, overrides=settings_of(settings), baselines=not no_baselines, progress=progress)
    tell(json, told["reports"], told["table"], *told["sentences"])
