"""Who is measured: listening_clf's models, and what people would use instead with the weights of `small`.

`python -m benchmarks.contenders NAME` is the process of one of them, to which benchmarks/run.py talks (protocol.py).
Each imports what it needs only when it is loaded, so that the memory of its process is its own. What uses PyTorch
computes on as many threads as PyTorch chooses, and in float32 unless its name says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from benchmarks.protocol import Contender, serve
from listening_clf.conversation import Turn
from listening_clf.hub import bundled_models, locate
from listening_clf.labels import Label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores: TypeAlias = NDArray[np.floating]
    TextPair: TypeAlias = str | tuple[str, str]

BATCH_SIZE = 32


class Ours:
    """`ListeningClassifier.predict`, with the turns before as context.

    Args:
        model: a bundled model's name.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def load(self) -> None:
        """Load the bundled model."""
        from listening_clf import ListeningClassifier

        self._classifier = ListeningClassifier.from_pretrained(self._model)

    def read(self, sent: Mapping[str, Any]) -> tuple[Turn, list[Turn]]:
        """The turn, and those before it."""
        return Turn.from_dict(sent["turn"]), [Turn.from_dict(it) for it in sent["context"]]

    def predict_many(self, turns: Sequence[tuple[Turn, list[Turn]]]) -> Scores:
        """All turns in one call."""
        predictions = self._classifier.predict([turn for turn, _ in turns], context=[before for _, before in turns])
        return np.array([list(prediction.scores.values()) for prediction in predictions])

    def predict_one(self, turn: tuple[Turn, list[Turn]]) -> Scores:
        """One turn in a call."""
        text, before = turn
        return np.array(list(self._classifier.predict(text, context=before).scores.values()))


class Pipeline:
    """`transformers.pipeline`, called as the README shows, but for the numbers that it computes in.

    Args:
        batch_size: how many turns the pipeline runs together.
        dtype: what PyTorch calls the numbers; the folder's are float16.
    """

    def __init__(self, batch_size: int, dtype: str) -> None:
        self._batch_size = batch_size
        self._dtype = dtype

    def load(self) -> None:
        """Make the pipeline of the bundled folder."""
        from transformers import pipeline

        self._classify = pipeline(
            "text-classification",
            model=str(locate("small")),
            top_k=None,
            dtype=self._dtype,
            device="cpu",
            batch_size=self._batch_size,
        )

    def read(self, sent: Mapping[str, Any]) -> dict[str, str]:
        """The turn and its context, as the pipeline names them."""
        return {key: sent[key] for key in ("text", "text_pair") if sent[key]}

    def predict_many(self, turns: Sequence[dict[str, str]]) -> Scores:
        """All turns in one call."""
        return np.array([_by_label(found) for found in self._classify(list(turns), truncation=True)])

    def predict_one(self, turn: dict[str, str]) -> Scores:
        """One turn in a call."""
        return np.array(_by_label(self._classify(turn, truncation=True)))


class PyTorchLoop:
    """The loop that one writes around a transformers model: batches in the order given, padded to the longest."""

    def load(self) -> None:
        """Load tokenizer and model of the bundled folder."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(locate("small"))
        self._model = AutoModelForSequenceClassification.from_pretrained(locate("small"), dtype=torch.float32).eval()

    def read(self, sent: Mapping[str, Any]) -> TextPair:
        """The turn and its context, as a tokenizer takes them."""
        return as_tokenized(sent)

    def predict_many(self, turns: Sequence[TextPair]) -> Scores:
        """Batch after batch."""
        batches = [turns[first : first + BATCH_SIZE] for first in range(0, len(turns), BATCH_SIZE)]
        return np.concatenate([self._run(batch) for batch in batches])

    def predict_one(self, turn: TextPair) -> Scores:
        """A batch of one."""
        return np.asarray(self._run([turn])[0])

    def _run(self, batch: Sequence[TextPair]) -> Scores:
        inputs = self._tokenizer(list(batch), padding=True, truncation=True, return_tensors="pt")
        with self._torch.inference_mode():
            return np.asarray(self._torch.sigmoid(self._model(**inputs).logits).numpy())


class DetoxifyStyle(PyTorchLoop):
    """As the package Detoxify is written and its README calls it: a class whose `predict` gives a dict, text by text.

    It scores comments by toxicity, not turns by listening, so it is the manner that is measured, on our model.
    """

    def predict_many(self, turns: Sequence[TextPair]) -> Scores:
        """A call a turn."""
        return np.array([self.predict_one(turn) for turn in turns])

    def predict_one(self, turn: TextPair) -> Scores:
        """One turn in a call."""
        return np.array(list(self._predict(turn).values()))

    def _predict(self, turn: TextPair) -> dict[str, float]:
        labels = self._model.config.id2label.values()
        return {label: float(score) for label, score in zip(labels, self._run([turn])[0], strict=True)}


def _by_label(found: Any) -> list[float]:
    """What the pipeline says of a turn, which it sorts by score, in the codebook's order."""
    scores = {it["label"]: it["score"] for it in found}
    return [scores[label] for label in Label]


def as_tokenized(sent: Mapping[str, Any]) -> TextPair:
    """A turn and its context as a tokenizer takes them; the turn alone where there is no context."""
    return (sent["text"], sent["text_pair"]) if sent["text_pair"] else sent["text"]


OURS = {f"listening_clf {model}": model for model in bundled_models()}
PIPELINES = {
    "transformers.pipeline, batch_size 1": (1, "float32"),
    f"transformers.pipeline, batch_size {BATCH_SIZE}": (BATCH_SIZE, "float32"),
    "transformers.pipeline, bfloat16": (1, "bfloat16"),
}

CONTENDERS: dict[str, Callable[[], Contender]] = {
    **{name: partial(Ours, model) for name, model in OURS.items()},
    **{name: partial(Pipeline, *settings) for name, settings in PIPELINES.items()},
    f"PyTorch loop, batches of {BATCH_SIZE}": PyTorchLoop,
    "Detoxify-style": DetoxifyStyle,
}


if __name__ == "__main__":
    serve(CONTENDERS[sys.argv[1]]())
