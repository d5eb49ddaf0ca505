"""The store of live events: nothing acknowledged is lost, whatever kills the writer."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from corsar.errors import DataError, OutputError
from corsar.serve.store import Added, LiveEvent, SQLiteStore

SEED = int(os.environ.get("CORSAR_KILL_SEED") or random.SystemRandom().randrange(10**9))
SRC = Path(__file__).parents[2] / "src"
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from corsar.serve.store import LiveEvent, SQLiteStore
store, start = SQLiteStore(Path(sys.argv[1])), int(sys.argv[3])
print("open", flush=True)
for number in range(start, start + 100_000):
    events = [LiveEvent("u", "feed", number, str(number), key=f"{number}/{part}") for part in range(3)]
    told = store.add([events[:2], events[2:]])
    print(number, flush=True)
"""


def event(item: int, time_ms: int = 0, **more: object) -> LiveEvent:
    return LiveEvent("u", "feed", time_ms, str(item), **more)  # type: ignore[arg-type]


def test_store_loses_no_acknowledged_event_when_its_writer_is_killed(tmp_path: Path) -> None:
    draw, path, acknowledged = random.Random(SEED), tmp_path / "events.sqlite", -1
    for _ in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(SRC), str(acknowledged + 2)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            time.sleep(draw.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().splitlines(keepends=True)
        whole = [int(line) for line in lines if line.endswith("\n")]
        acknowledged = max([acknowledged, *whole])
        store = SQLiteStore(path)
        keys = {key for (key,) in store._connection.execute("SELECT key FROM events")}
        assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), SEED
        missing = [number for number in whole if not {f"{number}/{part}" for part in range(3)} <= keys]
        assert not missing, f"seed {SEED}: acknowledged and lost: {missing}"
        numbers = {key.split("/")[0] for key in keys}
        assert len(keys) == 3 * len(numbers), f"seed {SEED}: half of a transaction was kept"
        acknowledged = max([acknowledged, *map(int, numbers)])  # written, though its acknowledgement was not heard
        store.close()
    assert acknowledged > 20


def test_store_takes_a_key_once(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.sqlite")
    first = [event(1, key="a"), event(2, key="b"), event(3)]
    assert store.add([first]) == [Added(3, 0)]
    assert store.add([[event(1, time_ms=5, key="a")]]) == [Added(0, 1)]  # the time is that of its arrival, where none is told
    assert store.add([first, [event(4, key="c")]]) == [Added(1, 2), Added(1, 0)]  # one without a key is stored again
    refused, taken = store.add([[event(9), event(5, key="a")], [event(6, key="d")]])
    assert isinstance(refused, DataError)
    assert "the key 'a' was given to another event" in str(refused)
    assert taken == Added(1, 0)
    assert "9" not in store.items("u")
    assert store.add([[event(7, key="e"), event(7, key="e")]]) == [Added(1, 1)]
    store.close()


def test_store_gives_the_newest_of_each_kind_in_order(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.sqlite")
    told = [event(at, time_ms=at) for at in range(10)]
    told += [LiveEvent("u", "search", at * 2 + 1, None, f"q{at}") for at in range(5)]
    told += [LiveEvent("other", "feed", 3, "99")]
    store.add([told])
    newest = store.newest("u", 3, 2)
    assert [one.item_id for one in newest if one.kind == "feed"] == ["7", "8", "9"]
    assert [one.query for one in newest if one.kind == "search"] == ["q0", "q1", "q2", "q3", "q4"]
    assert [one.time_ms for one in newest] == sorted(one.time_ms for one in newest)
    late = event(50, time_ms=8)  # of equal times the one that came first stands first
    store.add([[late]])
    assert [one.item_id for one in store.newest("u", 3, 2) if one.kind == "feed"] == ["8", "50", "9"]
    assert store.newest("nobody", 3, 3) == []
    assert sorted(store.items("u")) == sorted([str(at) for at in range(10)] + ["50"])
    assert store.count() == 17
    store.close()


def test_store_is_read_while_it_is_written(tmp_path: Path) -> None:
    store, wrong = SQLiteStore(tmp_path / "events.sqlite"), []  # type: SQLiteStore, list[str]

    def read() -> None:
        seen = 0
        while seen < 50:
            now = len(store.newest("u", 100, 1))
            if now < seen or now % 2:
                wrong.append(f"{seen} {now}")
            seen = now

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for at in range(25):
        store.add([[event(2 * at, at), event(2 * at + 1, at)]])
    for reader in readers:
        reader.join()
    assert wrong == []
    store.close()


def test_store_refuses_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database at all, " * 100)
    with pytest.raises(DataError, match="is no file of events, or it is damaged"):
        SQLiteStore(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE things (id)")
    other.close()
    with pytest.raises(DataError, match="is no file of events of this version"):
        SQLiteStore(tmp_path / "other")
    with pytest.raises(OutputError, match=r"cannot write .*; see to the disk"):
        SQLiteStore(tmp_path / "nowhere" / "events.sqlite")


def test_store_says_that_the_disk_is_full(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.sqlite")
    store.add([[event(1)]])
    [pages] = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutputError, match="is full; see to the disk"):
        store.add([[event(at) for at in range(1000)]])
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert store.add([[event(2)]]) == [Added(1, 0)]
    assert store.items("u") == ["2", "1"]
    store.close()
