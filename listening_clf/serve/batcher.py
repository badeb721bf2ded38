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

from listening_clf.batching import TOKENS_PER_BATCH
from listening_clf.classifier import ListeningClassifier
from listening_clf.conversation import Prediction, TurnInContext
from listening_clf.runtime import CORES, TOKENS_PER_GPU_BATCH
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import ProblemError
from listening_clf.serve.settings import QUEUED_TURNS

BATCHES_AT_ONCE = 2
"""How many batches of tokens a run takes from the queue: few, so that a live turn, which goes first, waits not long."""

_CONTEXT_CHARACTERS = 400
"""How much of what came before a turn is counted: about what a model reads of it."""

_CHARACTERS_PER_TOKEN = 4

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

    What waits is run in the order in which it came, live turns before all others. Each core has runs of its own, and
    never waits for another one; a run has turns of any requests, of which those of one length are computed together.

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
        on_gpu = classifier.device == "cuda"
        self._tokens_at_once = BATCHES_AT_ONCE * (TOKENS_PER_GPU_BATCH if on_gpu else TOKENS_PER_BATCH)
        self._cores = 1 if on_gpu else CORES
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix="predict")

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
        """Begin a run on each core, and one more, so that no core has to wait for the next."""
        while self._running <= self._cores and (pieces := self._take()):
            self._running += 1
            loop = asyncio.get_running_loop()
            begun = perf_counter()
            turns = [turn for job, indices in pieces for turn in job.turns[indices]]
            future = loop.run_in_executor(self._pool, self._classifier.predict_on_one_core, turns)
            future.add_done_callback(partial(self._finish, pieces=pieces, begun=begun))
        self._metrics.waiting.set(self._waiting)

    def _take(self) -> list[tuple[_Job, slice]]:
        """The turns of the next run: parts of jobs."""
        room = self._tokens_at_once
        pieces = []
        for jobs in (self._live_jobs, self._jobs):
            while jobs and room > 0:
                job = jobs[0]
                first = job.taken
                while room > 0 and job.taken < len(job.turns):
                    room -= _about_tokens(job.turns[job.taken])
                    job.taken += 1
                pieces.append((job, slice(first, job.taken)))
                self._waiting -= job.taken - first
                if job.taken == len(job.turns):
                    jobs.popleft()
        return pieces

    def _finish(self, run: asyncio.Future[list[Prediction]], pieces: list[tuple[_Job, slice]], begun: float) -> None:
        self._running -= 1
        self._start_runs()
        n = sum(indices.stop - indices.start for _, indices in pieces)
        seconds = perf_counter() - begun
        self._seconds_a_turn += 0.1 * (seconds / n / (self._cores + 1) - self._seconds_a_turn)
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


def _about_tokens(turn: TurnInContext) -> int:
    """How many tokens a model will read of a turn and those before it, roughly."""
    turns, index = turn
    context = 0
    for earlier in range(index - 1, -1, -1):
        context += len(turns[earlier].text)
        if context >= _CONTEXT_CHARACTERS:
            break
    return 1 + (len(turns[index].text) + min(context, _CONTEXT_CHARACTERS)) // _CHARACTERS_PER_TOKEN
