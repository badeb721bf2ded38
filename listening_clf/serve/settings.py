"""What a service is started with, and what it lets nobody exceed."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from listening_clf.serve.keys import Keys

BODY_BYTES = 8 * 2**20
"""The largest body of a request."""

HELD_BYTES = 128 * 2**20
"""The bodies of all requests that a worker has not answered yet."""

BODY_SECONDS = 20.0
"""The longest time that a body, or the head of a request, may take to arrive."""

HEAD_BYTES = 32 * 2**10
"""The largest head of a request: its line and its headers."""

REQUEST_TURNS = 4096
"""The most agent turns of one request, and the most turns of one conversation."""

QUEUED_TURNS = 1024
"""The agent turns that may wait; a request that is larger than that is let in while none wait."""

LIVE_CONNECTIONS = 1000
"""Open WebSockets of one worker."""

LIVE_MESSAGE_BYTES = 256 * 2**10
"""The largest message of a live call: a turn of 20,000 characters, however they are escaped."""

LIVE_TURNS = 2000
"""The most turns of one live call."""

LIVE_CHARS = 1_000_000
"""The most characters of one live call, in all of its turns."""

LIVE_CALLS = 5000
"""Calls that are remembered, with all workers together."""

LIVE_SECONDS = 15 * 60.0
"""How long a call is remembered in which nothing happens."""

LOADED_MODELS = 4
"""Models that are held at once."""

SHUTDOWN_SECONDS = 30
"""How long requests in flight may take to finish after SIGTERM."""


@dataclass(frozen=True)
class Settings:
    """What a service is started with."""

    models: tuple[str, ...] = ("small",)
    """Which models to load, as `from_pretrained` takes them. The first is the default one."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    keys: Keys = field(default_factory=Keys)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
