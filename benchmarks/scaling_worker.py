"""One process of benchmarks/scaling.py: it loads a model, says that it is ready, waits, and measures one thing.

The job is its argument, as JSON; what it found is the last line that it prints. It imports little, since its memory is
measured, and listening_clf's runtime only when it runs on the cores that it is to use.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from benchmarks.protocol import peak_mb
from benchmarks.workload import conversations_of, endless_agent_turns, for_predict
from listening_clf import ListeningClassifier

if TYPE_CHECKING:
    from listening_clf.conversation import Turn

MIN_SECONDS = 3.0
"""Small jobs are done again until this time is over."""
WARM_UP_TURNS = 1000
AHEAD_TURNS = 10_000
"""Up to so many turns are made before the clock starts; more would take the memory that is measured."""

Pass = Callable[[], tuple[int, float]]
"""Does the job once: the agent turns it judged, and the seconds it took."""


def main() -> None:
    """Do the job that the argument describes."""
    job = json.loads(sys.argv[1])
    import onnxruntime  # noqa: F401 - where it finds a single core as it is imported, it takes slower int8 products

    os.sched_setaffinity(0, job["cores"])
    classifier = ListeningClassifier.from_pretrained(job["model"])
    measure = {"stream": _stream, "conversation": _conversation}[job["measure"]]
    run, making = measure(classifier, job["size"], job["seed"])
    print("ready", flush=True)
    sys.stdin.readline()
    passes = list(_repeated(run))
    turns, seconds = (sum(column) for column in zip(*passes, strict=True))
    found: dict[str, Any] = {
        "turns": turns,
        "seconds": seconds,
        "passes": len(passes),
        "turns_per_second": statistics.median(done / taken for done, taken in passes),
        "making_share": making * turns / seconds,
        "peak_mb": peak_mb(),
    }
    print(json.dumps(found))


def _repeated(run: Pass) -> Iterator[tuple[int, float]]:
    end = time.perf_counter() + MIN_SECONDS
    yield run()
    while time.perf_counter() < end:
        yield run()


def _stream(classifier: ListeningClassifier, size: int, seed: int) -> tuple[Pass, float]:
    """`predict_stream` over `size` turns, new ones each time; and the seconds that making a turn takes of its time."""
    endless = map(for_predict, endless_agent_turns(seed))

    def run() -> tuple[int, float]:
        turns: Iterable[tuple[Turn, tuple[Turn, ...]]] = islice(endless, size)
        if size <= AHEAD_TURNS:
            turns = list(turns)
        begin = time.perf_counter()
        _consume(classifier.predict_stream(turns))
        return size, time.perf_counter() - begin

    _consume(classifier.predict_stream(islice(endless, min(size, WARM_UP_TURNS))))
    if size <= AHEAD_TURNS:
        return run, 0.0
    begin = time.perf_counter()
    _consume(islice(endless, AHEAD_TURNS))
    return run, (time.perf_counter() - begin) / AHEAD_TURNS


def _conversation(classifier: ListeningClassifier, size: int, seed: int) -> tuple[Pass, float]:
    """`predict_conversation` on a conversation of `size` turns, a new one each time."""
    endless = conversations_of(size, seed)

    def run() -> tuple[int, float]:
        conversation = next(endless)
        begin = time.perf_counter()
        predictions = classifier.predict_conversation(conversation)
        return len(predictions), time.perf_counter() - begin

    run()
    return run, 0.0


def _consume(items: Iterable[object]) -> None:
    """Let them come, and keep none."""
    deque(items, maxlen=0)


if __name__ == "__main__":
    main()
