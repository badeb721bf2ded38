"""Labelled conversations → what a training step takes: encoded turns with masked targets, in batches of one length."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from listening_clf.conversation import Conversation, TurnInContext
from listening_clf.encoding import Encoded, Encoder
from listening_clf.errors import TrainingError
from listening_clf.labels import Label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from listening_clf.finetune.config import TrainConfig

LENGTH_MULTIPLE = 16
"""A batch's length in tokens is rounded up to this: what is compiled and allocated for one length serves many."""

HOW_TO_ANNOTATE = "give turns a list of 'labels' (it may be empty), or a column for each label of the model"
NOT_ANNOTATED = f"no agent turn in the data is annotated: {HOW_TO_ANNOTATE}"

_BUCKET_BATCHES = 50
"""Batches are cut from runs of this many batches sorted by length: little padding, and still a random order."""


class LabelledTurn(NamedTuple):
    """An agent turn in its conversation, and what its annotators say of it."""

    item: TurnInContext
    targets: NDArray[np.float32]
    """Shape (labels,): 1 given, 0 not given, NaN unknown; between them where a teacher is learned from."""


class Example(NamedTuple):
    """A labelled turn as the model reads it."""

    encoded: Encoded
    targets: NDArray[np.float32]


def labelled_turns(conversations: Sequence[Conversation], labels: Sequence[str]) -> list[LabelledTurn]:
    """Every agent turn that somebody annotated.

    Raises:
        TrainingError: a turn has a label that is not among `labels`, or no turn is annotated.
    """
    turns = []
    for conversation in conversations:
        for index in conversation.annotated_turns:
            given = conversation.turns[index].labels or ()
            if unknown := sorted(set(given) - set(labels)):
                raise TrainingError(
                    f"conversation {conversation.id!r}, turn {index}: unknown label {unknown[0]!r}; "
                    f"the model's labels are {', '.join(labels)}"
                )
            unknown_here = conversation.unknown_labels(index)
            targets = [math.nan if label in unknown_here else float(label in given) for label in labels]
            turns.append(LabelledTurn((conversation.turns, index), np.array(targets, dtype=np.float32)))
    if not turns:
        raise TrainingError(NOT_ANNOTATED)
    return turns


def draw(conversations: Sequence[Conversation], turns: int, rng: np.random.Generator) -> list[Conversation]:
    """Conversations in random order, until they have that many agent turns or there are no more."""
    drawn: list[Conversation] = []
    for index in rng.permutation(len(conversations)):
        if turns <= 0:
            break
        drawn.append(conversations[index])
        turns -= len(drawn[-1].agent_turns)
    return drawn


def epoch_turns(
    conversations: Sequence[Conversation], labels: Sequence[str], config: TrainConfig, epoch: int
) -> list[LabelledTurn]:
    """The turns of one epoch, with that epoch's own draw of copies and omissions.

    They depend on the seed and the epoch alone, so that a run that resumes sees what it would have seen.
    """
    rng = np.random.default_rng([config.seed, epoch])
    shown = []
    for conversation in conversations:
        if rng.random() < config.timing_dropout:
            conversation = without_times(conversation)
        shown.append(conversation)
        if rng.random() < config.asr_copies:
            shown.append(asr_style(conversation))
    turns = labelled_turns(shown, labels)
    alone = rng.random(len(turns)) < config.context_dropout
    return [without_context(turn, labels) if drop else turn for turn, drop in zip(turns, alone, strict=True)]


def encoded(turns: Sequence[LabelledTurn], encoder: Encoder) -> list[Example]:
    """The turns as the model reads them, in the same order."""
    inputs = encoder.encode_many(turn.item for turn in turns)
    return [Example(one, turn.targets) for one, turn in zip(inputs, turns, strict=True)]


def batches(examples: Sequence[Example], size: int, seed: Sequence[int]) -> Iterator[list[Example]]:
    """All examples once, in batches of `size` turns of about the same length, in random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(examples))
    cut = []
    for start in range(0, len(order), size * _BUCKET_BATCHES):
        bucket = sorted(order[start : start + size * _BUCKET_BATCHES], key=lambda i: len(examples[i].encoded.input_ids))
        cut += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    for batch in rng.permutation(len(cut)):
        yield [examples[i] for i in cut[batch]]


def asr_style(conversation: Conversation) -> Conversation:
    """The conversation as a plain speech recogniser writes it: lower case, no punctuation.

    A turn that is punctuation alone stays as it is.
    """
    turns = []
    for turn in conversation.turns:
        words = " ".join(turn.text.lower().translate(_SPOKEN).split())
        turns.append(replace(turn, text=words or turn.text))
    return replace(conversation, turns=tuple(turns))


def without_times(conversation: Conversation) -> Conversation:
    """The conversation as if nobody had measured when it was said."""
    return replace(conversation, turns=tuple(replace(turn, start=None, end=None) for turn in conversation.turns))


def without_context(turn: LabelledTurn, labels: Sequence[str]) -> LabelledTurn:
    """The turn alone. That it interrupts can then no longer be seen, and is unknown; that it does not, stays."""
    turns, index = turn.item
    unseen = (np.array(labels) == Label.INTERRUPTION) & (turn.targets == 1)
    return LabelledTurn((turns[index : index + 1], 0), np.where(unseen, np.float32("nan"), turn.targets))


_SPOKEN = str.maketrans(dict.fromkeys(string.punctuation + "–—…“”‘’", " ") | {"'": "", "’": ""})
"""Punctuation becomes a space; apostrophes close up ("don't" → "dont"), as in the authored ASR conversations."""
