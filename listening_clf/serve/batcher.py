"""Turns of requests that arrive together run together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import ceil
from time import perf_counter

from listening_clf.classifier import ListeningClassifier
from listening_clf.conversation import Prediction, TurnInContext
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import ProblemError
from listening_clf.serve.settings import QUEUED_TURNS

TURNS_AT_ONCE = 16
"""Turns that one run takes from the queue: few enough that a live turn, which goes first, need not wait long."""

RUNS = 2
"""Runs at the same time: while one waits for its last batch, the other keeps the cores busy."""

_FIRST_GUESS = 0.005
"""Seconds that a turn takes, until it is known."""


@dataclass(eq=False)
class _Job:
    """The turns of one request, some of which may be running or done already."""

    turns: Sequence[TurnInContext]
    done: asyncio.Future[None]
    predictions: list[Prediction | None] = field(init=False)
    taken: int = 0
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.predictions = [None] * len(self.turns)
        self.missing = len(self.turns)


class Batcher:
    """Judges turns with one model, for all requests of this process.

    What waits is run in the order in which it came, live turns before all others, `TURNS_AT_ONCE` of any requests
    in a run; the runtime then puts turns of one length together, up to the tokens that a core takes at once.

    Args:
        classifier: the model.
        name: what it is called in the metrics.
        metrics: where runs are counted.
        limit: the turns that may wait.
    """

    def __init__(self, classifier: ListeningClassifier, name: str, metrics: Metrics, limit: int = QUEUED_TURNS) -> None:
        self._classifier = classifier
        self._name = name
        self._metrics = metrics
        self._limit = limit
        self._jobs: deque[_Job] = deque()
        self._live_jobs: deque[_Job] = deque()
        self._waiting = 0
        self._running = 0
        self._seconds_a_turn = _FIRST_GUESS
        self._pool = ThreadPoolExecutor(RUNS, thread_name_prefix="predict")

    async def predict(self, turns: Sequence[TurnInContext], *, live: bool = False) -> list[Prediction]:
        """Judge turns, as soon as it is their turn.

        Args:
            turns: each with those before it.
            live: whether somebody waits for it while a call goes on: it goes first, and is never turned away.

        Raises:
            ProblemError: 503, too many wait already.
        """
        if not turns:
            return []
        if not live and self._waiting and self._waiting + len(turns) > self._limit:
            self._metrics.turned_away.inc()
            seconds = max(1, ceil(self._waiting * self._seconds_a_turn))
            raise ProblemError(
                503,
                f"{self._waiting:,} turns wait already, and {self._limit:,} may: try again in {seconds} s",
                {"Retry-After": str(seconds)},
            )
        job = _Job(turns, asyncio.get_running_loop().create_future())
        (self._live_jobs if live else self._jobs).append(job)
        self._waiting += len(turns)
        self._start_runs()
        try:
            await job.done
        except asyncio.CancelledError:  # the client is gone: what has not begun need not
            self._forget(job)
            raise
        predictions = [prediction for prediction in job.predictions if prediction is not None]
        self._metrics.count(self._name, predictions)
        return predictions

    def close(self) -> None:
        """Let go of the threads. What runs is finished first."""
        self._pool.shutdown(wait=False)

    def _forget(self, job: _Job) -> None:
        for jobs in (self._live_jobs, self._jobs):
            if job in jobs:
                jobs.remove(job)
                self._waiting -= len(job.turns) - job.taken
        self._metrics.waiting.set(self._waiting)

    def _start_runs(self) -> None:
        """Begin as many runs as may be, with what waits."""
        while self._running < RUNS and (pieces := self._take()):
            self._running += 1
            loop = asyncio.get_running_loop()
            begun = perf_counter()
            turns = [turn for job, indices in pieces for turn in job.turns[indices]]
            future = loop.run_in_executor(self._pool, self._run, turns)
            future.add_done_callback(partial(self._finish, pieces=pieces, begun=begun))
        self._metrics.waiting.set(self._waiting)

    def _take(self) -> list[tuple[_Job, slice]]:
        """The turns of the next run: parts of jobs."""
        room = TURNS_AT_ONCE
        pieces = []
        for jobs in (self._live_jobs, self._jobs):
            while jobs and room:
                job = jobs[0]
                n = min(room, len(job.turns) - job.taken)
                pieces.append((job, slice(job.taken, job.taken + n)))
                job.taken += n
                room -= n
                self._waiting -= n
                if job.taken == len(job.turns):
                    jobs.popleft()
        return pieces

    def _run(self, turns: Sequence[TurnInContext]) -> list[Prediction]:
        return list(self._classifier.predict_in_context(turns))

    def _finish(self, run: asyncio.Future[list[Prediction]], pieces: list[tuple[_Job, slice]], begun: float) -> None:
        self._running -= 1
        self._start_runs()
        n = sum(indices.stop - indices.start for _, indices in pieces)
        seconds = perf_counter() - begun
        self._seconds_a_turn += 0.1 * (seconds / n / RUNS - self._seconds_a_turn)
        self._metrics.run_turns.observe(n)
        error = run.exception()
        predictions = iter([] if error else run.result())
        for job, indices in pieces:
            job.predictions[indices] = islice(predictions, indices.stop - indices.start)
            job.missing -= indices.stop - indices.start
            if job.done.done():  # cancelled, or failed in an earlier run
                continue
            if error:
                self._forget(job)
                job.done.set_exception(error)
            elif not job.missing:
                job.done.set_result(None)
