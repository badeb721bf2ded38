"""What `huggingface_hub.InferenceClient(model=URL).text_classification(…)` asks for: the pipeline's own shapes.

Request and answer are those of the text-classification task of Hugging Face's inference API.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field

from listening_clf.conversation import Prediction, in_context
from listening_clf.serve.http import PROBLEMS, Json, Models, StrictRoute, unless_gone
from listening_clf.serve.schemas import EXAMPLE_SCORES, Strict, Text
from listening_clf.serve.settings import REQUEST_TURNS

router = APIRouter(route_class=StrictRoute)


class Parameters(Strict):
    """What a pipeline may be told beside its inputs."""

    top_k: Annotated[int | None, Field(strict=True, ge=1, description="Only so many labels, the likeliest.")] = None
    function_to_apply: Literal["sigmoid"] | None = Field(
        None, description="Scores are calibrated probabilities, each label's own: nothing else can be had of them."
    )


class Pair(Strict):
    """An agent turn with what the customer said before it."""

    text: Text
    text_pair: Text | None = None


class PipelineRequest(BaseModel):
    """One input or several. Keys for other tasks (`options`, …) are passed over."""

    inputs: Text | Pair | Annotated[list[Text | Pair], Field(min_length=1, max_length=REQUEST_TURNS)]
    parameters: Parameters = Parameters(top_k=None, function_to_apply=None)


class Element(BaseModel):
    """A label and its probability."""

    label: str = Field(examples=["paraphrase"])
    score: float = Field(examples=[EXAMPLE_SCORES["paraphrase"]])


PipelineAnswer: TypeAlias = list[list[Element]]


@router.post(
    "/",
    summary="As a Hugging Face text-classification pipeline",
    response_model=PipelineAnswer,
    responses=PROBLEMS,
    tags=["other protocols"],
)
async def classify(
    body: Annotated[
        PipelineRequest, Body(openapi_examples={"a sentence": {"value": {"inputs": "What happened then?"}}})
    ],
    request: Request,
    models: Models,
) -> Json:
    """For each input a list of all labels with their probabilities, the likeliest first. Goes to the default model."""
    inputs = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    items = [in_context(it) if isinstance(it, str) else in_context(it.text, it.text_pair) for it in inputs]
    predictions = await unless_gone(request, (await models.get()).predict(items))
    return Json([_elements(prediction, body.parameters.top_k) for prediction in predictions])


def _elements(prediction: Prediction, top_k: int | None) -> list[dict[str, Any]]:
    ranked = sorted(prediction.scores.items(), key=lambda it: -it[1])
    return [{"label": label, "score": score} for label, score in ranked[:top_k]]
