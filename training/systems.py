"""What is measured side by side: a model as it ships, the same without quantization, a baseline.

A system gives logits. A `Decider` makes probabilities and labels of them: a checkpoint has its own, fitted on dev when
it was exported; for the others one is fitted in the same way.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from accelerate import Accelerator

from listening_clf.checkpoint import (
    CONFIG,
    NEEDED_TO_PREDICT,
    NEEDED_TO_TRAIN,
    ONNX,
    TOKENIZER,
    Calibration,
    Checkpoint,
    Manifest,
    write_manifest,
)
from listening_clf.finetune.calibrate import fit_calibration, fit_thresholds
from listening_clf.finetune.data import LabelledTurn
from listening_clf.finetune.forward import TorchModel, precision
from listening_clf.finetune.graph import export_onnx
from listening_clf.finetune.metrics import LabelMetrics, label_metrics
from listening_clf.finetune.start import open_for_transformers
from listening_clf.runtime import Runtime, calibrated
from training.baseline import TfidfBaseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Logits: TypeAlias = Callable[[Sequence[LabelledTurn]], "Floats"]
"""The logits of turns, shape (turns, labels)."""

ROUNDS = 3
"""Times that the prediction is timed; the fastest counts."""


@dataclass(frozen=True)
class Decider:
    """From logits, shape (turns, labels), to labels: the calibration and the threshold of each."""

    calibration: Mapping[str, Calibration]
    thresholds: Mapping[str, float]

    @classmethod
    def of(cls, manifest: Manifest) -> Decider:
        """What a checkpoint decides by."""
        return cls(manifest.calibration, manifest.thresholds)

    @classmethod
    def fit(cls, logits: Floats, targets: Floats, labels: Sequence[str]) -> Decider:
        """Fitted as an export does for a model that was trained from no other checkpoint of ours."""
        calibration = fit_calibration(logits, targets, labels)
        probabilities = calibrated(logits, list(calibration.values()))
        return cls(calibration, fit_thresholds(probabilities, targets, labels))

    def probabilities(self, logits: Floats) -> Floats:
        """Calibrated, shape (turns, labels)."""
        return calibrated(logits, list(self.calibration.values()))

    def decisions(self, logits: Floats) -> NDArray[np.bool_]:
        """Whether each label passes its own threshold, shape (turns, labels)."""
        return np.asarray(self.probabilities(logits) >= np.array(list(self.thresholds.values())))

    def metrics(self, logits: Floats, targets: Floats) -> dict[str, LabelMetrics]:
        """Each label's metrics, over the turns for which it is known."""
        return label_metrics(self.probabilities(logits), targets, self.thresholds)


@dataclass(frozen=True)
class System:
    """What labels turns, one way or another."""

    logits: Logits
    size: int
    """Bytes on disk that prediction needs."""
    decider: Decider | None = None
    """Its own; None where one is to be fitted on dev."""
    turns_per_second: float | None = None
    """Where it was measured in another process; None where `speed` can."""


def tfidf(train: Sequence[LabelledTurn]) -> System:
    """The baseline, fitted on these turns."""
    baseline = TfidfBaseline().fit(train)
    return System(lambda turns: baseline.logits([turn.item for turn in turns]), size=len(pickle.dumps(baseline)))


def as_shipped(checkpoint: Checkpoint) -> System:
    """A checkpoint as users have it: int8 or float32, whichever its export chose, with its own decider."""
    runtime = Runtime(checkpoint)
    return System(
        lambda turns: runtime.logits(runtime.encoder.encode_many(turn.item for turn in turns)),
        size=sum((checkpoint.folder / path).stat().st_size for path in NEEDED_TO_PREDICT),
        decider=Decider.of(checkpoint.manifest),
    )


@contextmanager
def unquantized(checkpoint: Checkpoint) -> Iterator[System]:
    """The same weights in float32, exported anew: usable within the context, and without a decider.

    Raises:
        CheckpointError: the checkpoint has no weights to export.
    """
    Checkpoint.open(checkpoint.folder, NEEDED_TO_TRAIN)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        export_onnx(checkpoint.folder, folder / ONNX)
        for path in (CONFIG, TOKENIZER):
            shutil.copyfile(checkpoint.folder / path, folder / path)
        write_manifest(folder, checkpoint.manifest)
        yield replace(as_shipped(Checkpoint.open(folder)), decider=None)


def in_torch(checkpoint: Checkpoint) -> System:
    """A checkpoint as a teacher is run: in torch, in bfloat16 where the device computes in it. Without a decider.

    Raises:
        CheckpointError: the checkpoint has no weights, or a file was altered.
    """
    model = TorchModel(open_for_transformers(checkpoint.folder), Accelerator(mixed_precision=precision("auto")))
    return System(
        lambda turns: model.logits(model.encoder.encode_many(turn.item for turn in turns)),
        size=sum((checkpoint.folder / path).stat().st_size for path in NEEDED_TO_TRAIN),
    )


def speed(system: System, turns: Sequence[LabelledTurn]) -> float:
    """How many turns a system labels a second, given all at once: the best of `ROUNDS`.

    Call it when the system has labelled others: the first call takes longer.
    """
    if system.turns_per_second is not None:
        return system.turns_per_second
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        system.logits(turns)
        seconds.append(time.perf_counter() - start)
    return len(turns) / min(seconds)


def targets_of(turns: Sequence[LabelledTurn]) -> Floats:
    """What the annotators say of turns, shape (turns, labels); NaN where it is unknown."""
    return np.stack([turn.targets for turn in turns])
