"""From logits to probabilities that mean what they say, and to thresholds of each label. Fitted on dev.

A few dozen dev turns say little. Where the model was fine-tuned from one that was calibrated on more, its calibration
and thresholds are what the fit starts from and is held to, the more the fewer turns there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import precision_recall_curve

from listening_clf.checkpoint import Calibration
from listening_clf.operating_points import OperatingPoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

PRIOR_PRECISION = 100.0
"""Of the normal distribution around the prior's scale and bias. Some hundred turns with the label outweigh it."""

PRIOR_POSITIVES = 50
"""The turns with the label that the prior's threshold counts for."""

_UNCALIBRATED = Calibration()
_UNCALIBRATED_PRECISION = 1.0
"""Around the logits as they are, where there is no prior: keeps the fit to separable turns finite, and no more."""


def fit_calibration(
    logits: Floats, targets: Floats, labels: Sequence[str], prior: Mapping[str, Calibration] | None = None
) -> dict[str, Calibration]:
    """Platt scaling of each label (Platt 1999: probability = sigmoid(scale * logit + bias)), a posteriori.

    Args:
        logits: shape (turns, labels).
        targets: the same shape: 1 given, 0 not given, NaN unknown.
        labels: the labels' names, in the order of the columns.
        prior: what to hold to where the turns say little. Without one for a label, that is the logits as they are.
    """
    prior = prior or {}
    calibration = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(targets[:, column])
        calibration[label] = _fit(
            logits[known, column].astype(np.float64),
            targets[known, column].astype(np.float64),
            centre=np.array(prior.get(label, _UNCALIBRATED)),
            precision=PRIOR_PRECISION if label in prior else _UNCALIBRATED_PRECISION,
        )
    return calibration


def _fit(logits: Floats, truth: Floats, centre: Floats, precision: float) -> Calibration:
    """The likeliest scale and bias of one label, given its turns and a normal distribution around `centre`."""

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = parameters[0] * logits + parameters[1]
        away = parameters - centre
        error = np.exp(-np.logaddexp(0, -z)) - truth
        value = (np.logaddexp(0, z) - truth * z).sum() + precision / 2 * (away**2).sum()
        return float(value), np.array([error @ logits, error.sum()]) + precision * away

    scale, bias = minimize(loss, centre, jac=True, method="BFGS").x
    return Calibration(float(scale), float(bias))


def fit_thresholds(
    probabilities: Floats, targets: Floats, labels: Sequence[str], prior: Mapping[str, float] | None = None
) -> dict[str, float]:
    """For each label, the threshold with the best F1, drawn towards the prior's by what few turns have the label.

    The best one lies midway between two probabilities that occur, so that a hair's difference changes no label. Where
    no known turn has the label, it is the prior's, or 0.5 without one.

    Args:
        probabilities: shape (turns, labels).
        targets: the same shape: 1 given, 0 not given, NaN unknown.
        labels: the labels' names, in the order of the columns.
        prior: thresholds that were chosen on other turns.
    """
    prior = prior or {}
    thresholds = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(targets[:, column])
        truth, scores = targets[known, column], probabilities[known, column]
        if not truth.any():
            thresholds[label] = prior.get(label, 0.5)
            continue
        precision, recall, cuts = precision_recall_curve(truth, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(np.argmax(f1[:-1]))
        threshold = _midway(float(cuts[best - 1]) if best else 0.0, float(cuts[best]))
        if label in prior:
            weight = truth.sum() / (truth.sum() + PRIOR_POSITIVES)
            threshold = float(weight * threshold + (1 - weight) * prior[label])
        thresholds[label] = threshold
    return thresholds


def operating_points(
    probabilities: Floats, targets: Floats, labels: Sequence[str]
) -> dict[str, tuple[OperatingPoint, ...]]:
    """For each label, the thresholds with the most recall at each whole percent of precision, and at the highest.

    They are part of the Pareto frontier of precision and recall, from the most recall on. Like the threshold with the
    best F1, they lie between two probabilities that occur. Where no known turn has the label, there are none.

    Args:
        probabilities: shape (turns, labels).
        targets: the same shape: 1 given, 0 not given, NaN unknown.
        labels: the labels' names, in the order of the columns.
    """
    points = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(targets[:, column])
        scores = probabilities[known, column].astype(np.float64)
        points[label] = tuple(_operating_points(scores, truth=targets[known, column] == 1))
    return points


def _operating_points(scores: Floats, truth: NDArray[np.bool_]) -> Iterator[OperatingPoint]:
    """Those of one label, from the lowest threshold to the highest."""
    if not truth.any():
        return
    ordered, given = np.sort(scores), np.sort(scores[truth])
    cuts = np.unique(given)  # between two of them, a threshold would only take in turns that do not have the label
    flagged_from = np.searchsorted(ordered, cuts)
    flagged = len(ordered) - flagged_from
    right = len(given) - np.searchsorted(given, cuts)
    best_percent = np.maximum.accumulate(100 * right // flagged)
    kept = np.diff(best_percent, prepend=-1) > 0
    kept[np.argmax(right / flagged)] = True
    for cut in np.flatnonzero(kept):
        below = ordered[flagged_from[cut] - 1] if flagged_from[cut] else 0.0
        yield OperatingPoint(
            threshold=_midway(float(below), float(cuts[cut])),
            precision=int(10_000 * right[cut] // flagged[cut]) / 10_000,
            recall=round(int(right[cut]) / len(given), 4),
        )


def _midway(low: float, high: float) -> float:
    """About midway between two probabilities: with four digits, or as many as it takes to lie between them.

    It lies above the lower one in float32, too, in which a model's probabilities are compared with it.
    """
    numbers = (round((low + high) / 2, digits) for digits in range(4, 17))
    return next((number for number in numbers if low < np.float32(number) and number < high), high)
