"""What more work costs: `python -m benchmarks.scaling` prints tables and draws docs/scaling.svg.

- `predict_stream` over 10 to a million agent turns of calls without end (workload.py), each size in a new process:
  turns a second, and the most memory that the process had.
- `predict_conversation` on conversations of 10 to 2,000 turns.
- The same stream on one core, on all cores in one process, and in a process a core.

What is small is done again until some seconds are over; the median counts. Making the turns takes no time that is
measured, or, where they are too many to be kept, a share of it that is shown. Results are kept in runs/scaling.jsonl,
by the sha256 of the model's graph and weights, so that a call that was cut off goes on. Delete the file when the
machine or the library's code is another one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Annotated, Any, NamedTuple

import typer
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from benchmarks.protocol import ROOT
from listening_clf.checkpoint import ONNX, ONNX_DATA, Checkpoint
from listening_clf.hub import bundled_models, locate

PLOT = ROOT / "docs" / "scaling.svg"
RESULTS = ROOT / "runs" / "scaling.jsonl"

FASTEST = "tiny" if "tiny" in bundled_models() else "small"

CONVERSATION_TURNS = (10, 50, 200, 1000, 2000)
SHARED_TURNS = 10_000
"""Of the streams that run on one core or on several."""

BAND = 0.15
"""The band round the median that the plot shows."""
MEMORY_LIMIT_MB = 300
MAKING_LIMIT = 0.02
"""The share of the time that making the turns may take."""


class Job(NamedTuple):
    """One measurement."""

    name: str
    measure: str
    size: int
    cores: Sequence[Sequence[int]]
    """For each process that takes part, the cores it may use."""


def main(
    model: Annotated[str, typer.Option(help="A bundled model's name, or a checkpoint folder.")] = FASTEST,
    most: Annotated[int, typer.Option(help="The largest number of turns.", min=10)] = 1_000_000,
) -> None:
    """Measure what is not yet in runs/scaling.jsonl, then print all of it and draw the plot."""
    files = Checkpoint.open(locate(model)).manifest.files
    digests = [files[ONNX], files[ONNX_DATA]]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.touch()
    lines = [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()]
    known = {(line["name"], line["size"]): line for line in lines if line["model"] == digests}
    results = []
    for job in track(list(_jobs(most)), model, console=Console(stderr=True), transient=True):
        if (job.name, job.size) not in known:
            result = {"model": digests, "name": job.name, "size": job.size, **_done(job, model)}
            known[job.name, job.size] = result
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        results.append(known[job.name, job.size])
    report(model, results)
    draw(results)
    check(results)


def _jobs(most: int) -> Iterator[Job]:
    cores = sorted(os.sched_getaffinity(0))
    size = 10
    while size <= most:
        yield Job("stream", "stream", size, [cores])
        size *= 10
    for turns in CONVERSATION_TURNS:
        yield Job("conversation", "conversation", turns, [cores])
    shared = min(most, SHARED_TURNS)
    yield Job("one core", "stream", shared, [cores[:1]])
    yield Job(f"{len(cores)} cores, one process", "stream", shared, [cores])
    yield Job(f"{len(cores)} cores, a process each", "stream", shared, [[core] for core in cores])


def _done(job: Job, model: str) -> dict[str, Any]:
    """Have the job done by its processes, which begin together.

    Raises:
        SystemExit: one of them failed; it has said why.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(job, model, number)) for number in range(len(job.cores))]
        for worker in workers:
            assert worker.stdout
            worker.stdout.readline()
        for worker in workers:
            assert worker.stdin
            with suppress(BrokenPipeError):  # it has failed, as its return code says below
                print(file=worker.stdin, flush=True)
        answers = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit(f"{job.name}, {job.size:,} turns: failed")
    found = [json.loads(answer) for answer in answers]
    together = sum(it["turns"] for it in found) / max(it["seconds"] for it in found)
    return {
        "turns_per_second": found[0]["turns_per_second"] if len(found) == 1 else together,
        "passes": found[0]["passes"],
        "making_share": max(it["making_share"] for it in found),
        "peak_mb": max(it["peak_mb"] for it in found),
    }


def _worker(job: Job, model: str, number: int) -> subprocess.Popen[str]:
    cores = job.cores[number]
    described = {"model": model, "measure": job.measure, "size": job.size, "cores": cores, "seed": number}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scaling_worker", json.dumps(described)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        cwd=ROOT,
    )


def report(model: str, results: Sequence[Mapping[str, Any]]) -> None:
    """Print the tables as Markdown."""
    streams, conversations, shared = _by_kind(results)
    print(f"The model {model}. `predict_stream` in a new process:\n")
    print("| turns | turns/s | to the median | passes | peak memory | making the turns |")
    print("| --- | --- | --- | --- | --- | --- |")
    for it in streams:
        rate, to_median = it["turns_per_second"], _to_median(it, streams)
        cells = f"{it['size']:,} | {rate:,.0f} | {to_median} | {it['passes']:,} | {it['peak_mb']:.0f} MB"
        print(f"| {cells} | {100 * it['making_share']:.1f} % |")
    print("\n`predict_conversation`:\n\n| turns of the conversation | agent turns/s | to the median | peak memory |")
    print("| --- | --- | --- | --- |")
    for it in conversations:
        rate, to_median = it["turns_per_second"], _to_median(it, conversations)
        print(f"| {it['size']:,} | {rate:,.0f} | {to_median} | {it['peak_mb']:.0f} MB |")
    print(f"\n`predict_stream` over {shared[0]['size']:,} turns:\n\n| on | turns/s | ratio |\n| --- | --- | --- |")
    for it in shared:
        ratio = it["turns_per_second"] / shared[0]["turns_per_second"]
        print(f"| {it['name']} | {it['turns_per_second']:,.0f} | {ratio:.2f} |")


def draw(results: Sequence[Mapping[str, Any]]) -> None:
    """Draw turns a second by the number of turns, and by the length of a conversation."""
    plt.rcParams["svg.hashsalt"] = "listening_clf"
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = ("agent turns in a stream", "turns of a conversation, half of them the agent's")
    for axes, of_kind, label in zip(panels, _by_kind(results)[:2], labels, strict=True):
        median = _median(of_kind)
        axes.axhspan((1 - BAND) * median, (1 + BAND) * median, color="#1f6fb4", alpha=0.12, linewidth=0)
        axes.axhline(median, color="#666666", linestyle="--", linewidth=1, label=f"median, ±{100 * BAND:.0f} %")
        sizes = [it["size"] for it in of_kind]
        rates = [it["turns_per_second"] for it in of_kind]
        axes.plot(sizes, rates, "o-", color="#1f6fb4", markersize=5)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize="small")
        axes.minorticks_off()
        axes.set_ylim(0, 1.25 * max(rates))
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("agent turns a second")
    panels[0].legend(frameon=False, loc="lower right")
    figure.savefig(PLOT, metadata={"Date": None})


def check(results: Sequence[Mapping[str, Any]]) -> None:
    """Check that memory stayed bounded, and that what was measured is the model.

    Raises:
        SystemExit: it did not, or is not.
    """
    for it in results:
        what = f"{it['name']}, {it['size']:,} turns"
        if it["peak_mb"] > MEMORY_LIMIT_MB:
            raise SystemExit(f"{what}: {it['peak_mb']:.0f} MB are more than {MEMORY_LIMIT_MB} MB")
        if it["making_share"] > MAKING_LIMIT:
            raise SystemExit(f"{what}: making them took {100 * it['making_share']:.1f} % of the time")


def _by_kind(results: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], ...]:
    """Streams, conversations, and streams on one core or on several."""
    streams = [it for it in results if it["name"] == "stream"]
    conversations = [it for it in results if it["name"] == "conversation"]
    return streams, conversations, [it for it in results if it["name"] not in ("stream", "conversation")]


def _median(results: Sequence[Mapping[str, Any]]) -> float:
    return float(statistics.median(it["turns_per_second"] for it in results))


def _to_median(result: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    return f"{100 * (result['turns_per_second'] / _median(results) - 1):+.0f} %"


if __name__ == "__main__":
    typer.run(main)
