"""Logs of a shop that does not exist, small enough for an example."""

from __future__ import annotations

import polars as pl

COLOURS, THINGS = ("red", "blue", "green"), ("shoe", "hat", "lamp", "cup")
EVENTS_EACH = 10
HOUR_MS = 3_600_000


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
