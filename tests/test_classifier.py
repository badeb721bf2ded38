"""`predict` and `ListeningClassifier`, with the bundled model: what goes in, what comes out, what is refused."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import listening_clf as lc
from listening_clf import Label, ListeningClassifier, Turn, TurnError

CHARGES = "There are two charges on my card."


def test_a_restatement_is_a_paraphrase() -> None:
    prediction = lc.predict("So you were charged twice for the same order.", context=CHARGES)
    assert prediction.labels == ("paraphrase",)
    assert list(prediction.scores) == list(Label)
    assert all(0 <= score <= 1 for score in prediction.scores.values())
    assert all(type(score) is float for score in prediction.scores.values())


def test_labels_are_those_whose_score_passes_their_own_threshold(bundled: ListeningClassifier) -> None:
    for prediction in bundled.predict(["What happened?", "That must be upsetting.", "Okay."]):
        passed = [label for label in Label if prediction.scores[label] >= bundled.thresholds[label]]
        assert list(prediction.labels) == passed


def test_a_context_may_be_words_or_turns(bundled: ListeningClassifier) -> None:
    text = "So you were charged twice for the same order."
    words = bundled.predict(text, context=CHARGES)
    assert bundled.predict(text, context=[Turn("customer", CHARGES)]) == words
    assert bundled.predict(text, context=[{"speaker": "customer", "text": CHARGES}]) == words
    assert bundled.predict(text) != words


def test_a_list_has_a_context_for_each(bundled: ListeningClassifier) -> None:
    texts = ["So you were charged twice for the same order.", "How can I help?", "Mm-hm."]
    contexts = [CHARGES, None, [Turn("customer", "And then it")]]
    together = bundled.predict(texts, context=contexts)
    assert together == [bundled.predict(*pair) for pair in zip(texts, contexts, strict=True)]
    assert bundled.predict([]) == []


def test_the_order_of_a_long_list_is_kept(bundled: ListeningClassifier) -> None:
    texts = ["Very good." if n % 3 else "What happened then?" for n in range(120)]
    contexts = ["And then it broke again. " * (n % 20 + 1) for n in range(120)]
    found = ["open_question" in prediction.labels for prediction in bundled.predict(texts, contexts)]
    assert found == [not n % 3 for n in range(120)]


def test_a_conversation_has_one_prediction_an_agent_turn(bundled: ListeningClassifier) -> None:
    turns = [
        Turn("agent", "How can I help you today?"),
        Turn("customer", CHARGES),
        Turn("agent", "So you were charged twice for the same order."),
    ]
    predictions = bundled.predict_conversation(turns)
    assert [prediction.labels for prediction in predictions] == [("open_question",), ("paraphrase",)]
    assert bundled.predict_conversation(lc.Conversation(tuple(turns))) == predictions
    assert bundled.predict_conversation([turn.to_dict() for turn in turns]) == predictions
    assert bundled.predict_conversation([]) == []


def test_times_reach_the_model(bundled: ListeningClassifier) -> None:
    before = [Turn("customer", "and then I called them again and they told me that the", 10.0, 14.0)]
    cut_off = bundled.predict(Turn("agent", "What is your order number?", 12.5), context=before)
    waited = bundled.predict(Turn("agent", "What is your order number?", 15.5), context=before)
    assert cut_off.scores["interruption"] > waited.scores["interruption"]


@pytest.mark.parametrize(
    ("text", "context", "problem"),
    [
        ("", None, "the text is empty"),
        (None, None, "the text must be a string, not None"),
        (["Hello.", " "], None, "item 1: the text is empty"),
        (["Hello.", 7], None, "item 1: the text must be a string, not 7"),
        (["Hello."], "Hi.", "with a list of 1 texts, context must be a list of 1 contexts"),
        (["Hello.", "Hi."], [None], "with a list of 2 texts, context must be a list of 2 contexts"),
        (["Hello."], [[{"speaker": "me", "text": "Hi."}]], "item 0: turn 0: unknown speaker 'me'"),
        ("Hello.", {"speaker": "customer"}, "turns must be a list of turns"),
        ("Hello.", "", "the text is empty"),
        (Turn("customer", "Hello."), None, "the turn to predict is the customer's"),
    ],
)
def test_bad_input_is_one_clear_sentence(text: Any, context: Any, problem: str) -> None:
    with pytest.raises(TurnError) as caught:
        lc.predict(text, context)
    assert problem in str(caught.value)


def test_threads_may_share_a_classifier(bundled: ListeningClassifier) -> None:
    texts = [f"What happened on day {n}?" for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(bundled.predict, texts)) == [bundled.predict(text) for text in texts]


def modules_after(code: str) -> set[str]:
    """The top-level modules that a new interpreter has imported after `code`."""
    program = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_the_import_alone_is_light() -> None:
    heavy = {"numpy", "onnxruntime", "tokenizers", "huggingface_hub", "rich", "typer", "webvtt", "yaml", "sklearn"}
    assert not heavy & modules_after("import listening_clf, listening_clf.classifier")


def test_predicting_imports_nothing_of_training() -> None:
    loaded = modules_after("import listening_clf as lc; lc.predict('What happened?')")
    assert "onnxruntime" in loaded
    assert not {"torch", "transformers", "datasets", "sklearn", "accelerate", "huggingface_hub"} & loaded
