"""How good a model is on labelled conversations, with what chance leaves open: `evaluate`."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from listening_clf.conversation import Conversation, Prediction, Turn
from listening_clf.encoding import Timing, timing_of
from listening_clf.errors import TrainingError
from listening_clf.finetune.bootstrap import (
    Estimate,
    conversation_counts,
    estimate,
    precision_recall_f1,
    resampled_average_precision,
    resampled_counts,
    resampled_mean,
)
from listening_clf.finetune.data import labelled_turns
from listening_clf.finetune.metrics import expected_calibration_error, label_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from listening_clf.classifier import ListeningClassifier

_TURNS_AT_ONCE = 1000
"""Turns that are predicted in one call: enough that turns of one length find each other."""

_META_SLICES = ("corpus", "channel", "style")
_PUNCTUATION = frozenset(".,?!;:-…")


@dataclass(frozen=True)
class ScoredTurns:
    """Every annotated turn with what its annotators and a model say of it."""

    thresholds: Mapping[str, float]
    """The model's labels in the order of the columns below, with the probability from which on each is given."""
    conversations: Sequence[Conversation]
    """The conversation of each turn."""
    indices: Sequence[int]
    """The index of each turn in its conversation."""
    probabilities: NDArray[np.float64]
    """Shape (turns, labels)."""
    targets: NDArray[np.float32]
    """The same shape: 1 given, 0 not given, NaN unknown."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels."""
        return tuple(self.thresholds)

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """Whether the model gives the label, shape (turns, labels)."""
        return self.probabilities >= np.array(list(self.thresholds.values()))

    def conversation_of(self) -> NDArray[np.intp]:
        """The number of each turn's conversation, shape (turns,). Conversations of one id are one."""
        numbers: dict[object, int] = {}
        keys = (id(it) if it.id is None else it.id for it in self.conversations)
        return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


@dataclass(frozen=True)
class LabelResult:
    """One label. The figures are NaN where no turn has it."""

    precision: Estimate
    recall: Estimate
    f1: Estimate
    average_precision: Estimate
    calibration_error: float
    """The expected calibration error."""
    threshold: float
    support: int
    """Turns that have the label."""
    turns: int
    """Turns for which the label is known."""


@dataclass(frozen=True)
class Average:
    """All labels together."""

    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class Slice:
    """The turns that have something in common."""

    key: str
    """What turns are told apart by: "corpus", "times", …"""
    value: str
    turns: int
    conversations: int
    macro_f1: Estimate
    f1: Mapping[str, float]
    """Of each label; NaN where no turn of the slice has it."""
    support: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on labelled conversations."""

    model: str
    data: str
    turns: int
    conversations: int
    labels: Mapping[str, LabelResult]
    macro: Average
    """The mean over the labels that any turn has."""
    micro: Average
    """All decisions thrown together, those on labels that no turn has as well."""
    slices: tuple[Slice, ...]
    not_measured: tuple[str, ...]
    """Labels of the data that the model does not know."""
    resamples: int
    seed: int
    scored: ScoredTurns = field(repr=False, compare=False)
    """What was measured, turn by turn."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON object, without the turns; what cannot be said is null."""
        return json_object(self, leave_out=("scored",))


def evaluate(
    classifier: ListeningClassifier,
    conversations: Sequence[Conversation],
    *,
    model: str = "model",
    data: str = "",
    passed_over: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Predict every annotated turn with all that came before it, and measure the predictions.

    Args:
        classifier: the model, with its own calibration and thresholds.
        conversations: labelled conversations. Those of one id are one conversation.
        model: what the results call the model.
        data: what the results call the data.
        passed_over: labels that the data may have though the model does not know them, such as those that only the
            other model of a comparison knows.
        resamples: how often the conversations are drawn anew for the intervals.
        seed: of these draws.

    Raises:
        TrainingError: no turn is annotated, none for a label of the model, or one has a label that the model does not
            know.
    """
    foreign = _foreign_labels(conversations, classifier.labels, passed_over)
    turns = labelled_turns(conversations, (*classifier.labels, *foreign))
    targets = np.stack([turn.targets for turn in turns])[:, : len(classifier.labels)]
    if np.isnan(targets).all():
        raise TrainingError(f"no label of {model} was looked for in the data ({', '.join(classifier.labels)})")
    places = [(it, index) for it in conversations for index in it.annotated_turns]
    scored = ScoredTurns(
        thresholds={label: classifier.thresholds[label] for label in classifier.labels},
        conversations=[conversation for conversation, _ in places],
        indices=[index for _, index in places],
        probabilities=_probabilities(classifier, places),
        targets=targets,
    )
    return measure(scored, model=model, data=data, not_measured=foreign, resamples=resamples, seed=seed)


def measure(
    scored: ScoredTurns,
    *,
    model: str = "model",
    data: str = "",
    not_measured: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure predictions that are there already. The arguments are those of `evaluate`."""
    conversation_of = scored.conversation_of()
    counts = _counts(scored, np.ones(len(scored.indices), dtype=bool), conversation_of, resamples, seed)
    points, draws = precision_recall_f1(counts.total), precision_recall_f1(counts.resampled)
    micro = zip(
        precision_recall_f1(counts.total.sum(axis=0)), precision_recall_f1(counts.resampled.sum(axis=1)), strict=True
    )
    areas = resampled_average_precision(
        scored.probabilities, scored.targets, conversation_of, counts.conversations, resamples, seed
    )
    if counts.conversations < 2:
        areas[:] = math.nan

    labels = {}
    metrics = label_metrics(scored.probabilities, scored.targets, scored.thresholds)
    for column, (label, it) in enumerate(metrics.items()):
        labels[label] = LabelResult(
            precision=estimate(float(points.precision[column]), draws.precision[:, column]),
            recall=estimate(float(points.recall[column]), draws.recall[:, column]),
            f1=estimate(float(points.f1[column]), draws.f1[:, column]),
            average_precision=estimate(it.average_precision, areas[:, column]),
            calibration_error=expected_calibration_error(scored.probabilities[:, column], scored.targets[:, column]),
            threshold=scored.thresholds[label],
            support=it.support,
            turns=it.turns,
        )
    return Evaluation(
        model=model,
        data=data,
        turns=len(scored.indices),
        conversations=counts.conversations,
        labels=labels,
        macro=Average(*map(_macro, points, draws)),
        micro=Average(*(estimate(float(value), resampled) for value, resampled in micro)),
        slices=tuple(
            _slice(scored, key, value, rows, _counts(scored, rows, conversation_of, resamples, seed))
            for key, value, rows in _slices(scored)
        ),
        not_measured=tuple(not_measured),
        resamples=resamples,
        seed=seed,
        scored=scored,
    )


# predicting


def _foreign_labels(
    conversations: Sequence[Conversation], labels: Sequence[str], passed_over: Sequence[str]
) -> tuple[str, ...]:
    """The labels of the data that are not the model's, all of which may be passed over."""
    foreign: dict[str, None] = {}
    unexpected: dict[str, str] = {}
    for conversation in conversations:
        for index in conversation.annotated_turns:
            for label in conversation.turns[index].labels or ():
                if label in labels:
                    continue
                foreign[label] = None
                if label not in passed_over and label not in conversation.unknown_labels(index):
                    unexpected.setdefault(label, f"conversation {conversation.id!r}, turn {index}")
    if unexpected:
        where = next(iter(unexpected.values()))
        raise TrainingError(
            f"the model does not know {', '.join(map(repr, unexpected))}, which the data has (first in {where}); its "
            f"labels are {', '.join(labels)}. Name such labels in 'unlabelled' to have them passed over"
        )
    return tuple(foreign)


def _probabilities(classifier: ListeningClassifier, places: Sequence[tuple[Conversation, int]]) -> NDArray[np.float64]:
    """The model's probabilities, shape (turns, labels)."""
    rows: list[list[float]] = []
    with _progress() as progress:
        task = progress.add_task("predicting", total=len(places))
        for start in range(0, len(places), _TURNS_AT_ONCE):
            chunk = places[start : start + _TURNS_AT_ONCE]
            turns: list[Turn] = [conversation.turns[index] for conversation, index in chunk]
            contexts = [conversation.turns[:index] for conversation, index in chunk]
            predictions: list[Prediction] = classifier.predict(turns, context=contexts)
            rows += [[prediction.scores[label] for label in classifier.labels] for prediction in predictions]
            progress.advance(task, len(chunk))
    return np.array(rows)


def _progress() -> Progress:
    """A bar on stderr, where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("turns"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        disable=not sys.stderr.isatty(),
    )


# counting


class _Counts(NamedTuple):
    """True positives, false positives and false negatives of all turns, or of a slice."""

    conversations: int
    total: NDArray[np.float64]
    """Shape (labels, 3)."""
    resampled: NDArray[np.float64]
    """Shape (resamples, labels, 3); NaN of one conversation, with which nothing varies."""


def _counts(
    scored: ScoredTurns, rows: NDArray[np.bool_], conversation_of: NDArray[np.intp], resamples: int, seed: int
) -> _Counts:
    """Count the turns where `rows`, of shape (turns,), is true. It is all conversations that are drawn anew."""
    counts = conversation_counts(
        scored.predicted[rows], scored.targets[rows], conversation_of[rows], conversation_of.max() + 1
    )
    resampled = resampled_counts(counts, resamples, seed)
    conversations = len(np.unique(conversation_of[rows]))
    if conversations < 2:
        resampled[:] = math.nan
    return _Counts(conversations, counts.sum(axis=0), resampled)


def _macro(of_labels: NDArray[np.floating], resampled: NDArray[np.floating]) -> Estimate:
    """The mean over the labels that any turn has; from arrays of shape (labels,) and (resamples, labels)."""
    known = of_labels[~np.isnan(of_labels)]
    return estimate(float(known.mean()) if len(known) else math.nan, resampled_mean(resampled, of_labels))


# slices


def _slices(scored: ScoredTurns) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Key, value and turns (a mask of shape (turns,)) of every slice. A key that all turns share tells nothing."""
    places = list(zip(scored.conversations, scored.indices, strict=True))
    values: dict[str, list[str]] = {
        key: [str(it.meta.get(key) or "not given") for it in scored.conversations] for key in _META_SLICES
    }
    values["times"] = [_known(timing_of(it.turns, index) is not Timing.UNKNOWN) for it, index in places]
    values["punctuation"] = [_with(not _PUNCTUATION.isdisjoint(it.turns[index].text)) for it, index in places]
    values["context"] = [_with(index > 0) for index in scored.indices]
    for key, of_turns in values.items():
        kinds = sorted(set(of_turns))
        if len(kinds) > 1:
            for kind in kinds:
                yield key, kind, np.array([value == kind for value in of_turns])


def _known(yes: bool) -> str:
    return "known" if yes else "not known"


def _with(yes: bool) -> str:
    return "with" if yes else "without"


def _slice(scored: ScoredTurns, key: str, value: str, rows: NDArray[np.bool_], counts: _Counts) -> Slice:
    f1 = precision_recall_f1(counts.total).f1
    support = (scored.targets[rows] == 1).sum(axis=0)
    return Slice(
        key=key,
        value=value,
        turns=int(rows.sum()),
        conversations=counts.conversations,
        macro_f1=_macro(f1, precision_recall_f1(counts.resampled).f1),
        f1=dict(zip(scored.labels, f1.tolist(), strict=True)),
        support=dict(zip(scored.labels, support.tolist(), strict=True)),
    )


# JSON


def json_object(record: Any, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass as a JSON object; NaN becomes null."""
    names = (entry.name for entry in fields(record) if entry.name not in leave_out)
    return {name: _json(getattr(record, name)) for name in names}


def _json(value: Any) -> Any:
    if is_dataclass(value):
        return json_object(value)
    if isinstance(value, Mapping):
        return {key: _json(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_json(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
