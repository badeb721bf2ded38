"""The service as a process, or several: uvicorn with what it lets through."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from listening_clf.classifier import ListeningClassifier
from listening_clf.errors import ServeError
from listening_clf.serve.metrics import SHARED, Metrics
from listening_clf.serve.protocol import LimitedProtocol
from listening_clf.serve.registry import Registry, check_name, name_of
from listening_clf.serve.settings import LIVE_MESSAGE_BYTES, SHUTDOWN_SECONDS, Settings
from listening_clf.serve.shared import shared_folder


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
    from listening_clf.serve.app import create_app  # what it imports must find the environment as it will be

    return Config(
        partial(create_app, settings, folder, loaded),
        factory=True,
        workers=settings.workers,
        http=LimitedProtocol,
        proxy_headers=False,
        access_log=False,  # an address may name who spoke
        log_level="warning",
        server_header=False,
        headers=[("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")],
        ws="websockets-sansio",
        ws_max_size=LIVE_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
