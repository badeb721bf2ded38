"""Conversations made of annotated ones, that teach a model to compare a turn with what was said before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from listening_clf.conversation import Conversation
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
    others = [it for it in conversations if any(turn.speaker == "customer" for turn in it.turns)]
    for conversation in conversations:
        for turn in conversation.turns:
            if Label.PARAPHRASE not in (turn.labels or ()):
                continue
            other = others[rng.integers(len(others))]
            if other is conversation:
                continue
            customers = [index for index, it in enumerate(other.turns) if it.speaker == "customer"]
            before = other.turns[: customers[rng.integers(len(customers))] + 1]
            kept = tuple(label for label in turn.labels or () if label == Label.OPEN_QUESTION)
            last = replace(turn, start=None, end=None, labels=kept, unlabelled=(*turn.unlabelled, *_NEEDS_CONTEXT))
            turns = (*(replace(it, start=None, end=None, labels=None) for it in before), last)
            yield Conversation(turns, unlabelled=conversation.unlabelled)
