"""The service as an ASGI application: what its routes share, put together."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from listening_clf import __version__
from listening_clf.classifier import ListeningClassifier
from listening_clf.serve.calls import Calls
from listening_clf.serve.fast_path import FastPath
from listening_clf.serve.http import OPEN, Guarded
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import MEDIA_TYPE, add_problem_handlers
from listening_clf.serve.registry import Registry
from listening_clf.serve.routes import live, oip, ops, pipeline, v1
from listening_clf.serve.settings import Settings

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")

_DESCRIPTION = """
Was the agent listening? Which of the listening labels each agent turn of a service conversation carries.

`WS /v1/live` takes the turns of a call as they come; OpenAPI has no words for it: see docs/serve.md.
"""


def create_app(settings: Settings, shared: Path, loaded: Mapping[str, ListeningClassifier] | None = None) -> ASGIApp:
    """The application of one worker.

    Args:
        settings: what the service is started with.
        shared: the folder that the workers share, in which the models to serve are written down.
        loaded: models that this process has loaded already, by their names there.
    """
    metrics = Metrics()
    logging.getLogger("uvicorn.error").addFilter(_without_trace_of_a_client)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.registry = registry = Registry(shared, metrics, loaded)
        app.state.calls = calls = Calls(shared)
        for entry in registry.entries():
            await registry.get(entry.name)
        gc.freeze()  # what is loaded stays: no collection need go through it again
        app.state.ready = True
        yield
        app.state.ready = False
        calls.close()
        registry.close()

    app = FastAPI(
        title="listening_clf",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.ready = False
    app.state.live_connections = 0
    for routes in (v1, live, pipeline, oip, ops):
        app.include_router(routes.router)
    app.router.routes.extend(ops.static_files())
    add_problem_handlers(app)
    describe = app.openapi
    app.openapi = lambda: _completed(describe())  # type: ignore[method-assign]
    return Guarded(
        FastPath(app),
        metrics,
        settings.keys,
        turned_away=lambda: app.state.registry.turned_away(),
        hosts={*LOCAL_NAMES, settings.host} if settings.is_local else (),
    )


def _without_trace_of_a_client(record: logging.LogRecord) -> bool:
    """Say in one line that a client has sent what is no UTF-8: nothing went wrong here."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.exc_info = None
    return True


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document, with what FastAPI does not know: the media type of errors, and what needs a key."""
    about = "An API key, where the service asks for one."
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": about}}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                schema["components"]["schemas"] |= body["schema"].pop("$defs", {})
            if path not in OPEN or method != "get":
                operation["security"] = [{"key": []}]
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if int(status) >= 400 and "application/json" in content:
                    content[MEDIA_TYPE] = content.pop("application/json")
    return schema
