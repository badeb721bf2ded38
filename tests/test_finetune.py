"""Fine-tuning, with a tiny model: what is learned from, what is written, and that a run can be resumed."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from listening_clf import CheckpointError, Conversation, Label, ListeningClassifier, TrainingError, Turn
from listening_clf.checkpoint import ONNX, WEIGHTS, Calibration, Checkpoint
from listening_clf.encoding import Encoded, Encoder, EncodingSettings
from listening_clf.finetune import TrainConfig, train
from listening_clf.finetune.base import load_base
from listening_clf.finetune.calibrate import fit_calibration, fit_thresholds, operating_points
from listening_clf.finetune.data import (
    Example,
    asr_style,
    batches,
    epoch_turns,
    labelled_turns,
    without_context,
)
from listening_clf.finetune.loop import masked_bce
from listening_clf.finetune.metrics import (
    LabelMetrics,
    expected_calibration_error,
    label_metrics,
    macro_f1,
    macro_f1_error,
)
from listening_clf.finetune.replay import AUTHORED, Replay, is_dev
from listening_clf.finetune.start import Start
from listening_clf.runtime import Runtime, calibrated
from tests.conftest import plain_encoder

NAN = math.nan


# data


def test_only_annotated_agent_turns_are_learned_from_and_unknown_labels_are_nan() -> None:
    turns = (
        Turn("customer", "It broke."),
        Turn("agent", "What broke?", labels=("open_question",)),
        Turn("agent", "Okay."),
    )
    (only,) = labelled_turns([Conversation(turns, unlabelled=("summary",))], tuple(Label))
    assert only.item == (turns, 1)
    np.testing.assert_array_equal(only.targets, [0, 0, 1, NAN, 0])


def test_an_unknown_label_is_named_with_its_turn() -> None:
    conversation = Conversation((Turn("agent", "Okay.", labels=("sumary",)),), id="c7")
    with pytest.raises(TrainingError, match="conversation 'c7', turn 0: unknown label 'sumary'"):
        labelled_turns([conversation], tuple(Label))


def test_data_without_annotations_is_refused() -> None:
    with pytest.raises(TrainingError, match="no agent turn in the data is annotated"):
        labelled_turns([Conversation((Turn("agent", "Okay."),))], tuple(Label))


def test_asr_style_has_neither_capitals_nor_punctuation() -> None:
    conversation = Conversation((Turn("agent", "So, you don't KNOW - do you?"), Turn("customer", "...")))
    assert [turn.text for turn in asr_style(conversation).turns] == ["so you dont know do you", "..."]


def test_batches_hold_every_example_once_and_little_padding() -> None:
    rng = np.random.default_rng(0)
    examples = [Example(Encoded([n] * int(rng.integers(5, 100)), 0), np.zeros(5, np.float32)) for n in range(1000)]
    cut = list(batches(examples, 16, (0, 0)))
    assert sorted(example.encoded.input_ids[0] for batch in cut for example in batch) == list(range(1000))
    padded = sum(len(batch) * max(len(example.encoded.input_ids) for example in batch) for batch in cut)
    assert padded < 1.1 * sum(len(example.encoded.input_ids) for example in examples)
    assert [len(batch) for batch in cut] != sorted(len(batch) for batch in cut)


# loss, calibration, metrics


def test_unknown_labels_have_no_part_in_the_loss() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    loss = masked_bce(logits, torch.tensor([[1.0, NAN], [NAN, 0.0]]))
    expected = math.log1p(math.exp(-2.0)) + math.log1p(math.exp(3.0))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).tolist() == [[False, True], [True, False]]


def test_calibration_brings_overconfident_logits_back() -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, (20_000, 1))
    targets = (rng.random(true_logits.shape) < 1 / (1 + np.exp(-true_logits))).astype(np.float32)
    overconfident = 3 * true_logits + 1
    calibration = fit_calibration(overconfident, targets, ["summary"])
    assert calibration["summary"].scale == pytest.approx(1 / 3, rel=0.05)
    before = expected_calibration_error(1 / (1 + np.exp(-overconfident[:, 0])), targets[:, 0])
    after = expected_calibration_error(calibrated(overconfident, list(calibration.values()))[:, 0], targets[:, 0])
    assert after < 0.02 < 0.1 < before


def test_the_threshold_is_the_one_with_the_best_f1() -> None:
    probabilities = np.array([[0.9], [0.6], [0.5], [0.4], [0.1]])
    targets = np.array([[1], [1], [0], [NAN], [0]])
    thresholds = fit_thresholds(probabilities, targets, ["summary"])
    assert thresholds["summary"] == pytest.approx(0.55)
    assert label_metrics(probabilities, targets, thresholds)["summary"].f1 == 1


def test_metrics_leave_out_what_is_unknown() -> None:
    probabilities = np.array([[0.9, 0.9], [0.9, 0.9], [0.1, 0.9]])
    targets = np.array([[1, NAN], [0, NAN], [1, 0]])
    metrics = label_metrics(probabilities, targets, {"summary": 0.5, "reflection": 0.5})
    assert (metrics["summary"].precision, metrics["summary"].recall, metrics["summary"].support) == (0.5, 0.5, 2)
    assert (metrics["reflection"].turns, metrics["reflection"].support) == (1, 0)
    assert macro_f1(metrics) == 0.5


# settings


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"base": "x", "epoch": 3}, "there is no setting 'epoch': expected one of asr_copies, average_weights, base"),
        ({"base": "x", "epochs": 0}, "epochs must be a whole number, 1 or more, not 0"),
        ({"base": "x", "warmup": 2}, "warmup must lie between 0 and 1, not 2"),
        ({"base": "x", "learning_rate": -1}, "learning_rate must be above 0"),
        ({"base": "x", "labels": ["a", "a"]}, "labels must be a list of different names"),
        ({"base": "x", "mixed_precision": "int8"}, "mixed_precision must be"),
        (
            {"base": "x", "encoding": {"budget": 3}},
            "there is no setting 'encoding.budget': expected one of context_tokens",
        ),
        ({"labels": "summary"}, "labels must be a list of names, not 'summary'"),
        ({"labels": ["Upsell", "upsell"]}, "labels must be a list of different names, whatever their case"),
        ({"labels": ["summary", ""]}, "labels must be a list of different names"),
        ({"labels": ["Start"]}, "no label can be called 'start'"),
        ({"epochs": 2.5}, "epochs must be a whole number, 1 or more, not 2.5"),
        ({"batch_size": True}, "batch_size must be a whole number, 1 or more, not True"),
        ({"seed": "abc"}, "seed must be a whole number, 0 or more, not 'abc'"),
        ({"learning_rate": math.inf}, "learning_rate must be a number, not inf"),
        ({"weight_decay": "x"}, "weight_decay must be a number, not 'x'"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1, not 1"),
        ({"dropout": "x"}, "dropout must be a number, not 'x'"),
        ({"average_weights": "yes"}, "average_weights must be true or false, not 'yes'"),
        ({"replay": -1}, "replay must be 0 or more, not -1"),
        ({"base": None}, "base must be a model's name, folder or hub id, not None"),
        ({"encoding": 5}, "encoding must have context_tokens and max_length, not 5"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(TrainingError) as caught:
        TrainConfig.from_dict(settings)
    assert problem in str(caught.value)


def test_settings_come_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("base: org/name\nepochs: 2\nencoding: {context_tokens: 64}\n")
    config = TrainConfig.from_yaml(tmp_path / "run.yaml")
    assert (config.base, config.epochs, config.encoding.context_tokens) == ("org/name", 2, 64)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_what_yaml_reads_otherwise_is_taken_as_it_was_meant(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("learning_rate: 3e-5\nmixed_precision: no\n")
    config = TrainConfig.from_yaml(tmp_path / "run.yaml")
    assert (config.learning_rate, config.mixed_precision) == (3e-5, "no")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"# f\xfcr uns\n", "this is no YAML in UTF-8"),
        (b"epochs: [1", "this is no YAML"),
        (b"epochs: 0", "epochs must be"),
    ],
)
def test_what_is_wrong_with_a_yaml_file_names_the_file(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(TrainingError, match=rf"run.yaml: {problem}"):
        TrainConfig.from_yaml(tmp_path / "run.yaml")


def test_a_folder_that_is_no_model_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no model: it has no config\.json"):
        Start.of(TrainConfig(str(tmp_path)))
    with pytest.raises(CheckpointError, match="there is no model 'nothere'"):
        Start.of(TrainConfig("nothere"))


def test_the_committed_settings_can_be_read() -> None:
    for path in (Path(__file__).parent.parent / "configs").glob("*.yaml"):
        assert TrainConfig.from_yaml(path).labels is None


# training


@pytest.fixture(scope="module")
def config(tiny_base: str) -> TrainConfig:
    return TrainConfig(
        tiny_base,
        encoding=EncodingSettings(context_tokens=48, max_length=128),
        epochs=2,
        learning_rate=1e-3,
        batch_size=16,
        checkpoint_steps=5,
        mixed_precision="no",
    )


@pytest.fixture(scope="module")
def trained(config: TrainConfig, conversations: list[Conversation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "model"
    return train(config, conversations[:16], conversations[16:], output, card="# A tiny model\n")


def test_a_new_head_sees_the_first_token_through_an_identity(config: TrainConfig) -> None:
    model, _ = load_base(Start.of(config))
    dense: Any = model.base_model.pooler.dense
    torch.testing.assert_close(dense.weight, torch.eye(32))


def test_a_trained_head_is_kept(config: TrainConfig, trained: Path) -> None:
    model, _ = load_base(Start.of(replace(config, base=str(trained))))
    saved = load_file(trained / WEIGHTS)
    torch.testing.assert_close(model.state_dict()["classifier.weight"], saved["classifier.weight"].float())
    torch.testing.assert_close(
        model.state_dict()["bert.pooler.dense.weight"], saved["bert.pooler.dense.weight"].float()
    )


def test_outputs_of_shared_labels_are_kept_and_others_are_new(config: TrainConfig, trained: Path) -> None:
    labels = ("summary", "upsell", "paraphrase")
    model, _ = load_base(Start.of(replace(config, base=str(trained), labels=labels)))
    weights, saved = model.state_dict()["classifier.weight"], load_file(trained / WEIGHTS)["classifier.weight"].float()
    torch.testing.assert_close(weights[[0, 2]], saved[[3, 0]])
    assert not torch.isclose(weights[1], saved).all(dim=1).any()
    assert model.config.id2label == dict(enumerate(labels))


def test_outputs_for_as_many_other_labels_are_not_taken_over(config: TrainConfig, trained: Path) -> None:
    model, _ = load_base(Start.of(replace(config, base=str(trained), labels=("a", "b", "c", "d", "e"))))
    saved = load_file(trained / WEIGHTS)
    assert not torch.isclose(model.state_dict()["classifier.weight"], saved["classifier.weight"].float()).all(1).any()
    pooler = model.state_dict()["bert.pooler.dense.weight"]
    torch.testing.assert_close(pooler, saved["bert.pooler.dense.weight"].float())


def test_a_base_brings_its_labels_and_encoding(config: TrainConfig, trained: Path) -> None:
    start = Start.of(TrainConfig(str(trained)))
    assert (start.labels, start.encoding) == (tuple(Label), config.encoding)
    assert Start.of(TrainConfig(config.base)).encoding == EncodingSettings()


@pytest.mark.parametrize("base", ["small", "tiny"])
def test_training_encodes_by_the_tokens_that_the_model_is_saved_with(base: str, tiny_base: str) -> None:
    start = Start.of(TrainConfig(tiny_base if base == "tiny" else base))
    start = replace(start, encoding=EncodingSettings(max_length=128))
    turns = (Turn("customer", "It leaks, I -", 0, 3), Turn("agent", "So it leaks?", 1, 2), Turn("agent", "Since when?"))
    _, tokenizer = load_base(start)
    saved = Encoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), start.encoding)
    items = [(turns, 1), (turns, 2), (turns[2:], 0)]
    assert start.encoder().encode_many(items) == saved.encode_many(items)


def test_a_base_that_cannot_be_loaded_is_one_sentence(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"the base model .* cannot be loaded"):
        load_base(Start.of(replace(config, base=str(tmp_path))))


def test_a_base_that_reads_too_little_is_refused(config: TrainConfig) -> None:
    with pytest.raises(TrainingError, match=r"encoding.max_length is 512, but the base model .* reads at most 128"):
        load_base(Start.of(replace(config, encoding=EncodingSettings())))


def test_training_writes_a_checkpoint_that_predicts(trained: Path, conversations: list[Conversation]) -> None:
    manifest = Checkpoint.open(trained).manifest
    assert set(manifest.files) >= {WEIGHTS, ONNX, "config.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert manifest.labels == tuple(Label)
    predictions = ListeningClassifier.from_pretrained(trained).predict_conversation(conversations[0])
    assert len(predictions) == len(conversations[0].agent_turns)
    assert [path.name for path in trained.parent.iterdir()] == [trained.name]


def test_the_operating_points_are_what_the_finished_model_gives_on_dev(
    trained: Path, conversations: list[Conversation]
) -> None:
    checkpoint = Checkpoint.open(trained)
    dev = labelled_turns(conversations[16:], tuple(Label))
    probabilities = np.stack(list(Runtime(checkpoint).probabilities(turn.item for turn in dev)))
    targets = np.stack([turn.targets for turn in dev])
    points = checkpoint.manifest.operating_points
    assert points == operating_points(probabilities, targets, tuple(Label))
    assert all(points[label] for label in Label)
    for label in Label:
        for point in points[label]:
            measured = label_metrics(probabilities, targets, dict.fromkeys(Label, point.threshold))[label]
            assert (measured.precision, measured.recall) == pytest.approx(point[1:], abs=1e-4)


def test_training_learns_what_it_is_shown(config: TrainConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first_words = {"what": ("open_question",), "so": ("paraphrase",), "and": ()}

    def conversation() -> Conversation:
        word = rng.choice(list(first_words))
        rest = rng.choice(["your", "order", "the", "card", "on", "for", "it"], size=rng.integers(2, 6))
        return Conversation((Turn("agent", " ".join([word, *rest]), labels=first_words[word]),))

    config = replace(config, epochs=40, learning_rate=3e-3, asr_copies=0, context_dropout=0)
    output = train(
        config, [conversation() for _ in range(150)], [conversation() for _ in range(50)], tmp_path / "model"
    )
    classifier = ListeningClassifier.from_pretrained(output)
    unseen = [conversation().turns[0] for _ in range(50)]
    right = [classifier.predict(turn.text).labels == turn.labels for turn in unseen]
    assert np.mean(right) > 0.9


def test_other_labels_make_another_model(config: TrainConfig, tmp_path: Path) -> None:
    turns = (Turn("agent", "Hello.", labels=("greeting",)), Turn("agent", "Goodbye.", labels=("farewell",)))
    data = [Conversation(turns)] * 4
    config = replace(config, labels=("greeting", "farewell"), epochs=1)
    classifier = ListeningClassifier.from_pretrained(train(config, data, data, tmp_path / "model"))
    assert list(classifier.predict("Hello.").scores) == ["greeting", "farewell"]


def train_until(step: int, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    """Train with those arguments until Ctrl-C comes, once, at the given step."""
    from listening_clf.finetune import loop

    taken = 0
    take = loop.training_step

    def interrupted(*arguments: Any) -> float:
        nonlocal taken
        taken += 1
        if taken == step:
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(loop, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments)


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(
    config: TrainConfig,
    conversations: list[Conversation],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_until(8, monkeypatch, config, conversations[:16], conversations[16:], tmp_path / "model")
    assert not (tmp_path / "model").exists()
    train(config, conversations[:16], conversations[16:], tmp_path / "model", resume=True)
    resumed, unbroken = load_file(tmp_path / "model" / WEIGHTS), load_file(trained / WEIGHTS)
    for name, weights in unbroken.items():
        torch.testing.assert_close(resumed[name], weights, msg=name)


def test_a_run_is_not_resumed_with_other_settings(
    config: TrainConfig, conversations: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from listening_clf.finetune import loop

    monkeypatch.setattr(loop, "_dev_metrics", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(config, conversations[:16], conversations[16:], tmp_path / "model")
    changed = replace(config, batch_size=8)
    with pytest.raises(TrainingError, match="had batch_size = 16, not 8: resume it as it was"):
        train(changed, conversations[:16], conversations[16:], tmp_path / "model", resume=True)


def test_dev_data_without_a_label_is_refused(
    config: TrainConfig, conversations: list[Conversation], tmp_path: Path
) -> None:
    unlabelled = Conversation((Turn("agent", "Okay.", labels=()),))
    with pytest.raises(TrainingError, match="no turn of the dev data has a label"):
        train(config, conversations[:2], [unlabelled], tmp_path / "model")


def test_an_altered_checkpoint_is_not_trained_from(config: TrainConfig, trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4] + b"1234")
    with pytest.raises(CheckpointError, match="is not the file that was saved"):
        load_base(Start.of(replace(config, base=str(folder))))


def test_an_output_that_is_no_checkpoint_is_left_alone(
    config: TrainConfig, conversations: list[Conversation], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="is there already and is no checkpoint"):
        train(replace(config, epochs=1), conversations[:2], conversations[2:4], tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_an_unfinished_run_is_not_thrown_away(
    config: TrainConfig, conversations: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from listening_clf.finetune import loop

    monkeypatch.setattr(loop, "export", lambda *arguments, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(config, conversations[:16], conversations[16:], tmp_path / "model")
    with pytest.raises(TrainingError, match="has an unfinished run: go on with --resume"):
        train(config, conversations[:16], conversations[16:], tmp_path / "model")
    with pytest.raises(TrainingError, match="had other data: resume it as it was"):
        train(config, conversations[:15], conversations[16:], tmp_path / "model", resume=True)


def test_a_run_whose_model_cannot_be_written_goes_on_from_there(
    config: TrainConfig, conversations: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from listening_clf.finetune import loop

    def full(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("No space left on device")

    data = conversations[:16], conversations[16:], tmp_path / "model"
    export = loop.export
    monkeypatch.setattr(loop, "export", full)
    with pytest.raises(TrainingError, match=r"No space left .* go on with --resume"):
        train(config, *data)
    monkeypatch.setattr(loop, "export", export)
    monkeypatch.setattr(loop, "training_step", full)  # no step is taken again
    assert ListeningClassifier.from_pretrained(train(config, *data, resume=True)).labels == tuple(Label)


def test_a_run_that_diverges_says_what_to_change(
    config: TrainConfig, conversations: list[Conversation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from listening_clf.finetune import loop

    monkeypatch.setattr(loop, "training_step", lambda *arguments: math.nan)
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, step 0: lower learning_rate \(0.001\)"):
        train(config, conversations[:16], conversations[16:], tmp_path / "model")


def test_fine_tuning_rehearses_and_resumes_to_the_same_weights(
    config: TrainConfig,
    conversations: list[Conversation],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from listening_clf.finetune import loop

    config = replace(config, base=str(trained), encoding=None)
    shown: list[int] = []
    batches_of = loop.batches
    monkeypatch.setattr(
        loop, "batches", lambda examples, *rest: (shown.append(len(examples)), batches_of(examples, *rest))[1]
    )
    data = conversations[:4], conversations[16:]
    unbroken = train(config, *data, tmp_path / "unbroken")
    own = len(labelled_turns(data[0], tuple(Label)))
    assert min(shown) >= 2 * own
    assert Checkpoint.open(unbroken).manifest.training_data == (AUTHORED,)

    train_until(8, monkeypatch, config, *data, tmp_path / "resumed")
    resumed = train(config, *data, tmp_path / "resumed", resume=True)
    one, other = load_file(unbroken / WEIGHTS), load_file(resumed / WEIGHTS)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_mean_of_a_run_is_of_its_start_and_each_epoch_and_outlives_a_kill(
    config: TrainConfig,
    conversations: list[Conversation],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from listening_clf.finetune import loop

    config = replace(config, base=str(trained), encoding=None, replay=0)
    data = conversations[:16], conversations[16:]
    weights = [{name: value.float() for name, value in load_file(trained / WEIGHTS).items()}]
    measure = loop._dev_metrics

    def measured(model: torch.nn.Module, *others: Any) -> dict[str, LabelMetrics]:
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
        return measure(model, *others)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_dev_metrics", measured)
        train(config, *data, tmp_path / "last")

    config = replace(config, average_weights=True)
    train_until(22, monkeypatch, config, *data, tmp_path / "mean")
    assert list(tmp_path.glob("mean.run/at-001-*")), "the first epoch is in the mean already"
    mean = load_file(train(config, *data, tmp_path / "mean", resume=True) / WEIGHTS)
    assert len(weights) == 3
    for name, value in mean.items():
        expected = torch.stack([each[name] for each in weights]).mean(0)
        torch.testing.assert_close(value.float(), expected, atol=1e-3, rtol=1e-3, msg=name)


def test_a_complete_model_is_never_trained_over(
    config: TrainConfig, conversations: list[Conversation], trained: Path
) -> None:
    for resume in (False, True):
        with pytest.raises(TrainingError, match="is a complete model already: name another folder"):
            train(config, conversations[:16], conversations[16:], trained, resume=resume)


def test_an_epoch_is_drawn_from_its_seed_alone(config: TrainConfig, conversations: list[Conversation]) -> None:
    _, tokenizer = load_base(Start.of(config))

    def drawn(epoch: int) -> list[Encoded]:
        encoder = Encoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), config.encoding)
        return encoder.encode_many(turn.item for turn in epoch_turns(conversations, tuple(Label), config, epoch))

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_a_turn_shown_without_context_is_no_longer_an_interruption() -> None:
    turns = (Turn("customer", "And then I -"), Turn("agent", "Why was that?", labels=("open_question", "interruption")))
    (turn,) = labelled_turns([Conversation(turns)], tuple(Label))
    alone = without_context(turn, tuple(Label))
    assert alone.item == (turns[1:], 0)
    np.testing.assert_array_equal(alone.targets, [0, 0, 1, 0, NAN])


def test_labels_that_nobody_looked_for_on_one_turn_are_nan() -> None:
    turn = Turn("agent", "What broke?", labels=("open_question",), unlabelled=("reflection", "summary"))
    (only,) = labelled_turns([Conversation((turn,), unlabelled=("interruption",))], tuple(Label))
    np.testing.assert_array_equal(only.targets, [0, NAN, 1, NAN, NAN])


def test_training_writes_a_card_of_what_was_done(
    config: TrainConfig, conversations: list[Conversation], tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    train(
        replace(config, epochs=1, labels=tuple(Label)),
        conversations[:16],
        conversations[16:],
        tmp_path / "ours",
        training_data=[
            {"name": "calls.csv", "licence": "not stated"},
            {"name": "org/calls:train", "licence": "not stated"},
        ],
    )
    card = ModelCard.load(tmp_path / "ours" / "README.md")
    assert card.data.datasets == ["org/calls"]
    assert card.data.widget[0] == {"text": "What happened when you restarted it?"}
    assert card.data.tags == ["listening-clf", "onnx"]
    assert card.data.eval_results[0].metric_name == "Macro F1"
    assert "calls.csv" in card.text
    assert "learning_rate: 0.001" in card.text
    points = Checkpoint.read(tmp_path / "ours").manifest.operating_points["open_question"]
    recall = max(point.recall for point in points if point.precision >= 0.8)
    assert f"| label | 0.80 | 0.90 | 0.95 |\n| --- | --- | --- | --- |\n| {Label.PARAPHRASE} | " in card.text
    assert f"\n| open_question | {recall:.3f} (" in card.text
    assert str(tmp_path) not in card.content
    assert config.base not in card.content


@pytest.mark.parametrize("architecture", ["DistilBert", "Roberta", "MPNet", "DebertaV2", "ModernBert"])
def test_any_common_encoder_can_be_the_base(
    architecture: str, config: TrainConfig, conversations: list[Conversation], tmp_path: Path
) -> None:
    base = plain_encoder(architecture, config.base, tmp_path / "base")
    output = train(
        replace(config, base=base, epochs=1), conversations[:8], conversations[8:16], tmp_path / "model", card=""
    )
    predictions = ListeningClassifier.from_pretrained(output).predict_conversation(conversations[0])
    assert len(predictions) == len(conversations[0].agent_turns)


# replay


def test_replay_draws_authored_conversations_of_the_train_split_until_there_are_enough_turns() -> None:
    replay = Replay(tuple(Label))
    drawn = replay.draw(100, np.random.default_rng(0))
    turns = [len(conversation.agent_turns) for conversation in drawn]
    assert sum(turns[:-1]) < 100 <= sum(turns)
    assert not any(is_dev(conversation) for conversation in drawn)
    assert [it.id for it in drawn] != [it.id for it in replay.draw(100, np.random.default_rng(1))]
    assert replay.draw(0, np.random.default_rng(0)) == []


def test_replay_says_nothing_of_labels_that_are_none_of_the_codebook() -> None:
    labels = ("upsell", "summary")
    turns = labelled_turns(Replay(labels).draw(500, np.random.default_rng(0)), labels)
    upsell, summary = np.stack([turn.targets for turn in turns]).T
    assert np.isnan(upsell).all()
    assert 0 < summary.mean() < 1
    assert Replay(("upsell",)).draw(500, np.random.default_rng(0)) == []


# what a base's calibration is worth


def test_few_turns_keep_the_prior_s_calibration_and_threshold_and_many_turns_outweigh_them() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 3, (50_000, 1))
    targets = (rng.random(logits.shape) < 1 / (1 + np.exp(-2 * logits))).astype(np.float32)  # a scale of 2
    prior = {"summary": Calibration(0.5, -1.0)}

    few, many = (fit_calibration(logits[:n], targets[:n], ["summary"], prior)["summary"] for n in (30, 50_000))
    assert few.scale == pytest.approx(0.5, abs=0.1)
    assert many.scale == pytest.approx(2, abs=0.1)
    assert many.bias == pytest.approx(0, abs=0.1)

    probabilities = 1 / (1 + np.exp(-logits))
    few_threshold, many_threshold, free = (
        fit_thresholds(probabilities[:n], targets[:n], ["summary"], prior)["summary"]
        for n, prior in ((30, {"summary": 0.9}), (50_000, {"summary": 0.9}), (50_000, None))
    )
    assert few_threshold > 0.75
    assert many_threshold == pytest.approx(free, abs=0.01)


def test_a_label_that_no_turn_has_keeps_the_prior_s_threshold() -> None:
    nothing = np.array([[0.2], [0.3]]), np.array([[0.0], [NAN]])
    assert fit_thresholds(*nothing, ["summary"], {"summary": 0.7}) == {"summary": 0.7}
    assert fit_thresholds(*nothing, ["summary"]) == {"summary": 0.5}


def test_the_settings_in_the_documents_are_the_defaults() -> None:
    import yaml

    text = (Path(__file__).parent.parent / "docs" / "train.md").read_text(encoding="utf-8")
    (block,) = (part.partition("```")[0] for part in text.split("```yaml\n")[1:] if part.startswith("base:"))
    settings = yaml.safe_load(block)
    assert TrainConfig.from_dict(settings) == TrainConfig()
    assert set(settings) == set(TrainConfig().to_dict())


def test_an_earlier_epoch_is_kept_only_where_it_is_better_beyond_chance(tmp_path: Path) -> None:
    from accelerate import Accelerator

    from listening_clf.finetune.run_state import RunState

    state, model = RunState(tmp_path / "run", {"seed": 0}), torch.nn.Linear(1, 1, bias=False)
    for weight, f1, error in ((1.0, 0.70, 0.05), (2.0, 0.66, 0.05), (3.0, 0.64, 0.05)):
        torch.nn.init.constant_(model.weight, weight)
        state.finish_epoch(Accelerator(), model, f1, error)
    assert state.kept_weights()["weight"].item() == 2.0


def test_the_error_of_macro_f1_falls_with_the_turns_that_have_the_labels() -> None:
    few, many = (macro_f1_error({"a": LabelMetrics(0.5, 0.5, 0.5, 0.5, support=n, turns=10_000)}) for n in (4, 400))
    assert few == pytest.approx(0.25)
    assert many == pytest.approx(0.025)
