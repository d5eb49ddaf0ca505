"""The service over HTTP: what is answered, what is refused, and that a refusal is a sentence."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from serve_kit import Answered, Client, client_of, near

import corsar

LATER_MS = 1_900_000_000_000


def _refusal(told: Answered, status: int | None = None) -> str:
    assert 400 <= told.status < 500, told
    assert status in (None, told.status), told
    assert list(told.json) == ["error"]
    sentence = told.json["error"]
    assert isinstance(sentence, str)
    assert sentence.strip()
    assert "\n" not in sentence
    return sentence


def test_app_answers_as_the_command_line_does(client: Client, runs: list[Path]) -> None:
    told = client("POST", "/v1/recommend", {"user_id": "u1", "k": 4})
    assert told.status == 200
    assert told.json == near(corsar.recommend(runs[0], user="u1", k=4))
    told = client("POST", "/v1/search", {"query": "red shoe", "user_id": "u2"})
    assert told.json == near(corsar.search(runs[0], "red shoe", user="u2"))
    at = {"user_id": "u1", "at": "2012-04-05T12:00", "k": 2}
    assert client("POST", "/v1/next-place", at).json == corsar.next_place(runs[1], user="u1", at=at["at"], k=2)  # type: ignore[arg-type]


def test_app_takes_told_histories(client: Client) -> None:
    history: list[Any] = [1, "2", {"item_id": 3, "query": "red"}, {"query": "blue"}, {"item_id": [4, 99], "kind": "search"}]
    told = client("POST", "/v1/recommend", {"history": history, "k": 12, "exclude_seen": True})
    assert not {1, 2, 3, 4} & {one["item_id"] for one in told.json["items"]}
    assert told.json["notes"] == ["1 of 5 items of the history are not in the catalogue"]
    places = [1, {"item_id": 2, "time_ms": 5, "utc_offset_min": 60}]
    assert "others none" in _refusal(client("POST", "/v1/next-place", {"history": places}), 422)
    assert client("POST", "/v1/next-place", {"history": [1, 1, 2], "k": 1}).json["items"][0]["visits"] == 2


def test_app_allows_excludes_and_switches_channels_off(client: Client) -> None:
    allowed = client("POST", "/v1/recommend", {"user_id": "u1", "allow": [1, 2, "3"], "exclude": ["2"]}).json["items"]
    assert sorted(one["item_id"] for one in allowed) == [1, 3]
    whole, feed, nothing = (
        client("POST", "/v1/recommend", {"user_id": "u2", "k": 12, "without": without}).json["items"]
        for without in ([], ["search"], ["search", "feed"])
    )
    assert whole != feed != nothing
    assert nothing == client("POST", "/v1/recommend", {"user_id": "u2", "history": [], "k": 12}).json["items"]
    assert "none of the 1 allowed items" in _refusal(client("POST", "/v1/recommend", {"allow": ["no"]}), 422)


def test_app_knows_events_in_the_next_answer(client: Client) -> None:
    ask = {"user_id": "live", "k": 12}
    before = client("POST", "/v1/recommend", ask).json
    events = [
        {"user_id": "live", "kind": "search", "query": "red shoe", "session_id": "s", "key": "k1"},
        {"user_id": "live", "kind": "search", "item_id": 1, "session_id": "s", "key": "k2"},
        {"user_id": "live", "kind": "feed", "item_id": 5, "time_ms": LATER_MS, "key": "k3"},
    ]
    assert client("POST", "/v1/events", {"events": events[1:]}).json == {"stored": 2, "known": 0}
    after = client("POST", "/v1/recommend", ask).json
    assert after["items"] != before["items"]
    conflict = [events[2] | {"item_id": 6}]
    assert "the key 'k3' was given to another event" in _refusal(client("POST", "/v1/events", {"events": conflict}), 422)
    again = client("POST", "/v1/events", {"events": [events[2]]})
    assert again.json == {"stored": 0, "known": 1}
    assert client("POST", "/v1/recommend", ask).json == after


def test_app_tells_of_items_and_queries(client: Client) -> None:
    assert [one["rank"] for one in client("GET", "/v1/items/3/similar?k=2").json["items"]] == [1, 2]
    assert "does not know the item 'x y'" in _refusal(client("GET", "/v1/items/x y/similar"), 404)
    after = client("GET", "/v1/items/3/queries").json["queries"]
    assert after
    assert {"query", "count"} == set(after[0])
    assert _refusal(client("GET", "/v1/items/99/queries"), 404)
    assert [one["query"] for one in client("GET", "/v1/queries?prefix=re&k=5").json["queries"]] == ["red"]


def test_app_tells_what_it_is(client: Client) -> None:
    assert client("GET", "/healthz").status == client("GET", "/readyz").status == 200
    told = client("GET", "/version").json
    assert [one["model"] for one in told["models"]] == ["unisar", "visits"]
    assert len(told["fingerprint"]) == 16
    client("POST", "/v1/recommend", {})
    text = client("GET", "/metrics").body.decode()
    assert 'corsar_requests_total{route="/v1/recommend",status="200"}' in text
    for _ in range(50):  # an answered question leaves the count a moment after its answer
        if "corsar_waiting_questions 0.0" in text:
            break
        time.sleep(0.1)
        text = client("GET", "/metrics").body.decode()
    assert "corsar_waiting_questions 0.0" in text
    schema = client("GET", "/openapi.json").json
    bodies = [one["requestBody"] for path in schema["paths"].values() for one in path.values() if "requestBody" in one]
    names = [body["content"]["application/json"]["schema"]["$ref"].split("/")[-1] for body in bodies]
    assert len(names) == 4
    assert all(schema["components"]["schemas"][name]["examples"] for name in names)


def test_app_answers_the_examples_of_its_schema(client: Client) -> None:
    schema = client("GET", "/openapi.json").json
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            body = told.get("requestBody")
            if body is None:
                continue
            name = body["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
            for example in schema["components"]["schemas"][name]["examples"]:
                assert client(method.upper(), path, example).status == 200, (path, example)


def test_app_refuses_in_a_sentence_what_is_not_there(client: Client) -> None:
    assert _refusal(client("GET", "/nothing"), 404) == "there is nothing here; see /openapi.json"
    assert _refusal(client("GET", "/v1/recommend"), 405) == "GET is not answered here; see /openapi.json"
    assert _refusal(client("POST", "/v1/recommend", b"{"), 422) == "the body is no JSON; see /openapi.json"
    assert _refusal(client("POST", "/v1/recommend", {"kk": 3}), 422) == "kk is not known here; see /openapi.json"
    assert _refusal(client("POST", "/v1/recommend", {"k": 0}), 422).startswith("k: input should be greater than")
    assert "2012-04-03T18:00" in _refusal(client("POST", "/v1/next-place", {"at": "soon"}), 422)
    assert _refusal(client("POST", "/v1/recommend", b"[" * 200_000))
    assert _refusal(client("POST", "/v1/recommend", b" " * (1 << 20) + b"{}"), 413).startswith("the body is larger than")
    unsaid = client("POST", "/v1/recommend", b" " * (1 << 20) + b"{}", {"content-length": "nonsense"})
    assert _refusal(unsaid, 413)


def test_app_with_a_key_lets_in_who_has_it(runs: list[Path], tmp_path: Path) -> None:
    with client_of(runs[1:], tmp_path / "events.sqlite", key="s3crét", hosts=("localhost",)) as client:
        for headers in ({}, {"authorization": "Bearer s3cret"}, {"authorization": "Basic s3cr"}, {"authorization": "s3cret"}):
            told = client("GET", "/version", headers=headers)
            assert "Authorization: Bearer KEY" in _refusal(told, 401)
            assert told.headers["www-authenticate"] == "Bearer"
        assert client("GET", "/healthz").status == 200
        assert "does not answer to the host 'evil.example'" in _refusal(
            client("GET", "/", headers={"host": "evil.example"}), 421
        )
    with client_of(runs[1:], tmp_path / "events.sqlite", key="s3cret") as client:
        for scheme in ("Bearer", "bearer"):
            assert client("GET", "/version", headers={"authorization": f"{scheme} s3cret"}).status == 200
        assert client("GET", "/metrics").status == 401


IDS: list[Any] = [1.5, True, None, {}, "", "x" * 257, 1 << 64, [], "\ud800"]
WRONG: dict[str, list[Any]] = {
    "user_id": [one for one in IDS if one is not None],
    "k": [0, -1, 1001, 1.5, "3", True, None, [], 1 << 70],
    "exclude": [1, "x", None, {}, [[]], [None], [1.5], ["x"] * 10_001, ["\ud800"]],
    "allow": [1, "x", {}, [[]], [None], ["x"] * 10_001],
    "exclude_seen": [1, "yes", None, []],
    "explain": [1, "yes", None, []],
    "history": [1, "x", {}, [None], [1.5], [{}], [{"item_id": {}}], [{"item": 1}], [[1]], [1] * 2001, [{"item_id": [1] * 101}]],
    "without": ["feed", [1], ["map"], ["feed"] * 3, None],
    "query": [1, None, [], "x" * 1001, "\udfff"],
    "mix": [-0.1, 1.1, "much", None, [], float("nan"), float("inf"), 1e400],
    "at": [True, 1.5, [], {}, "soon", "x" * 65, 1 << 80, "99999999999999999999", "--5", "0000-00-00"],
    "events": [None, [], {}, [1], [{}], [{"user_id": 1}], [{"user_id": 1, "kind": "buy", "item_id": 1}]],
}
FIELDS = {
    "/v1/recommend": ["user_id", "k", "exclude", "allow", "exclude_seen", "history", "without", "explain"],
    "/v1/search": ["user_id", "k", "exclude", "allow", "exclude_seen", "history", "without", "explain", "query", "mix"],
    "/v1/next-place": ["user_id", "k", "exclude", "allow", "exclude_seen", "history", "at"],
    "/v1/events": ["events"],
}
EVENT = {"user_id": 1, "kind": "feed", "item_id": 1}
WRONG_EVENT: dict[str, list[Any]] = {
    "user_id": IDS,
    "kind": ["", 1, None, "buy"],
    "item_id": IDS,
    "query": [1, [], "x" * 1001],
    "key": [one for one in IDS if one is not None],
    "session_id": [1.5, [], ""],
    "time_ms": ["now", 1.5, 1 << 60, True, []],
    "utc_offset_min": [1e9, "x", 2000, 1.5],
}
VALID: dict[str, Any] = {
    "/v1/recommend": {},
    "/v1/search": {"query": "red"},
    "/v1/next-place": {},
    "/v1/events": {"events": [EVENT]},
}
JSON = st.one_of(
    st.sampled_from([None, True, 0, -1, 1.5, 1 << 80, float("nan"), [], [None], {}, {"k": {}}, [[[]]], {"": [{}]}]),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
)


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


@st.composite
def malformed(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path, and a body that it cannot take."""
    path = draw(st.sampled_from(sorted(FIELDS)))
    body = dict(VALID[path])
    way = draw(st.integers(0, 4))
    if way == 0:
        return path, draw(st.binary(min_size=1, max_size=40).filter(lambda raw: not _is_json(raw)))
    if way == 1:
        return path, json.dumps(draw(JSON.filter(lambda told: not isinstance(told, dict)))).encode()
    if way == 2:  # a key that nobody knows
        name = draw(st.text(max_size=8).filter(lambda name: name not in WRONG))
        return path, json.dumps(body | {name: draw(JSON)}).encode()
    if way == 3 and path == "/v1/events":
        field = draw(st.sampled_from(sorted(WRONG_EVENT)))
        return path, json.dumps({"events": [EVENT, EVENT | {field: draw(st.sampled_from(WRONG_EVENT[field]))}]}).encode()
    field = draw(st.sampled_from(FIELDS[path]))
    return path, json.dumps(body | {field: draw(st.sampled_from(WRONG[field]))}).encode()


@pytest.mark.slow
@settings(
    max_examples=2000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate, Phase.shrink],
)
@given(malformed())
def test_app_refuses_malformed_bodies_in_a_sentence(client: Client, told: tuple[str, bytes]) -> None:
    path, body = told
    _refusal(client("POST", path, body))
