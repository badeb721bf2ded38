"""What one writes to have `transformers.pipeline` answer over HTTP: `python -m benchmarks.serve_peer PORT`.

It is one of those that benchmarks/serve.py measures: the weights of `small` in float32, on as many threads as PyTorch
chooses, a request a call, in the threads that FastAPI has for endpoints that are not `async`.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

from listening_clf.hub import locate

app = FastAPI()
classify = pipeline("text-classification", model=str(locate("small")), top_k=None, dtype="float32", device="cpu")


class Turn(BaseModel):
    """An agent turn, and what came before it."""

    text: str
    text_pair: str | None = None


@app.post("/predict")
def predict(turn: Turn) -> Any:
    """The score of each label."""
    return classify(turn.model_dump(exclude_none=True), truncation=True)


@app.get("/readyz")
def readyz() -> dict[str, str]:
    """The model is loaded before anything is answered."""
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
