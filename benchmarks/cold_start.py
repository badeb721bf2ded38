"""From nothing to the first prediction: `python -m benchmarks.cold_start`.

Two programs, each a new process: import, load the bundled checkpoint, predict one turn. One uses listening_clf, the
other `transformers.pipeline` on the same folder. They run in turn, so that what else the machine does meets both; the
operating system's own accounting gives each process's wall time and peak memory.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from listening_clf.hub import locate

TURN = "So you were charged twice for the same order?"

OURS = f"import listening_clf as lc; print(lc.predict({TURN!r}).scores)"
THEIRS = (
    "from transformers import pipeline; "
    f"classify = pipeline('text-classification', model={str(locate())!r}, top_k=None); print(classify({TURN!r}))"
)


# Installed packages are compiled once; a clone's own modules are too, unless this variable forbids it.
# Nor does either program look anything up on a hub.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
_ENVIRONMENT["HF_HUB_OFFLINE"] = "1"


class Run(NamedTuple):
    """What one process took."""

    seconds: float
    peak_mb: float


def main(
    runs: Annotated[int, typer.Option(help="Runs of each program, after one that is not counted.", min=1)] = 7,
) -> None:
    """Print the median wall time and peak memory of both programs, and their ratios."""
    measured: dict[str, list[Run]] = {"listening_clf": [], "transformers.pipeline": []}
    for number in range(runs + 1):
        for name, program in zip(measured, (OURS, THEIRS), strict=True):
            result = run([sys.executable, "-c", program])
            if number:
                measured[name].append(result)
    seconds = [statistics.median(run.seconds for run in of_one) for of_one in measured.values()]
    memory = [statistics.median(run.peak_mb for run in of_one) for of_one in measured.values()]
    print("| cold start, one turn | wall time | peak memory |\n| --- | --- | --- |")
    for name, wall, peak in zip(measured, seconds, memory, strict=True):
        print(f"| {name} | {wall:.2f} s | {peak:.0f} MB |")
    print(f"| ratio | 1/{seconds[1] / seconds[0]:.1f} | 1/{memory[1] / memory[0]:.1f} |")


def run(command: list[str]) -> Run:
    """Run a program to its end, without its output.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    with Path(os.devnull).open("wb") as nothing:
        silenced = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), output) for output in (1, 2)]
        process = os.posix_spawn(command[0], command, _ENVIRONMENT, file_actions=silenced)
        _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"the program failed: {command[-1]}")
    return Run(seconds, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    typer.run(main)
