"""Clients of an HTTP service: as many connections as are asked for, all in one process that costs next to nothing.

It shares its cores with the service, so requests are bytes that are made before, and of an answer only the status
and the end are looked for.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from time import perf_counter, process_time
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from benchmarks.serve_process import HOST, Service

OK, UNAVAILABLE = 200, 503

NOT_COUNTED = 4
"""Answers a client that are not counted, before those that are: until all clients are at work."""
NOT_COUNTED_AT_LEAST = 50

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"retry-after: \d+", re.IGNORECASE)


class Answer(NamedTuple):
    """What came back."""

    status: int
    sent: float
    seconds: float
    """From sending the request to the last byte of the answer."""
    says_when: bool
    """Whether it has a Retry-After."""


class Run(NamedTuple):
    """What some clients had of a service."""

    seconds: float
    latencies_ms: list[float]
    failed: int
    """Answers other than 200, which count neither as turns nor among the latencies."""
    server_cpu_seconds: float
    client_cpu_seconds: float


def post(path: str, body: Mapping[str, Any]) -> bytes:
    """A request, as it goes over the wire."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


class Clients:
    """Clients that each keep a connection, and send the next request when the last one is answered.

    Within the context they are at work; at its end they wait for the answers that are under way.

    Args:
        service: whom they ask.
        requests: what they send; all of them from the first on again after the last.
        number: how many there are.
        pause: how long each waits after a 503.
    """

    def __init__(self, service: Service, requests: Iterable[bytes], number: int, *, pause: float = 0.0) -> None:
        self.answers: list[Answer] = []
        self._port = service.port
        self._requests = cycle(requests)
        self._number = number
        self._pause = pause
        self._in_flight = 0
        self._stopping = False
        self._connections: list[_Connection] = []
        self._loop = asyncio.get_running_loop()
        self._wanted = 0
        self._reached: asyncio.Future[None] = self._loop.create_future()
        self._idle: asyncio.Future[None] = self._loop.create_future()

    async def __aenter__(self) -> Clients:
        for _ in range(self._number):
            _, connection = await self._loop.create_connection(lambda: _Connection(self), HOST, self._port)
            self._connections.append(connection)
        for connection in self._connections:
            self.send_next(connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        if self._in_flight and error is None:
            await self._idle
        for connection in self._connections:
            connection.close()

    async def answered(self, number: int) -> None:
        """Wait until so many answers have come, in all.

        Raises:
            ConnectionError: the service hung up on a client.
        """
        self._wanted = number
        self._reached = self._loop.create_future()
        if len(self.answers) < number:
            await self._reached

    def send_next(self, connection: _Connection) -> None:
        """Have the client send its next request, if there is to be one."""
        if not self._stopping:
            self._in_flight += 1
            connection.send(next(self._requests))

    def take(self, connection: _Connection, answer: Answer) -> None:
        """Note an answer, and go on."""
        self._in_flight -= 1
        self.answers.append(answer)
        if len(self.answers) >= self._wanted and not self._reached.done():
            self._reached.set_result(None)
        if self._stopping and not self._in_flight and not self._idle.done():
            self._idle.set_result(None)
        if self._pause and answer.status == UNAVAILABLE:
            self._loop.call_later(self._pause, self.send_next, connection)
        else:
            self.send_next(connection)

    def lost(self) -> None:
        """Note that the service hung up before it answered."""
        for waiting in (self._reached, self._idle):
            if not waiting.done():
                waiting.set_exception(ConnectionError("the service hung up"))


class _Connection(asyncio.Protocol):
    """The connection of one client."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._received = b""
        self._sent = 0.0
        self._waiting = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def send(self, request: bytes) -> None:
        self._waiting = True
        self._sent = perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head)
        assert length, head
        if len(body) < int(length[1]):
            return
        self._received, self._waiting = b"", False
        status = int(head[9:12])
        says_when = status == UNAVAILABLE and _RETRY_AFTER.search(head) is not None
        self._clients.take(self, Answer(status, self._sent, perf_counter() - self._sent, says_when))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:  # else it was idle for longer than the service keeps it
            self._clients.lost()

    def close(self) -> None:
        self._waiting = False
        self._transport.close()


async def closed_loop(service: Service, requests: Sequence[bytes], clients: int, answers: int) -> Run:
    """Measure some answers, from when all clients are at work, and while they stay so."""
    async with Clients(service, requests, clients) as crowd:
        not_counted = max(NOT_COUNTED_AT_LEAST, NOT_COUNTED * clients)
        await crowd.answered(not_counted)
        first, begin, server, client = len(crowd.answers), perf_counter(), service.cpu_seconds(), process_time()
        await crowd.answered(not_counted + answers)
        counted = crowd.answers[first:]
        return Run(
            perf_counter() - begin,
            [1000 * it.seconds for it in counted if it.status == OK],
            sum(it.status != OK for it in counted),
            service.cpu_seconds() - server,
            process_time() - client,
        )


async def overload(
    service: Service, requests: Sequence[bytes], singles: Sequence[bytes], clients: int, seconds: float, pause: float
) -> dict[str, Any]:
    """Send more than the service can do, for some seconds; and single requests one by one before and right after."""
    before = await _one_by_one(service, singles)
    async with Clients(service, requests, clients, pause=pause) as crowd:
        await asyncio.sleep(seconds)
    after = await _one_by_one(service, singles)
    served = [1000 * it.seconds for it in crowd.answers if it.status == OK]
    refused = [it for it in crowd.answers if it.status == UNAVAILABLE]
    last = max(it.sent + it.seconds for it in crowd.answers)
    return {
        "served": len(served),
        "refused": len(refused),
        "others": len(crowd.answers) - len(served) - len(refused),
        "without_retry_after": sum(not it.says_when for it in refused),
        "seconds": last - min(it.sent for it in crowd.answers),
        "served_p50_ms": _percentile(served, 50),
        "served_p99_ms": _percentile(served, 99),
        "refused_p50_ms": _percentile([1000 * it.seconds for it in refused], 50),
        "refused_p99_ms": _percentile([1000 * it.seconds for it in refused], 99),
        "single_before_ms": _percentile(before, 50),
        "single_after_ms": _percentile(after, 50),
        "single_after_most_ms": max(after),
        "single_after_failed": len(singles) - len(after),
    }


async def _one_by_one(service: Service, requests: Sequence[bytes]) -> list[float]:
    """The latency of each that was answered with a 200, in milliseconds."""
    async with Clients(service, requests, 1) as client:
        await client.answered(len(requests))
    return [1000 * it.seconds for it in client.answers[: len(requests)] if it.status == OK]


def _percentile(values: Sequence[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if values else None
