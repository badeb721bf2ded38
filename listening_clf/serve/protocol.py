"""HTTP/1.1 as uvicorn speaks it, with an end to what a client may keep it waiting for."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from listening_clf.serve.settings import BODY_SECONDS, HEAD_BYTES


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
