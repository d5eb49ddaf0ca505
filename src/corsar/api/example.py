"""Logs of a shop that does not exist, small enough for an example."""

from __future__ import annotations

import polars as pl

COLOURS, THINGS = ("red", "blue", "green"), ("shoe", "hat", "lamp", "cup")
EVENTS_EACH = 10
HOUR_MS = 3_600_000
MONDAY_MS = 1_333_324_800_000  # 2 April 2012, UTC


def example_logs(users: int = 30) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and items of a made-up shop, as frames of polars: always the same, and small enough to train on in a second.

    Args:
        users: How many users there are, with ten events each: feed events, and searches for a colour or a thing.

    Example:
        >>> import corsar
        >>> events, items = corsar.example_logs()
        >>> events.columns
        ['user_id', 'item_id', 'kind', 'time_ms', 'query']
        >>> items["text"][0], events.height
        ('red shoe', 300)
    """
    texts = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    rows = []
    for user in range(users):
        for place in range(EVENTS_EACH):
            item = (user * 5 + place * (1 + user % 3)) % len(texts)
            query = texts[item].split()[place % 2] if (place + user) % 3 == 2 else None
            time_ms = 1_700_000_000_000 + (place * 24 + user % 24) * HOUR_MS
            rows.append((f"u{user}", item + 1, "search" if query else "feed", time_ms, query))
    events = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms", "query"], orient="row")
    items = pl.DataFrame({"item_id": range(1, len(texts) + 1), "text": texts, "category": list(THINGS) * len(COLOURS)})
    return events, items


def example_check_ins(users: int = 20) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check-ins and places of a made-up city, as frames of polars: always the same, and small enough to train on in a second.

    Args:
        users: How many people there are, with eighteen check-ins each, three a day; most have a home, a work and a cafe.

    Example:
        >>> import corsar
        >>> check_ins, places = corsar.example_check_ins()
        >>> check_ins.columns
        ['user_id', 'item_id', 'kind', 'time_ms', 'utc_offset_min']
        >>> places.columns
        ['item_id', 'text', 'category', 'lat_deg', 'lon_deg']
    """
    kinds = ("home", "work", "cafe")
    rows = []
    for user in range(users):
        for at in range(18):
            kind, day = at % 3, at // 3
            place = 3 * ((user + (day if kind == 2 and user % 2 else 0)) % 5) + kind + 1
            time_ms = MONDAY_MS + day * 24 * HOUR_MS + (8, 13, 18)[kind] * HOUR_MS + user * 60_000
            rows.append((f"u{user}", place, "checkin", time_ms, -360))
    check_ins = pl.DataFrame(rows, ["user_id", "item_id", "kind", "time_ms", "utc_offset_min"], orient="row")
    numbers = range(1, 16)
    places = pl.DataFrame(
        {
            "item_id": numbers,
            "text": [kinds[(n - 1) % 3] for n in numbers],
            "category": [kinds[(n - 1) % 3] for n in numbers],
            "lat_deg": [51.0 + 0.01 * (n % 4) for n in numbers],
            "lon_deg": [-114.0 - 0.01 * (n % 5) for n in numbers],
        }
    )
    return check_ins, places
