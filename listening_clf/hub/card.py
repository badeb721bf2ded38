"""The model card as the hub reads it: its front matter, and what others will look for there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from listening_clf.checkpoint import CARD
from listening_clf.errors import CheckpointError
from listening_clf.hub.common import TAG

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

_EXPECTED = {
    "license": "`license: apache-2.0`, say, or `license: other`; without one, nobody may use the model",
    "language": "`language: en`, say",
    "library_name": "`library_name: listening_clf`",
    "pipeline_tag": "`pipeline_tag: text-classification`",
}
"""The fields that people filter by and rely on, and an example of each."""


def read_card(folder: Path) -> ModelCardData:
    """The front matter of a checkpoint folder's model card. Where there is none, it is empty.

    Raises:
        CheckpointError: it is no YAML, or its `model-index` is none; the hub would refuse it.
    """
    from huggingface_hub import ModelCard, ModelCardData

    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith("---"):
            return ModelCardData()
        # By default the client drops a model-index that it cannot read, with a warning.
        card = ModelCard(text, ignore_metadata_errors=False)
    except FileNotFoundError:
        return ModelCardData()
    except Exception as error:  # of the YAML library, of the client, of the file system
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the front matter of {path} cannot be read: {reason}") from error
    return cast("ModelCardData", card.data)


def missing_from_card(card: ModelCardData) -> list[str]:
    """What the front matter lacks that others will look for, each with what to add."""
    stated = vars(card)
    missing = [f"{CARD} does not state `{key}`: add {how}" for key, how in _EXPECTED.items() if not stated.get(key)]
    if TAG not in (stated.get("tags") or []):
        missing.append(f"{CARD} has no tag `{TAG}`: without it, `listening-clf hub list` does not find the model")
    return missing


def in_words(value: object) -> str:
    """What the front matter says of something: text, a list, or, as YAML has it, anything. Nothing is ""."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
