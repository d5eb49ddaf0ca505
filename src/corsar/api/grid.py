"""Runs that differ in a few keys, as one TOML file tells them; all is checked before the first of them starts.

    base = "toys_unisar_words.toml"  # a settings file, as seen from this one; or the settings themselves, below [base.train] …
    seeds = [0, 1, 2]
    metric = "NDCG@10"               # what is tested; NDCG at the largest k where it is not said

    [all]                            # on top of the base, for every run: the budget
    train.epochs = 8

    [variants."no transition alignment"]
    model.transition_weight = 0.0

A variant of another model takes nothing of the base's [model].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corsar.config import Config, check, hint, read_toml, resolve, with_flags
from corsar.data.store import Dataset, open_dataset
from corsar.errors import ConfigError
from corsar.evaluate.report import leaves
from corsar.models import model_class
from corsar.train.places import place_settings

BASE = "base"
KEYS = ("base", "seeds", "metric", "all", "variants")
SEEDS = (0, 1, 2)
SHARED = {  # what a variant cannot have for itself, and why
    "run.seed": "every variant is run with the seeds of the grid",
    "data.path": "figures on other data cannot be compared",
    "data.target_time": "figures under another protocol cannot be compared",
    "evaluate": "figures under another protocol cannot be compared",
}
Given = dict[str, Any]  # section -> key -> value, and preset


@dataclass(frozen=True)
class Grid:
    """A grid as it was told."""

    base: Given
    variants: dict[str, Given]
    seeds: tuple[int, ...]
    metric: str | None


@dataclass(frozen=True)
class Unit:
    """One run of a grid."""

    variant: str
    seed: int
    config: Config
    told: Given  # the keys that make it, flat; what is not told is a default

    def folder(self, out: Path) -> Path:
        """Where its run lies."""
        return out / "runs" / f"{slug(self.variant)}_s{self.seed}"


def read_grid(file: Path, flags: Mapping[str, str] | None = None) -> Grid:
    """The grid of a file.

    Args:
        flags: "section.key" -> value, on top of `[all]`.

    Raises:
        ConfigError: one sentence on the first thing that is wrong.
    """
    told = read_toml(file)
    for key in told:
        if key not in KEYS:
            raise ConfigError(f"unknown key '{key}' in {file}; {hint(key, KEYS)}")
    base = told.get("base")
    if isinstance(base, str):
        base = read_toml(file.parent / base)
    if not isinstance(base, dict):
        raise ConfigError(f'{file} names no base; write base = "settings.toml", or the settings themselves below [base.train]')
    seeds = told.get("seeds", list(SEEDS))
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds) and len({*seeds}) == len(seeds)):
        raise ConfigError(f"seeds = {seeds!r} in {file} will not do; write different whole numbers, as in seeds = [0, 1, 2]")
    metric = told.get("metric")
    if not isinstance(metric, str | None):
        raise ConfigError(f'metric = {metric!r} in {file} will not do; write one, as in metric = "NDCG@10"')
    variants = told.get("variants", {})
    if BASE in variants:
        raise ConfigError(f"a variant in {file} is called {BASE}, as is what all are compared with; give it another name")
    if not (isinstance(variants, dict) and all(isinstance(one, dict) for one in variants.values())):
        raise ConfigError(f'variants in {file} are sections; write [variants."NAME"] and the keys that change below it')
    common = with_flags(merged(sections(base, BASE), sections(told.get("all", {}), "all")), flags or {})
    return Grid(common, {name: sections(one, name) for name, one in variants.items()}, tuple(seeds), metric)


def sections(given: Any, where: str) -> Given:
    """`model.dim = 8` in any way that TOML has to say it, as a settings file holds it."""
    found: Given = {}
    if not isinstance(given, dict):
        raise ConfigError(f"'{where}' must be a section; write [{where}] and keys below it, as in train.epochs = 3")
    for key, value in given.items():
        section, _, name = key.partition(".")
        if not name and not isinstance(value, dict) and key != "preset":
            raise ConfigError(f"'{key}' in '{where}' is no setting; name its section too, as in train.epochs = 3")
        if isinstance(value, dict) or name:
            found[section] = {**found.get(section, {}), **({name: value} if name else value)}
        else:
            found[key] = value
    return found


def merged(below: Given, above: Given) -> Given:
    """The keys of both; those of `above` win, and where it names another model, nothing of the one below is left."""
    found = dict(below)
    model = above.get("model", {}).get("name")
    if model is not None and model != below.get("model", {}).get("name", "unisar"):
        found.pop("model", None)
    for name, value in above.items():
        found[name] = {**found.get(name, {}), **value} if isinstance(value, dict) else value
    return found


def units_of(grid: Grid, variants: Mapping[str, Given]) -> list[Unit]:
    """All runs, seed by seed, so that a grid that is cut short has whole rounds; the protocol of all is the base's.

    Args:
        variants: name -> what it changes; the base is among them as one that changes nothing.

    Raises:
        ConfigError: a setting does not fit, and which variant's it is.
    """
    if not resolve(grid.base).data.path:
        raise ConfigError('no dataset is named; write path = "DIR" in [data] of the base, or add --data.path DIR')
    dataset = open_dataset(resolve(grid.base).data.path)
    rules = _config(grid.base, dataset).evaluate
    if len({slug(name) for name in variants}) < len(variants):
        raise ConfigError("two variants have names that make one folder; let them differ in a letter or a digit")
    found = []
    for seed in grid.seeds:
        for name, changes in variants.items():
            try:
                _check_changes(changes)
                given = merged(merged(grid.base, changes), {"run": {"seed": seed}})
                config = _config(given, dataset)
            except ConfigError as error:
                raise error if name == BASE else ConfigError(f"variant '{name}': {error}") from None
            evaluation = rules.model_copy(update={"score": config.evaluate.score})
            found.append(Unit(name, seed, config.model_copy(update={"evaluate": evaluation}), dict(leaves(given))))
    return found


def changes_text(changes: Given) -> str:
    """What a variant changes, as a person would write it."""
    return ", ".join(f"{key} = {str(value).lower() if isinstance(value, bool) else value}" for key, value in leaves(changes))


def slug(name: str) -> str:
    """The name as that of a folder."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "_"


def _check_changes(changes: Given) -> None:
    for key, _ in leaves(changes):
        why = SHARED.get(key) or (SHARED["evaluate"] if key.startswith("evaluate.") and key != "evaluate.score" else None)
        if why:
            raise ConfigError(f"it sets {key}, and {why}; set it in [all] or leave it out")


def _config(given: Given, dataset: Dataset) -> Config:
    config = place_settings(resolve(given), dataset)
    check(model_class(str(config.model["name"])).Config, config.model, "model")
    return config
