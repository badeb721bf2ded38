"""Live calls, as they would come from a speech recogniser: the turns of many calls at once, each in growing parts."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from math import ceil
from time import perf_counter
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.serve_process import HOST, Service
from benchmarks.workload import conversations_of
from listening_clf.conversation import Conversation

TURN_SECONDS = 3.0
PARTIALS = 4
"""Parts of a turn that are sent before all of it is."""


async def replay(service: Service, calls: int, seconds: float, seed: int) -> list[float]:
    """Have so many calls go on for so long; the milliseconds from each agent message to what is said of the turn.

    The calls begin within the time of a turn. A part that has grown before it was judged is answered by what is said of
    the grown one.
    """
    latencies: list[float] = []
    conversations = islice(conversations_of(max(2, ceil(seconds / TURN_SECONDS)), seed), calls)
    async with asyncio.TaskGroup() as tasks:
        for number, conversation in enumerate(conversations):
            rng = random.Random(f"{seed} {number}")
            tasks.create_task(_replay_one(service, f"replay-{calls}-{number}", conversation, rng, latencies))
    return latencies


async def _replay_one(
    service: Service, name: str, conversation: Conversation, rng: random.Random, latencies: list[float]
) -> None:
    await asyncio.sleep(rng.uniform(0, TURN_SECONDS))
    pause = TURN_SECONDS / (PARTIALS + 1)
    async with connect(f"ws://{HOST}:{service.port}/v1/live") as socket:
        await _begin(socket, name)
        sent: dict[tuple[int, int], float] = {}
        reading = asyncio.create_task(_read(socket, sent, latencies))
        for seq, turn in enumerate(conversation.turns):
            for revision, text in enumerate(_parts(turn.text)):
                if turn.speaker == "agent":
                    sent[seq, revision] = perf_counter()
                message = {"type": "turn", "seq": seq, "speaker": turn.speaker, "text": text}
                await socket.send(json.dumps({**message, "revision": revision, "final": revision == PARTIALS}))
                await asyncio.sleep(pause * rng.uniform(0.8, 1.2))
        await socket.send(json.dumps({"type": "end"}))
        await reading
    if sent:
        raise RuntimeError(f"{len(sent)} messages of the call {name} were not answered")


async def _read(socket: ClientConnection, sent: dict[tuple[int, int], float], latencies: list[float]) -> None:
    """Take answers until the call has ended."""
    async for text in socket:
        now = perf_counter()
        message = _checked(text)
        if message["type"] == "ended":
            return
        seq, revision = message["seq"], message["revision"]
        for key in [key for key in sent if key[0] == seq and key[1] <= revision]:
            latencies.append(1000 * (now - sent.pop(key)))


def _parts(text: str) -> Iterator[str]:
    """The first words of a text, more each time, and in the end all of it."""
    words = text.split()
    for part in range(1, PARTIALS + 1):
        yield " ".join(words[: max(1, len(words) * part // (PARTIALS + 1))])
    yield text


async def short_call(service: Service, name: str, conversation: Conversation) -> None:
    """A whole call as fast as it goes: connect, say each turn and wait for its answer, end."""
    async with connect(f"ws://{HOST}:{service.port}/v1/live") as socket:
        await _begin(socket, name)
        for seq, turn in enumerate(conversation.turns):
            await socket.send(json.dumps({"type": "turn", "seq": seq, "speaker": turn.speaker, "text": turn.text}))
            while _checked(await socket.recv())["seq"] != seq:
                pass
        await socket.send(json.dumps({"type": "end"}))
        while _checked(await socket.recv())["type"] != "ended":
            pass


async def short_calls(service: Service, conversations: Sequence[Conversation], at_once: int, first: int) -> None:
    """Have short calls, so many at once; `first` is the number by which the first of them is called."""
    numbered = iter(enumerate(conversations, first))

    async def caller() -> None:
        for number, conversation in numbered:
            await short_call(service, f"short-{number}", conversation)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(caller())


async def _begin(socket: ClientConnection, name: str) -> None:
    await socket.send(json.dumps({"type": "start", "call": name}))
    _checked(await socket.recv())


def _checked(text: str | bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(text)
    if message["type"] == "error":
        raise RuntimeError(f"the service says: {message}")
    return message
