"""What the service tells of people, and the files of the page."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import Client, client_of

import corsar
from corsar.api.past import stored_past
from corsar.serve import pages
from corsar.serve.people import FEWEST, MOST_LAGS, _spectrum
from corsar.serve.store import LiveEvent, SQLiteStore

LATER_MS, HOUR_MS = 1_900_000_000_000, 3_600_000
STATIC = Path(pages.__file__).parent / "static"


def _store(client: Client, *events: dict[str, Any]) -> None:
    told = client("POST", "/v1/events", {"events": [{"user_id": "live", **event} for event in events]})
    assert told.json["stored"] == len(events)


def test_users_are_found_by_how_their_ids_begin(client: Client) -> None:
    def find(prefix: str, k: int = 3) -> list[str]:
        return [one["user_id"] for one in client("GET", f"/v1/users?prefix={prefix}&k={k}").json["users"]]

    assert find("u2") == ["u2", "u20", "u21"]
    assert find("") == ["u0", "u1", "u10"]
    assert find("nobody") == []
    _store(client, {"user_id": "nobody/1", "kind": "feed", "item_id": 1}, {"user_id": "u2", "kind": "feed", "item_id": 1})
    assert find("no") == ["nobody/1"]
    first, new = (client("GET", f"/v1/users?prefix={prefix}&k=1").json["users"][0] for prefix in ("u2", "nobody"))
    assert first == {"user_id": "u2", "feed": 4, "searches": 2, "check_ins": 18, "is_live": True}
    assert new == {"user_id": "nobody/1", "feed": 0, "searches": 0, "check_ins": 0, "is_live": True}
    assert client("GET", "/v1/users?k=1001").status == 422
    told = client("GET", "/v1/users/nobody%2F1/events".replace("%2F", "/")).json["events"]
    assert [one["items"][0]["text"] for one in told] == ["red shoe"]


def test_users_with_numbers_as_ids_are_found_too(tmp_path: Path) -> None:
    events, items = corsar.example_logs()
    numbers = events.with_columns(events["user_id"].str.strip_prefix("u").cast(int))
    corsar.Popularity().fit(corsar.Dataset.from_frames(numbers, items=items), run_dir=tmp_path / "run")
    with client_of([tmp_path / "run"], tmp_path / "events.sqlite") as client:
        told = client("GET", "/v1/users?prefix=2&k=3").json["users"]
        assert [one["user_id"] for one in told] == ["2", "20", "21"]
        assert len(client("GET", "/v1/users/2/events").json["events"]) > 1


def test_events_of_a_user_are_those_that_the_model_knows(client: Client, runs: list[Path]) -> None:
    artifact = corsar.open_artifact(runs[0])
    told = client("GET", "/v1/users/u3/events?k=1000").json["events"]
    of_shop = [one for one in told if one["kind"] != "checkin"]
    past = stored_past(artifact, int(artifact.users.rows(["u3"])[0]))
    assert [one["time_ms"] for one in of_shop] == [entry.time_ms for entry in reversed(past)]
    assert [one["kind"] == "search" for one in of_shop] == [entry.is_search for entry in reversed(past)]
    assert [[item["item_id"] for item in one["items"]] for one in of_shop] == [
        artifact.items.ids(entry.items).to_list() for entry in reversed(past)
    ]
    assert all(one["query"] for one in of_shop if one["kind"] == "search")
    assert len(told) == len(of_shop) + 18
    assert [one["time_ms"] for one in told] == sorted((one["time_ms"] for one in told), reverse=True)
    assert client("GET", "/v1/users/u3/events?k=2").json["events"] == told[:2]


def test_events_of_one_search_are_one_line(client: Client) -> None:
    _store(
        client,
        {"kind": "search", "query": "red shoe", "session_id": "s", "time_ms": LATER_MS},
        {"kind": "feed", "item_id": 5, "time_ms": LATER_MS + 1},
        {"kind": "search", "item_id": 1, "session_id": "s", "time_ms": LATER_MS + 2},
        {"kind": "checkin", "item_id": "no such place", "time_ms": LATER_MS + 3},
        {"kind": "search", "query": "hat", "time_ms": LATER_MS + 4},
        {"kind": "search", "query": "hat", "time_ms": LATER_MS + 5},
    )
    told = client("GET", "/v1/users/live/events").json["events"]
    assert [(one["kind"], one["query"], [item["item_id"] for item in one["items"]]) for one in told] == [
        ("search", "hat", []), ("search", "hat", []), ("checkin", None, ["no such place"]), ("feed", None, [5]),
        ("search", "red shoe", [1]),
    ]  # fmt: skip
    assert all(one["is_live"] for one in told)
    assert told[2]["items"][0]["text"] == ""


def test_events_that_the_logs_hold_are_not_told_twice(client: Client) -> None:
    before = client("GET", "/v1/users/u4/events?k=1000").json["events"]
    _store(client, {"user_id": "u4", "kind": "feed", "item_id": 1, "time_ms": before[0]["time_ms"]})
    assert client("GET", "/v1/users/u4/events?k=1000").json["events"] == before


def test_rhythm_finds_the_day(client: Client) -> None:
    told = client("GET", "/v1/users/u5/rhythm").json
    assert sum(map(sum, told["week"])) == told["events"] == 24
    at = [{"kind": "feed", "item_id": 1, "time_ms": LATER_MS + day * 24 * HOUR_MS} for day in range(20)]
    _store(client, *({"user_id": "daily", **event} for event in at[: FEWEST - 1]))
    few = client("GET", "/v1/users/daily/rhythm").json
    assert few["notes"] == [f"{FEWEST - 1} events are too few for a rhythm; it takes {FEWEST}"]
    assert (few["lags"], few["clock"], sum(map(sum, few["week"]))) == ([], "utc", FEWEST - 1)
    _store(client, *({"user_id": "daily", **event} for event in at[FEWEST - 1 :]))
    told = client("GET", "/v1/users/daily/rhythm").json
    assert told["bin_hours"] == 2
    assert told["period_hours"] == pytest.approx(24, abs=0.1)
    best = max(told["lags"], key=lambda lag: lag["correlation"])
    assert best["hours"] % 24 == 0
    assert best["correlation"] > 0.9 > best["chance"]
    hours = [(day, hour) for day, counts in enumerate(told["week"]) for hour, count in enumerate(counts) if count]
    assert len(hours) == 7
    assert len({hour for _, hour in hours}) == 1
    nobody = client("GET", "/v1/users/stranger/rhythm").json
    assert nobody["week"] is None
    assert nobody["notes"]


def test_rhythm_of_check_ins_is_by_the_local_clock(runs: list[Path], tmp_path: Path) -> None:
    with client_of(runs[1:], tmp_path / "events.sqlite") as client:
        told = client("GET", "/v1/users/u1/rhythm").json
    assert told["clock"] == "local"
    assert {hour for counts in told["week"] for hour, count in enumerate(counts) if count} == {2, 7, 12}  # six hours before UTC


@pytest.mark.parametrize("span_h", [1, 300, 20_000, 10_000_000])
def test_spectrum_is_bounded_at_every_span(span_h: int) -> None:
    times = np.sort(np.random.default_rng(0).integers(0, span_h * HOUR_MS, 40)) - 7 * HOUR_MS
    told = _spectrum(times)
    assert len(told["lags"]) < MOST_LAGS
    assert all(-1 <= lag["correlation"] <= 1 and lag["chance"] > 0 for lag in told["lags"])
    assert [lag["hours"] % told["bin_hours"] for lag in told["lags"]] == [0] * len(told["lags"])


def test_places_are_told_where_they_are(client: Client) -> None:
    told = client("GET", "/v1/places?item_id=1&item_id=99&item_id=2").json["places"]
    assert [one["item_id"] for one in told] == [1, 2]
    assert told[0] == {"item_id": 1, "text": "home", "lat_deg": 51.01, "lon_deg": -114.01}
    assert client("GET", "/v1/places").status == 422
    assert client("GET", "/v1/places?" + "&".join(["item_id=1"] * 101)).status == 422


def test_store_finds_users_in_order(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "events.sqlite")
    users = ["a", "ab", "ab", "a\U0010ffff", "b", "%", "_", "aé"]
    store.add([[LiveEvent(user, "feed", 1, "1") for user in users]])
    assert store.users("", 100) == sorted(set(users), key=str.encode)
    assert store.users("a", 2) == ["a", "ab"]
    assert store.users("a", 9) == ["a", "ab", "aé", "a\U0010ffff"]
    assert store.users("%", 9) == ["%"]
    store.close()


def test_page_and_its_files_are_served_under_a_strict_policy(client: Client) -> None:
    told = client("GET", "/")
    assert (told.status, told.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'data-charts="yes"' in told.body
    policy = told.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    nothing = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert f"style-src 'self' 'unsafe-hashes' 'sha256-{nothing}';" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    for name in re.findall(r'(?:src|href)="(static/[^"]+)"', told.body.decode()):
        file = client("GET", f"/{name}")
        assert file.status == 200, name
        assert client("GET", f"/{name}", headers={"if-none-match": file.headers["etag"]}).status == 304
    assert client("GET", "/static/page.js").headers["content-type"].startswith("text/javascript")
    script = client("GET", "/static/plotly.min.js")
    assert b"plotly.js" in script.body[:200]
    for path in ("/static/index.html", "/static/../app.py", "/static/nothing", "/static/"):
        assert client("GET", path).status == 404, path
    assert not {"/", "/static/{name}"} & set(client("GET", "/openapi.json").json["paths"])


def test_page_without_plotly_says_so_to_its_scripts(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with client_of(runs[1:], tmp_path / "events.sqlite") as client:
        assert b'data-charts="no"' in client("GET", "/").body
        assert client("GET", "/static/plotly.min.js").status == 404


def test_page_is_open_where_a_key_is_asked_for_but_people_are_not(runs: list[Path], tmp_path: Path) -> None:
    with client_of(runs[1:], tmp_path / "events.sqlite", key="s3cret") as client:
        assert client("GET", "/").status == client("GET", "/static/page.css").status == 200
        for path in ("/v1/users", "/v1/users/u1/events", "/v1/users/u1/rhythm", "/v1/places?item_id=1", "/static", "//"):
            assert client("GET", path).status == 401, path


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_page_can_be_read_light_and_dark() -> None:
    css = (STATIC / "page.css").read_text(encoding="utf-8")
    blocks = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)]
    assert len(blocks) == 2
    for colours in blocks:
        for ink in ("ink", "soft", "mark", "up", "down", "new"):
            for paper in ("paper", "card", "shade"):
                assert _contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper, colours)
        for kind in ("feed", "search", "checkin"):
            assert _contrast(colours[kind], colours["card"]) >= 3, kind  # WCAG 2: text 4.5, signs 3


def test_page_names_nothing_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text, file.name  # noqa: PT018
        assert "innerHTML" not in text, file.name  # text stays text
