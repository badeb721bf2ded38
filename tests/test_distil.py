"""Distillation: fewer layers, and a teacher's probabilities beside the annotators' labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from listening_clf import Conversation, Label, ListeningClassifier, TrainingError
from listening_clf.encoding import EncodingSettings
from listening_clf.finetune import TrainConfig, train
from listening_clf.finetune.base import keep_layers
from listening_clf.finetune.data import draw, labelled_turns
from listening_clf.finetune.distil import Teacher, without_annotations
from tests.conftest import plain_encoder

LABELS = tuple(Label)


def test_the_teacher_fills_what_is_unknown_and_shares_in_what_is_known(
    bundled: ListeningClassifier, conversations: list[Conversation]
) -> None:
    unlabelled = replace(conversations[0], unlabelled=("summary", "reflection"))
    turns = labelled_turns([unlabelled], LABELS)
    alone = np.stack([it.targets for it in Teacher("small", LABELS, 1.0).teach(turns)])
    mixed = np.stack([it.targets for it in Teacher("small", LABELS, 0.25).teach(turns)])
    given = np.stack([it.targets for it in turns])
    unknown = np.isnan(given)
    assert unknown.any(axis=0).tolist() == [label in unlabelled.unlabelled for label in LABELS]
    assert ((alone > 0) & (alone < 1)).all()
    np.testing.assert_array_equal(mixed[unknown], alone[unknown])
    np.testing.assert_allclose(mixed[~unknown], 0.75 * given[~unknown] + 0.25 * alone[~unknown], atol=1e-6)
    # By its own, uncalibrated probabilities the teacher ranks turns as the bundled model does.
    scores = [it.scores["open_question"] for it in bundled.predict_conversation(conversations[0])]
    np.testing.assert_array_equal(np.argsort(alone[:, LABELS.index(Label.OPEN_QUESTION)]), np.argsort(scores))


def test_a_teacher_must_know_the_labels() -> None:
    with pytest.raises(TrainingError, match="the teacher 'small' does not know 'upsell': its labels are paraphrase,"):
        Teacher("small", ("paraphrase", "upsell"), 0.5)


def test_a_conversation_without_annotations_is_learned_from_turn_by_turn(conversations: list[Conversation]) -> None:
    (bare,) = (without_annotations(it, LABELS) for it in conversations[:1])
    turns = labelled_turns([bare], LABELS)
    assert tuple(index for (_, index), _ in turns) == bare.agent_turns
    assert np.isnan([it.targets for it in turns]).all()


@pytest.mark.parametrize(("count", "kept"), [(1, [0]), (2, [0, 5]), (3, [0, 2, 5]), (6, range(6)), (None, range(6))])
def test_layers_are_kept_evenly_from_the_first_to_the_last(
    count: int | None, kept: list[int], bundled_folder: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(bundled_folder)
    layers = list(model.bert.encoder.layer)
    keep_layers(model, count)
    assert list(model.bert.encoder.layer) == [layers[index] for index in kept]
    assert model.config.num_hidden_layers == len(kept)


def test_layers_that_there_are_not_cannot_be_kept(bundled_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(bundled_folder)
    with pytest.raises(TrainingError, match=r"layers is 7, but the base has 6$"):
        keep_layers(model, 7)


def test_a_student_of_one_layer_learns_from_turns_that_nobody_annotated(
    tiny_base: str, conversations: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        tiny_base,
        encoding=EncodingSettings(48, 128),
        layers=1,
        teacher="small",
        unlabelled=2.0,
        epochs=2,
        learning_rate=1e-3,
        asr_copies=0,
        mixed_precision="no",
    )
    seen: list[int] = []

    def counted(teacher: Teacher, turns: list) -> list:
        seen.append(len(turns))
        return teach(teacher, turns)

    teach = Teacher.teach
    monkeypatch.setattr(Teacher, "teach", counted)
    train(
        config,
        conversations[:8],
        conversations[8:16],
        tmp_path / "student",
        unlabelled=conversations[16:],
        card="",
    )
    own = len(labelled_turns(conversations[:8], LABELS))
    drawn = draw(conversations[16:], 2 * own, np.random.default_rng([0, 0]))
    assert seen[0] == own + sum(len(it.agent_turns) for it in drawn)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student", dtype=torch.float32)
    assert len(model.bert.encoder.layer) == 1
    student = ListeningClassifier.from_pretrained(tmp_path / "student")
    assert len(student.predict_conversation(conversations[0])) == len(conversations[0].agent_turns)


@pytest.mark.parametrize("architecture", ["Roberta", "MPNet", "DebertaV2", "ModernBert"])
def test_a_model_of_fewer_layers_can_be_loaded_again(architecture: str, tiny_base: str, tmp_path: Path) -> None:
    base = plain_encoder(architecture, tiny_base, tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(base)
    keep_layers(model, 1)
    model.save_pretrained(tmp_path / "one")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "one").config.num_hidden_layers == 1


def test_unlabelled_conversations_without_a_teacher_are_refused(
    tiny_base: str, conversations: list[Conversation], tmp_path: Path
) -> None:
    config = TrainConfig(tiny_base, encoding=EncodingSettings(48, 128), mixed_precision="no")
    with pytest.raises(TrainingError, match="teach nothing without a teacher"):
        train(config, conversations[:8], conversations[8:16], tmp_path / "model", unlabelled=conversations[16:])
