"""The conversations that were written and labelled for this project, in training/authored/ and training/weak_spots/."""

from collections.abc import Iterator
from pathlib import Path

from listening_clf.conversation import Conversation
from listening_clf.finetune import replay
from listening_clf.finetune.replay import is_dev

__all__ = ["WEAK_SPOTS", "is_dev", "read"]

WEAK_SPOTS = Path(__file__).parents[1] / "weak_spots"
"""Conversations of the kinds in which dev showed a model to be weak. Fine-tuning does not rehearse these: the wheel has
no room for them."""


def read() -> Iterator[Conversation]:
    """Read all of them, as `replay.read` does."""
    yield from replay.read()
    yield from replay.read(WEAK_SPOTS)
