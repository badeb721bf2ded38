"""Live calls: the labels of a turn as soon as it is said, whatever the connection does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from listening_clf import Conversation, ListeningClassifier, transcripts
from tests.conftest import ROOT
from tests.serving import Service, running_service

KEY = "an-api-key-of-enough-length"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service("--workers", "2") as running:
        yield running


@pytest.fixture(scope="module")
def call() -> Conversation:
    (read,) = transcripts.read(ROOT / "examples" / "call.vtt")
    return read


class Live:
    """A client of a live call."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, message: Any) -> None:
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def ask(self, message: Any) -> dict[str, Any]:
        self.send(message)
        return self.receive()

    def receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.socket.recv(timeout=20))
        return answer

    def start(self, call: str, **more: Any) -> dict[str, Any]:
        return self.ask({"type": "start", "call": call, **more})

    def turn(self, seq: int, speaker: str, text: str, **more: Any) -> dict[str, Any]:
        return self.ask({"type": "turn", "seq": seq, "speaker": speaker, "text": text, **more})

    def end(self) -> dict[str, Any]:
        return self.ask({"type": "end"})

    def close_code(self) -> int:
        """With what code the service hangs up."""
        with pytest.raises(ConnectionClosed) as closed:
            self.socket.recv(timeout=20)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code


@pytest.fixture
def live(service: Service) -> Iterator[Live]:
    with connect(service.live_url) as socket:
        yield Live(socket)


def messages(call: Conversation) -> list[dict[str, Any]]:
    return [{"type": "turn", "seq": seq, **turn.to_dict()} for seq, turn in enumerate(call.turns)]


def test_a_call_turn_by_turn_is_judged_as_at_once(live: Live, call: Conversation, bundled: ListeningClassifier) -> None:
    assert live.start("at once")["next"] == 0
    answers = [live.ask(message) for message in messages(call)]
    expected = dict(zip(call.agent_turns, bundled.predict_conversation(call), strict=True))
    for seq, answer in enumerate(answers):
        assert (answer["type"], answer["seq"], answer["status"]) == ("turn", seq, "new")
        assert answer["labels"] == (list(expected[seq].labels) if seq in expected else None)
        if seq in expected:
            assert answer["scores"] == pytest.approx(dict(expected[seq].scores), abs=1e-6)
    ended = live.end()
    assert ended["totals"] == answers[-1]["totals"]
    assert ended["totals"]["agent_turns"] == len(call.agent_turns)
    assert live.close_code() == 1000


def test_a_turn_that_grows_gets_new_labels_and_counts_once(live: Live) -> None:
    live.start("grows")
    first = live.turn(0, "agent", "What", final=False)
    second = live.turn(0, "agent", "What happened when you restarted it?", final=False)
    third = live.turn(0, "agent", "What happened when you restarted it?")
    assert [it["status"] for it in (first, second, third)] == ["new", "changed", "changed"]
    assert "open_question" in second["labels"]
    assert third["scores"] == second["scores"]
    assert [it["totals"]["agent_turns"] for it in (first, second, third)] == [0, 0, 1]
    assert live.end()["totals"]["labels"]["open_question"] == 1


def test_a_repeated_turn_is_answered_and_counts_once(live: Live) -> None:
    live.start("repeats")
    first = live.turn(0, "agent", "What happened then?")
    second = live.turn(0, "agent", "What happened then?")
    assert second == {**first, "status": "repeated"}
    stale = live.turn(0, "agent", "What hap", final=False)
    assert stale == {**first, "status": "stale"}


def test_turns_in_any_order_come_to_the_same(live: Live, call: Conversation, bundled: ListeningClassifier) -> None:
    live.start("any order")
    for message in reversed(messages(call)):
        live.send(message)
    live.send({"type": "end"})
    scores, answer = {}, live.receive()
    while answer["type"] == "turn":
        scores[answer["seq"]] = answer["scores"]
        answer = live.receive()
    expected = bundled.predict_conversation(call)
    for index, prediction in zip(call.agent_turns, expected, strict=True):
        assert scores[index] == pytest.approx(dict(prediction.scores), abs=1e-6)
    counts = {label: sum(label in it.labels for it in expected) for label in bundled.labels}
    assert answer["totals"]["labels"] == counts


def test_a_late_turn_updates_those_that_are_read_with_it(live: Live, bundled: ListeningClassifier) -> None:
    live.start("late")
    said, paraphrased = "There are two charges on my card.", "So you were charged twice for the same order."
    alone = live.turn(1, "agent", paraphrased)
    assert live.turn(0, "customer", said)["status"] == "new"
    updated = live.receive()
    assert (updated["seq"], updated["status"]) == (1, "updated")
    assert updated["scores"] == pytest.approx(dict(bundled.predict(paraphrased, context=said).scores), abs=1e-6)
    assert updated["scores"] != alone["scores"]


def test_a_dropped_connection_goes_on_where_it_was(service: Service, call: Conversation) -> None:
    sent = messages(call)
    answered: dict[int, Any] = {}
    for part in (sent[:7], sent[7:12], sent[12:]):
        with connect(service.live_url) as socket:  # of either worker
            live = Live(socket)
            started = live.start("dropped")
            assert started["next"] == part[0]["seq"]
            known = {it["seq"]: it["labels"] for it in started["turns"]}
            assert known == {seq: it["labels"] for seq, it in answered.items()}
            answered |= {message["seq"]: live.ask(message) for message in part}
            socket.socket.close()  # no goodbye
    with connect(service.live_url) as socket:
        live = Live(socket)
        assert live.start("dropped")["totals"] == live.end()["totals"] == answered[len(sent) - 1]["totals"]


def test_a_turn_whose_answer_was_lost_is_answered_when_the_call_goes_on(service: Service) -> None:
    with connect(service.live_url) as socket:
        live = Live(socket)
        live.start("lost")
        live.send({"type": "turn", "seq": 0, "speaker": "agent", "text": "What happened?"})
        live.send({"type": "turn", "seq": 1, "speaker": "customer", "text": "It broke."})
        live.receive()
        socket.socket.close()
    with connect(service.live_url) as socket:
        live = Live(socket)
        started = live.start("lost")
        known = [it for it in started["turns"] if it["seq"] == 0]
        labels = known[0]["labels"] if known and known[0]["labels"] is not None else live.receive()["labels"]
        assert labels == ["open_question"]
        assert live.end()["totals"]["agent_turns"] == 1


def test_the_connection_that_came_last_has_the_call(service: Service) -> None:
    with connect(service.live_url) as first_socket, connect(service.live_url) as second_socket:
        first, second = Live(first_socket), Live(second_socket)
        first.start("twice")
        first.turn(0, "customer", "It broke.")
        assert len(second.start("twice")["turns"]) == 1
        first.send({"type": "turn", "seq": 1, "speaker": "agent", "text": "What happened?"})
        assert first.close_code() == 4409
        assert second.turn(1, "agent", "What happened?")["status"] == "new"


def test_a_turn_that_turns_out_to_be_the_customers_is_not_judged(live: Live) -> None:
    live.start("whose")
    live.send({"type": "turn", "seq": 0, "speaker": "agent", "text": "What happened?", "final": False})
    live.send({"type": "turn", "seq": 0, "speaker": "customer", "text": "What happened?"})
    live.send({"type": "end"})
    answer = live.receive()
    while answer["type"] == "turn":
        last, answer = answer, live.receive()
    assert (last["speaker"], last["labels"]) == ("customer", None)
    assert (answer["totals"]["agent_turns"], answer["totals"]["customer_turns"]) == (0, 1)


def test_an_ended_call_is_forgotten(service: Service) -> None:
    for _ in range(2):
        with connect(service.live_url) as socket:
            live = Live(socket)
            assert live.start("ended")["turns"] == []
            live.turn(0, "agent", "What happened?")
            live.end()


@pytest.mark.parametrize(
    ("message", "status", "detail"),
    [
        ("{", 400, "no JSON"),
        (b"\x00", 400, "text frames"),
        ('{"type": "turn", "seq": NaN}', 400, "no JSON"),
        ({"type": "dance"}, 422, "'start', 'turn', 'end'"),
        ({"type": "turn", "seq": -1, "speaker": "agent", "text": "x"}, 422, "#/seq: "),
        ({"type": "turn", "seq": 2000, "speaker": "agent", "text": "x"}, 422, "less than 2000"),
        ({"type": "turn", "seq": 0, "speaker": "bot", "text": "x"}, 422, "'agent' or 'customer'"),
        ({"type": "turn", "seq": 0, "speaker": "agent", "text": "x", "start": 2, "end": 1}, 422, "before its start"),
        ({"type": "start", "call": "other"}, 409, "'errors' already"),
    ],
    ids=str,
)
def test_a_bad_message_is_answered_and_the_call_goes_on(live: Live, message: Any, status: int, detail: str) -> None:
    live.start("errors")
    answer = live.ask(message)
    assert (answer["type"], answer["status"]) == ("error", status)
    assert detail in answer["detail"]
    assert answer.get("seq") == (message.get("seq") if isinstance(message, dict) else None)
    assert live.turn(0, "agent", "What happened?")["labels"] == ["open_question"]
    live.end()


def test_the_first_message_must_be_a_start(live: Live) -> None:
    assert live.turn(0, "agent", "What happened?")["type"] == "error"
    assert live.close_code() == 1008


def test_a_message_that_is_too_large_ends_the_connection_and_nothing_else(service: Service, live: Live) -> None:
    live.start("large")
    live.send({"type": "turn", "seq": 0, "speaker": "agent", "text": "x" * 300_000})
    assert live.close_code() == 1009
    with connect(service.live_url) as socket:
        assert Live(socket).start("large")["turns"] == []


def test_another_sites_page_cannot_connect(service: Service) -> None:
    with pytest.raises(InvalidStatus, match="403"), connect(service.live_url, origin="https://example.org"):  # type: ignore[arg-type]
        pass
    with connect(service.live_url, origin=service.url):  # type: ignore[arg-type]
        pass


def test_where_a_key_is_asked_for_a_call_needs_it_too() -> None:
    other = "another-key-of-enough-length"
    with running_service(environment={"LISTENING_CLF_API_KEYS": f"{KEY} {other}"}) as service:
        for wrong in ({}, {"key": "wrong"}):
            with connect(service.live_url) as socket:
                live = Live(socket)
                assert live.start("7", **wrong)["status"] == 401
                assert live.close_code() == 1008
        with connect(service.live_url, additional_headers={"Authorization": f"Bearer {KEY}"}) as socket:
            live = Live(socket)
            live.start("7")
            live.turn(0, "customer", "It broke.")
        with connect(service.live_url) as socket:
            assert Live(socket).start("7", key=other)["turns"] == []  # the call of whoever has the other key
        with connect(service.live_url) as socket:
            assert len(Live(socket).start("7", key=KEY)["turns"]) == 1
