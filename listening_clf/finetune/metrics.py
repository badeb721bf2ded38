"""How good a model's probabilities are against labels that are only partly known. scikit-learn does the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


@dataclass(frozen=True)
class LabelMetrics:
    """One label, over the turns for which it is known; NaN where there are none."""

    precision: float
    recall: float
    f1: float
    average_precision: float
    """NaN where no turn has the label."""
    support: int
    """Turns that have the label."""
    turns: int
    """Turns for which the label is known."""


def label_metrics(probabilities: Floats, targets: Floats, thresholds: Mapping[str, float]) -> dict[str, LabelMetrics]:
    """Measure every label by itself.

    Args:
        probabilities: shape (turns, labels), in the order of `thresholds`.
        targets: the same shape: 1 given, 0 not given, NaN unknown.
        thresholds: for each label, the probability from which on it counts as predicted.
    """
    metrics = {}
    for column, (label, threshold) in enumerate(thresholds.items()):
        known = ~np.isnan(targets[:, column])
        if not known.any():
            metrics[label] = LabelMetrics(math.nan, math.nan, math.nan, math.nan, support=0, turns=0)
            continue
        truth, scores = targets[known, column].astype(int), probabilities[known, column]
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, scores >= threshold, average="binary", zero_division=0
        )
        average_precision = average_precision_score(truth, scores) if truth.any() else math.nan
        metrics[label] = LabelMetrics(
            float(precision), float(recall), float(f1), float(average_precision), int(truth.sum()), int(known.sum())
        )
    return metrics


def macro_f1(metrics: Mapping[str, LabelMetrics]) -> float:
    """The mean of the labels' F1, over the labels that any turn has; NaN where there are none."""
    f1 = [label.f1 for label in metrics.values() if label.support]
    return float(np.mean(f1)) if f1 else math.nan


def macro_f1_error(metrics: Mapping[str, LabelMetrics]) -> float:
    """About the standard error of `macro_f1`: that of a share of as many turns as have the label, for each label."""
    given = [label for label in metrics.values() if label.support]
    return math.sqrt(sum(label.f1 * (1 - label.f1) / label.support for label in given)) / max(len(given), 1)


def expected_calibration_error(probabilities: Floats, targets: Floats, bins: int = 10) -> float:
    """How far the probabilities of one label lie from the shares that they foretell (Naeini et al. 2015).

    Args:
        probabilities: shape (turns,).
        targets: the same shape; turns with NaN are left out.
        bins: equally wide intervals of the probability, each weighted by its turns.

    Returns:
        The error, 0 to 1; NaN where no turn is known.
    """
    known = ~np.isnan(targets)
    if not known.any():
        return math.nan
    probabilities, targets = probabilities[known], targets[known]
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [abs(probabilities[bin_of == b].sum() - targets[bin_of == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(targets))
