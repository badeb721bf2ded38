"""HTTP as all routes have it: strict JSON in, JSON out, keys, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from http import HTTPStatus
from time import perf_counter
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json, to_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from listening_clf.serve.keys import Keys
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import Problem, ProblemError, answer_to, log_failure
from listening_clf.serve.registry import Registry
from listening_clf.serve.settings import BODY_BYTES, BODY_SECONDS, HELD_BYTES

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description, "content": {"application/problem+json": {}}}
    for status, description in {
        400: "The body is no JSON.",
        401: "The API key is missing or wrong.",
        404: "No such model.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        422: "Something in the body is wrong: `errors` says what and where.",
        503: "Too many turns wait: Retry-After says when to try again.",
    }.items()
}
"""The errors that any route which predicts may answer with, for the documentation."""


T = TypeVar("T")

_ASK_FOR_KEY = {"WWW-Authenticate": "Bearer"}
_HANG_UP = {"Connection": "close"}

HUNG_UP = 499
"""The status under which requests are counted that nobody waited to be answered; as of nginx, since HTTP has none."""


class Json(Response):
    """An answer in JSON."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200) -> None:
        super().__init__(content, status_code)

    def render(self, content: Any) -> bytes:
        """The content as JSON."""
        return to_json(content)


def parse_json(body: bytes | str) -> Any:
    """Read JSON as RFC 8259 has it: UTF-8, no NaN, no lone surrogates, nested no deeper than sense.

    Raises:
        ProblemError: 400, it is none.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError(400, f"the body is no JSON: {error}") from None


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse_json(await self.body())


class StrictRoute(APIRoute):
    """A route whose bodies are read by `parse_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with another reader of JSON."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


def keys_of(connection: HTTPConnection) -> Keys:
    """The keys that are let in."""
    return cast(Keys, connection.app.state.settings.keys)


def metrics_of(connection: HTTPConnection) -> Metrics:
    """Where this process counts."""
    return cast(Metrics, connection.app.state.metrics)


async def registry_of(request: Request) -> Registry:
    """The models. (A dependency that is no coroutine is called in a thread, which takes longer than all the rest.)"""
    return cast(Registry, request.app.state.registry)


Models = Annotated[Registry, Depends(registry_of)]

OPEN = frozenset(
    {"/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"}
)
"""What can be got without a key."""

_OPEN_FOLDERS = ("/page/", "/docs-files/")


def bearer_of(headers: Headers) -> str | None:
    """The key that stands in a request's head (RFC 6750)."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key else None


async def with_admin_key(request: Request) -> None:
    """Let in whoever has an admin key."""
    key = bearer_of(request.headers)
    if not keys_of(request).is_admin(key):
        raise ProblemError(
            401 if key is None else 403,
            "this needs an admin key, in the header 'Authorization: Bearer KEY' (listening-clf serve --admin-key-file)",
            _ASK_FOR_KEY,
        )


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that takes long, unless whoever asked for it hangs up: then it is cancelled."""
    working = asyncio.ensure_future(work)
    hanging_up = asyncio.ensure_future(request.receive())  # the body has been read: nothing else can come
    try:
        await asyncio.wait((working, hanging_up), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        hanging_up.cancel()


def _asks_for_predictions(scope: Scope) -> bool:
    return scope["method"] == "POST" and not scope["path"].startswith("/v1/models/")


class Guarded:
    """The outermost layer: lets in who has a key, counts requests, and cuts off bodies that are too large or too slow.

    Args:
        app: the service.
        metrics: where requests are counted.
        keys: of those who are let in.
        turned_away: what is answered to requests for predictions as long as there is no room for any, before their
            bodies are read; None where there is.
        hosts: the names that the service may be called by; any, where there are none. A page of another site can make
            a browser call this machine by a name of its own (DNS rebinding), but not by these.
        body_bytes: the largest body.
        body_seconds: the longest time in which it may arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        keys: Keys,
        turned_away: Callable[[], ProblemError | None] = lambda: None,
        hosts: Collection[str] = (),
        body_bytes: int = BODY_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = keys
        self._turned_away = turned_away
        self._hosts = hosts
        self._body_bytes = body_bytes
        self._body_seconds = body_seconds
        self._held_bytes = 0
        """Of the bodies of all requests that are not answered yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan" or (scope["type"] == "websocket" and self._is_for_us(Headers(scope=scope))):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
            return
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begun = perf_counter()
        try:
            self._let_in(scope)
            await self._with_body(scope, receive, send_and_note)
        except ClientDisconnect:
            status = HUNG_UP
        except Exception as error:
            answered = bool(status)
            if not answered:
                await answer_to(error, scope["path"])(scope, receive, send_and_note)
            if answered or status == HTTPStatus.INTERNAL_SERVER_ERROR:
                log_failure(error)
        finally:
            route = getattr(scope.get("route"), "path", "")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(perf_counter() - begun)

    def _let_in(self, scope: Scope) -> None:
        """Let in whoever may come.

        Raises:
            ProblemError: the request is not for us, has no key, or there is no room for it.
        """
        headers = Headers(scope=scope)
        if not self._is_for_us(headers):
            raise ProblemError(421, f"this service is called {' or '.join(self._hosts)}: see --host")
        if not self._has_key(scope, headers):
            raise ProblemError(401, "this needs an API key, in the header 'Authorization: Bearer KEY'", _ASK_FOR_KEY)
        if _asks_for_predictions(scope) and (full := self._turned_away()):
            raise full

    def _is_for_us(self, headers: Headers) -> bool:
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return not self._hosts or name.lower() in self._hosts

    def _has_key(self, scope: Scope, headers: Headers) -> bool:
        path = scope["path"]
        if scope["method"] in ("GET", "HEAD") and (path in OPEN or path.startswith(_OPEN_FOLDERS)):
            return True
        return self._keys.owner(bearer_of(headers)) is not None

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a request answered whose body stays within the limits."""
        deadline = asyncio.get_running_loop().time() + self._body_seconds
        size, complete = 0, False

        async def receive_in_limits() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(408, f"the body did not arrive within {self._body_seconds:g} s", _HANG_UP) from None
            new = len(message.get("body", b""))
            size += new
            self._held_bytes += new
            complete = not message.get("more_body", False)
            if size > self._body_bytes:
                raise ProblemError(
                    413, f"the body has more than {self._body_bytes:,} bytes: send less at once", _HANG_UP
                )
            if self._held_bytes > HELD_BYTES:
                raise ProblemError(503, "too much is being sent: try again in 1 s", {"Retry-After": "1", **_HANG_UP})
            return message

        try:
            await self._app(scope, receive_in_limits, send)
        finally:
            self._held_bytes -= size
