"""Measure the bundled model and the baseline on dev: `python -m training.results` prints the tables of the model card.

Calibration and thresholds are fitted on dev, so what they give there is a little rosy. The column "cross-fitted" fits
them on four fifths of the dev conversations and measures on the last fifth, five times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from sklearn.model_selection import GroupKFold

from listening_clf.checkpoint import Checkpoint, Manifest
from listening_clf.conversation import Conversation, Turn
from listening_clf.finetune.card import PRECISIONS, recalls
from listening_clf.finetune.data import LabelledTurn, asr_style, labelled_turns, without_context
from listening_clf.finetune.metrics import LabelMetrics, expected_calibration_error, label_metrics, macro_f1
from listening_clf.hub import locate
from listening_clf.labels import Label
from training.data import load_mrda, load_split
from training.systems import Decider, Logits, as_shipped, targets_of, tfidf, unquantized
from training.timing import with_times
from training.typos import with_typos

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def main(model: Annotated[str, typer.Option(help="A bundled model's name, or a checkpoint folder.")] = "small") -> None:
    """Print the dev tables as Markdown."""
    checkpoint = Checkpoint.open(locate(model))
    labels = checkpoint.manifest.labels
    dev = load_split("dev")
    turns = labelled_turns(dev, labels)
    bundled = as_shipped(checkpoint)
    decider = Decider.of(checkpoint.manifest)

    with unquantized(checkpoint) as float32:
        systems = {
            "TF-IDF + logistic regression": tfidf(labelled_turns(load_split("train"), labels)),
            f"{model}, float32": float32,
            f"{model}, as bundled": bundled,
        }
        _print_row("dev", "macro F1", *labels, "macro F1, cross-fitted")
        _print_row(*["---"] * (len(labels) + 3))
        for name, system in systems.items():
            fitted, cross_fitted = _fitted(system.logits(turns), turns, labels)
            _print_metrics(name, fitted, f"{macro_f1(cross_fitted):.3f}")
        _print_differences(float32.logits, bundled.logits, turns)

    print(f"\nThe bundled model with its own thresholds, by kind of data ({len(turns):,} turns):\n")
    _print_row("dev", "turns", "macro F1", *labels)
    _print_row(*["---"] * (len(labels) + 3))
    for name, of_kind in _slices(dev, labels):
        measured = decider.metrics(bundled.logits(of_kind), targets_of(of_kind))
        _print_metrics(f"{name} | {len(of_kind):,}", measured)

    print("\nEach label of the bundled model, on all of dev:\n")
    _print_row("label", "threshold", "precision", "recall", "F1", "average precision", "support", "ECE")
    _print_row(*["---"] * 8)
    logits, targets = bundled.logits(turns), targets_of(turns)
    probabilities = decider.probabilities(logits)
    for column, (label, it) in enumerate(decider.metrics(logits, targets).items()):
        error = expected_calibration_error(probabilities[:, column], targets[:, column])
        figures = (it.precision, it.recall, it.f1, it.average_precision)
        threshold = decider.thresholds[label]
        _print_row(label, f"{threshold:.2f}", *(f"{x:.3f}" for x in figures), str(it.support), f"{error:.3f}")

    _print_operating_points(checkpoint.manifest)

    alone = [without_context(turn, labels) for turn in turns]
    column = labels.index(Label.INTERRUPTION)
    called = decider.decisions(bundled.logits(alone))[:, column]
    others = targets_of(alone)[:, column] == 0
    print(
        f"\nWithout any turn before them, {(called & others).sum()} of the {others.sum():,} turns that do not "
        "interrupt are called interruptions."
    )

    meetings = labelled_turns(load_mrda("val"), labels)
    interruption = decider.metrics(bundled.logits(meetings), targets_of(meetings))["interruption"]
    print(
        f"\nMRDA val, interruption among all changes of speaker ({len(meetings):,}, of which {interruption.support}): "
        f"F1 {interruption.f1:.3f}, average precision {interruption.average_precision:.3f}."
    )


def _fitted(
    logits: Floats, turns: Sequence[LabelledTurn], labels: Sequence[str]
) -> tuple[Mapping[str, LabelMetrics], Mapping[str, LabelMetrics]]:
    """The metrics with thresholds fitted on the same turns, and with thresholds fitted on other conversations."""
    targets = targets_of(turns)

    def decide(fit: NDArray[np.intp], use: NDArray[np.intp]) -> NDArray[np.bool_]:
        return Decider.fit(logits[fit], targets[fit], labels).decisions(logits[use])

    everything = np.arange(len(turns))
    same = decide(everything, everything)
    others = np.zeros_like(same)
    number: dict[tuple[Turn, ...], int] = {}
    conversation = [number.setdefault(tuple(turn.item[0]), len(number)) for turn in turns]
    for fit, use in GroupKFold(5, shuffle=True, random_state=0).split(everything, groups=conversation):
        others[use] = decide(fit, use)
    half = dict.fromkeys(labels, 0.5)
    return label_metrics(same.astype(float), targets, half), label_metrics(others.astype(float), targets, half)


def _slices(dev: Sequence[Conversation], labels: Sequence[str]) -> Iterator[tuple[str, list[LabelledTurn]]]:
    everything = labelled_turns(dev, labels)
    yield "all", everything
    for corpus in dict.fromkeys(str(conversation.meta["corpus"]) for conversation in dev):
        yield corpus, labelled_turns([it for it in dev if it.meta["corpus"] == corpus], labels)
    yield "all, in ASR style", labelled_turns([asr_style(it) for it in dev], labels)
    yield "all, with typos", labelled_turns(list(with_typos(dev, np.random.default_rng(0))), labels)
    yield "all, without any context", [without_context(turn, labels) for turn in everything]
    timed = with_times(dev, np.random.default_rng(0))
    spoken = [(it, timed_copy) for it, timed_copy in zip(dev, timed, strict=True) if timed_copy is not it]
    yield "spoken, with simulated times", labelled_turns([timed_copy for _, timed_copy in spoken], labels)
    yield "the same in ASR style", labelled_turns([asr_style(timed_copy) for _, timed_copy in spoken], labels)
    yield "the same without times", labelled_turns([it for it, _ in spoken], labels)


def _print_operating_points(manifest: Manifest) -> None:
    print("\nRecall that is left, and the threshold, where dev shows at least that precision:\n")
    _print_row("label", *(f"{precision:.2f}" for precision in PRECISIONS))
    _print_row(*["---"] * (1 + len(PRECISIONS)))
    for label, cells in recalls(manifest).items():
        _print_row(label, *cells)


def _print_differences(float32: Logits, int8: Logits, turns: Sequence[LabelledTurn]) -> None:
    together = int8(turns)
    from_float32 = np.abs(together - float32(turns))
    some = range(0, len(turns), 5)
    from_alone = np.abs(together[some] - np.concatenate([int8([turns[i]]) for i in some]))
    print(
        f"\nLogits as bundled against float32: mean difference {from_float32.mean():.3f}, largest "
        f"{from_float32.max():.2f}. Of a turn in a batch against the turn alone: {from_alone.mean():.3f}, "
        f"{from_alone.max():.2f}."
    )


def _print_metrics(name: str, metrics: Mapping[str, LabelMetrics], *more: str) -> None:
    f1 = [f"{label.f1:.3f}" if label.support else "–" for label in metrics.values()]
    _print_row(name, f"{macro_f1(metrics):.3f}", *f1, *more)


def _print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
