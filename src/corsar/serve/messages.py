"""What goes over the wire: bodies with a bound on every size, and the shapes of the answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from corsar.api.explain import MOST

K, IDS, HISTORY, EVENTS, CLICKS = 1000, 10_000, 2_000, 1_000, 100  # the largest k, and the longest lists
TEXT, QUERY = 256, 1_000  # characters of an id or key, and of a query
INT64 = 1 << 63
TIME_MS = 1 << 53  # what a number of JSON holds exactly

_ID: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": TEXT},
        {"type": "integer", "minimum": -INT64, "maximum": INT64 - 1},
    ]
}


def read_id(told: Any) -> str:
    """The id as a text; numbers and texts are one."""
    if isinstance(told, int) and not isinstance(told, bool) and -INT64 <= told < INT64:
        return str(told)
    if isinstance(told, str) and 0 < len(told) <= TEXT and _is_text(told):
        return told
    raise PydanticCustomError("id", f"must be an id: a number, or a text of 1 to {TEXT} characters")


def read_text(told: Any) -> str:
    """A text that can be written as UTF-8."""
    if isinstance(told, str) and len(told) <= QUERY and _is_text(told):
        return told
    raise PydanticCustomError("text", f"must be a text of at most {QUERY} characters")


def _is_text(told: str) -> bool:
    try:
        told.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_event(told: Any) -> Any:
    return {"item_id": told} if isinstance(told, str | int) else told


def _as_list(told: Any) -> Any:
    return told if isinstance(told, list) or told is None else [told]


Id = Annotated[str, BeforeValidator(read_id), WithJsonSchema(_ID)]
Text = Annotated[str, BeforeValidator(read_text), WithJsonSchema({"type": "string", "maxLength": QUERY})]
Time = Annotated[int, Field(strict=True, ge=-TIME_MS, le=TIME_MS)]
Offset = Annotated[int, Field(strict=True, ge=-1440, le=1440)]
Items = Annotated[list[Id], Field(max_length=CLICKS), BeforeValidator(_as_list)]
Ids = Annotated[list[Id], Field(max_length=IDS)]


class Body(BaseModel):
    """A body; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class HistoryEvent(Body):
    """One event of a told history: an item, or a search with what was clicked in it."""

    item_id: Items = []
    query: Text | None = None
    kind: Literal["feed", "search"] | None = None

    @model_validator(mode="after")
    def _has_something(self) -> HistoryEvent:
        if not self.item_id and not self.query and self.kind != "search":
            raise PydanticCustomError("event", "must have an item_id, or a query if it was a search")
        return self


class CheckIn(Body):
    """One check-in of a told history."""

    item_id: Id
    time_ms: Time | None = None
    utc_offset_min: Offset | None = None


Event = Annotated[HistoryEvent, BeforeValidator(_as_event)]
Place = Annotated[CheckIn, BeforeValidator(_as_event)]


class Asked(Body):
    """What all questions may say."""

    user_id: Id | None = Field(None, description="A user of the logs, or one who has sent events; anybody else has no past.")
    k: int = Field(10, ge=1, le=K, strict=True)
    exclude: Ids = Field([], description="Items to leave out.")
    allow: Ids | None = Field(None, description="Items to choose from, in place of the whole catalogue.")
    exclude_seen: Annotated[bool, Field(strict=True)] = Field(False, description="Leave out what the user has had.")


class RecommendBody(Asked):
    """Items for a user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user_id": "u1", "k": 3, "without": ["search"]}, {"user_id": "u1", "k": 3, "explain": True}]
        }
    )
    history: list[Event] | None = Field(
        None, max_length=HISTORY, description="What the user did, the oldest first, in place of what is known."
    )
    without: list[Literal["feed", "search"]] = Field(
        [], max_length=2, description="Kinds of events that are left out of the past: what would be answered had they not been."
    )
    explain: Annotated[bool, Field(strict=True)] = Field(
        False, description=f"Tell why each item is there; k may then be at most {MOST}."
    )

    @model_validator(mode="after")
    def _explains_few(self) -> Self:
        if self.explain and self.k > MOST:
            raise PydanticCustomError("k", f"must have a k of at most {MOST}, for its items are explained")
        return self


class SearchBody(RecommendBody):
    """Items for a query of a user."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "red shoe", "user_id": "u1", "k": 3, "mix": 0.3}]})
    query: Text
    mix: float = Field(0.0, ge=0, le=1, description="Weight of the words' own order (BM25) against that of the model.")


class PlaceBody(Asked):
    """Where a person goes next."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "u1", "at": "2012-04-20T12:00", "k": 3}]})
    history: list[Place] | None = Field(
        None, max_length=HISTORY, description="Where the person was, the oldest first, in place of what is known."
    )
    at: Time | Annotated[str, Field(max_length=64)] | None = Field(
        None, description="The moment of the question, as ISO 8601 (UTC) or in milliseconds: later check-ins are not history."
    )


class EventBody(Body):
    """One event of a live user."""

    user_id: Id
    kind: Literal["feed", "search", "checkin"]
    item_id: Id | None = Field(None, description="What was shown and taken, or clicked in the search.")
    query: Text | None = None
    session_id: Id | None = Field(None, description="Events of one search have one session.")
    time_ms: Time | None = Field(None, description="UTC; now where it is not said.")
    utc_offset_min: Offset | None = Field(None, description="Of the local clock, for check-ins.")
    key: Id | None = Field(None, description="Two events of one key are one event, so that a request may be sent again.")

    @model_validator(mode="after")
    def _is_whole(self) -> EventBody:
        if self.kind != "search" and self.item_id is None:
            raise PydanticCustomError("event", "must have an item_id, for it is no search")
        if self.kind == "search" and not self.query and self.session_id is None:
            raise PydanticCustomError("event", "must have a query or a session_id, for it is a search")
        return self


class EventsBody(Body):
    """Events, all of which are stored, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {"user_id": "u1", "kind": "search", "query": "red shoe", "session_id": "s1", "key": "e1"},
                        {"user_id": "u1", "kind": "search", "item_id": 1, "session_id": "s1", "key": "e2"},
                    ]
                }
            ]
        }
    )
    events: list[EventBody] = Field(min_length=1, max_length=EVENTS)


class Why(BaseModel):
    """A past event that an item rests on."""

    kind: Literal["feed", "search"]
    item_id: int | str | None = None  # of a search the first item that was clicked
    query: str | None = None
    text: str
    weight: float = Field(description="All events of the past: 1, without signs. Attention is no proof of cause; see `drop`.")
    drop: float = Field(description="What the item's score loses without this event alone.")


class Without(BaseModel):
    """The item's rank had one kind of events not been; null where there is none, or where the item is not even looked at."""

    feed: int | None
    search: int | None


class Item(BaseModel):
    """One line of an answer."""

    rank: int
    item_id: int | str
    score: float
    text: str
    km: float | None = None  # from the newest check-in
    visits: int | None = None
    why: list[Why] | None = Field(None, description="Where `explain` is asked: at most five events, the largest weight first.")
    without: Without | None = None


class Found(BaseModel):
    """Items, the best first; notes say what was not known."""

    items: list[Item]
    notes: list[str]
    method: Literal["attention", "left out"] | None = Field(None, description="How the weights of `why` come about.")


class Stored(BaseModel):
    """What became of the events: all are on the disk by now."""

    stored: int
    known: int = Field(description="Events that were there already, by their keys.")


class Query(BaseModel):
    """A query and how often it was searched for."""

    query: str
    count: int


class Queries(BaseModel):
    """Queries, the most frequent first."""

    queries: list[Query]


class Fault(BaseModel):
    """Why there is no answer, and what to do."""

    error: str
