"""What chance leaves open of a figure: its interval, by the bootstrap over conversations.

Turns of one conversation resemble each other, so it is the conversations that are drawn, with replacement (Efron &
Tibshirani 1993, chapters 13 and 8). What is drawn is a weight for each conversation, the number of times that it came
up: precision, recall and F1 are then added up from counts of each conversation, and no turn is looked at twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Integers = NDArray[np.integer]
    Booleans = NDArray[np.bool_]

_CONFIDENCE = 0.95

_RESAMPLES_AT_ONCE = 20
"""With a million turns, an array of their weights in so many resamples takes 160 MB."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; NaN where it cannot be said."""

    value: float
    low: float
    high: float


class PrecisionRecallF1(NamedTuple):
    """Three arrays of one shape."""

    precision: Floats
    recall: Floats
    f1: Floats


def bootstrap(conversations: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Draw the conversations anew, with replacement, `resamples` times. The same seed draws the same.

    Yields:
        How often each conversation was drawn, shape (resamples of this block, conversations).
    """
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, resamples - start)
        drawn = rng.integers(conversations, size=(size, conversations))
        drawn += conversations * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * conversations)
        yield counts.reshape(size, conversations).astype(float)


def conversation_counts(
    predicted: Booleans, targets: Floats, conversation_of: Integers, conversations: int
) -> NDArray[np.float64]:
    """True positives, false positives and false negatives in each conversation: shape (conversations, labels, 3).

    Args:
        predicted: shape (turns, labels).
        targets: the same shape: 1 given, 0 not given, NaN unknown (counted nowhere).
        conversation_of: shape (turns,), the number of each turn's conversation.
        conversations: how many there are. Those without a turn here have counts of zero.
    """
    given, absent = targets == 1, targets == 0
    counts = np.zeros((conversations, targets.shape[1], 3))
    np.add.at(counts, conversation_of, np.stack([predicted & given, predicted & absent, ~predicted & given], axis=-1))
    return counts


def resampled_counts(counts: Floats, resamples: int, seed: int) -> NDArray[np.float64]:
    """The counts of all conversations of each resample, shape (resamples, labels, 3), from those of each."""
    blocks = bootstrap(len(counts), resamples, seed)
    return np.concatenate([np.tensordot(weights, counts, axes=1) for weights in blocks])


def precision_recall_f1(counts: Floats) -> PrecisionRecallF1:
    """Precision, recall and F1 from counts of shape (…, 3), as scikit-learn has them; NaN where nothing was to find."""
    found, wrong, missed = np.moveaxis(counts, -1, 0)
    without = found + missed == 0
    figures = (
        found / np.maximum(found + wrong, 1),
        found / np.maximum(found + missed, 1),
        2 * found / np.maximum(2 * found + wrong + missed, 1),
    )
    return PrecisionRecallF1(*(np.where(without, math.nan, figure) for figure in figures))


def resampled_average_precision(
    probabilities: Floats, targets: Floats, conversation_of: Integers, conversations: int, resamples: int, seed: int
) -> NDArray[np.float64]:
    """scikit-learn's `average_precision_score` of each label in each resample.

    Args:
        probabilities: shape (turns, labels).
        targets: the same shape: 1 given, 0 not given, NaN unknown.
        conversation_of: shape (turns,), the number of each turn's conversation.
        conversations: how many there are.
        resamples: how often they are drawn anew.
        seed: of these draws.

    Returns:
        Shape (resamples, labels); NaN where no turn of the resample has the label.
    """
    blocks = []
    for weights in bootstrap(conversations, resamples, seed):
        of_turns = weights[:, conversation_of]
        columns = zip(probabilities.T, targets.T, strict=True)
        blocks.append(np.stack([_average_precision(*column, of_turns) for column in columns], axis=1))
    return np.concatenate(blocks)


def _average_precision(scores: Floats, targets: Floats, weights: Floats) -> Floats:
    """Of one label, shape (resamples,); from scores and targets of shape (turns,), weights (resamples, turns)."""
    order = np.argsort(-scores, kind="stable")
    # Turns of the same score are found together: only the last of them is a point of the curve.
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    weights, targets = weights[:, order], targets[order]
    found = np.cumsum(weights * (targets == 1), axis=1)[:, last]
    shown = np.cumsum(weights * ~np.isnan(targets), axis=1)[:, last]
    more = np.diff(found, axis=1, prepend=0)
    total = found[:, -1]
    area = (more * found / np.maximum(shown, 1)).sum(axis=1)
    return np.where(total > 0, area / np.maximum(total, 1), math.nan)


def resampled_mean(figures: Floats, values: Floats) -> Floats:
    """The mean over the labels in each resample, shape (resamples,); NaN where no turn of a resample has any label.

    Args:
        figures: shape (resamples, labels); NaN where no turn of the resample has the label.
        values: shape (labels,), the figures from all turns. A label that a resample lacks has its figure from here:
            every resample is the mean of the same labels. NaN: the label has no part in the mean.
    """
    counted = ~np.isnan(values)
    figures = figures[:, counted]
    missing = np.isnan(figures)
    filled = np.where(missing, values[counted], figures)
    mean = filled.sum(axis=1) / max(int(counted.sum()), 1)
    return np.where(missing.all(axis=1), math.nan, mean)


def estimate(value: float, resampled: Floats) -> Estimate:
    """The figure with its 95 % percentile interval (Efron & Tibshirani 1993, chapter 13).

    Resamples in which it cannot be said (NaN: no turn has the label) are left out.
    """
    resampled = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(resampled):
        return Estimate(value, math.nan, math.nan)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
