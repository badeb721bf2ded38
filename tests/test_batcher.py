"""Turns of requests that arrive together run together; nothing is lost, and nobody waits without end."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from listening_clf import ListeningClassifier, Prediction, Turn
from listening_clf.batching import TOKENS_PER_BATCH
from listening_clf.conversation import TurnInContext
from listening_clf.runtime import CORES
from listening_clf.serve.batcher import BATCHES_AT_ONCE, Batcher
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import ProblemError

T = TypeVar("T")

RUNS = CORES + 1
"""One on each core, and one that waits for the next to be free."""


class Recorded:
    """The bundled model, with the turns of each run written down."""

    def __init__(self, classifier: ListeningClassifier) -> None:
        self._classifier = classifier
        self.runs: list[list[str]] = []

    device = "cpu"

    def predict_on_one_core(self, turns: Sequence[TurnInContext]) -> list[Prediction]:
        texts = [turns[index].text for turns, index in turns]
        self.runs.append(texts)
        if any("fails" in text for text in texts):
            raise RuntimeError
        return self._classifier.predict_on_one_core(turns)


@pytest.fixture
def recorded(bundled: ListeningClassifier) -> Recorded:
    return Recorded(bundled)


def turn(text: str) -> TurnInContext:
    return (Turn("agent", text),), 0


def batcher(recorded: Recorded, **options: Any) -> Batcher:
    return Batcher(recorded, "small", Metrics(), **options)  # type: ignore[arg-type]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_each_request_gets_what_it_would_get_alone(recorded: Recorded, bundled: ListeningClassifier) -> None:
    requests = [["What happened?", "I see."], ["So it broke?"], [f"Is it the {n}th?" for n in range(40)]]

    async def ask() -> list[list[Prediction]]:
        ours = batcher(recorded)
        return await asyncio.gather(*(ours.predict([turn(text) for text in texts]) for texts in requests))

    assert run(ask()) == [bundled.predict(texts) for texts in requests]


def test_requests_that_arrive_together_run_together(recorded: Recorded) -> None:
    async def ask() -> None:
        ours = batcher(recorded)
        await asyncio.gather(*(ours.predict([turn(f"Is it {n}?")]) for n in range(34)))

    run(ask())
    assert [len(texts) for texts in recorded.runs] == [*[1] * RUNS, 34 - RUNS]


def test_a_run_has_no_more_than_so_many_tokens(recorded: Recorded) -> None:
    run(batcher(recorded).predict([turn("What happened to the dishwasher? " * 12)] * 200))
    assert sum(map(len, recorded.runs)) == 200
    assert max(map(len, recorded.runs)) * 6 * 12 <= 1.5 * BATCHES_AT_ONCE * TOKENS_PER_BATCH


def test_live_turns_wait_for_no_other_request(recorded: Recorded) -> None:
    async def ask() -> None:
        ours = batcher(recorded)
        many = asyncio.gather(*(ours.predict([turn(f"Is it the {n}th? " * 30)]) for n in range(100)))
        await asyncio.sleep(0)
        await ours.predict([turn("live")], live=True)
        assert not many.done()
        await many

    run(ask())
    assert ["live"] in recorded.runs[: RUNS + 2]


def test_what_is_more_than_may_wait_is_turned_away_at_once(recorded: Recorded) -> None:
    async def ask() -> list[list[Prediction] | BaseException]:
        ours = batcher(recorded, limit=20)
        requests = [[turn(f"{n}, {i}") for i in range(10)] for n in range(12)]
        answers = await asyncio.gather(*map(ours.predict, requests), return_exceptions=True)
        assert len(await ours.predict(requests[0])) == 10  # and afterwards all is well
        return answers

    answers = run(ask())
    refused = [it for it in answers if isinstance(it, ProblemError)]
    assert refused
    assert all(it.status_code == 503 and int((it.headers or {})["Retry-After"]) >= 1 for it in refused)
    assert all(len(it) == 10 for it in answers if isinstance(it, list))
    assert len(refused) < 12


def test_a_request_that_is_larger_than_the_queue_is_let_in_while_none_wait(recorded: Recorded) -> None:
    assert len(run(batcher(recorded, limit=20).predict([turn(str(n)) for n in range(50)]))) == 50


def test_live_turns_are_never_turned_away(recorded: Recorded) -> None:
    async def ask() -> None:
        ours = batcher(recorded, limit=20)
        waiting = asyncio.gather(*(ours.predict([turn(f"{n}")]) for n in range(50)), return_exceptions=True)
        await asyncio.sleep(0)
        assert len(await ours.predict([turn("live")], live=True)) == 1
        await waiting

    run(ask())


def test_what_nobody_waits_for_any_more_is_not_run(recorded: Recorded) -> None:
    async def ask() -> None:
        ours = batcher(recorded)
        first = asyncio.gather(*(ours.predict([turn(f"first {n}")]) for n in range(RUNS)))
        gone = asyncio.create_task(ours.predict([turn("gone")] * 100))
        await asyncio.sleep(0)
        gone.cancel()
        await first
        await ours.predict([turn("last")])

    run(ask())
    assert not any("gone" in texts for texts in recorded.runs)
    assert recorded.runs[-1] == ["last"]


def test_an_error_reaches_those_whose_turns_ran_and_nobody_else(recorded: Recorded) -> None:
    async def ask() -> None:
        ours = batcher(recorded)
        with pytest.raises(RuntimeError):
            await ours.predict([turn("this fails")] * 40)
        assert len(await ours.predict([turn("this does not")])) == 1

    run(ask())
