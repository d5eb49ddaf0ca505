"""What users did since the model was trained: events in one SQLite file, on the disk before they are acknowledged.

`EventStore` is all that the service asks of a store, so that another kind can take its place. `add` takes the events of many
requests in one transaction, whose end waits for the disk once; a request whose events do not fit is refused by itself.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from corsar.errors import DataError, OutputError

APPLICATION, FORMAT = 0x636F7273, 1  # "cors", in the header of the file
CLICKS = 20  # rows of a search, at most, that a window of searches is read from
HAD = 10_000  # newest items of a user that count as seen
BUSY_S = 5.0  # how long a write waits for that of another process

SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    item_id TEXT,
    query TEXT,
    session_id TEXT,
    utc_offset_min INTEGER,
    key TEXT UNIQUE
);
CREATE INDEX newest ON events (user_id, kind, time_ms, id);
"""


class LiveEvent(NamedTuple):
    """One event of a live user."""

    user_id: str
    kind: str  # feed, search or checkin
    time_ms: int
    item_id: str | None = None
    query: str | None = None
    session_id: str | None = None
    utc_offset_min: int | None = None
    key: str | None = None  # two events of one key are one event


class Added(NamedTuple):
    """What became of the events of a request."""

    stored: int
    known: int  # that were there already, by their keys


class EventStore(Protocol):
    """Where events are kept."""

    def add(self, requests: Sequence[Sequence[LiveEvent]]) -> list[Added | DataError]:
        """What became of each request, all of whose events are durable by now, or none; OutputError where none can be."""
        ...

    def newest(self, user_id: str, feed_len: int, search_len: int) -> list[LiveEvent]:
        """The newest events of a user, the oldest first: at least so many of the feed (or check-ins), and searches."""
        ...

    def items(self, user_id: str) -> list[str]:
        """Ids of the items of the user's newest events."""
        ...

    def users(self, prefix: str, k: int) -> list[str]:
        """The first `k` ids of users with events that begin so."""
        ...

    def count(self) -> int:
        """How many events there are."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class SQLiteStore:
    """An `EventStore` in one file, which other processes may read and write at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        try:
            self._prepare(self._connection)
        except sqlite3.DatabaseError as error:
            self.close()
            raise _closed(path, error) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        [application], [version] = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, version) != (APPLICATION, FORMAT):
            connection.execute("ROLLBACK")
            self.close()
            raise DataError(f"{self.path} is no file of events of this version of corsar; name another file")
        if not tables:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            with self._lock:
                self._opened.append(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # an end of a transaction waits for the disk
            self._own.connection = connection
        return connection

    def add(self, requests: Sequence[Sequence[LiveEvent]]) -> list[Added | DataError]:
        """What became of each request; all events of those that are not refused are on the disk."""
        connection, told = self._connection, []  # type: sqlite3.Connection, list[Added | DataError]
        try:
            connection.execute("BEGIN IMMEDIATE")
            for events in requests:
                connection.execute("SAVEPOINT request")
                try:
                    told.append(_insert(connection, events))
                except DataError as error:
                    connection.execute("ROLLBACK TO request")
                    told.append(error)
                connection.execute("RELEASE request")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise _closed(self.path, error) from error
        return told

    def newest(self, user_id: str, feed_len: int, search_len: int) -> list[LiveEvent]:
        """The newest events of a user, the oldest first."""
        rows: list[tuple[int, LiveEvent]] = []
        for kind, limit in (("feed", feed_len), ("checkin", feed_len), ("search", CLICKS * search_len)):
            found = self._connection.execute(
                f"SELECT id, {', '.join(LiveEvent._fields)} FROM events WHERE user_id = ? AND kind = ? "
                "ORDER BY time_ms DESC, id DESC LIMIT ?",
                (user_id, kind, limit),
            )
            rows += [(row[0], LiveEvent(*row[1:])) for row in found]
        return [event for _, event in sorted(rows, key=lambda row: (row[1].time_ms, row[0]))]

    def items(self, user_id: str) -> list[str]:
        """Ids of the items of the user's newest events."""
        found = self._connection.execute(
            "SELECT DISTINCT item_id FROM (SELECT item_id FROM events WHERE user_id = ? ORDER BY id DESC LIMIT ?) "
            "WHERE item_id IS NOT NULL",
            (user_id, HAD),
        )
        return [row[0] for row in found]

    def users(self, prefix: str, k: int) -> list[str]:
        """The first `k` ids of users that begin so, in the order of their bytes: each is one step into the index."""
        found: list[str] = []
        sign, last = ">=", prefix
        while len(found) < k:
            [user] = self._connection.execute(f"SELECT min(user_id) FROM events WHERE user_id {sign} ?", (last,)).fetchone()
            if user is None or not user.startswith(prefix):
                break
            found.append(user)
            sign, last = ">", user
        return found

    def count(self) -> int:
        """How many events there are; exact, for events are never deleted."""
        [number] = self._connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        return int(number)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            while self._opened:
                self._opened.pop().close()
        self._own = threading.local()


def _insert(connection: sqlite3.Connection, events: Sequence[LiveEvent]) -> Added:
    names = ", ".join(LiveEvent._fields)
    known = 0
    for event in events:
        done = connection.execute(
            f"INSERT INTO events ({names}) VALUES ({', '.join('?' * len(event))}) ON CONFLICT (key) DO NOTHING", event
        )
        if done.rowcount:
            continue
        known += 1
        there = LiveEvent(*connection.execute(f"SELECT {names} FROM events WHERE key = ?", (event.key,)).fetchone())
        if there._replace(time_ms=event.time_ms) != event:  # the time may be that of its arrival
            raise DataError(f"the key {event.key!r} was given to another event before; give each event a key of its own")
    return Added(len(events) - known, known)


def _closed(path: Path, error: sqlite3.Error) -> OutputError | DataError:
    if "not a database" in str(error) or "malformed" in str(error):
        return DataError(f"{path} is no file of events, or it is damaged; name another file, or bring back a copy of it")
    return OutputError(f"cannot write {path}: {error}; see to the disk and its rights, and try again")
