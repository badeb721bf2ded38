"""Speed, memory and accuracy beside what people would use instead: `python -m benchmarks.run`.

One call measures everything, and draws docs/speed.svg. Each contender (contenders.py) has a process of its own, and
all are there from the beginning; they work one after the other, and each round goes through all of them, so that what
else the machine does meets everybody. The first round is not counted. What each reads are the same turns:

- whole context: each turn of a call with the turns before it, as the library reads calls. This is the headline.
- one turn of context: each with only the turn before it, where inputs are short.

SetFit takes part where `--setfit-python` names a Python that has it (setfit_contender.py). Thresholds and calibration
are fitted on the dev split for everybody in the same way (dev.py); how near each comes to what the machine can do is in
limit.py. A cold start is from nothing to the first prediction (cold_start.py).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from tokenizers import Tokenizer

from benchmarks import cold_start, dev, report
from benchmarks.contenders import CONTENDERS, OURS, as_tokenized
from benchmarks.limit import Arithmetic, distinct_lengths, limits, multiply_adds
from benchmarks.machine import machine
from benchmarks.protocol import ROOT, Process, Task, started
from benchmarks.workload import agent_turns, for_contender, one_turn_of_context
from listening_clf.checkpoint import TOKENIZER, Checkpoint
from listening_clf.conversation import TurnInContext
from listening_clf.hub import locate

SETFIT = "SetFit"
SETFIT_TURNS = 4000
"""Labelled turns that its head is fitted on, drawn from the train split."""
SETFIT_MAX_TOKENS = 256
"""Its encoder's own limit."""

HEADLINE = "whole context"
WORKLOADS: dict[str, Callable[[TurnInContext], TurnInContext]] = {
    HEADLINE: lambda item: item,
    "one turn of context": one_turn_of_context,
}
SEED = 0
WARM_UP_SINGLES = 10
COLD_STARTS = 7
PAUSE_SECONDS = 0.3
"""Before each contender's work: threads of the last one may wait for more before they sleep."""


def main(
    turns: Annotated[int, typer.Option(help="Turns a round.", min=1)] = 1000,
    rounds: Annotated[int, typer.Option(help="Rounds that count, after one that does not.", min=1)] = 3,
    singles: Annotated[int, typer.Option(help="Single turns for the latency.", min=1)] = 200,
    setfit_python: Annotated[Path | None, typer.Option(help="A Python that has SetFit.")] = None,
    output: Annotated[Path, typer.Option(help="Where everything is written.")] = ROOT / "runs" / "benchmark.json",
) -> None:
    """Measure all contenders, print tables as Markdown, and draw the plot."""
    about = machine()  # first, so that the load average is not our own
    tokenizer = Tokenizer.from_file(str(locate("small") / TOKENIZER))
    dev_name, dev_turns = dev.load("dev")
    drawn = agent_turns(turns + singles, SEED)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        with ExitStack() as stack:
            field = _Field(_started(stack, setfit_python, tokenizer), progress)
            loaded = field.ask("load", "load")
            workloads = {
                name: _measured(field, name, [read(item) for item in drawn], turns, rounds, tokenizer)
                for name, read in WORKLOADS.items()
            }
            predicted = field.ask("dev", "many", [for_contender(turn.item, tokenizer) for turn in dev_turns])
        progress.add_task("matrix products", total=None)
        most = limits()
        progress.add_task("cold starts", total=None)
        cold_starts = cold_start.measure(cold_start.programs(), COLD_STARTS)
    for figures in workloads.values():
        _add_shares(figures, most)
    headline = workloads[HEADLINE]["contenders"]
    result = {
        "machine": about,
        "settings": {"turns": turns, "rounds": rounds, "singles": singles, "seed": SEED},
        "dev": {"name": dev_name, "turns": len(dev_turns)},
        "limits": most,
        "contenders": {
            name: {
                "loaded_mb": loaded[name]["peak_mb"],
                "peak_mb": headline[name]["peak_mb"],
                "macro_f1": dev.fitted_macro_f1(answer["scores"], dev_turns),
            }
            for name, answer in predicted.items()
        },
        "workloads": workloads,
        "cold_start": cold_starts,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report.markdown(result))
    report.draw(result)


class _Field:
    """All contenders' processes, which get the same tasks one after the other.

    Args:
        processes: by the contenders' names.
        progress: shows who is at work.
    """

    def __init__(self, processes: Mapping[str, Process], progress: Progress) -> None:
        self._processes = processes
        self._progress = progress

    def ask(self, what: str, task: Task, turns: Sequence[Mapping[str, Any]] = ()) -> dict[str, dict[str, Any]]:
        """Have every contender do the task; `what` is how it is shown. Returns what each answers."""
        shown = self._progress.add_task(what, total=len(self._processes))
        answers = {}
        for name, process in self._processes.items():
            self._progress.update(shown, description=f"{what}: {name}")
            time.sleep(PAUSE_SECONDS)
            answers[name] = process.ask(task, turns)
            self._progress.advance(shown)
        self._progress.remove_task(shown)
        return answers


def _started(stack: ExitStack, setfit_python: Path | None, tokenizer: Tokenizer) -> dict[str, Process]:
    processes = {
        name: stack.enter_context(started([sys.executable, "-m", "benchmarks.contenders", name])) for name in CONTENDERS
    }
    if setfit_python:
        command = [str(setfit_python.absolute()), "-m", "benchmarks.setfit_contender"]
        processes[SETFIT] = stack.enter_context(started(command))
        processes[SETFIT].send(_to_fit_setfit(tokenizer))
    return processes


def _to_fit_setfit(tokenizer: Tokenizer) -> dict[str, Any]:
    _, train = dev.load("train")
    drawn = [train[i] for i in np.random.default_rng(SEED).permutation(len(train))[:SETFIT_TURNS]]
    return {
        "texts": [for_contender(turn.item, tokenizer)["one_text"] for turn in drawn],
        "targets": [(turn.targets == 1).astype(int).tolist() for turn in drawn],
    }


def _measured(
    field: _Field, workload: str, items: Sequence[TurnInContext], turns: int, rounds: int, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Rounds over the first `turns` of the items, then the others one at a time, in a block a round."""
    sent = [for_contender(item, tokenizer) for item in items]
    many, singles = sent[:turns], sent[turns:]
    field.ask(f"{workload}, not counted", "many", many)
    answers = [field.ask(f"{workload}, round {number + 1}", "many", many) for number in range(rounds)]
    field.ask(f"{workload}, not counted", "one", many[:WARM_UP_SINGLES])
    blocks = [field.ask(f"{workload}, turn by turn", "one", singles[number::rounds]) for number in range(rounds)]
    contenders = {}
    for name in answers[0]:
        seconds = [answer[name]["seconds"] for answer in answers]
        latencies = [1000 * each for block in blocks for each in block[name]["each"]]
        contenders[name] = {
            "seconds": seconds,
            "latencies_ms": latencies,
            "peak_mb": answers[-1][name]["peak_mb"],
            "turns_per_second": turns / statistics.median(seconds),
            "p50_ms": float(np.percentile(latencies, 50)),
            "p95_ms": float(np.percentile(latencies, 95)),
            "multiply_adds": _multiply_adds(name, items[:turns], many, tokenizer),
        }
    lengths = distinct_lengths(items[:turns], Checkpoint.open(locate("small")))
    return {
        "tokens_per_turn": statistics.mean(lengths),
        "distinct": len(lengths) / turns,
        "contenders": contenders,
    }


def _multiply_adds(
    name: str, items: Sequence[TurnInContext], sent: Sequence[Mapping[str, Any]], tokenizer: Tokenizer
) -> float:
    """What the contender's model must multiply for these turns."""
    if name in OURS:
        checkpoint = Checkpoint.open(locate(OURS[name]))
        return multiply_adds(checkpoint.config, distinct_lengths(items, checkpoint), last_layer_whole=False)
    config = Checkpoint.open(locate("small")).config  # SetFit's encoder is of the same size
    if name == SETFIT:
        inputs, most = [turn["one_text"] for turn in sent], SETFIT_MAX_TOKENS
    else:
        inputs, most = [as_tokenized(turn) for turn in sent], config["max_position_embeddings"]
    lengths = [min(len(encoding.ids), most) for encoding in tokenizer.encode_batch(inputs)]
    return multiply_adds(config, lengths, last_layer_whole=True)


def _add_shares(workload: Mapping[str, Any], most: Mapping[Arithmetic, float]) -> None:
    """Say of every contender which share of the machine's limit it reached, where that is measured for its numbers."""
    for name, figures in workload["contenders"].items():
        if name.endswith("bfloat16"):
            continue
        arithmetic: Arithmetic = "int8" if name in OURS else "float32"
        reached = figures["multiply_adds"] / statistics.median(figures["seconds"])
        figures["limit"] = arithmetic
        figures["share_of_limit"] = reached / most[arithmetic]


if __name__ == "__main__":
    typer.run(main)
