"""Simulated logs, written as KuaiSAR's raw files, so that the very same reader is used; `truth.py` says how they come about."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl

from corsar.errors import DataError, writing
from corsar.sources.truth import DEFAULTS, FEED, SEARCH, Events, Truth, draw_items, live, shown_rows, truth_hash

USERS_A_BLOCK = 2000  # users that are in memory at a time; users of a block share a generator
BEIJING_MS = 8 * 3_600_000


def simulate(
    out_dir: str | Path,
    users: int = 1000,
    items: int = DEFAULTS.items,
    transfer: float | tuple[float, float] = DEFAULTS.transfer,
    seed: int = 0,
    days: int = DEFAULTS.days,
    *,
    overwrite: bool = False,
) -> Path:
    """The folder `out_dir` with KuaiSAR's five raw files, `truth.json`, and the topics of each user and item as Parquet.

    Args:
        transfer: how often an event copies the topic of the last event of the other kind, from 0 to 1; two numbers are those
            of a feed event and of a search.

    Raises:
        DataError: the folder is there already, or a size makes no sense.
        OutputError: the disk is full or the like.
    """
    truth = dataclasses.replace(DEFAULTS, items=items, transfer=transfer, days=days)
    out = Path(out_dir)
    if users < 1 or items < truth.topics or days < 1 or not all(0 <= one <= 1 for one in truth.transfers()):
        raise DataError(
            f"simulate needs at least 1 user, {truth.topics} items and 1 day, and a transfer from 0 to 1; "
            f"got {users}, {items}, {days} and {transfer}."
        )
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_free and not (overwrite and (out / "truth.json").is_file()):
        raise DataError(f"{out} is there already; name another folder, or overwrite one that was simulated before.")
    beside = out.with_name(out.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    with writing(out, pl.exceptions.PolarsError):
        try:
            beside.mkdir(parents=True)
            _write(beside, truth, users, seed)
            if out.exists():
                shutil.rmtree(out)
            beside.rename(out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return out


def _rng(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, *purpose])


def _write(folder: Path, truth: Truth, users: int, seed: int) -> None:
    world, features = draw_items(truth, _rng(seed, 0))
    features.write_csv(folder / "item_features.csv")
    pl.DataFrame({"item_id": world.ids, "topic": world.topics}).sort("item_id").write_parquet(folder / "truth_items.parquet")
    liked = []
    names = ("rec_inter.csv", "src_inter.csv", "user_features.csv", "social_network.csv")
    sessions = 0
    for first in range(0, users, USERS_A_BLOCK):
        here = range(first, min(first + USERS_A_BLOCK, users))
        rng = _rng(seed, 1, first)
        likes_2UL, events = live(truth, np.arange(here.start, here.stop), rng)
        rows = shown_rows(truth, world, events, rng)
        frames = (
            _feed_log(rows, rng),
            _search_log(rows, sessions),
            _user_features(here, events, rng),
            _follows(here, users, rng),
        )
        sessions += int((events.kind == SEARCH).sum())
        for name, frame in zip(names, frames, strict=True):
            with (folder / name).open("ab") as file:
                frame.write_csv(file, include_header=first == 0)
        topics = {"feed_topics": likes_2UL[FEED].tolist(), "search_topics": likes_2UL[SEARCH].tolist()}
        liked.append(pl.DataFrame({"user_id": list(here), **topics}))
    pl.concat(liked).write_parquet(folder / "truth_users.parquet")
    told = {"truth": dataclasses.asdict(truth), "hash": truth_hash(truth), "defaults_hash": truth_hash()}
    text = json.dumps(told | {"users": users, "seed": seed}, indent=2)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")


def _beijing() -> pl.Expr:
    return pl.from_epoch(pl.col("time_ms") + BEIJING_MS, time_unit="ms").dt.strftime("%Y-%m-%d %H:%M:%S")


def _feed_log(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    rows = rows.filter(pl.col("kind") == FEED)
    chance = pl.DataFrame(rng.random((rows.height, 5)), schema=["length", "played", "forward", "like", "follow"])
    click, length = pl.col("clicked"), 5000 + pl.col("length") * 60_000
    played = length * pl.when(click).then(0.3 + pl.col("played")).otherwise(0.1 * pl.col("played"))
    flags = (("forward", 0.01), ("like", 0.05), ("follow", 0.01))
    return rows.with_columns(chance.get_columns()).select(
        user_id="user",
        item_id="item_id",
        playing_time=played.round(0),
        duration_ms=length.round(0),
        time=_beijing(),
        timestamp="time_ms",
        click=click.cast(pl.Int8),
        **{name: (click & (pl.col(name) < part)).cast(pl.Int8) for name, part in flags},
        search=(pl.col("then_search") & pl.col("is_first")).cast(pl.Int8),
        search_item_related=(pl.col("then_related") & pl.col("is_first")).cast(pl.Int8),
    )


def _search_log(rows: pl.DataFrame, sessions: int) -> pl.DataFrame:
    second = pl.when("has_second").then(pl.format(", {}", "second_word")).otherwise(pl.lit(""))
    return rows.filter(pl.col("kind") == SEARCH).select(
        user_id="user",
        search_session_id=sessions + pl.col("event").rank("dense"),
        search_session_time=_beijing(),
        search_session_timestamp="time_ms",
        keyword=pl.format("[{}{}]", "first_word", second),
        search_source=pl.lit("USER_INPUT"),
        item_id="item_id",
        click_cnt=pl.col("clicked").cast(pl.Int8),
        item_type=pl.lit("VIDEO"),
    )


def _user_features(users: range, events: Events, rng: np.random.Generator) -> pl.DataFrame:
    at = events.user - users.start
    searches, pages = (np.bincount(at[events.kind == kind], minlength=len(users)) for kind in (SEARCH, FEED))
    return pl.DataFrame(
        {
            "user_id": list(users),
            "search_active_level": (searches // 10).clip(max=4),
            "rec_active_level": (pages // 10).clip(max=4),
            "onehot_feat1": rng.integers(0, 3, len(users)),
            "onehot_feat2": rng.integers(0, 8, len(users)),
        }
    )


def _follows(here: range, users: int, rng: np.random.Generator) -> pl.DataFrame:
    followed = rng.integers(0, users, len(here))
    return pl.DataFrame({"user_id": list(here), "user_follow_id": followed}).filter(
        pl.col("user_id") != pl.col("user_follow_id")
    )
