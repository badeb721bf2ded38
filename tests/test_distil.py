"""Distillation: fewer layers, and a teacher's probabilities beside the annotators' labels."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from listening_clf import Conversation, Label, ListeningClassifier, TrainingError
from listening_clf.checkpoint import WEIGHTS
from listening_clf.encoding import EncodingSettings
from listening_clf.finetune import TrainConfig, loop, train
from listening_clf.finetune.base import keep_layers, set_dropout
from listening_clf.finetune.data import LabelledTurn, draw, labelled_turns
from listening_clf.finetune.distil import Teacher, without_annotations
from tests.conftest import plain_encoder

LABELS = tuple(Label)


@pytest.fixture(autouse=True)
def another_precision() -> Iterator[None]:
    """A process has one precision: let it forget that of the test before."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def a_teacher(weight: float = 1.0, precision: str = "no") -> Teacher:
    return Teacher("small", LABELS, weight, Accelerator(cpu=True, mixed_precision=precision))


def read(teacher: Teacher, turns: list[LabelledTurn]) -> int:
    """How many turns were new to the teacher."""
    return max((read for read, _ in teacher.read(turns)), default=0)


def targets_of(teacher: Teacher, turns: list[LabelledTurn]) -> np.ndarray:
    read(teacher, turns)
    return np.stack([it.targets for it in teacher.teach(turns)])


def test_the_teacher_fills_what_is_unknown_and_shares_in_what_is_known_where_it_agrees(
    bundled: ListeningClassifier, conversations: list[Conversation]
) -> None:
    unlabelled = replace(conversations[0], unlabelled=("summary", "reflection"))
    turns = labelled_turns([unlabelled], LABELS)
    alone, mixed = targets_of(a_teacher(), turns), targets_of(a_teacher(0.25), turns)
    given = np.stack([it.targets for it in turns])
    unknown = np.isnan(given)
    assert unknown.any(axis=0).tolist() == [label in unlabelled.unlabelled for label in LABELS]
    assert ((alone > 0) & (alone < 1)).all()
    np.testing.assert_array_equal(mixed[unknown], alone[unknown])
    np.testing.assert_allclose(mixed[~unknown], 0.75 * given[~unknown] + 0.25 * alone[~unknown], atol=1e-6)
    # Its own probabilities, uncalibrated and in float32, go with those of the bundled model.
    scores = [it.scores["open_question"] for it in bundled.predict_conversation(conversations[0])]
    assert np.corrcoef(alone[:, LABELS.index(Label.OPEN_QUESTION)], scores)[0, 1] > 0.95


def test_annotators_whom_the_teacher_contradicts_are_believed(conversations: list[Conversation]) -> None:
    turns = labelled_turns(conversations[:1], LABELS)
    wrong = [LabelledTurn(turn.item, 1 - turn.targets) for turn in turns]
    teacher = a_teacher(0.5)
    taught, taught_wrong = targets_of(teacher, turns), targets_of(teacher, wrong)
    given = np.stack([it.targets for it in turns])
    agreed = np.abs(taught - given) > 0
    assert agreed.mean() > 0.9
    np.testing.assert_array_equal(taught_wrong[agreed], 1 - given[agreed])


def test_a_teacher_must_know_the_labels() -> None:
    with pytest.raises(TrainingError, match="the teacher 'small' does not know 'upsell': its labels are paraphrase,"):
        Teacher("small", ("paraphrase", "upsell"), 0.5, Accelerator(cpu=True))


def test_a_teacher_is_asked_once_and_its_answers_outlive_the_process(
    conversations: list[Conversation], tmp_path: Path
) -> None:
    turns = labelled_turns(conversations[:6], LABELS)
    teacher = a_teacher()
    assert read(teacher, turns[:20]) == 20
    assert read(teacher, turns) == len(turns) - 20
    assert read(teacher, turns) == 0
    teacher.note_answers(tmp_path / "answers")

    another = a_teacher()
    another.recall_answers(tmp_path / "answers")
    assert read(another, turns) == 0
    for one, other in zip(teacher.teach(turns), another.teach(turns), strict=True):
        np.testing.assert_array_equal(one.targets, other.targets)

    AcceleratorState._reset_state()
    coarser = a_teacher(precision="bf16")
    coarser.recall_answers(tmp_path / "answers")
    assert read(coarser, turns) == len(turns)
    np.testing.assert_allclose(targets_of(coarser, turns), targets_of(teacher, turns), atol=0.1)


def test_a_run_that_resumes_asks_its_teacher_nothing_again(
    tiny_base: str, conversations: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        tiny_base, encoding=EncodingSettings(48, 128), teacher="small", epochs=2, mixed_precision="no", seed=3
    )
    data = conversations[:6], conversations[8:16]
    unbroken = train(config, *data, tmp_path / "unbroken", card="")

    with monkeypatch.context() as killed:
        killed.setattr(loop, "training_step", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(config, *data, tmp_path / "resumed", card="")
    asked: list[int] = []
    taught = loop._taught
    monkeypatch.setattr(
        loop,
        "_taught",
        lambda teacher, turns, *rest: (asked.append(read(teacher, turns)), taught(teacher, turns, *rest))[1],
    )
    resumed = train(config, *data, tmp_path / "resumed", card="", resume=True)
    assert asked[0] == 0 < asked[1]
    assert not (tmp_path / "resumed.run").exists()
    one, other = load_file(unbroken / WEIGHTS), load_file(resumed / WEIGHTS)
    for name, weights in one.items():
        torch.testing.assert_close(weights, other[name], msg=name)


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


@pytest.mark.parametrize("share", [None, 0.0, 0.3])
def test_hidden_states_are_dropped_out_as_told_and_attention_as_before(share: float | None, tiny_base: str) -> None:
    config = AutoConfig.from_pretrained(tiny_base, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0)
    model = AutoModelForSequenceClassification.from_config(config)
    set_dropout(model, share)
    layer = model.bert.encoder.layer[0]
    assert layer.output.dropout.p == model.dropout.p == (0.1 if share is None else share)
    assert layer.attention.self.dropout.p == 0


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
