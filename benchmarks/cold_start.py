"""From nothing to the first prediction: `python -m benchmarks.cold_start`.

Each program is a new process: import, load a checkpoint, predict one turn. The programs of the bundled models use
listening_clf; the other one is `transformers.pipeline` on the folder of `small`, called as the README shows. They run
in turn, so that what else the machine does meets all of them. The operating system's own accounting gives each
process's peak memory, which it says as its last word.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import typer

from benchmarks.protocol import peak_mb_in
from listening_clf.hub import bundled_models, locate

TURN = "So you were charged twice for the same order?"

PIPELINE = "transformers.pipeline"

_SAY_PEAK = "; print(open('/proc/self/status').read())"

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
    """Print the median wall time and peak memory of every program, and the ratios to the pipeline's."""
    print(table(measure(programs(), runs)))


def programs() -> dict[str, str]:
    """What is measured: the text of a Python program each."""
    ours = {
        f"listening_clf {model}": "import listening_clf as lc; "
        f"print(lc.ListeningClassifier.from_pretrained({model!r}).predict({TURN!r}).scores)"
        for model in bundled_models()
    }
    theirs = (
        "from transformers import pipeline; "
        f"classify = pipeline('text-classification', model={str(locate('small'))!r}, top_k=None); "
        f"print(classify({TURN!r}))"
    )
    return {**ours, PIPELINE: theirs}


def measure(programs: Mapping[str, str], runs: int) -> dict[str, list[Run]]:
    """Run all programs in turn, `runs` times after a first time that is not counted.

    Raises:
        SystemExit: one of them failed.
    """
    measured: dict[str, list[Run]] = {name: [] for name in programs}
    for number in range(runs + 1):
        for name, program in programs.items():
            result = run([sys.executable, "-c", program + _SAY_PEAK])
            if number:
                measured[name].append(result)
    return measured


def run(command: Sequence[str]) -> Run:
    """Run a program to its end; the last that it prints is its /proc/self/status.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, encoding="utf-8")
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"the program failed: {command[-1]}\n{done.stderr}")
    return Run(seconds, peak_mb_in(done.stdout))


def table(measured: Mapping[str, Sequence[Run]]) -> str:
    """The medians as Markdown, ours beside the pipeline's."""
    seconds = {name: statistics.median(run.seconds for run in runs) for name, runs in measured.items()}
    memory = {name: statistics.median(run.peak_mb for run in runs) for name, runs in measured.items()}
    rows = ["| cold start, one turn | wall time | ratio | peak memory | ratio |", "| --- | --- | --- | --- | --- |"]
    for name in measured:
        faster, smaller = seconds[PIPELINE] / seconds[name], memory[PIPELINE] / memory[name]
        rows.append(f"| {name} | {seconds[name]:.2f} s | 1/{faster:.1f} | {memory[name]:.0f} MB | 1/{smaller:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    typer.run(main)
