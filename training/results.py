"""Measure the bundled model and the baseline on dev: `python -m training.results` prints the tables of the model card.

Calibration and thresholds are fitted on dev, so what they give there is a little rosy. The column "cross-fitted" fits
them on four fifths of the dev conversations and measures on the last fifth, five times.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from sklearn.model_selection import GroupKFold

from listening_clf.checkpoint import CONFIG, ONNX, TOKENIZER, Checkpoint
from listening_clf.conversation import Conversation, Turn
from listening_clf.finetune.calibrate import fit_calibration, fit_thresholds
from listening_clf.finetune.data import LabelledTurn, asr_style, labelled_turns, without_context
from listening_clf.finetune.graph import export_onnx
from listening_clf.finetune.metrics import LabelMetrics, expected_calibration_error, label_metrics, macro_f1
from listening_clf.hub import locate
from listening_clf.labels import Label
from listening_clf.runtime import Runtime, calibrated
from training.baseline import TfidfBaseline
from training.data import load_mrda, load_split
from training.timing import with_times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Logits = Callable[[Sequence[LabelledTurn]], "Floats"]


def main(model: Annotated[str, typer.Option(help="A bundled model's name, or a checkpoint folder.")] = "small") -> None:
    """Print the dev tables as Markdown."""
    folder = locate(model)
    checkpoint = Checkpoint.open(folder)
    labels = checkpoint.manifest.labels
    dev = load_split("dev")
    systems = {
        "TF-IDF + logistic regression": _baseline(labels),
        f"{model}, float32": _float32(checkpoint),
        f"{model}, as bundled": _logits(Runtime(checkpoint)),
    }

    _print_row("dev", "macro F1", *labels, "macro F1, cross-fitted")
    _print_row(*["---"] * (len(labels) + 3))
    turns = labelled_turns(dev, labels)
    for name, system in systems.items():
        fitted, cross_fitted = _fitted(system(turns), turns, labels)
        _print_metrics(name, fitted, f"{macro_f1(cross_fitted):.3f}")
    _, float32, bundled_system = systems.values()
    _print_differences(float32, bundled_system, turns)

    print(f"\nThe bundled model with its own thresholds, by kind of data ({len(turns):,} turns):\n")
    _print_row("dev", "turns", "macro F1", *labels)
    _print_row(*["---"] * (len(labels) + 3))
    bundled = _BundledMeasure(checkpoint)
    for name, conversations in _slices(dev):
        of_kind = labelled_turns(conversations, labels)
        _print_metrics(f"{name} | {len(of_kind):,}", bundled.metrics(of_kind))

    print("\nEach label of the bundled model, on all of dev:\n")
    _print_row("label", "threshold", "precision", "recall", "F1", "average precision", "support", "ECE")
    _print_row(*["---"] * 8)
    probabilities, targets = bundled.probabilities(turns), _targets(turns)
    for column, (label, measured) in enumerate(bundled.metrics(turns).items()):
        error = expected_calibration_error(probabilities[:, column], targets[:, column])
        figures = (measured.precision, measured.recall, measured.f1, measured.average_precision)
        threshold = checkpoint.manifest.thresholds[label]
        _print_row(label, f"{threshold:.2f}", *(f"{x:.3f}" for x in figures), str(measured.support), f"{error:.3f}")

    alone = [without_context(turn, labels) for turn in turns]
    column = labels.index(Label.INTERRUPTION)
    called = bundled.probabilities(alone)[:, column] >= checkpoint.manifest.thresholds[Label.INTERRUPTION]
    others = _targets(alone)[:, column] == 0
    print(
        f"\nWithout any turn before them, {(called & others).sum()} of the {others.sum():,} turns that do not "
        "interrupt are called interruptions."
    )

    meetings = labelled_turns(load_mrda("val"), labels)
    interruption = bundled.metrics(meetings)["interruption"]
    print(
        f"\nMRDA val, interruption among all changes of speaker ({len(meetings):,}, of which {interruption.support}): "
        f"F1 {interruption.f1:.3f}, average precision {interruption.average_precision:.3f}."
    )


class _BundledMeasure:
    """The checkpoint as users have it: its calibration, its thresholds."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._runtime = Runtime(checkpoint)
        self._thresholds = checkpoint.manifest.thresholds

    def probabilities(self, turns: Sequence[LabelledTurn]) -> Floats:
        return np.stack(list(self._runtime.probabilities(turn.item for turn in turns)))

    def metrics(self, turns: Sequence[LabelledTurn]) -> dict[str, LabelMetrics]:
        return label_metrics(self.probabilities(turns), _targets(turns), self._thresholds)


def _baseline(labels: Sequence[str]) -> Logits:
    baseline = TfidfBaseline().fit(labelled_turns(load_split("train"), labels))
    return lambda turns: baseline.logits([turn.item for turn in turns])


def _float32(checkpoint: Checkpoint) -> Logits:
    """The same weights without quantization, exported anew."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export_onnx(checkpoint.folder, folder / ONNX)
        for path in (CONFIG, TOKENIZER):
            shutil.copyfile(checkpoint.folder / path, folder / path)
        return _logits(Runtime(replace(checkpoint, folder=folder)))


def _logits(runtime: Runtime) -> Logits:
    return lambda turns: runtime.logits(runtime.encoder.encode_many(turn.item for turn in turns))


def _fitted(
    logits: Floats, turns: Sequence[LabelledTurn], labels: Sequence[str]
) -> tuple[Mapping[str, LabelMetrics], Mapping[str, LabelMetrics]]:
    """The metrics with thresholds fitted on the same turns, and with thresholds fitted on other conversations."""
    targets = _targets(turns)

    def decide(fit: NDArray[np.intp], use: NDArray[np.intp]) -> NDArray[np.bool_]:
        calibration = fit_calibration(logits[fit], targets[fit], labels)
        thresholds = fit_thresholds(calibrated(logits[fit], list(calibration.values())), targets[fit], labels)
        return calibrated(logits[use], list(calibration.values())) >= np.array(list(thresholds.values()))

    everything = np.arange(len(turns))
    same = decide(everything, everything)
    others = np.zeros_like(same)
    number: dict[tuple[Turn, ...], int] = {}
    conversation = [number.setdefault(tuple(turn.item[0]), len(number)) for turn in turns]
    for fit, use in GroupKFold(5, shuffle=True, random_state=0).split(everything, groups=conversation):
        others[use] = decide(fit, use)
    half = dict.fromkeys(labels, 0.5)
    return label_metrics(same.astype(float), targets, half), label_metrics(others.astype(float), targets, half)


def _slices(dev: Sequence[Conversation]) -> Iterator[tuple[str, list[Conversation]]]:
    yield "all", list(dev)
    for corpus in dict.fromkeys(str(conversation.meta["corpus"]) for conversation in dev):
        yield corpus, [conversation for conversation in dev if conversation.meta["corpus"] == corpus]
    yield "all, in ASR style", [asr_style(conversation) for conversation in dev]
    timed = with_times(dev, np.random.default_rng(0))
    spoken = [(it, timed_copy) for it, timed_copy in zip(dev, timed, strict=True) if timed_copy is not it]
    yield "spoken, with simulated times", [timed_copy for _, timed_copy in spoken]
    yield "the same without times", [it for it, _ in spoken]


def _targets(turns: Sequence[LabelledTurn]) -> Floats:
    return np.stack([turn.targets for turn in turns])


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
