"""How the driver and a contender talk: a JSON object a line, through the contender's standard input and output.

Nothing but the standard library is imported here, so that a process has only what its contender needs in memory, and
so that a contender may run in an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent

Task: TypeAlias = Literal["load", "many", "one"]


class Contender(Protocol):
    """Something that scores agent turns."""

    def load(self) -> None:
        """Make ready to predict."""

    def read(self, sent: Mapping[str, Any]) -> Any:
        """What `workload.for_contender` made of a turn → what this contender takes. It is not timed."""

    def predict_many(self, turns: Sequence[Any]) -> NDArray[np.floating]:
        """The probability of each label for each turn, shape (turns, labels)."""

    def predict_one(self, turn: Any) -> NDArray[np.floating]:
        """The probability of each label for a turn, shape (labels,)."""


def serve(contender: Contender) -> None:
    """Do what the driver asks for until it asks for no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    for line in sys.stdin:
        answer = _do(contender, **json.loads(line))
        print(json.dumps({**answer, "peak_mb": peak_mb()}), file=answers, flush=True)


def _do(contender: Contender, task: Task, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if task == "load":
        contender.load()
        return {}
    read = [contender.read(turn) for turn in turns]
    if task == "many":
        begin = time.perf_counter()
        scores = contender.predict_many(read)
        return {"seconds": time.perf_counter() - begin, "scores": scores.tolist()}
    each = []
    for turn in read:
        begin = time.perf_counter()
        contender.predict_one(turn)
        each.append(time.perf_counter() - begin)
    return {"each": each}


def peak_mb() -> float:
    """The most memory that this process has had.

    Linux only. What getrusage and wait4 say would be too much where a large process started this one: they count what
    it had before it became this program.
    """
    return peak_mb_in(Path("/proc/self/status").read_text("ascii"))


def peak_mb_in(status: str) -> float:
    """The peak memory that stands in the text of a process's /proc/PID/status."""
    return memory_mb_in(status, "VmHWM")


def memory_mb_in(status: str, figure: str) -> float:
    """What the text of a process's /proc/PID/status says of its memory: VmHWM, the most there was; VmRSS, what is."""
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith(f"{figure}:"))
    return int(kilobytes) / 1024


def environment() -> dict[str, str]:
    """Of a process that is measured: it looks nothing up on a hub, and takes as many threads as it would by itself."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return {**kept, "HF_HUB_OFFLINE": "1"}


class Process:
    """A contender's process, as the driver holds it: see `started`."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors

    def ask(self, task: Task, turns: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Have a task done, and wait for what comes of it.

        Raises:
            SystemExit: the process ended instead.
        """
        self.send({"task": task, "turns": turns})
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            raise SystemExit(f"{self._process.args!r} ended:\n{self._errors.read()[-2000:]}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def send(self, message: object) -> None:
        """Send something that needs no answer."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it has ended: the next answer, which does not come, will tell
            print(json.dumps(message), file=self._process.stdin, flush=True)


@contextmanager
def started(command: Sequence[str]) -> Iterator[Process]:
    """Start a contender's process in the clone's folder. It ends with the context, after what it is doing.

    It looks nothing up on a hub, and takes as many threads as it would by itself.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            cwd=ROOT,
            env=environment(),
        ) as process,
    ):
        yield Process(process, errors)
