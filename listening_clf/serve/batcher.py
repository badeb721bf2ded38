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
from listening_clf.conversation import Prediction, Turn, TurnInContext
from listening_clf.runtime import CORES, TOKENS_PER_GPU_BATCH
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import ProblemError
from listening_clf.serve.settings import QUEUED_TURNS

BATCHES_AT_ONCE = 8
"""How many batches of tokens a run takes from the queue: few, so that no turn waits long for those beside it."""

_CONTEXT_CHARACTERS = 400
"""How much of what came before a turn is counted: about what a model reads of it."""

_CHARACTERS_PER_TOKEN = 4

_SOMETHING: TurnInContext = (Turn("agent", "I see."),), 0

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


@dataclass(eq=False)
class _Lane:
    """Jobs that wait, and the threads that they are run in."""

    threads: int
    ahead: int
    """Runs that are begun beside those that have a thread, so that no thread has to wait for the next."""
    jobs: deque[_Job] = field(default_factory=deque)
    waiting: int = 0
    """Turns of the jobs that no run has taken yet."""
    running: int = 0

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="predict")

    @property
    def has_room(self) -> bool:
        """Whether another run may begin."""
        return self.running < self.threads + self.ahead

    def take(self, tokens: int) -> list[tuple[_Job, slice]]:
        """The turns of the next run: parts of jobs, of about so many tokens."""
        pieces = []
        while self.jobs and tokens > 0:
            job = self.jobs[0]
            first = job.taken
            while tokens > 0 and job.taken < len(job.turns):
                tokens -= _about_tokens(job.turns[job.taken])
                job.taken += 1
            pieces.append((job, slice(first, job.taken)))
            self.waiting -= job.taken - first
            if job.taken == len(job.turns):
                self.jobs.popleft()
        return pieces

    def forget(self, job: _Job) -> None:
        """Run no more of a job."""
        if job in self.jobs:
            self.jobs.remove(job)
            self.waiting -= len(job.turns) - job.taken


class Batcher:
    """Judges turns with one model, for all requests of this process.

    What waits is run in the order in which it came. Each core has runs of its own, and never waits for another one; a
    run has turns of any requests, of which those of one length are computed together. Live turns have a lane of their
    own: they wait for nothing but each other, and share the cores with whatever else runs.

    Args:
        classifier: the model.
        name: what it is called in the metrics.
        metrics: where runs are counted.
        limit: the turns that may wait, beside live ones.
    """

    def __init__(self, classifier: ListeningClassifier, name: str, metrics: Metrics, limit: int = QUEUED_TURNS) -> None:
        self._classifier = classifier
        self._name = name
        self._metrics = metrics
        self._limit = limit
        self._seconds_a_turn = _FIRST_GUESS
        on_gpu = classifier.device == "cuda"
        self._tokens_at_once = BATCHES_AT_ONCE * (TOKENS_PER_GPU_BATCH if on_gpu else TOKENS_PER_BATCH)
        threads = 1 if on_gpu else CORES
        self._requests = _Lane(threads, ahead=1)
        self._live = _Lane(threads, ahead=0)

    async def predict(self, turns: Sequence[TurnInContext], *, live: bool = False) -> list[Prediction]:
        """Judge turns, as soon as it is their turn.

        Args:
            turns: each with those before it.
            live: whether somebody waits for it while a call goes on: it is never turned away.

        Raises:
            ProblemError: 503, too many wait already.
        """
        if not turns:
            return []
        lane = self._live if live else self._requests
        if not live and lane.waiting and lane.waiting + len(turns) > self._limit:
            raise self.turn_away()
        job = _Job(turns, asyncio.get_running_loop().create_future())
        lane.jobs.append(job)
        lane.waiting += len(turns)
        self._start_runs(lane)
        try:
            await job.done
        except asyncio.CancelledError:  # the client is gone: what has not begun need not
            lane.forget(job)
            self._count_waiting()
            raise
        predictions = [prediction for prediction in job.predictions if prediction is not None]
        self._metrics.count(self._name, predictions)
        return predictions

    @property
    def is_full(self) -> bool:
        """Whether no request would be let in, however small."""
        return self._requests.waiting >= self._limit

    def turn_away(self) -> ProblemError:
        """What is answered to a request for which there is no room."""
        self._metrics.turned_away.inc()
        waiting = self._requests.waiting
        seconds = max(1, ceil(waiting * self._seconds_a_turn))
        return ProblemError(
            503,
            f"{waiting:,} turns wait already, and {self._limit:,} may: try again in {seconds} s",
            {"Retry-After": str(seconds)},
        )

    async def keep_warm(self) -> None:
        """Run the model if it does not run now.

        One that has lain idle for half a second may take ten times as long: its memory has gone out of the caches, or
        out of a virtual machine.
        """
        if not self._live.running and not self._requests.running:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._live.pool, self._classifier.predict_on_one_core, [_SOMETHING])

    def close(self) -> None:
        """Let go of the threads. What runs is finished first."""
        for lane in (self._requests, self._live):
            lane.pool.shutdown(wait=False)

    def _start_runs(self, lane: _Lane) -> None:
        """Begin as many runs as may be, with what waits."""
        while lane.has_room and (pieces := lane.take(self._tokens_at_once)):
            lane.running += 1
            turns = [turn for job, indices in pieces for turn in job.turns[indices]]
            loop = asyncio.get_running_loop()
            run = loop.run_in_executor(lane.pool, self._classifier.predict_on_one_core, turns)
            run.add_done_callback(partial(self._finish, lane=lane, pieces=pieces, begun=perf_counter()))
        self._count_waiting()

    def _count_waiting(self) -> None:
        self._metrics.waiting.set(self._requests.waiting + self._live.waiting)

    def _finish(
        self, run: asyncio.Future[list[Prediction]], lane: _Lane, pieces: list[tuple[_Job, slice]], begun: float
    ) -> None:
        lane.running -= 1
        self._start_runs(lane)
        n = sum(indices.stop - indices.start for _, indices in pieces)
        seconds = (perf_counter() - begun) / n / (lane.threads + lane.ahead)
        self._seconds_a_turn += 0.1 * (seconds - self._seconds_a_turn)
        self._metrics.run_turns.observe(n)
        error = run.exception()
        predictions = iter([] if error else run.result())
        for job, indices in pieces:
            job.predictions[indices] = islice(predictions, indices.stop - indices.start)
            job.missing -= indices.stop - indices.start
            if job.done.done():  # cancelled, or failed in an earlier run
                continue
            if error:
                lane.forget(job)
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
