"""KServe's Open Inference Protocol, version 2, over HTTP (https://github.com/kserve/open-inference-protocol).

With the extension for binary tensors that Triton's clients use by default
(https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json

from listening_clf import __version__
from listening_clf.checkpoint import ONNX_DATA
from listening_clf.conversation import TurnInContext, in_context
from listening_clf.errors import TurnError
from listening_clf.serve.http import PROBLEMS, Json, Models, StrictRoute, parse_json, unless_gone
from listening_clf.serve.problems import ProblemError
from listening_clf.serve.registry import Registry, Served
from listening_clf.serve.settings import REQUEST_TURNS

router = APIRouter(prefix="/v2", route_class=StrictRoute, tags=["other protocols"])

HEADER_LENGTH = "Inference-Header-Content-Length"
TEXT, CONTEXT = "text", "context"
SCORES, GIVEN = "scores", "given"


class InferInput(BaseModel):
    """An input tensor: `text`, what agents said; `context`, what the customer said before each, "" for nothing."""

    name: str = Field(examples=[TEXT])
    shape: list[Annotated[int, Field(ge=0)]] = Field(examples=[[1]], fail_fast=True)
    datatype: str = Field(examples=["BYTES"])
    parameters: dict[str, Any] = {}
    data: list[Any] | None = Field(None, examples=[["What happened then?"]])


class InferOutput(BaseModel):
    """An output tensor that is asked for."""

    name: str = Field(examples=[SCORES])
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """Turns to judge."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[InferInput] = Field(max_length=2)
    outputs: list[InferOutput] | None = Field(None, max_length=2)


@dataclass(frozen=True)
class _Tensor:
    """An output, all turns' labels one after the other."""

    name: str
    datatype: str
    values: np.ndarray[Any, Any]


@router.get("", summary="What this server is", responses={401: PROBLEMS[401]})
async def server() -> Json:
    """Its name, version and extensions."""
    return Json({"name": "listening_clf", "version": __version__, "extensions": ["binary_tensor_data"]})


@router.get("/health/live", summary="Whether the server runs")
async def live() -> Json:
    """It does if it answers."""
    return Json({"live": True})


@router.get("/health/ready", summary="Whether all models can be asked")
async def ready(request: Request, models: Models) -> Json:
    """As /readyz."""
    is_ready = bool(request.app.state.ready and models.entries())
    return Json({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/models/{name}", summary="What a model takes and gives", responses=PROBLEMS)
@router.get("/models/{name}/versions/{version}", include_in_schema=False)
async def metadata(name: str, models: Models, version: str = "") -> Json:
    """Its tensors; `given` says which scores pass their label's threshold."""
    served = await _served(models, name, version)
    n_labels = len(served.classifier.labels)
    return Json(
        {
            "name": served.name,
            "versions": [_version(served)],
            "platform": "onnx_onnxruntime",
            "inputs": [
                {"name": TEXT, "datatype": "BYTES", "shape": [-1]},
                {"name": CONTEXT, "datatype": "BYTES", "shape": [-1], "parameters": {"optional": True}},
            ],
            "outputs": [
                {"name": SCORES, "datatype": "FP32", "shape": [-1, n_labels]},
                {"name": GIVEN, "datatype": "BOOL", "shape": [-1, n_labels]},
            ],
            "parameters": {"labels": list(served.classifier.labels)},
        }
    )


@router.get("/models/{name}/ready", summary="Whether a model can be asked", responses=PROBLEMS)
@router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
async def model_ready(name: str, models: Models, version: str = "") -> Json:
    """It can, once it is loaded."""
    served = await _served(models, name, version)
    return Json({"name": served.name, "ready": True})


@router.post(
    "/models/{name}/infer",
    summary="Judge agent turns",
    responses=PROBLEMS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
                }
            },
        }
    },
)
@router.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
async def infer(name: str, request: Request, models: Models, version: str = "") -> Response:
    """Input `text` and, if known, `context`: BYTES of shape [turns]. Output `scores` (FP32) and `given` (BOOL) of shape
    [turns, labels], the labels in the order of the model's metadata.
    """
    served = await _served(models, name, version)
    asked, rest = _split(await request.body(), request.headers.get(HEADER_LENGTH))
    texts = _inputs(asked, rest)
    predictions = await unless_gone(request, served.predict(_in_context(texts)))
    labels = served.classifier.labels
    tensors = [
        _Tensor(SCORES, "FP32", np.array([it.scores[label] for it in predictions for label in labels], np.float32)),
        _Tensor(GIVEN, "BOOL", np.array([label in it.labels for it in predictions for label in labels], np.bool_)),
    ]
    return _answer(served, asked, tensors)


def _split(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes]:
    """The request proper, and the binary tensors after it."""
    length = len(body)
    if header_length is not None:
        if not re.fullmatch(r"[0-9]{1,8}", header_length) or int(header_length) > length:
            raise ProblemError(400, f"{HEADER_LENGTH} must be a number of bytes, {length:,} at most")
        length = int(header_length)
    try:
        return InferRequest.model_validate(parse_json(body[:length])), body[length:]
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def _inputs(asked: InferRequest, rest: bytes) -> dict[str, list[str]]:
    """The strings of each input."""
    found: dict[str, list[str]] = {}
    for index, tensor in enumerate(asked.inputs):
        where = f"#/inputs/{index}"
        if tensor.name not in (TEXT, CONTEXT) or tensor.name in found:
            raise ProblemError(422, f"{where}: expected the inputs {TEXT!r} and, if known, {CONTEXT!r}, each once")
        if tensor.datatype != "BYTES":
            raise ProblemError(422, f"{where}/datatype: expected BYTES, not {tensor.datatype!r}")
        if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]):
            raise ProblemError(422, f"{where}/shape: expected [turns] or [turns, 1]")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            strings = _strings(tensor.data, where)
        elif isinstance(size, int) and 0 <= size <= len(rest):
            strings, rest = _decoded(rest[:size], where), rest[size:]
        else:
            raise ProblemError(422, f"{where}/parameters/binary_data_size: more than was sent")
        if len(strings) != tensor.shape[0]:
            raise ProblemError(422, f"{where}: {len(strings)} strings, but the shape says {tensor.shape[0]}")
        found[tensor.name] = strings
    if TEXT not in found:
        raise ProblemError(422, f"#/inputs: the input {TEXT!r} is missing")
    if len(found[TEXT]) > REQUEST_TURNS:
        raise ProblemError(422, f"#/inputs: {len(found[TEXT]):,} turns; a request may have {REQUEST_TURNS:,}")
    if CONTEXT in found and len(found[CONTEXT]) != len(found[TEXT]):
        raise ProblemError(422, f"#/inputs: {len(found[TEXT])} of {TEXT!r}, but {len(found[CONTEXT])} of {CONTEXT!r}")
    return found


def _strings(data: list[Any] | None, where: str) -> list[str]:
    flat = [item for row in data or [] for item in (row if isinstance(row, list) else [row])]
    if not all(isinstance(item, str) for item in flat):
        raise ProblemError(422, f"{where}/data: expected a list of strings")
    return flat


def _decoded(raw: bytes, where: str) -> list[str]:
    """The strings of a binary tensor: each behind its length in bytes, four of them, little-endian."""
    strings: list[str] = []
    position = 0
    while position < len(raw):
        begin = position + 4
        position = begin + int.from_bytes(raw[position:begin], "little")
        if position > len(raw) or len(strings) == REQUEST_TURNS:
            raise ProblemError(422, f"{where}: the binary data ends within a string, or has over {REQUEST_TURNS:,}")
        try:
            strings.append(raw[begin:position].decode())
        except UnicodeDecodeError:
            raise ProblemError(422, f"{where}: string {len(strings)} is not UTF-8") from None
    return strings


def _in_context(texts: Mapping[str, list[str]]) -> list[TurnInContext]:
    items: list[TurnInContext] = []
    contexts = texts.get(CONTEXT) or [""] * len(texts[TEXT])
    for index, (text, context) in enumerate(zip(texts[TEXT], contexts, strict=True)):
        try:
            items.append(in_context(text, context if context.strip() else None))
        except TurnError as error:
            raise ProblemError(422, f"#/inputs: turn {index}: {error}") from None
    return items


def _answer(served: Served, asked: InferRequest, tensors: Sequence[_Tensor]) -> Response:
    """The tensors that are asked for, each as JSON or, where that is asked for, as bytes behind it."""
    by_name = {tensor.name: tensor for tensor in tensors}
    n_labels = len(served.classifier.labels)
    wanted = asked.outputs or [InferOutput(name=name) for name in by_name]
    all_binary = asked.parameters.get("binary_data_output") is True
    outputs, binary = [], b""
    for index, output in enumerate(wanted):
        if output.name not in by_name:
            raise ProblemError(422, f"#/outputs/{index}: expected {' or '.join(by_name)}, not {output.name!r}")
        tensor = by_name[output.name]
        shown: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [tensor.values.size // n_labels, n_labels],
        }
        if output.parameters.get("binary_data", all_binary) is True:
            raw = tensor.values.tobytes()
            binary += raw
            shown["parameters"] = {"binary_data_size": len(raw)}
        else:
            shown["data"] = tensor.values.tolist()
        outputs.append(shown)
    head = to_json({"model_name": served.name, "model_version": _version(served), "id": asked.id, "outputs": outputs})
    if not binary:
        return Response(head, media_type="application/json")
    return Response(head + binary, headers={HEADER_LENGTH: str(len(head))}, media_type="application/octet-stream")


async def _served(models: Registry, name: str, version: str) -> Served:
    served = await models.get(name)
    if version and version != _version(served):
        raise ProblemError(404, f"{name!r} has version {_version(served)}, not {version!r}")
    return served


def _version(served: Served) -> str:
    """What tells this model from others of its name: the beginning of its weights' sha256."""
    return served.classifier.checkpoint.manifest.files[ONNX_DATA][:12]
