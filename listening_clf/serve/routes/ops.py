"""What watches over the service, its documentation, and the page to try it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from listening_clf.serve.http import Json, metrics_of
from listening_clf.serve.problems import ProblemError

router = APIRouter()

_PAGE = Path(__file__).parent.parent / "page"
_SWAGGER = Path(fastapi_offline.__file__).parent / "static"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_POLICY = PAGE_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")


class _Fresh(StaticFiles):
    """Files that a browser asks for anew whenever it may have older ones: a page's files belong together."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or that the browser has it."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def static_files() -> list[Mount]:
    """The files of the page, and those of the documentation, none of which come from another host."""
    return [
        Mount("/page", _Fresh(directory=_PAGE)),
        Mount("/docs-files", _Fresh(directory=_SWAGGER)),
    ]


@router.get("/healthz", summary="Whether the process runs", tags=["operations"])
async def healthz() -> Json:
    """It does if it answers: else it is to be restarted."""
    return Json({"status": "ok"})


@router.get(
    "/readyz",
    summary="Whether requests can be sent",
    tags=["operations"],
    responses={503: {"description": "It is starting or stopping."}},
)
async def readyz(request: Request) -> Json:
    """They can when the models are loaded, until the service is told to stop."""
    if not request.app.state.ready:
        raise ProblemError(503, "the service is starting or stopping", {"Retry-After": "1"})
    return Json({"status": "ready"})


@router.get("/metrics", summary="Figures for Prometheus", tags=["operations"], response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Requests, turns, labels, times: never what was said."""
    return Response(metrics_of(request).exposed(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page to try it."""
    html = (_PAGE / "index.html").read_bytes()
    return Response(html, headers={"Content-Security-Policy": PAGE_POLICY}, media_type="text/html; charset=utf-8")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The documentation of the API."""
    root = request.scope.get("root_path", "")
    answer = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="listening_clf",
        swagger_js_url=f"{root}/docs-files/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/docs-files/swagger-ui.css",
        swagger_favicon_url=f"{root}/page/icon.svg",
    )
    scripts = re.findall(rb"<script>(.*?)</script>", bytes(answer.body), re.DOTALL)
    hashes = " ".join(f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for script in scripts)
    policy = _DOCS_POLICY.replace("script-src 'self'", f"script-src 'self' {hashes}")
    answer.headers["Content-Security-Policy"] = policy
    return answer
