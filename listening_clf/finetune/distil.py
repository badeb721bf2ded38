"""Distillation: a model learns a teacher's probabilities beside the annotators' labels (Hinton et al., 2015).

The teacher reads every turn just as the student does, with the same omissions and in the same style, which Beyer et
al. ("Knowledge distillation: a good teacher is patient and consistent", CVPR 2022) found to matter most. So it can also
teach turns that nobody annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from listening_clf.checkpoint import ONNX_DATA, Calibration, Checkpoint
from listening_clf.conversation import Conversation
from listening_clf.errors import TrainingError
from listening_clf.finetune.data import LabelledTurn
from listening_clf.hub import locate
from listening_clf.runtime import Runtime, calibrated


class Teacher:
    """A model that another one learns from.

    Args:
        name: a bundled model's name, a checkpoint folder, or a hub id.
        labels: the student's.
        weight: how much the teacher counts where annotators say something too; they have the rest.

    Raises:
        CheckpointError: there is no such model.
        TrainingError: it does not know all the labels.
    """

    def __init__(self, name: str, labels: Sequence[str], weight: float) -> None:
        checkpoint = Checkpoint.open(locate(name))
        own = checkpoint.manifest.labels
        if missing := [label for label in labels if label not in own]:
            raise TrainingError(f"the teacher {name!r} does not know {missing[0]!r}: its labels are {', '.join(own)}")
        self._runtime = Runtime(checkpoint)
        self.training_data = [dict(data) for data in checkpoint.manifest.training_data]
        """What it has seen labels of; so does, through it, the student."""
        self.fingerprint = checkpoint.manifest.files[ONNX_DATA]
        self._columns = [own.index(label) for label in labels]
        self._weight = weight

    def teach(self, turns: Sequence[LabelledTurn]) -> list[LabelledTurn]:
        """The turns with targets between 0 and 1, none of them unknown.

        The teacher's calibration is left out: it was fitted on dev, of which a student is to see nothing.
        """
        logits = self._runtime.logits(self._runtime.encoder.encode_many(turn.item for turn in turns))
        taught = calibrated(logits, [Calibration()] * logits.shape[1])[:, self._columns]
        return [
            LabelledTurn(
                turn.item, np.where(np.isnan(turn.targets), own, turn.targets + self._weight * (own - turn.targets))
            )
            for turn, own in zip(turns, taught, strict=True)
        ]


def without_annotations(conversation: Conversation, labels: Sequence[str]) -> Conversation:
    """The conversation with every label of every agent turn unknown: to be learned from a teacher alone."""
    turns = tuple(
        replace(turn, labels=() if turn.speaker == "agent" else None, unlabelled=()) for turn in conversation.turns
    )
    return replace(conversation, turns=turns, unlabelled=tuple(labels))
