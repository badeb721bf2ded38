"""What a training run starts from: a listening_clf checkpoint, or a plain encoder in the layout of transformers."""

from __future__ import annotations

from pathlib import Path

from listening_clf.checkpoint import CONFIG, MANIFEST, NEEDED_TO_TRAIN
from listening_clf.errors import CheckpointError
from listening_clf.hub.source import find

_PLAIN_ENCODER = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Config, vocabulary of whatever tokenizer, weights that cannot run code; no ONNX, no pickle."""


def locate_base(name: str) -> Path:
    """The folder of a model to train from; where it lies on the hub, what training needs is downloaded first.

    Raises:
        CheckpointError: nothing is there by that name, or it cannot be had.
    """
    source = find(name)
    folder = source.fetch(NEEDED_TO_TRAIN)
    if source.is_remote and not (folder / MANIFEST).is_file():
        folder = source.fetch(_PLAIN_ENCODER)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{name} is no model: it has no {CONFIG}")
    return folder
