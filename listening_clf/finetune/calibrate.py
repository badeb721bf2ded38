"""From logits to probabilities that mean what they say, and to the threshold of each label. Fitted on dev."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve

from listening_clf.checkpoint import Calibration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


def fit_calibration(logits: Floats, targets: Floats, labels: Sequence[str]) -> dict[str, Calibration]:
    """Platt scaling of each label (Platt 1999: probability = sigmoid(scale * logit + bias)).

    A label that is always or never given among the known turns cannot be fitted and keeps its logits.

    Args:
        logits: shape (turns, labels).
        targets: the same shape: 1 given, 0 not given, NaN unknown.
        labels: the labels' names, in the order of the columns.
    """
    calibration = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(targets[:, column])
        truth = targets[known, column]
        if len(np.unique(truth)) < 2:
            calibration[label] = Calibration()
            continue
        fit = LogisticRegression(C=1e4).fit(logits[known, column, None], truth)
        calibration[label] = Calibration(float(fit.coef_[0, 0]), float(fit.intercept_[0]))
    return calibration


def fit_thresholds(probabilities: Floats, targets: Floats, labels: Sequence[str]) -> dict[str, float]:
    """For each label, the threshold with the best F1; 0.5 where no known turn has the label.

    It is set midway between two probabilities that occur, so that a hair's difference changes no label.
    """
    thresholds = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(targets[:, column])
        truth, scores = targets[known, column], probabilities[known, column]
        if not truth.any():
            thresholds[label] = 0.5
            continue
        precision, recall, cuts = precision_recall_curve(truth, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(np.argmax(f1[:-1]))
        below = cuts[best - 1] if best else 0.0
        thresholds[label] = float((cuts[best] + below) / 2)
    return thresholds
