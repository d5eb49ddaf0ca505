"""What stands before the routes: host, key, size and time of a body; and what counts every request."""

from __future__ import annotations

import asyncio
import hmac
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
BODY_BYTES = 1 << 20
BODY_S = 10.0
OPEN = ("/healthz", "/readyz", "/openapi.json", "/")  # what a probe, or a page that asks for the key, may read without it
OPEN_BELOW = "/static/"


class Refused(Exception):
    """The request goes no further."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def no_room(retry_s: float) -> JSONResponse:
    """The answer to what there is no room for."""
    wait_s = max(1, math.ceil(retry_s))
    return JSONResponse({"error": f"there is no room now; come back in {wait_s} s"}, 503, {"Retry-After": str(wait_s)})


class Guard:
    """Refuses what is too large, too slow, or not allowed; everything else has its whole body in memory."""

    def __init__(
        self,
        app: App,
        *,
        key: str | None,
        hosts: Collection[str] | None,
        saw: Callable[[str, int, float], None],
        full_s: Mapping[str, Callable[[], float | None]] = MappingProxyType({}),
        body_bytes: int = BODY_BYTES,
        body_s: float = BODY_S,
    ) -> None:
        """Stand before an app.

        Args:
            full_s: of paths that there may be no room for: the seconds until there is some, None where there is room now.
        """
        self._app, self._saw, self._full_s = app, saw, full_s
        self._key = None if key is None else f"bearer {key}".encode()
        self._hosts, self._bytes, self._s = hosts, body_bytes, body_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, path = time.perf_counter(), 500, scope["path"]

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._admit(path, headers)
            body = await self._body(headers, receive)
            retry_s = self._full_s[path]() if path in self._full_s else None
            if retry_s is None:
                await self._app(scope, _replay(body, receive), counted)
            else:  # before the body is parsed, so that those who are refused take little from those who are served
                await no_room(retry_s)(scope, receive, counted)
        except Refused as refusal:
            headers_out = {"Connection": "close"} | ({"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {})
            answer = JSONResponse({"error": str(refusal)}, refusal.status, headers_out)
            await answer(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", None)
            self._saw(route or (path if path in self._full_s else "other"), status, time.perf_counter() - start)

    def _admit(self, path: str, headers: Headers) -> None:
        host = re.sub(r":[0-9]*$", "", headers.get("host", "")).strip("[]").lower()
        if self._hosts is not None and host not in self._hosts:
            raise Refused(421, f"this service does not answer to the host {host[:64]!r}; name it with --allow-host")
        if self._key is None or path in OPEN or path.startswith(OPEN_BELOW):
            return
        scheme, _, told = headers.get("authorization", "").partition(" ")
        if not hmac.compare_digest(f"{scheme.lower()} {told.strip()}".encode(), self._key):
            raise Refused(401, "the key is missing or wrong; send it as Authorization: Bearer KEY")

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        too_large = Refused(413, f"the body is larger than {self._bytes} bytes; send less at once")
        if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")[:20]) > self._bytes:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the body ended too early; send all of it")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._bytes:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(408, f"the body took longer than {self._s:g} s; send it faster") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def once() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
