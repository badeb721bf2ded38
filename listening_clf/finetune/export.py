"""From a trained model to a checkpoint folder: float16 weights, ONNX (int8 where that costs nothing), calibration."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from listening_clf.checkpoint import (
    CARD,
    FLOAT_ONNX,
    ONNX,
    ONNX_DATA,
    WEIGHTS,
    Calibration,
    Checkpoint,
    Manifest,
    new_folder,
    write_manifest,
)
from listening_clf.encoding import pad
from listening_clf.finetune.calibrate import fit_calibration, fit_thresholds, operating_points
from listening_clf.finetune.data import LabelledTurn
from listening_clf.finetune.graph import export_onnx
from listening_clf.finetune.metrics import LabelMetrics, label_metrics, macro_f1
from listening_clf.finetune.quantize import quantize
from listening_clf.finetune.share import share_weights
from listening_clf.finetune.start import Start
from listening_clf.labels import CODEBOOK_VERSION, Label
from listening_clf.runtime import Runtime, calibrated

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MAX_F1_LOST = 0.005
"""The int8 model is shipped if its macro F1 on dev is at most this much below the float32 one's."""

CALIBRATION_TURNS = 500
"""Turns of dev, at most, from which int8 takes the range of each activation."""

Describe: TypeAlias = Callable[[Manifest, Mapping[str, LabelMetrics]], str]
"""Writes the model card, from the manifest and what the model reaches on dev."""


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    start: Start,
    dev: Sequence[LabelledTurn],
    output: Path,
    *,
    training_data: Sequence[dict[str, str]],
    describe: Describe,
    prior: Manifest | None = None,
) -> None:
    """Write the checkpoint folder. What is calibrated is the file that will run, quantized or not.

    Args:
        model: the trained model; it is left in float16.
        tokenizer: its tokenizer.
        start: what the run started from: the labels, the encoding, and the data that the base has seen.
        dev: what calibration and thresholds are fitted on.
        output: the folder.
        training_data: `{"name", "licence"}` of the data sets of this run.
        describe: writes the model card.
        prior: one whose calibration and thresholds were fitted to other turns than `dev`, to hold to where these say
            little.

    Raises:
        CheckpointError: something other than a checkpoint stands at `output`.
    """
    seen_before = start.manifest.training_data if start.manifest else ()
    manifest = Manifest(
        labels=start.labels,
        thresholds=dict.fromkeys(start.labels, 0.5),
        calibration=dict.fromkeys(start.labels, Calibration()),
        encoding=start.encoding.to_dict(),
        codebook_version=CODEBOOK_VERSION if set(start.labels) & set(Label) else None,
        training_data=(*seen_before, *(data for data in training_data if data not in seen_before)),
    )
    fit = partial(_fitted, manifest=manifest, dev=dev, prior=prior)
    with new_folder(output) as folder:
        torch.nn.Module.to(model, torch.float16)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

        with _quiet():
            export_onnx(folder, folder / ONNX)
        exact, exact_metrics = fit(folder)
        share_weights(folder / ONNX, folder / FLOAT_ONNX, folder / WEIGHTS)
        float32 = folder.parent / "float32"
        (folder / ONNX).parent.rename(float32)
        with _quiet():
            quantize(float32 / Path(ONNX).name, folder / ONNX, _samples(start, dev))
        chosen, metrics = fit(folder)
        exact_f1, int8_f1 = macro_f1(exact_metrics), macro_f1(metrics)
        logger.info("macro F1 on dev: float32 %.4f, int8 %.4f", exact_f1, int8_f1)
        if exact_f1 - int8_f1 > MAX_F1_LOST:
            logger.warning("int8 would cost %.1f points of macro F1: keeping float32", 100 * (exact_f1 - int8_f1))
            shutil.rmtree((folder / ONNX).parent)
            float32.rename((folder / ONNX).parent)
            chosen, metrics = exact, exact_metrics
        for path in (WEIGHTS, ONNX_DATA):
            (folder / path).chmod(0o644)  # their writers let only the owner read them
        (folder / CARD).write_text(describe(chosen, metrics), encoding="utf-8")
        write_manifest(folder, chosen)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what the exporter and the quantizer say of operators and steps that are not needed here."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _samples(start: Start, dev: Sequence[LabelledTurn]) -> Iterator[dict[str, NDArray[np.int64]]]:
    """The model's inputs for some hundred turns of dev, one at a time."""
    step = -(-len(dev) // CALIBRATION_TURNS)
    for encoded in start.encoder().encode_many(turn.item for turn in dev[::step]):
        yield pad([encoded], pad_id=0)


def _fitted(
    folder: Path, manifest: Manifest, dev: Sequence[LabelledTurn], prior: Manifest | None
) -> tuple[Manifest, dict[str, LabelMetrics]]:
    """The manifest with calibration and thresholds by what `folder` answers on dev, and the metrics there."""
    write_manifest(folder, manifest)
    runtime = Runtime(Checkpoint.open(folder))
    logits = runtime.logits(runtime.encoder.encode_many(turn.item for turn in dev))
    targets = np.stack([turn.targets for turn in dev])
    calibration = fit_calibration(logits, targets, manifest.labels, prior.calibration if prior else None)
    probabilities = calibrated(logits, list(calibration.values()))
    thresholds = fit_thresholds(probabilities, targets, manifest.labels, prior.thresholds if prior else None)
    metrics = label_metrics(probabilities, targets, thresholds)
    points = operating_points(probabilities, targets, manifest.labels)
    return replace(manifest, calibration=calibration, thresholds=thresholds, operating_points=points), metrics
