"""Two models on the same turns: where they agree, and where not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from itertools import tee
from typing import Any, NamedTuple

from listening_clf.classifier import ListeningClassifier
from listening_clf.conversation import Conversation, Prediction

MOST_DIFFERENT = 10
"""How many of the turns on which two models differ are kept."""


@dataclass
class Agreement:
    """How often two models give the same label to the same turns."""

    both: int = 0
    only_first: int = 0
    only_second: int = 0
    neither: int = 0
    difference: float = 0.0
    """Of their probabilities: the sum of the absolute differences."""

    def count(self, first: bool, second: bool, difference: float) -> None:
        """Take in one turn."""
        self.both += first and second
        self.only_first += first and not second
        self.only_second += second and not first
        self.neither += not (first or second)
        self.difference += abs(difference)

    @property
    def turns(self) -> int:
        """How many turns were looked at."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960); None where chance alone would give full agreement."""
        if not self.turns:
            return None
        first, second = (self.both + self.only_first) / self.turns, (self.both + self.only_second) / self.turns
        by_chance = first * second + (1 - first) * (1 - second)
        return None if by_chance == 1 else ((self.both + self.neither) / self.turns - by_chance) / (1 - by_chance)


class Disagreement(NamedTuple):
    """A turn to which two models give different labels."""

    difference: float
    """The largest of their probabilities' differences, over the labels that only one of them gives."""
    conversation: str | None
    turn: int
    text: str
    first: tuple[str, ...]
    second: tuple[str, ...]


class PredictionDiff(NamedTuple):
    """What two models answer to the same conversations."""

    labels: Mapping[str, Agreement]
    """For each label that both know."""
    turns: int
    same: int
    """Turns to which both give the same of these labels."""
    most_different: tuple[Disagreement, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "turns": self.turns,
            "same": self.same,
            "labels": {
                label: {
                    "both": it.both,
                    "only_first": it.only_first,
                    "only_second": it.only_second,
                    "neither": it.neither,
                    "kappa": it.kappa,
                    "mean_absolute_difference": it.difference / it.turns if it.turns else None,
                }
                for label, it in self.labels.items()
            },
            "most_different": [it._asdict() for it in self.most_different],
        }


def differing_predictions(
    first: ListeningClassifier, second: ListeningClassifier, conversations: Iterable[Conversation]
) -> PredictionDiff:
    """Let two models judge the same conversations, and count where they agree on the labels that both know."""
    shared = [label for label in first.labels if label in second.labels]
    agreements = {label: Agreement() for label in shared}
    turns = same = 0
    different: list[Disagreement] = []
    ours, theirs = (
        it.predict_conversations(copy) for it, copy in zip((first, second), tee(conversations), strict=True)
    )
    for (conversation, of_first), (_, of_second) in zip(ours, theirs, strict=True):
        for index, one, other in zip(conversation.agent_turns, of_first, of_second, strict=True):
            turns += 1
            for label in shared:
                difference = one.scores[label] - other.scores[label]
                agreements[label].count(label in one.labels, label in other.labels, difference)
            disagreement = _disagreement(conversation, index, one, other, shared)
            if disagreement is None:
                same += 1
            else:
                different = nlargest(MOST_DIFFERENT, [*different, disagreement], key=lambda it: it.difference)
    return PredictionDiff(agreements, turns, same, tuple(different))


def _disagreement(
    conversation: Conversation, index: int, one: Prediction, other: Prediction, shared: list[str]
) -> Disagreement | None:
    split = [label for label in shared if (label in one.labels) != (label in other.labels)]
    if not split:
        return None
    return Disagreement(
        max(abs(one.scores[label] - other.scores[label]) for label in split),
        None if conversation.id is None else str(conversation.id),
        index,
        conversation.turns[index].text,
        tuple(label for label in shared if label in one.labels),
        tuple(label for label in shared if label in other.labels),
    )
