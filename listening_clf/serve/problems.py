"""The one shape of errors: problem details (RFC 9457), without a word of what was said in a call in any log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails, to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from listening_clf.errors import ListeningError

MEDIA_TYPE = "application/problem+json"

MOST_FLAWS = 50
"""How much that is wrong with a request is told."""

logger = logging.getLogger(__name__)


class Flaw(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="Where, as a JSON pointer into the body (RFC 6901).", examples=["#/turns/0/text"])
    detail: str = Field(description="What.", examples=["String should have at least 1 character"])


class Problem(BaseModel):
    """Why a request failed (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(description="What is wrong, and what would be right.")
    errors: list[Flaw] | None = Field(None, description="All that is wrong with the body.")


class ProblemError(HTTPException):
    """A request that cannot be answered.

    Args:
        status: the HTTP status.
        detail: what is wrong, and what would be right.
        headers: to send with it.
        extra: what else a program may want to know: further members of the problem.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.extra = extra

    def to_dict(self) -> dict[str, Any]:
        """The problem as a JSON object."""
        return problem(self.status_code, self.detail, **self.extra)


def problem(status: int, detail: str, **extra: Any) -> dict[str, Any]:
    """Problem details as a JSON object."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **extra}


def flaws(errors: Sequence[ErrorDetails | Any], roots: Sequence[str]) -> list[dict[str, str]]:
    """What pydantic finds wrong, without what was sent.

    Args:
        errors: as it lists them.
        roots: what it calls the whole.
    """
    return [{"pointer": _pointer(error["loc"], roots), "detail": error["msg"]} for error in errors[:MOST_FLAWS]]


def invalid(errors: Sequence[ErrorDetails | Any], roots: Sequence[str]) -> dict[str, Any]:
    """The problem with what does not validate: see `flaws`."""
    found = flaws(errors, roots)
    return problem(422, _sentence(found), errors=found)


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the app in the one shape."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer_to(error, request.url.path)

    for kind in (RequestValidationError, HTTPException, ListeningError, Exception):
        app.add_exception_handler(kind, handle)


def answer_to(error: Exception, path: str) -> Response:
    """What is answered to a request for that path which ended in an error."""
    headers: Mapping[str, str] | None = None
    if isinstance(error, RequestValidationError):
        data = invalid(error.errors(), ("body",))
    elif isinstance(error, HTTPException):
        data = error.to_dict() if isinstance(error, ProblemError) else problem(error.status_code, error.detail)
        headers = error.headers
    elif isinstance(error, ListeningError):
        data = problem(422, str(error))
    else:
        data = problem(500, "something went wrong here; the service's log says where")
    if path.startswith("/v2"):
        data["error"] = data["detail"]  # where the Open Inference Protocol's clients look for it
    return Response(to_json(data), data["status"], headers, MEDIA_TYPE)


def log_failure(error: Exception) -> None:
    """Log where something went wrong that should not, but not its message, which may quote a call."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s\n%s", type(error).__name__, where)


def _sentence(found: Sequence[Mapping[str, str]]) -> str:
    first, *others = found
    more = f" (and {len(others)} more)" if others else ""
    return f"{first['pointer']}: {first['detail']}{more}"


def _pointer(loc: Sequence[str | int], roots: Sequence[str]) -> str:
    """The place as a JSON pointer. What is in angle brackets names a kind of input, not a place in it."""
    parts = [str(part) for part in (loc[1:] if loc and loc[0] in roots else loc)]
    inside = [part.replace("~", "~0").replace("/", "~1") for part in parts if not part.startswith("<")]
    return "/".join(["#", *inside])
