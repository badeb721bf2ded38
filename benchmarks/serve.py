"""The HTTP service beside what people would write instead, and beside no HTTP: `python -m benchmarks.serve`.

One call measures everything, and draws docs/serve.svg:

- throughput: clients that each send an agent turn with the turns before it, and the next when that is answered. Asked
  are `listening-clf serve` and the peer, FastAPI around `transformers.pipeline` with the weights of `small` in float32
  (serve_peer.py). What they are compared with is `ListeningClassifier.predict` on the same turns in one call.
- overload: more clients than the queue has room for. Whoever is turned away waits for a moment, though told to wait for
  longer, and asks again.
- live: calls whose turns come as people say them, in growing parts, also beside clients that keep the service busy.
- cold start: from the start of the process until /readyz says so.
- soak, where `--soak` asks for it: the service's memory over many requests, and over many live calls.

All that are compared are there at once and take turns, so that what else the machine does meets all of them. The
clients share the machine with the service (serve_load.py, serve_live.py); what they compute themselves is shown.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from sys import executable
from time import sleep
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, TaskID
from tokenizers import Tokenizer

from benchmarks import serve_live, serve_load, serve_report, serve_soak
from benchmarks.contenders import OURS
from benchmarks.machine import machine
from benchmarks.protocol import ROOT, Process, started
from benchmarks.serve_process import Command, Service, cold_starts, ours, peer, running
from benchmarks.workload import agent_turns, for_contender
from listening_clf.checkpoint import TOKENIZER
from listening_clf.hub import locate

T = TypeVar("T")

CLIENTS = (1, 8, 64)

OVERLOAD_CLIENTS = 600
OVERLOAD_TURNS = 4
"""Of a request: the 600 ask for more than twice the turns that the queue takes."""
OVERLOAD_SECONDS = 8.0
OVERLOAD_PAUSE_SECONDS = 0.25

LIVE_CALLS = (1, 10, 50)
BUSY_CALLS, BUSY_CLIENTS, BUSY_TURNS = 10, 16, 2000

SOAK_MODEL = "tiny"
SOAK_CLIENTS = 32
SOAK_TURNS = 10_000
"""Different ones, sent over and over: nothing is remembered from one request to the next."""
SOAK_CALLS = 2000

WARM_UP_TURNS, WARM_UP_CLIENTS = 200, 16
SINGLES = 50
COLD_STARTS = 5
SEED = 0
PAUSE_SECONDS = 0.3
"""Before each measurement: threads of the last one may wait for more before they sleep."""


class Part(StrEnum):
    """What can be measured by itself."""

    THROUGHPUT = "throughput"
    OVERLOAD = "overload"
    LIVE = "live"
    COLD_START = "cold-start"


def main(
    turns: Annotated[int, typer.Option(help="Turns of each measurement of throughput.", min=1)] = 1000,
    rounds: Annotated[int, typer.Option(help="Rounds, each of which measures everybody's throughput once.", min=1)] = 3,
    seconds: Annotated[float, typer.Option(help="How long the live calls go on, for each number of them.", min=6)] = 30,
    soak: Annotated[
        int,
        typer.Option(
            metavar="REQUESTS",
            help=f"Also send so many requests to {SOAK_MODEL!r}, and have {SOAK_CALLS:,} live calls, and watch its "
            "memory: 200000 take some five minutes on two cores.",
            min=0,
        ),
    ] = 0,
    skip_peer: Annotated[bool, typer.Option("--skip-peer", help="Measure without the peer, which is slow.")] = False,
    only: Annotated[
        list[Part] | None, typer.Option(help="Measure this alone; may be given several times. The plot stays as it is.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where everything is written.")] = ROOT / "runs" / "serve.json",
) -> None:
    """Measure the service over HTTP and live, print tables as Markdown, and draw the plot."""
    about = machine()  # first, so that the load average is not our own
    parts = only or list(Part)
    commands: dict[str, Command] = {name: ours(model) for name, model in OURS.items()}
    if not skip_peer:
        commands[serve_report.PEER] = peer
    result: dict[str, Any] = {
        "machine": about,
        "settings": {"turns": turns, "rounds": rounds, "seconds": seconds, "seed": SEED},
    }
    with Progress(console=Console(stderr=True), transient=True) as progress:
        if Part.THROUGHPUT in parts:
            result["throughput"] = _throughput(commands, turns, rounds, progress)
        if Part.LIVE in parts:
            result["live"] = _live(seconds, progress)
        if Part.OVERLOAD in parts:
            result["overload"] = _overload(progress)
        if Part.COLD_START in parts:
            with _shown(progress, "cold starts"):
                result["cold_start"] = cold_starts(commands, COLD_STARTS)
        if soak:
            result["soak"] = _soak(soak, progress)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(serve_report.markdown(result))
    if not only:
        serve_report.draw(result)


def _throughput(commands: Mapping[str, Command], turns: int, rounds: int, progress: Progress) -> dict[str, Any]:
    """For each of ours, what `predict` does without HTTP; for each service and number of clients, a run a round."""
    # New ones for each measurement, since the tokens of texts that were read are remembered. In-process it is the turns
    # that the most clients send, to another process.
    items = _items(turns * rounds * len(CLIENTS))
    slices = [slice(first, first + turns) for first in range(0, len(items), turns)]
    requests = {name: [_request(name, item) for item in items] for name in commands}
    in_process: dict[str, list[float]] = {name: [] for name in OURS}
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {name: {n: [] for n in CLIENTS} for name in commands}
    shown = progress.add_task("", total=rounds * len(commands) * len(CLIENTS))
    with ExitStack() as stack:
        services = {name: stack.enter_context(running(command)) for name, command in commands.items()}
        references = {name: stack.enter_context(_reference(name, items)) for name in OURS}
        for name, service in services.items():
            _run(serve_load.closed_loop(service, requests[name][:WARM_UP_TURNS], WARM_UP_CLIENTS, WARM_UP_TURNS))
        for number in range(rounds):
            new = slices[number * len(CLIENTS) : (number + 1) * len(CLIENTS)]
            for name, service in services.items():
                if name in references:
                    sleep(PAUSE_SECONDS)
                    in_process[name].append(references[name].ask("many", items[new[-1]])["seconds"])
                for clients, these in zip(CLIENTS, new, strict=True):
                    progress.update(shown, description=f"round {number + 1}: {name}, {clients} clients")
                    sleep(PAUSE_SECONDS)
                    run = _run(serve_load.closed_loop(service, requests[name][these], clients, turns))
                    runs[name][clients].append(run._asdict())
                    progress.advance(shown)
    progress.remove_task(shown)
    return {
        "in_process": {name: {"turns": turns, "seconds": seconds} for name, seconds in in_process.items()},
        "services": runs,
    }


@contextmanager
def _reference(name: str, items: Sequence[Mapping[str, Any]]) -> Iterator[Process]:
    """A process in which `predict` is called, as benchmarks/run.py measures it; it has done some turns already."""
    with started([executable, "-m", "benchmarks.contenders", name]) as process:
        process.ask("load")
        process.ask("many", items[:WARM_UP_TURNS])
        yield process


def _items(turns: int) -> list[dict[str, Any]]:
    tokenizer = Tokenizer.from_file(str(locate("small") / TOKENIZER))
    return [for_contender(item, tokenizer) for item in agent_turns(turns, SEED)]


def _request(name: str, item: Mapping[str, Any]) -> bytes:
    """What the service of that name is sent for a turn (`workload.for_contender`)."""
    if name in OURS:
        return serve_load.post("/v1/predict", _with_context(item))
    return serve_load.post("/predict", {"text": item["text"], "text_pair": item["text_pair"]})


def _with_context(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": item["turn"]["text"], "context": item["context"]}


def _requests(turns: int, turns_a_request: int = 1) -> list[bytes]:
    """Requests to our service that have so many turns in all."""
    bodies = [_with_context(item) for item in _items(turns)]
    if turns_a_request == 1:
        return [serve_load.post("/v1/predict", body) for body in bodies]
    firsts = range(0, turns, turns_a_request)
    return [serve_load.post("/v1/predict", {"turns": bodies[first : first + turns_a_request]}) for first in firsts]


@contextmanager
def _warm(model: str) -> Iterator[Service]:
    """A service of ours that has answered some requests already."""
    with running(ours(model)) as service:
        _run(serve_load.closed_loop(service, _requests(WARM_UP_TURNS), WARM_UP_CLIENTS, WARM_UP_TURNS))
        yield service


@contextmanager
def _shown(progress: Progress, what: str) -> Iterator[None]:
    task = progress.add_task(what, total=None)
    yield
    progress.remove_task(task)


def _overload(progress: Progress) -> dict[str, Any]:
    requests, singles = _requests(OVERLOAD_CLIENTS * OVERLOAD_TURNS, OVERLOAD_TURNS), _requests(SINGLES)
    with _warm(serve_report.MODEL) as service, _shown(progress, f"overload: {OVERLOAD_CLIENTS} clients"):
        measured = serve_load.overload(
            service, requests, singles, OVERLOAD_CLIENTS, OVERLOAD_SECONDS, OVERLOAD_PAUSE_SECONDS
        )
        return {"clients": OVERLOAD_CLIENTS, "turns_a_request": OVERLOAD_TURNS, **_run(measured)}


def _live(seconds: float, progress: Progress) -> list[dict[str, Any]]:
    """The latencies with each number of calls, and at last beside clients that keep the service busy."""
    measured = []
    busy = _requests(BUSY_TURNS)
    with _warm(serve_report.MODEL) as service:
        for calls, clients in [*((calls, 0) for calls in LIVE_CALLS), (BUSY_CALLS, BUSY_CLIENTS)]:
            with _shown(progress, f"live: {calls} calls, {clients} clients beside them"):
                latencies, rate = _run(_live_beside(service, calls, clients, seconds, busy))
            measured.append({"calls": calls, "clients": clients, "latencies_ms": latencies, "turns_per_second": rate})
    return measured


async def _live_beside(
    service: Service, calls: int, clients: int, seconds: float, busy: Sequence[bytes]
) -> tuple[list[float], float]:
    """The latencies of live calls, and the answers a second that the clients beside them had."""
    if not clients:
        return await serve_live.replay(service, calls, seconds, SEED), 0.0
    async with serve_load.Clients(service, busy, clients) as crowd:
        latencies = await serve_live.replay(service, calls, seconds, SEED)
        answers = [it for it in crowd.answers if it.status == serve_load.OK]
    return latencies, len(answers) / (answers[-1].sent + answers[-1].seconds - answers[0].sent)


def _soak(total: int, progress: Progress) -> list[dict[str, Any]]:
    requests = _requests(min(total, SOAK_TURNS))
    shown = progress.add_task("soak: requests", total=total)
    found = []
    with _warm(SOAK_MODEL) as service:
        show = partial(_show, progress, shown)
        found.append(_run(serve_soak.requests(service, requests, SOAK_CLIENTS, total, show)))
        progress.reset(shown, description="soak: live calls", total=SOAK_CALLS)
        found.append(_run(serve_soak.live_calls(service, SOAK_CALLS, SEED, show)))
    return found


def _show(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def _run(measured: Coroutine[Any, Any, T]) -> T:
    """Measure, without the collector of garbage going through all that is kept meanwhile."""
    gc.collect()
    gc.freeze()
    return uvloop.run(measured)


if __name__ == "__main__":
    typer.run(main)
