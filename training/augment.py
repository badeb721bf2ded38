"""Conversations made of annotated ones, that teach a model to compare a turn with what was said before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from listening_clf.conversation import Conversation
from listening_clf.finetune.data import without_times
from listening_clf.labels import Label

_NEEDS_CONTEXT = (Label.REFLECTION, Label.SUMMARY, Label.INTERRUPTION)
"""What a turn is besides a paraphrase may depend on what was said before it, too: unknown after other words. What asks
openly does so anywhere."""


def with_other_customers(conversations: Sequence[Conversation], rng: np.random.Generator) -> Iterator[Conversation]:
    """Put every paraphrase after what a customer said in another conversation, where it repeats nothing.

    Args:
        conversations: annotated ones.
        rng: draws the other conversations.

    Yields:
        For each paraphrase, unless its own conversation is the one that was drawn, a conversation that ends with it and
        begins with the turns of the other one up to a customer's. Only its last turn is annotated, without times, and
        not as a paraphrase; of reflection, summary and interruption it is not known whether they are there.
    """
    others = [
        (it, heard)
        for it in conversations
        if (heard := [i for i, turn in enumerate(it.turns) if turn.speaker == "customer"])
    ]
    for conversation in conversations:
        for turn in conversation.turns:
            if Label.PARAPHRASE not in (turn.labels or ()):
                continue
            other, heard = others[rng.integers(len(others))]
            if other is conversation:
                continue
            before = other.turns[: heard[rng.integers(len(heard))] + 1]
            kept = tuple(label for label in turn.labels or () if label == Label.OPEN_QUESTION)
            last = replace(turn, labels=kept, unlabelled=(*turn.unlabelled, *_NEEDS_CONTEXT))
            turns = (*(replace(it, labels=None) for it in before), last)
            yield without_times(Conversation(turns, unlabelled=conversation.unlabelled))
