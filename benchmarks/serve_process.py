"""Services as processes of their own: ours and the peer, and what the system says of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple, TypeAlias

from benchmarks.protocol import ROOT, environment, memory_mb_in

HOST = "127.0.0.1"

Command: TypeAlias = Callable[[int], list[str]]
"""Of a service that is to listen on this port."""

_POLL_SECONDS = 0.005
_START_SECONDS = 120.0
_STOP_SECONDS = 40.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Service(NamedTuple):
    """A service that runs."""

    port: int
    pid: int
    started_in: float
    """Seconds from the start of the process until it said that it was ready."""

    def cpu_seconds(self) -> float:
        """What all threads of the process have computed so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mb(self) -> float:
        """The memory that the process has now."""
        return memory_mb_in(Path(f"/proc/{self.pid}/status").read_text("ascii"), "VmRSS")


def ours(model: str) -> Command:
    """`listening-clf serve` with one worker, as it is without further options."""
    return partial(_ours, model)


def _ours(model: str, port: int) -> list[str]:
    return [sys.executable, "-m", "listening_clf", "serve", "--model", model, "--port", str(port)]


def peer(port: int) -> list[str]:
    """FastAPI around `transformers.pipeline`: see serve_peer.py."""
    return [sys.executable, "-m", "benchmarks.serve_peer", str(port)]


@contextmanager
def running(command: Command) -> Iterator[Service]:
    """Start a service on a free port, wait until it is ready, and stop it in the end.

    It looks nothing up on a hub, and takes as many threads as it would by itself. The modules of a clone are compiled
    once, as installed ones are.

    Raises:
        SystemExit: it ended, or was not ready in time.
    """
    compiling = environment()
    compiling.pop("PYTHONDONTWRITEBYTECODE", None)
    port = _free_port()
    begin = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
        subprocess.Popen(command(port), stdout=output, stderr=output, cwd=ROOT, env=compiling) as process,
    ):
        try:
            while not _is_ready(port):
                if process.poll() is not None or time.perf_counter() - begin > _START_SECONDS:
                    output.seek(0)
                    raise SystemExit(f"{process.args!r} is not ready:\n{output.read()[-2000:]}")
                time.sleep(_POLL_SECONDS)
            yield Service(port, process.pid, time.perf_counter() - begin)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def cold_starts(commands: Mapping[str, Command], runs: int) -> dict[str, list[float]]:
    """The seconds from each service's start until it is ready, all in turn, after a first time that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, command in commands.items():
            with running(command) as service:
                if number:
                    seconds[name].append(service.started_in)
    return seconds


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def _is_ready(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=_START_SECONDS)
    with suppress(OSError, HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False
