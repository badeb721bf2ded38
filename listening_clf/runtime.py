"""How a checkpoint runs: encoded turns → calibrated probabilities, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from listening_clf.background import Background
from listening_clf.checkpoint import ONNX, TOKENIZER, Calibration, Checkpoint
from listening_clf.conversation import TurnInContext
from listening_clf.encoding import ENCODING_VERSION, Encoded, Encoder, EncodingSettings, pad
from listening_clf.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENS_PER_BATCH = 1024
"""Padded tokens that run at once: enough to fill the cores, small enough to stay in their caches."""


class Runtime:
    """A loaded model. Safe to use from several threads.

    Args:
        checkpoint: a verified checkpoint.

    Raises:
        CheckpointError: a file that the tokenizer or ONNX Runtime cannot load, or an unknown encoding version.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        manifest = checkpoint.manifest
        settings = encoding_settings(checkpoint)
        try:
            tokenizer = Background(lambda: Tokenizer.from_file(str(checkpoint.folder / TOKENIZER)))
            self._session = ort.InferenceSession(checkpoint.folder / ONNX, _session_options())
            self.encoder = Encoder(tokenizer.result(), settings)
        except Exception as error:  # both libraries raise bare exceptions of their own
            raise CheckpointError(f"the model in {checkpoint.folder} cannot be loaded: {error}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._pad_id = int(checkpoint.config.get("pad_token_id") or 0)
        self._calibration = [manifest.calibration[label] for label in manifest.labels]

    def probabilities(self, items: Iterable[TurnInContext]) -> NDArray[np.float32]:
        """The calibrated probability of every label for each `(turns, index)`, shape (items, labels)."""
        return calibrated(self.logits(self.encoder.encode_many(items)), self._calibration)

    def logits(self, encoded: Sequence[Encoded]) -> NDArray[np.float32]:
        """The model's raw logits, shape (len(encoded), labels), in the order given."""
        logits = np.zeros((len(encoded), len(self._calibration)), dtype=np.float32)
        for rows in _batches(encoded):
            arrays = pad([encoded[row] for row in rows], self._pad_id)
            (logits[rows],) = self._session.run(None, {name: arrays[name] for name in self._inputs})
        return logits


def calibrated(logits: NDArray[np.float32], calibration: Sequence[Calibration]) -> NDArray[np.float32]:
    """The probabilities that logits of shape (turns, labels) mean, by each label's Platt scaling."""
    scale, bias = np.array(calibration, dtype=np.float32).T
    return np.asarray(np.exp(-np.logaddexp(0, -(scale * logits + bias))))  # the sigmoid, without overflow


def _batches(encoded: Sequence[Encoded]) -> Iterator[list[int]]:
    """Rows of about the same length, as many at a time as fit `TOKENS_PER_BATCH` with their padding."""
    batch: list[int] = []
    for row in sorted(range(len(encoded)), key=lambda row: len(encoded[row].input_ids)):
        if batch and (len(batch) + 1) * len(encoded[row].input_ids) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def encoding_settings(checkpoint: Checkpoint) -> EncodingSettings:
    """How the checkpoint's model reads turns.

    Raises:
        CheckpointError: it reads them in a way that this version does not know, or more of them than it has positions.
    """
    encoding = checkpoint.manifest.encoding
    if encoding.get("version") != ENCODING_VERSION:
        raise CheckpointError(
            f"the checkpoint was trained with encoding version {encoding.get('version')}, this listening_clf encodes "
            f"by version {ENCODING_VERSION}: use the version of listening_clf that the model was made with"
        )
    try:
        settings = EncodingSettings(**encoding)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's encoding settings are malformed: {error}") from error
    positions = checkpoint.config.get("max_position_embeddings", settings.max_length)
    if settings.max_length > positions:
        raise CheckpointError(f"the checkpoint's max_length is {settings.max_length}, but it reads {positions} tokens")
    return settings


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: what goes wrong here is raised, not printed
    return options
