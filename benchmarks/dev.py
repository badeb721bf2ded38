"""How good the contenders are, so that no speed is bought with accuracy unseen: macro F1 on the dev split.

Everybody's calibration and thresholds are fitted on the same turns, in the way of a fine-tuning, whatever they bring
with them. So the figures are a little rosy, for all alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from listening_clf.conversation import Conversation
from listening_clf.errors import TrainingError
from listening_clf.finetune.calibrate import fit_calibration, fit_thresholds
from listening_clf.finetune.data import LabelledTurn, labelled_turns
from listening_clf.finetune.metrics import label_metrics, macro_f1
from listening_clf.labels import Label
from listening_clf.runtime import calibrated
from training.corpora import authored
from training.data import Split, load_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = tuple(Label)


def load(split: Split) -> tuple[str, list[LabelledTurn]]:
    """The labelled turns of a split, and what they are: without the corpora only what was written for this project."""
    try:
        return f"{split} split", labelled_turns(load_split(split), LABELS)
    except (TrainingError, OSError):  # an archive that is not the known one, or cannot be fetched
        return f"authored conversations of the {split} split alone", labelled_turns(_authored(split), LABELS)


def fitted_macro_f1(scores: Sequence[Sequence[float]], turns: Sequence[LabelledTurn]) -> float:
    """Macro F1 with the calibration and the thresholds that suit these turns best.

    Args:
        scores: the probability of every label for each turn.
        turns: what they are scores of.
    """
    targets = np.stack([turn.targets for turn in turns])
    probabilities = np.clip(np.array(scores, dtype=np.float64), 1e-7, 1 - 1e-7)
    logits: NDArray[np.float32] = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    calibration = fit_calibration(logits, targets, LABELS)
    fitted = calibrated(logits, list(calibration.values()))
    return macro_f1(label_metrics(fitted, targets, fit_thresholds(fitted, targets, LABELS)))


def _authored(split: Split) -> list[Conversation]:
    return [conversation for conversation in authored.read() if authored.is_dev(conversation) == (split == "dev")]
