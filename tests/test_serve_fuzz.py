"""The service keeps to its OpenAPI document, and a live call to its totals, whatever is sent."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from listening_clf import Conversation, ListeningClassifier, Prediction, Turn
from listening_clf.serve.app import create_app
from listening_clf.serve.settings import LIVE_MESSAGE_BYTES, LIVE_TURNS, Settings
from tests.serving import Service, running_service

ADMIN = "an-admin-key-of-enough-length"

always_the_same = settings(
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # a service that hangs would hang at each step of shrinking, too
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service("--model", "tiny", environment={"LISTENING_CLF_ADMIN_KEYS": ADMIN}) as running:
        yield running


@pytest.fixture(scope="module")
def tiny() -> ListeningClassifier:
    return ListeningClassifier.from_pretrained("tiny")


# The HTTP API


async def _document() -> Any:
    """The OpenAPI document, before any service runs: there is a test for each operation in it."""
    app = create_app(Settings(host="0.0.0.0"), Path())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        return (await client.get("/openapi.json")).json()


DOCUMENT = asyncio.run(_document())
API = schemathesis.openapi.from_dict(
    DOCUMENT, config=schemathesis.Config.from_dict({"generation": {"mode": "all", "deterministic": True}})
)

BEYOND_SCHEMAS = {
    "POST /v1/predict": "before its start at",
    "POST /v1/conversations": "before its start at",
    "POST /v1/transcripts": "",  # what a file must be
    "POST /v1/models/{name}/load": "",  # what models there are, and what they can be called
    "POST /v2/models/{name}/infer": "",  # that as many strings come as the shape says
    "POST /": "should be a valid integer",  # a JSON Schema takes 3.0 for one
}
"""What some 422 are about: a JSON Schema cannot say it, so that a body may be wrong that keeps to it."""

load_all_checks()
ACCEPTS_WHAT_IS_VALID, REFUSES_OTHER_METHODS = CHECKS.get_by_names(["positive_data_acceptance", "unsupported_method"])


def test_the_service_describes_itself_as_it_is_tested_here(service: Service) -> None:
    with service.client() as client:
        assert client.get("/openapi.json").json() == DOCUMENT


@API.parametrize()
@settings(always_the_same, max_examples=10)
def test_it_keeps_to_its_openapi_document(case: schemathesis.Case, service: Service) -> None:
    headers, operation = {"Authorization": f"Bearer {ADMIN}"}, case.operation.label
    answer = case.call(service.url, headers=headers)
    excluded = []
    if answer.status_code == 422 and BEYOND_SCHEMAS.get(operation, "\0") in answer.json()["detail"]:
        excluded.append(ACCEPTS_WHAT_IS_VALID)
    if operation == "POST /":
        excluded.append(REFUSES_OTHER_METHODS)  # GET gives the page, which is no part of the API
    case.validate_response(
        answer,
        headers=headers,
        excluded_checks=excluded,
        transport_kwargs={"base_url": service.url, "headers": headers},
    )


# Live calls

WORDS = (
    "What happened then?",
    "So you were charged twice for the same order.",
    "That must be frustrating.",
    "To recap: a refund for the shoes, and a new pair by Friday.",
    "I see.",
    "word " * 60,
    "\u0000\u202e🤷",
)
STATUSES = {"new", "changed", "repeated", "stale", "updated"}
numbers = count()


@dataclass(frozen=True)
class Good:
    """A turn that is one."""

    message: dict[str, Any]

    @property
    def sent(self) -> str:
        return json.dumps(self.message)


@dataclass(frozen=True)
class Bad:
    """Anything else, which a call goes on after."""

    sent: str | bytes


class Call:
    """What a call adds up to, as docs/serve.md has it."""

    def __init__(self) -> None:
        self.turns: dict[int, dict[str, Any]] = {}

    def take(self, message: dict[str, Any]) -> None:
        known = self.turns.get(message["seq"])
        if known:
            is_older = message.get("revision", 0) < known.get("revision", 0)
            if is_older or (known.get("final", True) and not message.get("final", True)):
                return
        self.turns[message["seq"]] = message

    @property
    def next(self) -> int:
        return next(seq for seq in count() if seq not in self.turns or not self.turns[seq].get("final", True))

    def judged(self, classifier: ListeningClassifier) -> dict[int, Prediction]:
        """What the model says of each of the agent's turns."""
        seqs = sorted(self.turns)
        turns = [self.turns[seq] for seq in seqs]
        call = Conversation(tuple(Turn(it["speaker"], it["text"], it.get("start"), it.get("end")) for it in turns))
        predictions = classifier.predict_conversation(call)
        return dict(zip([seqs[index] for index in call.agent_turns], predictions, strict=True))

    def totals(self, classifier: ListeningClassifier) -> dict[str, Any]:
        final = {seq for seq, turn in self.turns.items() if turn.get("final", True)}
        judged = {seq: prediction for seq, prediction in self.judged(classifier).items() if seq in final}
        labels: Counter[str] = Counter()
        for prediction in judged.values():
            labels.update({**dict.fromkeys(classifier.labels, 0), **dict.fromkeys(prediction.labels, 1)})
        return {"agent_turns": len(judged), "customer_turns": len(final) - len(judged), "labels": dict(labels)}


def turns() -> st.SearchStrategy[dict[str, Any]]:
    """Turns of a short call, so that many of them are about the same one."""
    times = st.lists(st.floats(0, 60) | st.integers(0, 60), min_size=2, max_size=2).map(sorted)
    return st.builds(
        lambda times, **message: {"type": "turn", **message, **dict(zip(("start", "end"), times, strict=False))},
        st.just([]) | times | times.map(lambda both: both[:1]),
        seq=st.integers(0, 4),
        speaker=st.sampled_from(["agent", "agent", "customer"]),
        text=st.sampled_from(WORDS),
        final=st.booleans(),
        revision=st.integers(0, 2),
    ) | st.fixed_dictionaries(
        {
            "type": st.just("turn"),
            "seq": st.integers(0, 4) | st.just(LIVE_TURNS - 1),
            "speaker": st.sampled_from(["agent", "customer"]),
            "text": st.text(min_size=1, max_size=40).filter(str.strip),
        }
    )


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FLAWS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.none() | st.text().filter(lambda it: it not in ("start", "turn", "end")),
    "seq": st.sampled_from([-1, LIVE_TURNS, 10**30, 0.5, "0", True, None, [0], float("nan")]),
    "speaker": st.none() | st.integers() | st.text().filter(lambda it: it not in ("agent", "customer")),
    "text": st.sampled_from(["", " \n", "x" * 20_001, 7, None, ["x"], "\ud800"]),
    "start": st.sampled_from([-1, 10**11, 10**400, "1", True, [1], float("inf"), -0.5]),
    "end": st.sampled_from([-1e-9, float("nan"), {}, False]),
    "final": st.sampled_from([None, 0, "true", []]),
    "revision": st.sampled_from([-1, 2**53 + 1, 10**40, 1.5, "1", None, True]),
    "labels": anything,
    "\ud800": anything,
}
flawed = st.builds(
    lambda message, flaw: json.dumps({**message, **flaw}),
    turns(),
    st.sampled_from(list(FLAWS)).flatmap(lambda key: FLAWS[key].map(lambda value: {key: value})),
)
backwards = turns().map(lambda message: json.dumps({**message, "start": 2.5, "end": 2}))
no_json = st.sampled_from(
    [
        "",
        "{",
        "[" * 100_000,
        '{"type":' * 5_000,
        '{"type": "turn", "seq": ' + "1" * 10_000 + "}",
        '{"type": "turn", "seq": 1e999}',
        '{"type": "end"} {"type": "end"}',
        '{"type": "end",}',
        "\ufeff{}",
        "NaN",
        '"\\ud800"',
        "{" + ", ".join(f'"{i}": 1' for i in range(5_000)) + "}",
    ]
)
bad = (
    flawed
    | backwards
    | no_json
    | anything.map(json.dumps)
    | st.text(max_size=20).filter(lambda text: not text.startswith("{"))
    | st.binary(max_size=40)
).map(Bad)
started_already = st.just(Bad('{"type": "start", "call": "another"}'))
pauses = st.sampled_from([0.0, 0.0, 0.0005, 0.001, 0.002, 0.004])
messages = st.lists(turns().map(Good) | bad | started_already, max_size=14)


def receive(socket: ClientConnection) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(socket.recv(timeout=10))
    if answer["type"] == "error":
        assert answer["status"] in (400, 409, 422)
        assert answer["title"]
        assert answer["detail"]
    else:
        assert answer["type"] in ("turn", "started", "ended")
        assert answer.get("status", "new") in STATUSES
    return answer


def start(socket: ClientConnection, call: str) -> dict[str, Any]:
    socket.send(json.dumps({"type": "start", "call": call, "key": ADMIN}))
    return receive(socket)


def end(socket: ClientConnection) -> dict[str, Any]:
    """The totals."""
    socket.send('{"type": "end"}')
    while (answer := receive(socket))["type"] != "ended":
        pass
    totals: dict[str, Any] = answer["totals"]
    assert close_code(socket) == 1000
    return totals


def send(socket: ClientConnection, sent: list[Good | Bad], call: Call) -> None:
    """Send messages, and wait until the service has taken them: what it has not may be lost with the connection."""
    for message in sent:
        socket.send(message.sent)
        if isinstance(message, Good):
            call.take(message.message)
    socket.send('{"type": "end", "the last": true}')
    while "#/the last" not in receive(socket).get("detail", ""):
        pass


def close_code(socket: ClientConnection) -> int | None:
    """With what code the service hangs up."""
    try:
        while True:
            receive(socket)
    except ConnectionClosed as closed:
        return closed.rcvd and closed.rcvd.code


def assert_is_well(service: Service) -> None:
    """A call that is like any other goes as it should."""
    with connect(service.live_url) as socket:
        start(socket, f"well {next(numbers)}")
        socket.send(json.dumps({"type": "turn", "seq": 0, "speaker": "agent", "text": WORDS[0]}))
        assert "open_question" in receive(socket)["labels"]
        socket.send('{"type": "end"}')
        assert receive(socket)["totals"]["labels"]["open_question"] == 1
        assert close_code(socket) == 1000


@given(messages)
@settings(always_the_same, max_examples=80)
def test_each_message_is_answered_and_the_totals_are_right(
    service: Service, tiny: ListeningClassifier, sent: list[Good | Bad]
) -> None:
    call = Call()
    with connect(service.live_url) as socket:
        start(socket, f"one by one {next(numbers)}")
        for message in sent:
            socket.send(message.sent)
            answer = receive(socket)
            while answer.get("status") == "updated":  # of an earlier turn
                answer = receive(socket)
            if isinstance(message, Good):
                call.take(message.message)
                assert (answer["type"], answer["seq"]) == ("turn", message.message["seq"])
                assert (answer["labels"] is None) == (answer["speaker"] == "customer")
            else:
                assert answer["type"] == "error"
        assert end(socket) == call.totals(tiny)
    assert_is_well(service)


@given(messages, pauses)
@settings(always_the_same, max_examples=100)
def test_messages_that_wait_for_no_answer_add_up_to_the_same(
    service: Service, tiny: ListeningClassifier, sent: list[Good | Bad], pause: float
) -> None:
    """Whichever are judged while others come: what is said last of a turn is what the model says of the whole call."""
    call = Call()
    with connect(service.live_url) as socket:
        start(socket, f"at once {next(numbers)}")
        for message in sent:
            socket.send(message.sent)
            if isinstance(message, Good):
                call.take(message.message)
            time.sleep(pause)
        socket.send('{"type": "end"}')
        answers = [receive(socket)]
        while answers[-1]["type"] != "ended":
            answers.append(receive(socket))
        assert close_code(socket) == 1000
    assert sum(it["type"] == "error" for it in answers) == sum(isinstance(it, Bad) for it in sent)
    assert answers[-1]["totals"] == call.totals(tiny)
    last = {it["seq"]: it for it in answers if it["type"] == "turn"}
    assert last.keys() == call.turns.keys()
    for seq, prediction in call.judged(tiny).items():
        assert last[seq]["labels"] == list(prediction.labels)
        assert last[seq]["scores"] == pytest.approx(prediction.scores, abs=1e-5)
    assert_is_well(service)


def test_a_turn_that_comes_while_a_later_one_is_judged_is_read_before_it(
    service: Service, tiny: ListeningClassifier
) -> None:
    said, answered = "There are two charges on my card, I was charged twice.", "So you were charged twice."
    (expected,) = tiny.predict_conversation([Turn("customer", said), Turn("agent", answered)])
    for pause in range(20):
        with connect(service.live_url) as socket:
            start(socket, f"overtakes {next(numbers)}")
            socket.send(json.dumps({"type": "turn", "seq": 1, "speaker": "agent", "text": answered}))
            time.sleep(pause / 4000)
            socket.send(json.dumps({"type": "turn", "seq": 0, "speaker": "customer", "text": said}))
            answers = [receive(socket), receive(socket)]  # once each is answered …
            socket.send('{"type": "end"}')
            while answers[-1]["type"] != "ended":
                answers.append(receive(socket))
        scores = [answer["scores"] for answer in answers if answer.get("seq") == 1][-1]  # … it may yet be answered anew
        assert scores == pytest.approx(expected.scores, abs=1e-5)


@given(st.lists(messages, min_size=2, max_size=3))
@settings(always_the_same, max_examples=25)
def test_a_call_whose_connections_drop_adds_up_to_the_same(
    service: Service, tiny: ListeningClassifier, parts: list[list[Good | Bad]]
) -> None:
    call, name = Call(), f"drops {next(numbers)}"
    for part in parts:
        with connect(service.live_url) as socket:
            known = start(socket, name)
            assert known["next"] == call.next
            assert {it["seq"] for it in known["turns"]} == call.turns.keys()
            send(socket, part, call)
            socket.socket.shutdown(SHUT_RDWR)
    with connect(service.live_url) as socket:
        start(socket, name)
        assert end(socket) == call.totals(tiny)
    assert_is_well(service)


@given(turns().map(Good) | bad | st.sampled_from(['{"type": "end"}', '{"type": "start", "call": ""}']).map(Bad))
@settings(always_the_same, max_examples=40)
def test_what_comes_instead_of_a_start_is_an_error_and_ends_the_connection(service: Service, first: Good | Bad) -> None:
    with connect(service.live_url) as socket:
        socket.send(first.sent)
        assert receive(socket)["type"] == "error"
        assert close_code(socket) == 1008
    assert_is_well(service)


@given(messages, st.sampled_from([1007, 1009]))
@settings(always_the_same, max_examples=15)
def test_what_is_no_message_at_all_closes_the_connection_but_the_call_stays(
    service: Service, tiny: ListeningClassifier, sent: list[Good | Bad], code: int
) -> None:
    call, name = Call(), f"closed {next(numbers)}"
    with connect(service.live_url) as socket:
        start(socket, name)
        send(socket, sent, call)
        if code == 1007:
            socket.send(b"\xff\xfe", text=True)
        else:
            socket.send("x" * (LIVE_MESSAGE_BYTES + 1))
        assert close_code(socket) == code
    with connect(service.live_url) as socket:
        assert start(socket, name)["next"] == call.next
        assert end(socket) == call.totals(tiny)
    assert_is_well(service)
