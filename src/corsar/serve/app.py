"""The HTTP face of a service: an app is a value, made of explicit arguments."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from corsar.api.answers import Question
from corsar.errors import ArtifactError, CorsarError, OutputError
from corsar.serve import messages
from corsar.serve.batcher import Overloaded
from corsar.serve.guard import Guard, no_room
from corsar.serve.messages import EventsBody, Fault, PlaceBody, RecommendBody, SearchBody
from corsar.serve.metrics import Metrics
from corsar.serve.pages import add_page, add_people
from corsar.serve.service import Service
from corsar.serve.store import LiveEvent

FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": told}
    for status, told in {
        400: "The body is no JSON.",
        401: "The key is missing or wrong.",
        413: "The body is too large.",
        422: "The request is not what it should be.",
        503: "There is no room now; Retry-After says when to come back.",
    }.items()
}
ASKED = ("/v1/recommend", "/v1/search", "/v1/next-place")  # what the model answers
NO_ITEM: dict[int | str, dict[str, Any]] = {404: {"model": Fault, "description": "The catalogue does not know the item."}}
ItemId = Annotated[str, Path(min_length=1, max_length=messages.TEXT)]
Most = Annotated[int, Query(ge=1, le=messages.K)]


def create_app(service: Service, *, key: str | None = None, hosts: Collection[str] | None = None) -> FastAPI:
    """The app of a service, which it closes at its end.

    Args:
        key: What a client must send as `Authorization: Bearer KEY`; None lets everybody in.
        hosts: Names that it answers to; None for all.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="corsar",
        version=importlib.metadata.version("corsar"),
        description="One model answers the feed, the search box and the map.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses=FAULTS,
    )
    metrics = Metrics(service)
    full_s = dict.fromkeys(ASKED, service.questions.full_s)
    app.add_middleware(Guard, key=key, hosts=hosts, saw=metrics.saw, full_s=full_s)
    app.state.service = service
    _refuse_in_a_sentence(app)
    _questions(app, service)
    _catalogue(app, service)
    _operations(app, service, metrics)
    add_people(app, service)
    add_page(app)
    return app


def _questions(app: FastAPI, service: Service) -> None:
    @app.post("/v1/recommend", response_model=messages.Found, response_model_exclude_none=True)
    async def recommend(body: RecommendBody) -> Response:
        """The best items for a user."""
        return JSONResponse(await service.ask(_question("recommend", body)))

    @app.post("/v1/search", response_model=messages.Found, response_model_exclude_none=True)
    async def search(body: SearchBody) -> Response:
        """The best items for a query of a user."""
        return JSONResponse(await service.ask(_question("search", body, query=body.query, mix=body.mix)))

    @app.post("/v1/next-place", response_model=messages.Found)
    async def next_place(body: PlaceBody) -> Response:
        """The likeliest next places of a person."""
        return JSONResponse(await service.ask(_question("next_place", body, at=body.at)))

    @app.post("/v1/events", response_model=messages.Stored)
    async def events(body: EventsBody) -> Response:
        """Take events of live users; they are on the disk, and known to the next question, when this is answered."""
        now = time.time_ns() // 1_000_000
        told = [event.model_dump() for event in body.events]
        added = await service.add([LiveEvent(**event | {"time_ms": _or(event["time_ms"], now)}) for event in told])
        return JSONResponse(added._asdict())


def _question(task: Any, body: RecommendBody | PlaceBody, **more: Any) -> Question:
    history = None if body.history is None else [event.model_dump() for event in body.history]
    if isinstance(body, RecommendBody):
        more |= {"without": tuple(body.without), "explain": body.explain}
    return Question(
        task, body.user_id, history=history, k=body.k, exclude_seen=body.exclude_seen,
        allow=body.allow, exclude=body.exclude or None, **more,
    )  # fmt: skip


def _or(told: int | None, otherwise: int) -> int:
    return otherwise if told is None else told


def _catalogue(app: FastAPI, service: Service) -> None:
    @app.get("/v1/items/{item_id}/similar", response_model=messages.Found, responses=NO_ITEM)
    async def similar(item_id: ItemId, k: Most = 10) -> Response:
        """The items most like this one."""
        return _known(await asyncio.to_thread(service.engine.similar, item_id, k), item_id)

    @app.get("/v1/items/{item_id}/queries", response_model=messages.Queries, responses=NO_ITEM)
    async def queries_after(item_id: ItemId, k: Most = 10) -> Response:
        """What people searched for right after an event on this item."""
        found = service.engine.queries_after(item_id, k)
        return _known(None if found is None else {"queries": found}, item_id)

    @app.get("/v1/queries", response_model=messages.Queries)
    async def complete(
        prefix: Annotated[str, Query(max_length=messages.QUERY, examples=["re"])] = "", k: Most = 10
    ) -> Response:
        """The most frequent queries that begin so."""
        return JSONResponse({"queries": service.engine.complete(prefix, k)})


def _known(told: dict[str, Any] | None, item_id: str) -> Response:
    if told is None:
        raise HTTPException(404, f"the catalogue does not know the item {item_id!r}; check its id")
    return JSONResponse(told)


def _operations(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether it answers questions."""
        await asyncio.to_thread(service.store.count)
        return {"status": "ok"}

    @app.get("/version")
    async def version() -> dict[str, Any]:
        """What is served: versions and fingerprints."""
        engine = service.engine
        return {"corsar": app.version, "fingerprint": engine.fingerprint, "models": engine.about()}

    @app.get("/metrics", response_class=Response)
    async def told_metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post("/v1/reload", responses={409: {"model": Fault, "description": "It is refused; the old model goes on."}})
    async def reload() -> Response:
        """Open the runs anew and serve them; a run that is damaged is refused, and the old model goes on."""
        try:
            engine = await asyncio.to_thread(service.reload)
        except CorsarError as error:
            return JSONResponse({"error": f"the old model goes on: {error}"}, 409)
        return JSONResponse({"fingerprint": engine.fingerprint})


def _refuse_in_a_sentence(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"error": _sentence(error)}, 422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = {404: "there is nothing here", 405: f"{request.method} is not answered here", 400: "the body is no JSON"}
        own = error.detail if error.status_code == 404 and error.detail != "Not Found" else None
        sentence = own or f"{told.get(error.status_code, error.detail)}; see /openapi.json"
        return JSONResponse({"error": _clean(sentence)}, error.status_code, error.headers)

    @app.exception_handler(CorsarError)
    async def wrong(request: Request, error: Exception) -> Response:
        ours = isinstance(error, OutputError | ArtifactError)  # the disk or the artifact is at fault, not the request
        headers = {"Retry-After": "1"} if ours else None
        return JSONResponse({"error": _clean(str(error))}, 503 if ours else 422, headers)

    @app.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Exception) -> Response:
        assert isinstance(error, Overloaded)
        return no_room(error.retry_s)


def _sentence(error: RequestValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return "the body is no JSON; see /openapi.json"
    if first["type"] == "extra_forbidden":
        return _clean(f"{where} is not known here; see /openapi.json")
    return _clean(f"{where}: {message[0].lower()}{message[1:]}; see /openapi.json")


def _clean(sentence: str) -> str:
    """The sentence in one line, short, and as text that can be written."""
    return " ".join(sentence[:500].encode("utf-8", "replace").decode().split())
