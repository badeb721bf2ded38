"""How turns are run: in batches of one length, each different input once, and never too many at a time."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from listening_clf import Conversation, ListeningClassifier, Prediction, Turn, TurnError
from listening_clf.batching import CHUNK_TURNS, TOKENS_PER_BATCH, Pass, batches, chunks
from listening_clf.encoding import Encoded


def turn(length: int, first: int = 0) -> Encoded:
    return Encoded([first, *range(1, length)], length)


def test_a_batch_has_turns_of_one_length_within_the_budget_and_the_longest_come_first() -> None:
    lengths = [7, 300, 7, 40, 40, 300, 12] * 20
    cut = batches(map(turn, lengths))
    assert sorted(len(it.input_ids) for batch in cut for it in batch) == sorted(lengths)
    for batch in cut:
        assert len({len(it.input_ids) for it in batch}) == 1
        assert sum(len(it.input_ids) for it in batch) <= TOKENS_PER_BATCH or len(batch) == 1
    first = [len(batch[0].input_ids) for batch in cut]
    assert first == sorted(first, reverse=True)


def test_chunks_keep_what_came_before_an_error() -> None:
    def items() -> Iterator[int]:
        yield from range(CHUNK_TURNS + 2)
        raise ValueError("no more")

    (first, none), (second, error) = chunks(items())
    assert (len(first), none) == (CHUNK_TURNS, None)
    assert second == [CHUNK_TURNS, CHUNK_TURNS + 1]
    assert str(error) == "no more"
    assert list(chunks([])) == []


def test_each_different_input_is_run_once_and_results_come_in_order() -> None:
    run: list[Encoded] = []

    def start(cut: list[list[Encoded]]) -> list[Any]:
        run.extend(it for batch in cut for it in batch)
        return [
            lambda batch=batch: np.array([[it.input_ids[0], len(it.input_ids)] for it in batch], dtype=np.float32)
            for batch in cut
        ]

    one_pass = Pass(start)
    inputs = [turn(5, 1), turn(9, 2), turn(5, 3), turn(9, 2), turn(5, 1)]
    first, again = one_pass.begin(inputs), one_pass.begin(inputs[::-1])
    np.testing.assert_array_equal(first(), [[1, 5], [2, 9], [3, 5], [2, 9], [1, 5]])
    np.testing.assert_array_equal(again(), first()[::-1])
    assert len(run) == 3
    one_pass.begin([turn(5, 1)._replace(context_start=2)])
    assert len(run) == 4, "the same words, some of which are context, are another input"


def test_a_turn_s_scores_do_not_depend_on_what_runs_beside_it(
    bundled: ListeningClassifier, conversations: list[Conversation]
) -> None:
    together = [predictions for _, predictions in bundled.predict_conversations(conversations)]
    assert together == [bundled.predict_conversation(conversation) for conversation in conversations]
    pairs = [(it.turns[index], it.turns[:index]) for it in conversations[:3] for index in it.agent_turns]
    alone = [bundled.predict(*pair) for pair in pairs]
    assert alone == [prediction for predictions in together[:3] for prediction in predictions]
    assert alone == list(bundled.predict_stream(pairs))


def test_a_stream_yields_while_it_is_read(bundled: ListeningClassifier) -> None:
    read = 0

    def turns() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"What happened on day {read % 50}?"

    stream = bundled.predict_stream(turns())
    assert [next(stream).labels for _ in range(3)] == [("open_question",)] * 3
    assert read <= 2 * CHUNK_TURNS


def test_what_nobody_waits_for_any_more_is_not_run(
    bundled: ListeningClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = 0
    run_batch = bundled._runtime._run

    def counted(*arguments: Any) -> Any:
        nonlocal run
        run += 1
        return run_batch(*arguments)

    monkeypatch.setattr(bundled._runtime, "_run", counted)
    stream = bundled.predict_stream(f"{'What happened then? ' * (n % 20 + 1)} {n}" for n in range(3 * CHUNK_TURNS))
    next(stream)
    stream.close()
    while (before := run) != (time.sleep(0.3), run)[1]:  # what has begun may end
        pass
    assert before < 2 * len(batches(map(turn, [5 * (n % 20 + 1) for n in range(CHUNK_TURNS)])))


def test_a_model_whose_folder_is_replaced_goes_on_as_it_was_loaded(
    bundled: ListeningClassifier, bundled_folder: Path, conversations: list[Conversation], tmp_path: Path
) -> None:
    shutil.copytree(bundled_folder, tmp_path / "model")
    classifier = ListeningClassifier.from_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(bundled_folder.with_name("tiny"), tmp_path / "model")
    assert classifier.predict_conversation(conversations[0]) == bundled.predict_conversation(conversations[0])


def test_threads_that_predict_lists_share_the_cores(conversations: list[Conversation]) -> None:
    classifier = ListeningClassifier.from_pretrained()
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(classifier.predict_conversation, conversations[:6]))
    assert found == [classifier.predict_conversation(conversation) for conversation in conversations[:6]]


def test_a_stream_gives_all_predictions_before_a_bad_turn(bundled: ListeningClassifier) -> None:
    stream = bundled.predict_stream(["What happened?", ("So it broke.", "It broke."), " ", "Okay."])
    assert [type(next(stream)) for _ in range(2)] == [Prediction] * 2
    with pytest.raises(TurnError, match="item 2: the text is empty"):
        next(stream)


def test_conversations_come_in_order_with_those_in_which_no_agent_speaks(bundled: ListeningClassifier) -> None:
    customer, agent = Turn("customer", "It broke."), Turn("agent", "What happened?")
    given = [[customer], [agent, customer, agent], [], [agent], [customer]]
    found = list(bundled.predict_conversations(given))
    assert [list(conversation.turns) for conversation, _ in found] == given
    assert [len(predictions) for _, predictions in found] == [0, 2, 0, 1, 0]


def test_conversations_before_a_bad_one_are_judged(bundled: ListeningClassifier) -> None:
    customer, agent = Turn("customer", "It broke."), Turn("agent", "What happened?")
    found = bundled.predict_conversations([[customer], [agent], [customer], [{"speaker": "me", "text": "Hello."}]])
    assert [len(next(found)[1]) for _ in range(3)] == [0, 1, 0]
    with pytest.raises(TurnError, match="turn 0: unknown speaker 'me'"):
        next(found)
