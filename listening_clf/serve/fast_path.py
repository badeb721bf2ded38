"""The shortest way for the most frequent request: FastAPI's own takes as long as all else around a small model."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from listening_clf.serve.http import parse_json
from listening_clf.serve.routes import v1
from listening_clf.serve.schemas import PredictRequest

_ROUTE = next(it for it in v1.router.routes if isinstance(it, APIRoute) and it.endpoint is v1.predict)
"""The route as FastAPI has it: it is in the documentation, and answers what is not said to be JSON."""

_REQUEST: TypeAdapter[PredictRequest] = TypeAdapter(PredictRequest)


class FastPath:
    """Answers `POST /v1/predict` without FastAPI's routing and dependencies, as it would with them.

    Args:
        app: the service, which answers all else.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises:
            RequestValidationError: the body does not validate.
            ProblemError: another reason for which there is no answer.
        """
        if not _is_prediction(scope):
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        request = Request(scope, receive)
        content = await request.body()
        try:
            body = _REQUEST.validate_python(parse_json(content) if content else None, from_attributes=True)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from None
        answer = await v1.predict(request, body, self._app.state.registry)
        await answer(scope, receive, send)


def _is_prediction(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != _ROUTE.path:
        return False
    return Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() == "application/json"
