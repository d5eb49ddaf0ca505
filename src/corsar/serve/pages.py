"""The page at `/` and the routes that tell it of people. What the browser loads is in `static/`, and comes from here alone."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import re
from importlib.resources import files
from pathlib import Path as File
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from corsar.serve.engine import Engine
from corsar.serve.messages import QUERY, TEXT, Fault, Id, K
from corsar.serve.people import People
from corsar.serve.service import Service

STATIC = "/static/"
PLOTLY = "plotly.min.js"
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
NAMED = 100  # places that are asked for at once
# the browser itself keeps the page from loading anything from elsewhere, and from running anything that stands in its text;
# plotly sets styles that are empty, whose hash this is, and nothing else is let in by it
EMPTY = "'unsafe-hashes' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {EMPTY}; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
NO_SUCH: dict[int | str, dict[str, Any]] = {404: {"model": Fault, "description": "The path holds what no id does: a line end."}}
Kind = Literal["feed", "search", "checkin"]
UserId = Annotated[str, Path(min_length=1, max_length=TEXT)]
Most = Annotated[int, Query(ge=1, le=K)]


class User(BaseModel):
    """A user, and how many of the newest events the model holds."""

    user_id: str
    feed: int
    searches: int
    check_ins: int
    is_live: bool = Field(description="Whether the user has sent events.")


class Users(BaseModel):
    """Users, those of the logs first."""

    users: list[User]


class Thing(BaseModel):
    """An item of an event."""

    item_id: int | str
    text: str


class Done(BaseModel):
    """What somebody did."""

    kind: Kind
    time_ms: int | None = Field(description="UTC; null where the logs have no clock.")
    query: str | None = Field(description="What was searched for, as the model knows it.")
    items: list[Thing]
    is_live: bool = Field(description="Whether it was sent to this service, and is in no log.")


class Past(BaseModel):
    """The newest events, the newest first."""

    events: list[Done]


class Lag(BaseModel):
    """How much the counts of events resemble themselves so many hours later."""

    hours: int
    correlation: float
    chance: float = Field(description="White noise stays within it in 19 of 20.")


class Rhythm(BaseModel):
    """When somebody does things."""

    events: int
    bin_hours: int | None
    lags: list[Lag]
    period_hours: float | None
    strength: float | None
    week: list[list[int]] | None = Field(description="Events by day, from Monday on, and hour.")
    clock: Literal["local", "utc"] | None
    notes: list[str]


class Where(Thing):
    """Where an item is."""

    lat_deg: float
    lon_deg: float


class Wheres(BaseModel):
    """The items that are somewhere."""

    places: list[Where]


def add_people(app: FastAPI, service: Service) -> None:
    """Add the routes that tell of people."""
    made: WeakKeyDictionary[Engine, People] = WeakKeyDictionary()

    def people() -> People:
        engine = service.engine
        if engine not in made:
            made[engine] = People(engine.by_task)
        return made[engine]

    @app.get("/v1/users", response_model=Users)
    async def users(prefix: Annotated[str, Query(max_length=QUERY, examples=["u"])] = "", k: Most = 10) -> Response:
        """Users whose ids begin so: those of the logs, then those who have sent events."""
        found = await asyncio.to_thread(lambda: people().find(prefix, k, service.store))
        return JSONResponse({"users": found})

    @app.get("/v1/users/{user_id:path}/events", response_model=Past, responses=NO_SUCH)
    async def events_of(user_id: UserId, k: Most = 50) -> Response:
        """The newest events of a user that the model knows: of the logs, and since."""
        found = await asyncio.to_thread(lambda: people().events(user_id, k, service.store))
        return JSONResponse({"events": found})

    @app.get("/v1/users/{user_id:path}/rhythm", response_model=Rhythm, responses=NO_SUCH)
    async def rhythm(user_id: UserId) -> Response:
        """The lag spectrum of a user's events, and their hours of the week."""
        return JSONResponse(await asyncio.to_thread(lambda: people().rhythm(user_id, service.store)))

    @app.get("/v1/places", response_model=Wheres)
    async def places(item_id: Annotated[list[Id], Query(min_length=1, max_length=NAMED, examples=[["1"]])]) -> Response:
        """Where items are, without those that are nowhere."""
        return JSONResponse({"places": await asyncio.to_thread(lambda: people().places(item_id))})


def add_page(app: FastAPI) -> None:
    """Add the page and its files; all but plotly's script, which has four megabytes, are in memory."""
    plotly = plotly_file()
    told = {one.name: one.read_bytes() for one in files("corsar.serve").joinpath("static").iterdir() if one.is_file()}
    page = told.pop("index.html").replace(b'data-charts=""', b'data-charts="%s"' % (b"yes" if plotly else b"no"))
    if plotly is not None:  # its map library would add a style that the policy forbids, but for an element of that id
        ids = set(re.findall(rb'getElementById\("([0-9a-f]{64})"\)', plotly.read_bytes()))
        page = page.replace(b"</head>", b"".join(b'<meta name="plotly" id="%s">' % one for one in sorted(ids)) + b"</head>")

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return _file(request, page, "html")

    @app.get(STATIC + "{name}", include_in_schema=False)
    async def static(request: Request, name: str) -> Response:
        if name == PLOTLY and plotly is not None:
            return FileResponse(plotly, media_type=KINDS["js"], headers=HEADERS)
        if name not in told:
            raise HTTPException(404)
        return _file(request, told[name], name.rpartition(".")[2])


def _file(request: Request, content: bytes, suffix: str) -> Response:
    headers: dict[str, Any] = HEADERS | {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=KINDS.get(suffix, "application/octet-stream"), headers=headers)


def plotly_file() -> File | None:
    """Where the installed plotly keeps its script; None where it is not installed."""
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        return None
    script = File(found.origin).parent / "package_data" / PLOTLY
    return script if script.is_file() else None
