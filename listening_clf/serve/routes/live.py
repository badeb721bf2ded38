"""`WS /v1/live`: the turns of a call as they come, and at once what the model says of them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from time import perf_counter
from typing import Any, cast, get_args

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.websockets import WebSocketState

from listening_clf.conversation import Turn
from listening_clf.errors import TurnError
from listening_clf.serve.call import LiveTurn, Taken
from listening_clf.serve.calls import Calls, TakenOverError, TooManyCallsError
from listening_clf.serve.http import bearer_of, keys_of, metrics_of, parse_json
from listening_clf.serve.problems import ProblemError, invalid, log_failure, problem
from listening_clf.serve.registry import Registry
from listening_clf.serve.schemas import End, LiveTurnIn, Message, MessageType, Start
from listening_clf.serve.settings import LIVE_CHARS, LIVE_CONNECTIONS

router = APIRouter()

START_SECONDS = 10.0
"""How long a connection may take to say which call it is for."""

WARM_SECONDS = 0.2
"""How long the model lies idle at the most while calls are connected."""

TOUCH_SECONDS = 60.0
"""How often a connected call in which nothing is said is kept from being forgotten."""

UPDATED = "updated"
"""The status of a turn of which something else is said, since what was said before it has changed."""

# Codes of closed connections: those below 4000 are RFC 6455's.
NORMAL, POLICY, WENT_WRONG, TRY_LATER, TAKEN_OVER = 1000, 1008, 1011, 1013, 4409

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)


@router.websocket("/v1/live")
async def live(socket: WebSocket) -> None:
    """Serve one connection. docs/serve.md describes the messages."""
    metrics = metrics_of(socket)
    origin = socket.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != socket.headers.get("host"):
        await socket.close(POLICY, "another site's page may not connect")  # before it is accepted: HTTP 403
        return
    await socket.accept()
    if socket.app.state.live_connections >= LIVE_CONNECTIONS:
        await socket.close(TRY_LATER, "too many live calls")
        return
    if not socket.app.state.live_connections:
        socket.app.state.warming = asyncio.create_task(_keep_warm(socket.app.state.registry))
    socket.app.state.live_connections += 1
    metrics.live.inc()
    connection = _Connection(socket)
    try:
        await connection.serve()
    except WebSocketDisconnect:
        pass
    except Exception as error:
        log_failure(error)
        with suppress(RuntimeError):
            await socket.close(WENT_WRONG, "something went wrong here")
    finally:
        socket.app.state.live_connections -= 1
        if not socket.app.state.live_connections:
            socket.app.state.warming.cancel()
        metrics.live.dec()


async def _keep_warm(models: Registry) -> None:
    """Have the default model answer at once, for as long as calls are connected."""
    while True:
        await asyncio.sleep(WARM_SECONDS)
        try:
            await (await models.get()).batcher.keep_warm()
        except Exception as error:
            log_failure(error)


class _EndedError(Exception):
    """The connection is to be closed.

    Args:
        code: with which code.
        reason: and which words, if the client has not been told.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Connection:
    """One WebSocket, and the call that it is for."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._models = cast(Registry, socket.app.state.registry)
        self._calls = cast(Calls, socket.app.state.calls)
        self._metrics = metrics_of(socket)
        self._id = secrets.token_hex(8)
        self._to_judge: dict[int, tuple[str, float]] = {}
        """The turns that wait to be judged: what became of each, and when it came."""
        self._something_to_judge = asyncio.Event()
        self._is_over = False
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Answer messages until the call or the connection ends."""
        try:
            await self._start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._judge())
                touching = tasks.create_task(self._touch())
                await self._read()
                touching.cancel()
                self._is_over = True
                self._something_to_judge.set()  # what waits is judged yet
            await self._end()
        except* _EndedError as group:
            ended = _first(group)
            await self._socket.close(ended.code, ended.reason)
        except* TakenOverError:
            await self._socket.close(TAKEN_OVER, "another connection goes on with this call")
        except* TooManyCallsError:
            await self._send_problem(problem(503, "too many calls are remembered: end some, or try again later"))
            await self._socket.close(TRY_LATER, "too many calls")
        except* WebSocketDisconnect:
            pass

    async def _start(self) -> None:
        """Wait for the first message, and tell what is known of its call."""
        try:
            async with asyncio.timeout(START_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise _EndedError(POLICY, f"no start message within {START_SECONDS:g} s") from None
        if not isinstance(message, Start):
            await self._send_problem(problem(422, "the first message must be of the type 'start'"))
            raise _EndedError(POLICY, "no start message")
        owner = keys_of(self._socket).owner(message.key or bearer_of(self._socket.headers))
        if owner is None:
            await self._send_problem(problem(401, "this needs an API key: as 'key', or in the header 'Authorization'"))
            raise _EndedError(POLICY, "no valid API key")
        try:
            self._served = await self._models.get(message.model)
        except ProblemError as error:
            await self._send_problem(error.to_dict())
            raise _EndedError(POLICY, "no such model") from None
        self._call = self._calls.open(owner, message.call, self._id)
        self._model, self._owner, self._name = message.model, owner, message.call
        known = [self._shown(turn) for turn in self._call.turns]
        await self._send(
            {
                "type": "started",
                "call": self._name,
                "model": self._served.name,
                "next": self._call.next,
                "turns": known,
                "totals": self._call.totals(),
            }
        )
        self._queue(self._call.unjudged, Taken.NEW)

    async def _read(self) -> None:
        """Take turns until the call ends."""
        while True:
            message = await self._receive()
            if isinstance(message, Start):
                await self._send_problem(problem(409, f"this connection is for the call {self._name!r} already"))
            elif isinstance(message, End):
                return
            elif message is not None:
                await self._take(message)

    async def _take(self, message: LiveTurnIn) -> None:
        try:
            turn = Turn(message.speaker, message.text, message.start, message.end)
        except TurnError as error:
            await self._send_problem(problem(422, str(error)), message.seq)
            return
        if self._call.characters + len(turn.text) > LIVE_CHARS:
            await self._send_problem(problem(413, f"a call may have {LIVE_CHARS:,} characters"), message.seq)
            return
        came = LiveTurn(message.seq, turn, message.final, message.revision)
        taken = self._call.take(came)
        known = self._call[message.seq]
        if taken in (Taken.NEW, Taken.CHANGED):
            self._calls.save(self._owner, self._name, self._id, [known])
        if known.is_agents and known.prediction is None:
            self._queue([message.seq], taken)
        else:
            await self._answer(message.seq, taken)
        if taken in (Taken.NEW, Taken.CHANGED):
            tokens = self._served.classifier.checkpoint.manifest.encoding["context_tokens"]
            self._queue(self._call.reading(message.seq, tokens), UPDATED)

    def _queue(self, seqs: list[int], status: str) -> None:
        """Have turns judged, those first that came first; one that waits already is judged once."""
        for seq in seqs:
            if seq not in self._to_judge or status in (Taken.NEW, Taken.CHANGED):
                self._to_judge[seq] = (status, perf_counter())
        if self._to_judge:
            self._something_to_judge.set()

    async def _judge(self) -> None:
        """Judge what waits, until the call is over and nothing does."""
        while not self._is_over:
            await self._something_to_judge.wait()
            self._something_to_judge.clear()
            while self._to_judge:
                await self._judge_waiting()

    async def _judge_waiting(self) -> None:
        with suppress(ProblemError):  # it has been let go of: it goes on for those who began with it
            self._served = await self._models.get(self._model)
        waiting, self._to_judge = self._to_judge, {}
        # It may have turned out to be the customer who said it.
        waiting = {seq: reason for seq, reason in waiting.items() if self._call[seq].is_agents}
        asked = {seq: self._call[seq].turn for seq in waiting}
        predictions = await self._served.predict([self._call.in_context(seq) for seq in waiting], live=True)
        news = []
        for (seq, reason), prediction in zip(waiting.items(), predictions, strict=True):
            if self._call[seq].turn != asked[seq]:
                continue  # it has grown since, and waits again
            status, came = reason
            if self._call.judged(seq, prediction) or status != UPDATED:
                news.append((seq, status, came))
        self._calls.save(self._owner, self._name, self._id, [self._call[seq] for seq, _, _ in news])
        for seq, status, came in news:
            await self._answer(seq, status)
            self._metrics.live_seconds.observe(perf_counter() - came)

    async def _touch(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            self._calls.save(self._owner, self._name, self._id, [])

    async def _end(self) -> None:
        """Forget the call."""
        self._calls.end(self._owner, self._name, self._id)
        await self._send({"type": "ended", "call": self._name, "totals": self._call.totals()})
        raise _EndedError(NORMAL)

    async def _receive(self) -> Message | None:
        """The next message; None where it was none, which the client has been told."""
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code") or NORMAL)
        text = received.get("text")
        if text is None:
            await self._send_problem(problem(400, "messages are JSON in text frames"))
            return None
        try:
            data = parse_json(text)
        except ProblemError as error:
            await self._send_problem(error.to_dict())
            return None
        try:
            return _MESSAGE.validate_python(data)
        except ValidationError as error:
            seq = data.get("seq") if isinstance(data, dict) else None
            await self._send_problem(
                invalid(error.errors(), get_args(MessageType)),
                seq if isinstance(seq, int) else None,
            )
            return None

    def _shown(self, known: LiveTurn) -> dict[str, Any]:
        judged = known.prediction
        return {
            "seq": known.seq,
            "speaker": known.turn.speaker,
            "final": known.final,
            "revision": known.revision,
            "labels": None if judged is None else judged.labels,
            "scores": None if judged is None else judged.scores,
        }

    async def _answer(self, seq: int, status: str) -> None:
        shown = self._shown(self._call[seq])
        await self._send({"type": "turn", **shown, "status": status, "totals": self._call.totals()})

    async def _send_problem(self, data: dict[str, Any], seq: int | None = None) -> None:
        about = {} if seq is None else {"seq": seq}
        await self._send({**data, "type": "error", **about})

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            if self._socket.client_state != WebSocketState.CONNECTED:
                raise WebSocketDisconnect
            await self._socket.send_text(to_json(message).decode())


def _first(group: BaseExceptionGroup[_EndedError]) -> _EndedError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
