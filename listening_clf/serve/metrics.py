"""What is counted for Prometheus: how much and how long, never what was said."""

from __future__ import annotations

import os
from collections import Counter as Counted
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from listening_clf.conversation import Prediction

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where workers put their figures, so that each can tell those of all; read when prometheus_client is imported."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TURNS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The figures of this process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("listening_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.seconds = Histogram(
            "listening_request_seconds", "Time to answer a request.", ("route",), buckets=_SECONDS, registry=registry
        )
        self.turns = Counter("listening_turns", "Agent turns judged.", ("model",), registry=registry)
        self.labels = Counter("listening_labels", "Labels given.", ("model", "label"), registry=registry)
        self.run_turns = Histogram(
            "listening_run_turns", "Agent turns that ran together.", buckets=_TURNS, registry=registry
        )
        self.waiting = Gauge(
            "listening_waiting_turns", "Agent turns that wait.", registry=registry, multiprocess_mode="livesum"
        )
        self.turned_away = Counter("listening_turned_away", "Requests refused as too many wait.", registry=registry)
        self.live = Gauge(
            "listening_live_connections", "Live calls connected.", registry=registry, multiprocess_mode="livesum"
        )
        self.live_seconds = Histogram(
            "listening_live_seconds", "From a live turn to its labels.", buckets=_SECONDS, registry=registry
        )

    def count(self, model: str, predictions: Sequence[Prediction]) -> None:
        """Count judged turns, and the labels given."""
        self.turns.labels(model).inc(len(predictions))
        given = Counted(label for prediction in predictions for label in prediction.labels)
        for label, count in given.items():
            self.labels.labels(model, label).inc(count)

    def exposed(self) -> bytes:
        """All figures in Prometheus's text format, those of the other workers included."""
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        for file in Path(os.environ[SHARED]).glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            if not _is_running(pid):  # what it had open it has no more
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
