"""Distillation: a model learns a teacher's probabilities beside the annotators' labels (Hinton et al., 2015).

The teacher reads every turn just as the student does, with the same omissions and in the same style, which Beyer et
al. ("Knowledge distillation: a good teacher is patient and consistent", CVPR 2022) found to matter most. So it can also
teach turns that nobody annotated. What it once said of a turn is not asked again: in every epoch much is as before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from listening_clf.batching import input_key
from listening_clf.checkpoint import WEIGHTS, Calibration
from listening_clf.conversation import Conversation
from listening_clf.encoding import Encoded
from listening_clf.errors import TrainingError
from listening_clf.finetune.data import LabelledTurn
from listening_clf.finetune.forward import TorchModel
from listening_clf.finetune.start import locate_base, open_for_transformers
from listening_clf.runtime import calibrated

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_CHUNK = 2048
"""Turns that the teacher reads between two notes of its answers: what a kill can lose at most."""


class Teacher:
    """A model that another one learns from.

    Args:
        name: a bundled model's name, a checkpoint folder, or a hub id.
        labels: the student's.
        weight: how much the teacher counts where annotators say something too; they have the rest.
        accelerator: of the run.

    Raises:
        CheckpointError: there is no such model, or it lacks the weights.
        TrainingError: it does not know all the labels.
    """

    def __init__(self, name: str, labels: Sequence[str], weight: float, accelerator: Accelerator) -> None:
        checkpoint = open_for_transformers(locate_base(name))
        own = checkpoint.manifest.labels
        if missing := [label for label in labels if label not in own]:
            raise TrainingError(f"the teacher {name!r} does not know {missing[0]!r}: its labels are {', '.join(own)}")
        self.training_data = [dict(data) for data in checkpoint.manifest.training_data]
        """What it has seen labels of; so does, through it, the student."""
        weights, encoding = checkpoint.manifest.files[WEIGHTS], json.dumps(checkpoint.manifest.encoding)
        self.fingerprint = f"{weights} {encoding} {','.join(own)} {accelerator.mixed_precision}"
        """What its answers depend on."""
        self._columns = [own.index(label) for label in labels]
        self._weight = weight
        self._model = TorchModel(checkpoint, accelerator)
        self._answers: dict[bytes, NDArray[np.float32]] = {}

    def read(self, turns: Sequence[LabelledTurn]) -> Iterator[tuple[int, int]]:
        """Read the turns that are new, the short ones first.

        Yields:
            After some thousand turns each: how many are read, of how many new ones.
        """
        new = {key: turn for key, turn in self._encoded(turns) if key not in self._answers}
        order = sorted(new, key=lambda key: len(new[key].input_ids))
        for first in range(0, len(order), _CHUNK):
            keys = order[first : first + _CHUNK]
            chunk = [new[key] for key in keys]
            self._answers.update(zip(keys, self._model.logits(chunk), strict=True))
            yield first + len(keys), len(order)

    def teach(self, turns: Sequence[LabelledTurn]) -> list[LabelledTurn]:
        """The turns, which it has read, with targets between 0 and 1, none of them unknown.

        Where it contradicts the annotators, they alone count (Wen et al. 2019, "Preparing Lessons: Improve Knowledge
        Distillation with Better Supervision"). Its calibration is left out: that was fitted on dev, of which a student
        is to see nothing.
        """
        logits = np.stack([self._answers[key] for key, _ in self._encoded(turns)])
        taught = calibrated(logits, [Calibration()] * logits.shape[1])[:, self._columns]
        return [
            LabelledTurn(turn.item, self._mixed(turn.targets, own)) for turn, own in zip(turns, taught, strict=True)
        ]

    def _mixed(self, targets: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        difference = own - targets
        mixed = targets + self._weight * np.where(np.abs(difference) > 0.5, 0, difference)
        return np.where(np.isnan(targets), own, mixed).astype(np.float32)

    def note_answers(self, path: Path) -> None:
        """Write down all that it has answered.

        Raises:
            OSError, SafetensorError: it cannot be written.
        """
        keys = np.frombuffer(b"".join(self._answers), dtype=np.uint8).reshape(len(self._answers), -1)
        logits = np.stack(list(self._answers.values()))
        save_file({"keys": keys, "logits": logits}, path, metadata={"teacher": self.fingerprint})

    def recall_answers(self, path: Path) -> None:
        """Take up what was written down, if all processes find it, and it was this teacher's, in this precision."""
        answers: dict[bytes, NDArray[np.float32]] = {}
        try:
            with safe_open(path, framework="numpy") as noted:
                if noted.metadata() == {"teacher": self.fingerprint}:
                    keys, logits = noted.get_tensor("keys"), noted.get_tensor("logits")
                    answers = dict(zip(map(bytes, keys), logits, strict=True))
        except FileNotFoundError:
            pass  # nothing was asked yet
        except (OSError, SafetensorError) as error:
            logger.info("the teacher's answers in %s cannot be read, and are asked for again: %s", path, error)
        if len(set(gather_object([len(answers)]))) == 1:
            self._answers = answers

    def _encoded(self, turns: Sequence[LabelledTurn]) -> Iterator[tuple[bytes, Encoded]]:
        for one in self._model.encoder.encode_many(turn.item for turn in turns):
            yield input_key(one), one


def without_annotations(conversation: Conversation, labels: Sequence[str]) -> Conversation:
    """The conversation with every label of every agent turn unknown: to be learned from a teacher alone."""
    turns = tuple(
        replace(turn, labels=() if turn.speaker == "agent" else None, unlabelled=()) for turn in conversation.turns
    )
    return replace(conversation, turns=turns, unlabelled=tuple(labels))
