"""Our own HTTP API: turns, conversations, transcripts, models."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, Query, Request

from listening_clf import __version__, transcripts
from listening_clf.checkpoint import ONNX_DATA
from listening_clf.conversation import Conversation, Prediction, Turn, TurnInContext
from listening_clf.errors import CheckpointError, ServeError, SpeakersError, TurnError
from listening_clf.serve.call import totals
from listening_clf.serve.http import PROBLEMS, Json, Models, StrictRoute, unless_gone, with_admin_key
from listening_clf.serve.problems import ProblemError
from listening_clf.serve.registry import Registry, Served
from listening_clf.serve.schemas import (
    AgentTurn,
    ConversationsAnswer,
    ConversationsRequest,
    LoadRequest,
    ManyPredictions,
    ManyTurns,
    ModelInfo,
    ModelList,
    OnePrediction,
    PredictRequest,
    TranscriptAnswer,
)
from listening_clf.serve.settings import REQUEST_TURNS

T = TypeVar("T")

router = APIRouter(prefix="/v1", route_class=StrictRoute)

_ONE = {"text": "So you were charged twice?", "context": "There are two charges on my card."}
_CALL = [
    {
        "speaker": "customer",
        "text": "The new dishwasher has leaked since the first wash, and I -",
        "start": 3.1,
        "end": 7.9,
    },
    {"speaker": "agent", "text": "What is your order number?", "start": 6.8},
]
_PREDICT_EXAMPLES: Any = {
    "one turn": {"value": _ONE},
    "many": {"value": {"turns": [_ONE, {"text": "What is your order number?", "start": 6.8, "context": _CALL[:1]}]}},
}


@router.post(
    "/predict",
    summary="Judge one agent turn, or many",
    response_model=OnePrediction | ManyPredictions,
    responses=PROBLEMS,
    tags=["predict"],
)
async def predict(
    request: Request, body: Annotated[PredictRequest, Body(openapi_examples=_PREDICT_EXAMPLES)], models: Models
) -> Json:
    """Turns need not belong together: each brings its own context."""
    served = await models.get(body.model)
    items = [
        _in_context(turn, f"#/turns/{i}" if isinstance(body, ManyTurns) else "#") for i, turn in enumerate(body.turns)
    ]
    if isinstance(body, ManyTurns):
        predictions = [it.to_dict() for it in await unless_gone(request, served.predict(items))]
        return Json({"predictions": predictions, "model": served.name})
    (prediction,) = await served.predict(items)
    return Json({**prediction.to_dict(), "model": served.name})


@router.post(
    "/conversations",
    summary="Judge every agent turn of whole conversations",
    response_model=ConversationsAnswer,
    responses=PROBLEMS,
    tags=["predict"],
)
async def conversations(
    body: Annotated[
        ConversationsRequest,
        Body(openapi_examples={"a call": {"value": {"conversations": [{"id": "call-7", "turns": _CALL}]}}}),
    ],
    request: Request,
    models: Models,
) -> Json:
    """Each turn is read with those before it; times, where given, tell who spoke over whom."""
    served = await models.get(body.model)
    read = [_read_at(f"#/conversations/{index}", it.to_conversation) for index, it in enumerate(body.conversations)]
    judged = [
        {
            "id": conversation.id,
            "turns": [
                {"index": index, **prediction.to_dict()}
                for index, prediction in zip(conversation.agent_turns, predictions, strict=True)
            ],
            "totals": totals(conversation, predictions),
        }
        for conversation, predictions in zip(read, await _judge_all(request, served, read), strict=True)
    ]
    return Json({"conversations": judged, "model": served.name})


@router.post(
    "/transcripts",
    summary="Judge the calls or chats of a file",
    response_model=TranscriptAnswer,
    responses=PROBLEMS,
    tags=["predict"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/plain": {"schema": {"type": "string"}, "example": "speaker,text\nagent,What happened?\n"}
            },
        }
    },
)
async def of_transcript(
    request: Request,
    models: Models,
    name: Annotated[str, Query(max_length=200, description="The file's name, whose suffix tells the format.")] = "",
    agent: Annotated[str | None, Query(max_length=200, description="Who is the agent.")] = None,
    model: Annotated[str | None, Query(description="Which of the loaded models.")] = None,
) -> Json:
    """The body is the file as it is: WebVTT, JSONL or CSV, by the name's suffix or else by its first line.

    Where it cannot be told who is the agent, the problem lists the `speakers`: say which one with `agent`.
    """
    served = await models.get(model)
    try:
        read = await to_thread(_read, await request.body(), name or "transcript", agent)
    except SpeakersError as error:
        here = str(error).replace("--agent NAME", "the parameter 'agent'")  # it is told for the command line
        raise ProblemError(422, here, speakers=error.names) from None
    judged = []
    for conversation, predictions in zip(read, await _judge_all(request, served, read), strict=True):
        said = dict(zip(conversation.agent_turns, predictions, strict=True))
        turns = [
            {
                "speaker": turn.speaker,
                "text": turn.text,
                "start": turn.start,
                "end": turn.end,
                **(said[index].to_dict() if index in said else {"labels": None, "scores": None}),
            }
            for index, turn in enumerate(conversation.turns)
        ]
        judged.append({"id": conversation.id, "turns": turns, "totals": totals(conversation, predictions)})
    return Json({"conversations": judged, "model": served.name})


@router.get(
    "/model",
    summary="The default model",
    response_model=ModelInfo,
    tags=["models"],
    responses={401: PROBLEMS[401]},
)
async def default_model(models: Models) -> Json:
    """Its labels, thresholds and versions."""
    return Json(await _info(models))


@router.get(
    "/models",
    summary="All loaded models",
    response_model=ModelList,
    tags=["models"],
    responses={401: PROBLEMS[401]},
)
async def all_models(models: Models) -> Json:
    """The first loaded first."""
    return Json({"models": [await _info(models, entry.name) for entry in models.entries()]})


@router.post(
    "/models/{name}/load",
    summary="Load a model, and switch to it",
    response_model=ModelInfo,
    responses={
        **{status: PROBLEMS[status] for status in (400, 401, 408, 413, 422)},
        403: {**PROBLEMS[401], "description": "The key is no admin key."},
    },
    dependencies=[Depends(with_admin_key)],
    tags=["models"],
)
async def load(name: str, models: Models, body: LoadRequest | None = None) -> Json:
    """For whoever has an admin key. No request is dropped: those in flight are answered by the model that they began
    with. The model that was the default one stays loaded; of more than four, the one loaded first is let go.
    """
    wanted = body or LoadRequest(source=None, make_default=True)
    try:
        await models.load(name, wanted.source or name, make_default=wanted.make_default)
    except (CheckpointError, ServeError) as error:
        raise ProblemError(422, str(error)) from None
    return Json(await _info(models, name))


def _read(file: bytes, name: str, agent: str | None) -> list[Conversation]:
    """The conversations of a file."""
    read: list[Conversation] = []
    turns = 0
    for conversation in transcripts.read(name, agent=agent, stream=BytesIO(file)):
        read.append(conversation)
        turns += len(conversation.agent_turns)
        if turns > REQUEST_TURNS:
            raise ProblemError(413, f"more than {REQUEST_TURNS:,} agent turns: send fewer conversations at once")
    return read


async def _judge_all(request: Request, served: Served, conversations: Sequence[Conversation]) -> list[list[Prediction]]:
    items = [(conversation.turns, index) for conversation in conversations for index in conversation.agent_turns]
    predictions = iter(await unless_gone(request, served.predict(items)))
    return [[next(predictions) for _ in conversation.agent_turns] for conversation in conversations]


def _in_context(turn: AgentTurn, pointer: str) -> TurnInContext:
    said = turn.context
    if isinstance(said, str):
        before = [_read_at(f"{pointer}/context/0", partial(Turn, "customer", said))]
    else:
        before = [_read_at(f"{pointer}/context/{index}", it.to_turn) for index, it in enumerate(said or [])]
    return [*before, _read_at(pointer, turn.to_turn)], len(before)


def _read_at(pointer: str, read: Callable[[], T]) -> T:
    """What is read of what stands there in the body."""
    try:
        return read()
    except TurnError as error:
        raise ProblemError(422, f"{pointer}: {error}", errors=[{"pointer": pointer, "detail": str(error)}]) from None


async def _info(models: Registry, name: str | None = None) -> dict[str, Any]:
    served = await models.get(name)
    entry = models.entry(served.name)
    manifest = served.classifier.checkpoint.manifest
    return {
        "name": entry.name,
        "is_default": entry.is_default,
        "source": entry.source,
        "labels": list(served.classifier.labels),
        "thresholds": served.classifier.thresholds,
        "device": served.classifier.device,
        "context_tokens": manifest.encoding["context_tokens"],
        "versions": {
            "listening_clf": __version__,
            "codebook": manifest.codebook_version,
            "encoding": manifest.encoding["version"],
            "format": manifest.format_version,
        },
        "sha256": manifest.files[ONNX_DATA],
    }
