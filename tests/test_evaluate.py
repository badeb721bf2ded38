"""How good a model is, and whether it beats another: figures that can be worked out by hand, and the bundled model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from listening_clf import Conversation, ListeningClassifier, TrainingError, Turn
from listening_clf.finetune import tables
from listening_clf.finetune.bootstrap import (
    bootstrap,
    conversation_counts,
    estimate,
    precision_recall_f1,
    resampled_average_precision,
    resampled_counts,
)
from listening_clf.finetune.comparison import _beyond_chance, compare
from listening_clf.finetune.evaluation import Evaluation, ScoredTurns, evaluate, measure
from listening_clf.finetune.metrics import expected_calibration_error, label_metrics, macro_f1

NAN = math.nan


def conversation(number: int, texts: Sequence[str] = ("Okay.",), **settings: object) -> Conversation:
    turns = tuple(Turn("agent", text, labels=()) for text in texts)
    return Conversation(turns, id=f"c{number}", **settings)  # type: ignore[arg-type]


def scored(
    probabilities: Sequence[Sequence[float]],
    targets: Sequence[Sequence[float]],
    labels: Sequence[str] = ("summary",),
    conversations: Sequence[Conversation] | None = None,
) -> ScoredTurns:
    """Turns as a model has judged them; each a conversation of its own where none are given."""
    conversations = conversations or [conversation(number) for number in range(len(targets))]
    return ScoredTurns(
        thresholds=dict.fromkeys(labels, 0.5),
        conversations=conversations,
        indices=[0] * len(targets),
        probabilities=np.array(probabilities, dtype=float),
        targets=np.array(targets, dtype=np.float32),
    )


def random_turns(rng: np.random.Generator, noise: float, turns: int = 120) -> ScoredTurns:
    """Two labels on 40 conversations of three turns; the more noise, the worse the model."""
    targets = (np.random.default_rng(1).random((turns, 2)) < 0.4).astype(float)
    probabilities = np.clip(0.5 + 0.4 * (targets - 0.5) + rng.normal(0, noise, targets.shape), 0, 1)
    owners = [conversation(number) for number in range(turns // 3) for _ in range(3)]
    return scored(probabilities.tolist(), targets.tolist(), ("summary", "reflection"), owners)


# point values


def test_the_figures_are_those_worked_out_by_hand() -> None:
    result = measure(
        scored(
            [[0.9, 0.9], [0.8, 0.1], [0.2, 0.7], [0.1, 0.2]],
            [[1, 1], [0, 1], [1, 1], [0, 0]],
            ("summary", "reflection"),
        )
    )
    summary, reflection = result.labels["summary"], result.labels["reflection"]
    assert (summary.precision.value, summary.recall.value, summary.f1.value) == (1 / 2, 1 / 2, 1 / 2)
    assert summary.average_precision.value == pytest.approx((1 + 2 / 3) / 2)
    assert (reflection.precision.value, reflection.recall.value) == (1, pytest.approx(2 / 3))
    assert reflection.f1.value == pytest.approx(4 / 5)
    assert (summary.support, reflection.support, summary.turns) == (2, 3, 4)
    assert result.macro.f1.value == pytest.approx((1 / 2 + 4 / 5) / 2)
    # Of five labels three are found; one of four that are given is wrong.
    assert (result.micro.precision.value, result.micro.recall.value) == (pytest.approx(3 / 4), pytest.approx(3 / 5))
    assert summary.calibration_error == pytest.approx((0.1 + 0.8 + 0.8 + 0.1) / 4)


def test_what_was_not_looked_for_changes_nothing() -> None:
    known = scored([[0.9], [0.8], [0.2]], [[1], [0], [1]])
    more = scored([[0.9], [0.8], [0.2], [0.99], [0.01]], [[1], [0], [1], [NAN], [NAN]])
    for figure in ("precision", "recall", "f1", "average_precision"):
        ours, theirs = measure(known).labels["summary"], measure(more).labels["summary"]
        assert getattr(ours, figure).value == getattr(theirs, figure).value
    assert measure(known).micro.f1.value == measure(more).micro.f1.value
    assert measure(more).labels["summary"].turns == 3
    assert measure(known).labels["summary"].calibration_error == measure(more).labels["summary"].calibration_error


def test_a_label_that_no_turn_has_is_not_in_the_macro() -> None:
    result = measure(scored([[0.9, 0.9], [0.1, 0.1]], [[1, 0], [0, 0]], ("summary", "reflection")))
    assert math.isnan(result.labels["reflection"].f1.value)
    assert result.macro.f1.value == 1
    # The false alarm for it is one of two decisions, all the same.
    assert result.micro.precision.value == 1 / 2


def test_micro_figures_of_one_label_are_the_labels_own() -> None:
    result = measure(scored([[0.9], [0.9], [0.1]], [[1], [0], [1]]))
    assert (result.micro.precision, result.micro.f1) == (
        result.labels["summary"].precision,
        result.labels["summary"].f1,
    )
    assert result.micro.f1.value == 1 / 2


def test_no_known_turn_has_no_calibration_error() -> None:
    assert math.isnan(expected_calibration_error(np.array([0.3]), np.array([NAN])))


def test_without_any_label_there_is_no_macro(recwarn: pytest.WarningsRecorder) -> None:
    metrics = label_metrics(np.array([[0.9], [0.1]]), np.array([[0.0], [NAN]]), {"summary": 0.5})
    assert math.isnan(macro_f1(metrics))
    assert math.isnan(measure(scored([[0.9], [0.1]], [[0], [NAN]])).macro.f1.value)
    assert not recwarn.list


# the bootstrap


def test_what_the_draws_add_up_is_what_scikit_learn_says_of_them() -> None:
    rng = np.random.default_rng(0)
    conversation_of = np.repeat(np.arange(30), 4)
    targets = rng.choice([0.0, 1.0, NAN], size=(120, 3), p=[0.5, 0.3, 0.2])
    scores = rng.integers(0, 12, size=(120, 3)) / 12  # with many ties
    predicted = scores >= 0.5
    weights = np.concatenate(list(bootstrap(30, 20, seed=3)))
    counts = conversation_counts(predicted, targets, conversation_of, 30)
    figures = precision_recall_f1(resampled_counts(counts, 20, seed=3))
    areas = resampled_average_precision(scores, targets, conversation_of, 30, 20, seed=3)
    for column in range(3):
        known = ~np.isnan(targets[:, column])
        truth, of_turns = targets[known, column] == 1, weights[:, conversation_of[known]]
        for draw in range(20):
            expected = precision_recall_fscore_support(
                truth, predicted[known, column], average="binary", sample_weight=of_turns[draw]
            )
            found = [figure[draw, column] for figure in figures]
            np.testing.assert_allclose(found, expected[:3])
            area = average_precision_score(truth, scores[known, column], sample_weight=of_turns[draw])
            assert areas[draw, column] == pytest.approx(area)


def test_every_draw_has_as_many_conversations_as_there_are() -> None:
    draws = np.concatenate(list(bootstrap(50, 205, seed=0)))
    assert draws.shape == (205, 50)
    assert (draws.sum(axis=1) == 50).all()


def test_an_interval_is_the_middle_95_percent_of_the_draws() -> None:
    draws = np.append(np.arange(1001) / 1000, NAN)
    interval = estimate(0.5, draws)
    assert (interval.low, interval.high) == (pytest.approx(0.025), pytest.approx(0.975))


def test_intervals_hold_the_value_and_narrow_with_more_conversations() -> None:
    few, many = (
        measure(random_turns(np.random.default_rng(0), noise=0.2, turns=turns)).macro.f1 for turns in (60, 960)
    )
    for f1 in (few, many):
        assert f1.low < f1.value < f1.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_it_is_conversations_that_are_drawn() -> None:
    turns = random_turns(np.random.default_rng(0), noise=0.2)
    alike = scored(
        np.repeat(turns.probabilities, 5, axis=0).tolist(),
        np.repeat(turns.targets, 5, axis=0).tolist(),
        turns.labels,
        [it for it in turns.conversations for _ in range(5)],
    )
    # Five times the same turns in the same conversations tell nothing more.
    assert measure(alike).macro.f1.low == pytest.approx(measure(turns).macro.f1.low)
    apart = replace(alike, conversations=[replace(it, id=None) for it in alike.conversations])
    assert measure(apart).conversations == 600
    assert measure(apart).macro.f1.low > measure(turns).macro.f1.low + 0.01


def test_one_conversation_has_figures_without_intervals() -> None:
    one = conversation(0)
    result = measure(scored([[0.9], [0.8]], [[1], [0]], conversations=[one, replace(one, meta={"channel": "chat"})]))
    assert result.conversations == 1
    assert result.labels["summary"].f1.value == pytest.approx(2 / 3)
    for figure in (result.labels["summary"].f1, result.labels["summary"].average_precision, result.macro.f1):
        assert math.isnan(figure.low)
    assert "no intervals" in " ".join(tables.notes(result))


def test_a_label_that_few_conversations_have_does_not_bend_the_macro() -> None:
    probabilities = [[0.9, 0.1]] * 20 + [[0.1, 0.1]] * 20
    targets = [[1, 0]] * 19 + [[1, 1]] + [[0, 0]] * 20
    macro = measure(scored(probabilities, targets, ("summary", "reflection"))).macro.f1
    # Reflection is missed in one conversation, which every third resample lacks; it counts as missed in these, too.
    assert (macro.value, macro.low, macro.high) == (0.5, 0.5, 0.5)


def test_the_same_seed_gives_the_same_figures() -> None:
    turns = random_turns(np.random.default_rng(0), noise=0.2)
    assert measure(turns, seed=7).to_dict() == measure(turns, seed=7).to_dict()
    assert measure(turns, seed=7).macro.f1 != measure(turns, seed=8).macro.f1


# slices


def test_slices_part_the_turns_by_what_differs() -> None:
    timed = (
        Turn("customer", "It broke.", start=0.0, end=1.0),
        Turn("agent", "what broke", start=1.5, labels=("summary",)),
    )
    owners = [
        conversation(0, meta={"channel": "chat", "corpus": "one"}),
        conversation(1, meta={"channel": "phone", "corpus": "one"}),
        Conversation(timed, id="c2", meta={"corpus": "one"}),
    ]
    turns = replace(scored([[0.9], [0.9], [0.9]], [[1], [0], [1]], conversations=owners), indices=[0, 0, 1])
    slices = {(it.key, it.value): it for it in measure(turns).slices}
    assert set(slices) == {
        ("channel", "chat"),
        ("channel", "phone"),
        ("channel", "not given"),
        ("times", "known"),
        ("times", "not known"),
        ("punctuation", "with"),
        ("punctuation", "without"),
        ("context", "with"),
        ("context", "without"),
    }
    assert slices["channel", "chat"].macro_f1.value == 1
    assert math.isnan(slices["channel", "phone"].macro_f1.value)
    assert slices["punctuation", "with"].f1["summary"] == pytest.approx(2 / 3)
    assert (slices["context", "without"].turns, slices["context", "without"].support["summary"]) == (2, 1)


# comparing


def test_a_model_against_itself_differs_by_nothing() -> None:
    result = measure(random_turns(np.random.default_rng(0), noise=0.2))
    comparison = compare(result, result)
    for row in (*comparison.labels.values(), comparison.macro_f1, comparison.micro_f1):
        assert (row.difference.low, row.difference.value, row.difference.high) == (0, 0, 0)
        assert row.p_value == 1
        assert not row.beyond_chance


def test_a_much_better_model_is_beyond_chance_either_way_round() -> None:
    good = measure(random_turns(np.random.default_rng(0), noise=0.1), model="good")
    bad = measure(random_turns(np.random.default_rng(2), noise=0.8), model="bad")
    comparison = compare(good, bad)
    for row in (*comparison.labels.values(), comparison.macro_f1, comparison.micro_f1):
        assert row.beyond_chance
        assert 0 < row.difference.low < row.difference.value < row.difference.high
        assert row.difference.value == pytest.approx(row.first - row.second)
    assert comparison.macro_f1.first == good.macro.f1.value
    assert comparison.micro_f1.second == bad.micro.f1.value
    assert compare(bad, good).macro_f1.difference.high < 0
    assert tables.verdict_on(compare(bad, good).macro_f1, compare(bad, good)) == "good is better"


def test_models_that_are_alike_are_seldom_told_apart() -> None:
    told_apart = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        first, second = (measure(random_turns(rng, noise=0.3), resamples=1) for _ in range(2))
        comparison = compare(first, second, resamples=1000)
        rows = *comparison.labels.values(), comparison.macro_f1, comparison.micro_f1
        told_apart += any(row.beyond_chance for row in rows)
    assert told_apart <= 3


def test_few_conversations_tell_no_models_apart() -> None:
    right, wrong = ([[0.9], [0.1]] * 4, [[0.1], [0.9]] * 4)
    targets = [[1], [0]] * 4
    comparison = compare(measure(scored(right, targets)), measure(scored(wrong, targets)))
    assert comparison.macro_f1.difference.value == 1
    assert math.isnan(comparison.macro_f1.p_value)
    assert not comparison.macro_f1.beyond_chance


def test_a_label_of_few_conversations_tells_no_models_apart() -> None:
    targets = [[1]] * 3 + [[0]] * 40
    finds, misses = ([[0.9]] * 3 + [[0.1]] * 40, [[0.1]] * 43)
    summary = compare(measure(scored(finds, targets)), measure(scored(misses, targets))).labels["summary"]
    assert summary.difference.value == 1
    # Every twentieth draw has none of the three, and shows no difference.
    assert summary.p_value == pytest.approx(2 * (1 - 3 / 43) ** 43, rel=0.2)
    assert not summary.beyond_chance


def test_many_comparisons_ask_for_more_than_one() -> None:
    assert _beyond_chance([0.04]) == [True]
    assert _beyond_chance([0.04, 0.9]) == [False, False]
    assert _beyond_chance([0.04, 0.001, 0.02]) == [True, True, True]
    assert _beyond_chance([0.04, 0.001, 0.03]) == [False, True, False]


def test_models_of_different_labels_are_compared_by_the_common_ones() -> None:
    owners = [conversation(number) for number in range(12)]
    both = scored([[0.9, 0.9]] * 12, [[1, 1]] * 12, ("summary", "reflection"), owners)
    other = scored([[0.9, 0.9]] * 12, [[1, 1]] * 12, ("reflection", "greeting"), owners)
    comparison = compare(measure(both), measure(other))
    assert list(comparison.labels) == ["reflection"]
    assert comparison.not_compared == ("summary", "greeting")
    nothing = scored([[0.9]] * 12, [[1]] * 12, ("greeting",), owners)
    with pytest.raises(TrainingError, match="have no label in common"):
        compare(measure(both), measure(nothing))


def test_evaluations_of_other_turns_are_not_compared() -> None:
    first = measure(scored([[0.9]], [[1]]))
    second = measure(scored([[0.9]], [[1]], conversations=[conversation(5)]))
    with pytest.raises(TrainingError, match="not evaluated on the same turns"):
        compare(first, second)


# the bundled model


@pytest.fixture(scope="module")
def evaluation(bundled: ListeningClassifier, conversations: list[Conversation]) -> Evaluation:
    return evaluate(bundled, conversations, model="small", data="authored", resamples=200)


def test_every_annotated_turn_is_judged_as_in_its_conversation(
    evaluation: Evaluation, bundled: ListeningClassifier, conversations: list[Conversation]
) -> None:
    expected = [it for one in conversations for it in bundled.predict_conversation(one)]
    assert evaluation.turns == len(expected)
    assert evaluation.conversations == len(conversations)
    # Quantized activations hang a little on what is in the batch.
    probabilities = np.array([list(prediction.scores.values()) for prediction in expected])
    assert np.abs(evaluation.scored.probabilities - probabilities).mean() < 0.02
    assert 0.5 < evaluation.macro.f1.low < evaluation.macro.f1.value < evaluation.macro.f1.high <= 1


def test_turns_that_nobody_annotated_are_context_alone(bundled: ListeningClassifier) -> None:
    turns = (
        Turn("agent", "How can I help?"),
        Turn("customer", "There are two charges on my card."),
        Turn("agent", "So you were charged twice.", labels=("paraphrase",)),
    )
    result = evaluate(bundled, [Conversation(turns, unlabelled=("summary",))])
    assert (result.turns, result.scored.indices) == (1, [2])
    in_context = bundled.predict(turns[2], context=turns[:2])
    assert result.scored.probabilities[0].tolist() == list(in_context.scores.values())
    assert result.labels["summary"].turns == 0
    assert result.labels["paraphrase"].support == 1


def test_labels_that_the_model_does_not_know_are_named_or_passed_over(bundled: ListeningClassifier) -> None:
    turns = (
        Turn("agent", "Hello, what happened?", labels=("greeting", "open_question")),
        Turn("agent", "Bye.", labels=("farewell",)),
    )
    data = [Conversation(turns, id="c7")]
    with pytest.raises(TrainingError, match=r"does not know 'greeting', 'farewell'.* \(first in conversation 'c7', t"):
        evaluate(bundled, data)
    result = evaluate(bundled, data, passed_over=("greeting", "farewell"))
    assert result.not_measured == ("greeting", "farewell")
    assert tuple(result.labels) == bundled.labels
    assert result.labels["open_question"].support == 1
    unlabelled = [replace(data[0], unlabelled=("greeting", "farewell"))]
    assert evaluate(bundled, unlabelled).not_measured == ("greeting", "farewell")


def test_data_that_measures_nothing_is_refused(bundled: ListeningClassifier) -> None:
    turn = Turn("agent", "Okay.", labels=())
    with pytest.raises(TrainingError, match="no label of model was looked for"):
        evaluate(bundled, [Conversation((turn,), unlabelled=bundled.labels)])
    with pytest.raises(TrainingError, match="no agent turn in the data is annotated"):
        evaluate(bundled, [Conversation((replace(turn, labels=None),))])


def test_results_are_json(evaluation: Evaluation) -> None:
    data = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert data["labels"]["paraphrase"]["f1"]["value"] == evaluation.labels["paraphrase"].f1.value
    assert data["slices"][0]["key"] == evaluation.slices[0].key
    assert "scored" not in data
    comparison = json.loads(json.dumps(compare(evaluation, evaluation, resamples=50).to_dict(), allow_nan=False))
    assert comparison["macro_f1"]["p_value"] == 1


# tables


def test_the_tables_have_every_figure_with_its_interval(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.print_evaluation(evaluation)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"small on authored: {evaluation.turns} agent turns of 24 conversations")
    (row,) = (line for line in lines if line.startswith("summary"))
    summary = evaluation.labels["summary"]
    for figure in (summary.precision, summary.recall, summary.f1, summary.average_precision):
        assert f"{figure.value:.3f} [{figure.low:.2f}, {figure.high:.2f}]" in row
    assert row.split()[-1] == str(summary.support)


def test_the_comparison_says_which_model_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    good = measure(random_turns(np.random.default_rng(0), noise=0.1), model="good")
    bad = measure(random_turns(np.random.default_rng(2), noise=0.8), model="bad")
    tables.print_comparison(compare(good, bad))
    out = capsys.readouterr().out
    assert out.count("good is better") == 4
    assert "< 0.001" in out


def test_a_label_of_the_data_cannot_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    owners = [conversation(number, meta={"channel": f"\x1b[2J{number}[red]"}) for number in range(2)]
    tables.print_evaluation(measure(scored([[0.9], [0.1]], [[1], [0]], conversations=owners)))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[2J0[red]" in out
