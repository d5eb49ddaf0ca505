"""A small city for tests of next_place: its check-ins as a dataset directory, and settings of a short run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from corsar.config import Config, load_config
from corsar.data.build import build_dataset
from corsar.schema import KINDS, Tables, make_tables

USERS, PLACES, EACH = 12, 15, 14
START_MS = 1_333_324_800_000  # Monday 2 April 2012, 0:00 UTC


def check_ins(seed: int = 0) -> pl.DataFrame:
    """Check-ins of people who have favourites, at the same hours of each day."""
    draw = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        favourites = draw.integers(0, PLACES, 3)
        for at in range(EACH):
            place = favourites[at % 3] if draw.random() < 0.7 else draw.integers(0, PLACES)
            time = START_MS + (at // 3) * 86_400_000 + (8 + 5 * (at % 3)) * 3_600_000 + user * 60_000
            rows.append((user, f"p{place:02}", time, -360))
    events = pl.DataFrame(rows, ["user_id", "item_id", "time_ms", "utc_offset_min"], orient="row")
    return events.with_columns(kind=pl.lit("checkin", pl.Enum(KINDS)))


def city(events: pl.DataFrame | None = None) -> Tables:
    """Its tables; places lie a kilometre or so apart."""
    items = pl.DataFrame(
        {
            "item_id": [f"p{n:02}" for n in range(PLACES)],
            "lat_deg": [51.0 + 0.01 * (n % 4) for n in range(PLACES)],
            "lon_deg": [-114.0 + 0.01 * (n // 4) for n in range(PLACES)],
            "category": ["cafe", "home", "work"] * 5,
        }
    )
    items = items.with_columns(text=pl.col("category"))
    return make_tables(check_ins() if events is None else events, items, source="city", categories=("category",))


def make_city(out: Path, events: pl.DataFrame | None = None, **options: object) -> Path:
    """Its dataset directory: each person's last check-in is test, the one before valid."""
    return build_dataset(city(events), out, **{"split": "leave_last", **options})  # type: ignore[arg-type]


def settings(data: Path, **more: str) -> Config:
    """Settings of a short run; keys of `more` are written section__key."""
    flags = {
        "data.path": str(data),
        "train.epochs": "2",
        "train.batch_size": "32",
        "run.threads": "1",
        "evaluate.bootstrap": "20",
    }
    return load_config(None, {**flags, **{key.replace("__", "."): value for key, value in more.items()}})
