"""Whether one model beats another on the same turns, beyond what chance leaves open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from listening_clf.errors import TrainingError
from listening_clf.finetune.bootstrap import (
    Estimate,
    conversation_counts,
    estimate,
    precision_recall_f1,
    resampled_counts,
)
from listening_clf.finetune.evaluation import Evaluation, ScoredTurns, json_object

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGNIFICANCE = 0.05
"""The chance of calling any difference of a comparison real when none is."""

_FEWEST_CONVERSATIONS = 10
"""Of fewer, a bootstrap says too little to call a difference real."""


@dataclass(frozen=True)
class Difference:
    """How far the first model is ahead of the second by one figure (below 0: behind)."""

    first: float
    second: float
    difference: Estimate
    p_value: float
    """Two-sided, of the paired bootstrap, for this figure alone; NaN where there are too few conversations."""
    beyond_chance: bool
    """Whether the difference is significant at 0.05 among all of the comparison (Holm 1979)."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the same turns, by the labels that both know."""

    first: str
    second: str
    turns: int
    conversations: int
    labels: Mapping[str, Difference]
    """F1 of each label that any turn has."""
    macro_f1: Difference
    micro_f1: Difference
    not_compared: tuple[str, ...]
    """Labels that only one of the models knows, or that no turn has."""
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON object; what cannot be said is null."""
        return json_object(self)


def compare(first: Evaluation, second: Evaluation, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Say by which figures one model is better than the other beyond chance.

    Both are measured on the same draws of the conversations (the paired bootstrap; Berg-Kirkpatrick et al. 2012 study
    it for language data). The p-value is twice the share of draws in which the difference is zero or has the other
    sign; a draw without a turn that has the label shows no difference. What is beyond chance is decided for all labels,
    macro and micro F1 together by Holm's method (Holm 1979), at 0.05.

    Args:
        first: a model.
        second: the model that it is held against, evaluated on the same conversations.
        resamples: how often the conversations are drawn anew. The smallest p-value that can come out is about
            2 / `resamples`.
        seed: of these draws.

    Raises:
        TrainingError: the turns are not the same, or there is no label that both models know and any turn has.
    """
    _check_same_turns(first, second)
    common = [label for label in first.labels if label in second.labels and first.labels[label].support]
    every_label = dict.fromkeys((*first.labels, *second.labels))
    if not common:
        raise TrainingError(
            f"{first.model} and {second.model} have no label in common that any turn of the data has: there is nothing "
            "to compare"
        )
    conversation_of = first.scored.conversation_of()
    counts = [_counts(it.scored, common, conversation_of, first.conversations) for it in (first, second)]
    ours, theirs = (_f1(it.sum(axis=0)) for it in counts)
    our_draws, their_draws = (_f1(resampled_counts(it, resamples, seed)) for it in counts)
    differences = our_draws - their_draws
    enough = first.conversations >= _FEWEST_CONVERSATIONS
    p_values = [_two_sided(of_figure) if enough else math.nan for of_figure in differences.T]
    *of_labels, macro_f1, micro_f1 = (
        Difference(float(one), float(other), estimate(float(one - other), of_figure), p_value, beyond)
        for one, other, of_figure, p_value, beyond in zip(
            ours, theirs, differences.T, p_values, _beyond_chance(p_values), strict=True
        )
    )
    return Comparison(
        first=first.model,
        second=second.model,
        turns=first.turns,
        conversations=first.conversations,
        labels=dict(zip(common, of_labels, strict=True)),
        macro_f1=macro_f1,
        micro_f1=micro_f1,
        not_compared=tuple(label for label in every_label if label not in common),
        resamples=resamples,
        seed=seed,
    )


def _check_same_turns(first: Evaluation, second: Evaluation) -> None:
    ours, theirs = first.scored, second.scored
    same = list(ours.indices) == list(theirs.indices) and all(
        one is other or one == other for one, other in zip(ours.conversations, theirs.conversations, strict=True)
    )
    if not same:
        raise TrainingError(
            f"{first.model} and {second.model} were not evaluated on the same turns, so they cannot be compared"
        )


def _counts(
    scored: ScoredTurns, labels: Sequence[str], conversation_of: NDArray[np.intp], conversations: int
) -> NDArray[np.float64]:
    columns = [scored.labels.index(label) for label in labels]
    return conversation_counts(scored.predicted[:, columns], scored.targets[:, columns], conversation_of, conversations)


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of each label, macro and micro F1, shape (…, labels + 2), from counts of shape (…, labels, 3).

    Where there is nothing to find it is 0, for either model: that shows no difference.
    """
    of_labels = np.nan_to_num(precision_recall_f1(counts).f1)
    micro = np.nan_to_num(precision_recall_f1(counts.sum(axis=-2)).f1)
    return np.concatenate([of_labels, of_labels.mean(axis=-1, keepdims=True), micro[..., None]], axis=-1)


def _two_sided(differences: NDArray[np.float64]) -> float:
    """The p-value of a bootstrapped difference; one draw is added to either side, so that it is never zero."""
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(differences) + 1)))


def _beyond_chance(p_values: Sequence[float]) -> list[bool]:
    """Which of these are significant together (Holm 1979): the smallest must pass the strictest level, and so on."""
    beyond = [False] * len(p_values)
    for rank, position in enumerate(np.argsort(p_values)):
        if not p_values[position] <= _SIGNIFICANCE / (len(p_values) - rank):  # false for NaN, too
            break
        beyond[position] = True
    return beyond
