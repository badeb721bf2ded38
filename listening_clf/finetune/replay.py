"""Replay: beside one's own turns, a run shows some of the conversations that were written for this project.

A model that is fine-tuned on a few hundred turns of one kind forgets the others; to rehearse some of what it learned
from before prevents most of that (Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"), and costs the
new kind nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from listening_clf.conversation import Conversation, Turn
from listening_clf.finetune.data import draw
from listening_clf.labels import Label

_IN_WHEEL = Path(__file__).parent / "authored"
_IN_CLONE = Path(__file__).parents[2] / "training" / "authored"
FOLDER = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CLONE
"""The authored conversations, as JSONL. They are Apache-2.0, as the library is."""

AUTHORED = {"name": "listening_clf authored conversations", "licence": "Apache-2.0"}
"""What a manifest says of them."""


def read(folder: Path = FOLDER) -> Iterator[Conversation]:
    """Read the authored conversations, fully labelled, as "aM-NNN"; `meta` says their channel, style and the like."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            conversation = Conversation.from_dict(json.loads(line))
            yield replace(conversation, meta={"corpus": "authored", **conversation.meta})


def is_dev(conversation: Conversation) -> bool:
    """Whether an authored conversation belongs to the dev split, which no model learns from."""
    return str(conversation.id).endswith("0")


class Replay:
    """The authored conversations of the train split, for a model with these labels.

    Args:
        labels: the model's. Those that are none of the codebook's are unknown in them, not absent.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._conversations = [_for(labels, it) for it in read() if not is_dev(it)] if set(labels) & set(Label) else []

    @property
    def training_data(self) -> list[dict[str, str]]:
        """The data set that a run with replay has seen, if any."""
        return [AUTHORED] if self._conversations else []

    def draw(self, turns: int, rng: np.random.Generator) -> list[Conversation]:
        """Some of the conversations, as `data.draw` draws them."""
        return draw(self._conversations, turns, rng)


def _for(labels: Sequence[str], conversation: Conversation) -> Conversation:
    def turn_for(turn: Turn) -> Turn:
        return turn if turn.labels is None else replace(turn, labels=tuple(it for it in turn.labels if it in labels))

    foreign = tuple(label for label in labels if label not in set(Label))
    return replace(conversation, turns=tuple(map(turn_for, conversation.turns)), unlabelled=foreign)
