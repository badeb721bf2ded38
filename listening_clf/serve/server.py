"""The service as a process, or several: uvicorn with what it lets through."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.supervisors import Multiprocess

from listening_clf.classifier import ListeningClassifier
from listening_clf.errors import ServeError
from listening_clf.serve.metrics import SHARED, Metrics
from listening_clf.serve.registry import Registry, check_name, name_of
from listening_clf.serve.settings import (
    BODY_SECONDS,
    HEAD_BYTES,
    LIVE_MESSAGE_BYTES,
    SHUTDOWN_SECONDS,
    Settings,
)
from listening_clf.serve.shared import shared_folder


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that hangs up on whoever sends a request too slowly, or its head without end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the head of the first request, for so long."""
        super().connection_made(transport)
        self._in_head, self._head_size = False, 0
        self._timer = self.loop.call_later(BODY_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Count what comes of a head, even within a header that has no end."""
        super().data_received(data)
        if self._in_head:
            self._count(data)
        elif self._timer.cancelled() and self.cycle is not None and self.cycle.response_complete:
            self._wait(BODY_SECONDS)  # an empty line between requests: uvicorn has stopped its clock at it

    def on_message_begin(self) -> None:
        """Wait for the rest of the head."""
        super().on_message_begin()
        self._in_head, self._head_size = True, 0
        self._wait(BODY_SECONDS)

    def on_url(self, url: bytes) -> None:
        """Count a part of the address."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(name + value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Wait for the body: `Guarded` answers one that is too slow, this is for those that nobody reads."""
        self._in_head = False
        self._wait(2 * BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait no longer: for the next request, uvicorn does."""
        self._timer.cancel()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hang up where the head is none that the WebSocket's own protocol takes: it would say nothing."""
        self._timer.cancel()
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if isinstance(protocol, WebSocketsSansIOProtocol) and not protocol.handshake_initiated:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _count(self, part: bytes) -> None:
        self._head_size += len(part)
        if self._head_size > HEAD_BYTES:
            self.transport.abort()


def serve(settings: Settings, on_listening: Callable[[str], None] | None = None) -> None:
    """Run the service until it is told to stop.

    Args:
        settings: what to serve, where, to whom.
        on_listening: called with the service's address, once it has one and the models are loaded.

    Raises:
        ListeningError: a model that cannot be loaded, or an address that cannot be had.
    """
    names = [name_of(source) for source in settings.models]
    for name in names:
        check_name(name)
        if names.count(name) > 1:
            raise ServeError(f"two of the models would be called {name!r} by requests: rename the folder of one")
    # uvicorn stops at SIGTERM, then hands it on: to this, so that what is shared does not stay behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with shared_folder() as folder:
        loaded = _load(settings, folder)
        listening = _bind(settings)
        if on_listening:
            host, port = listening.getsockname()[:2]
            on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        if settings.workers == 1:
            Server(_config(settings, folder, loaded)).run([listening])
        else:
            loaded.clear()
            figures = folder / "metrics"
            figures.mkdir()
            os.environ[SHARED] = str(figures)
            Multiprocess(_config(settings, folder), [listening]).run()


def _load(settings: Settings, folder: Path) -> dict[str, ListeningClassifier]:
    """Load the models, so that what is wrong with one is said before anything is served, and write them down."""
    loaded = {name_of(source): ListeningClassifier.from_pretrained(source) for source in settings.models}
    registry = Registry(folder, Metrics())
    for number, (source, classifier) in enumerate(zip(settings.models, loaded.values(), strict=True)):
        registry.add(name_of(source), source, classifier, make_default=number == 0)
    registry.close()
    return loaded


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServeError(f"cannot listen on {settings.host}, port {settings.port}: {reason}") from None
    listening.set_inheritable(True)
    return listening


def _config(settings: Settings, folder: Path, loaded: dict[str, ListeningClassifier] | None = None) -> Config:
    options: dict[str, Any] = {"host": settings.host, "port": settings.port, "workers": settings.workers}
    from listening_clf.serve.app import create_app  # what it imports must find the environment as it will be

    return Config(
        partial(create_app, settings, folder, loaded),
        factory=True,
        **options,
        http=LimitedProtocol,
        access_log=False,  # an address may name who spoke
        log_level="warning",
        server_header=False,
        headers=[("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")],
        ws="websockets-sansio",
        ws_max_size=LIVE_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
