"""Whether a service's memory stays what it is, over many requests and many live calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from benchmarks.serve_live import short_calls
from benchmarks.serve_load import OK, Clients
from benchmarks.serve_process import Service
from benchmarks.workload import conversations_of

EARLY = 0.1
"""The share after which memory should grow no more."""

SAMPLE_SECONDS = 2.0
CALL_TURNS = 6
CALLS_AT_ONCE = 20
CALLS_A_SAMPLE = 100


class Sample(NamedTuple):
    """How much memory a service had when."""

    done: int
    memory_mb: float


async def requests(
    service: Service, sent: Sequence[bytes], clients: int, total: int, show: Callable[[int], None]
) -> dict[str, Any]:
    """Send so many requests, and look at the memory every few seconds. `show` is told how many are answered."""
    samples = [Sample(0, service.memory_mb())]
    async with Clients(service, sent, clients) as crowd:
        waiting = asyncio.ensure_future(crowd.answered(total))
        while not waiting.done():
            await asyncio.wait([waiting], timeout=SAMPLE_SECONDS)
            samples.append(Sample(len(crowd.answers), service.memory_mb()))
            show(len(crowd.answers))
        await waiting
    return _grown("requests", samples, failed=sum(it.status != OK for it in crowd.answers))


async def live_calls(service: Service, total: int, seed: int, show: Callable[[int], None]) -> dict[str, Any]:
    """Have so many short calls from their start to their end, and look at the memory now and then."""
    samples = [Sample(0, service.memory_mb())]
    conversations = conversations_of(CALL_TURNS, seed)
    for first in range(0, total, CALLS_A_SAMPLE):
        some = list(islice(conversations, min(CALLS_A_SAMPLE, total - first)))
        await short_calls(service, some, CALLS_AT_ONCE, first)
        samples.append(Sample(first + len(some), service.memory_mb()))
        show(first + len(some))
    return _grown("live calls", samples, failed=0)


def _grown(what: str, samples: Sequence[Sample], failed: int) -> dict[str, Any]:
    """How the memory was early on and in the end; `growth_mb` is the most by which it exceeded what it was early on."""
    total = samples[-1].done
    early = next(i for i, it in enumerate(samples) if it.done >= EARLY * total)
    return {
        "what": what,
        "done": total,
        "failed": failed,
        "before_mb": samples[0].memory_mb,
        "early_mb": samples[early].memory_mb,
        "end_mb": samples[-1].memory_mb,
        "growth_mb": max(it.memory_mb for it in samples[early:]) - samples[early].memory_mb,
        "samples": samples,
    }
