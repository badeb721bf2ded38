"""The service as its users have it: a process of its own on a free port of loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import httpx2

HOST = "127.0.0.1"
START_SECONDS = 60.0


@dataclass(frozen=True)
class Service:
    """A service that runs."""

    port: int
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def live_url(self) -> str:
        return f"ws://{HOST}:{self.port}/v1/live"

    @property
    def log(self) -> str:
        """What it has printed so far."""
        self.output.seek(0)
        return self.output.read().decode()

    def client(self, key: str | None = None, **options: Any) -> httpx2.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30, **options)

    def stop(self) -> int:
        """Ask it to stop, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


@contextmanager
def running_service(*options: str, environment: Mapping[str, str] | None = None) -> Iterator[Service]:
    """A service that is ready for requests, started with these options of `listening-clf serve`."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "listening_clf", "serve", "--port", str(port), *options]
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}, start_new_session=True
        ) as process,
    ):
        service = Service(port, process, output)
        try:
            _wait_until_ready(service)
            yield service
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(service: Service) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and service.process.poll() is None:
        try:
            if httpx2.get(f"{service.url}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.02)
    raise RuntimeError(f"the service is not ready:\n{service.log}")
