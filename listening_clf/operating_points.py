"""Other thresholds than those with the best F1: what each gives on dev, and which of them suits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

from listening_clf.errors import ThresholdError


class OperatingPoint(NamedTuple):
    """What a threshold of one label gives on the dev turns."""

    threshold: float
    precision: float
    """Rounded down, so that no threshold has less than it says."""
    recall: float


def best_point(points: Sequence[OperatingPoint], min_precision: float) -> OperatingPoint | None:
    """The one with the most recall among those with at least that precision; None where there are none."""
    return max((it for it in points if it.precision >= min_precision), key=lambda it: it.recall, default=None)


def thresholds_at(
    min_precision: float | Mapping[str, float], points: Mapping[str, Sequence[OperatingPoint]], labels: Sequence[str]
) -> dict[str, float]:
    """For each label that is asked for, the threshold of its `best_point`.

    Args:
        min_precision: above 0, at most 1; one for all labels, or for each of some.
        points: the labels' operating points; none at all of a model that does not know any.
        labels: the model's labels.

    Raises:
        ThresholdError: no precision, no label of the model, or none of its thresholds has that precision on dev.
    """
    wanted = min_precision if isinstance(min_precision, Mapping) else dict.fromkeys(labels, min_precision)
    return {label: _threshold_at(precision, label, points, labels) for label, precision in wanted.items()}


def _threshold_at(
    min_precision: float, label: str, points: Mapping[str, Sequence[OperatingPoint]], labels: Sequence[str]
) -> float:
    if isinstance(min_precision, bool) or not isinstance(min_precision, Real) or not 0 < min_precision <= 1:
        raise ThresholdError(
            f"min_precision must be a number above 0 and at most 1, such as 0.9 for 90 %, not {min_precision!r}"
        )
    if label not in labels:
        raise ThresholdError(f"min_precision names the unknown label {label!r}: expected of {', '.join(labels)}")
    if not points:
        raise ThresholdError(
            "the model has no operating points, since it was made by an older listening_clf: train it anew, or compare "
            "Prediction.scores with thresholds of your own"
        )
    found = best_point(points[label], min_precision)
    if found:
        return found.threshold
    if not points[label]:
        raise ThresholdError(
            f"no precision of {label!r} is known, since no turn of dev has it: give min_precision for other labels only"
        )
    highest = max(it.precision for it in points[label])
    raise ThresholdError(
        f"no threshold of {label!r} has a precision of {min_precision} on dev, where the highest is {highest}: ask for "
        "at most that, or give min_precision for other labels only"
    )
