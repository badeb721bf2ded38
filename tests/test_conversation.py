"""Turns, conversations and predictions: what is taken, what is refused, and how it goes into JSON and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listening_clf import Conversation, Label, Prediction, Turn, TurnError
from listening_clf.conversation import MAX_TURN_CHARS, as_turns

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
times = st.none() | st.floats(0, 1e6)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    start, end = draw(times), draw(times)
    if start is not None and end is not None and end < start:
        start, end = end, start
    labels = draw(st.none() | st.lists(st.sampled_from([label.value for label in Label]), unique=True))
    return Turn(draw(st.sampled_from(["agent", "customer"])), draw(texts), start, end, labels)


@given(st.lists(turns(), max_size=5), st.none() | st.text(max_size=5))
def test_a_conversation_is_the_same_after_a_trip_through_json(members: list[Turn], identifier: str | None) -> None:
    conversation = Conversation(members, identifier, ("summary",), {"channel": "phone"})
    assert Conversation.from_dict(json.loads(json.dumps(conversation.to_dict()))) == conversation


def test_a_prediction_is_the_same_after_a_trip_through_json() -> None:
    prediction = Prediction(("summary",), {"summary": 0.9, "reflection": 0.25})
    assert Prediction.from_dict(json.loads(json.dumps(prediction.to_dict()))) == prediction


def test_what_is_not_known_is_left_out_of_the_json() -> None:
    assert Turn("agent", "Hello.").to_dict() == {"speaker": "agent", "text": "Hello."}


def test_no_labels_is_something_else_than_not_annotated() -> None:
    assert Turn("agent", "Hello.", labels=()).to_dict()["labels"] == []
    assert Turn.from_dict({"speaker": "agent", "text": "Hello.", "labels": None}).labels is None


def test_agent_turns_are_the_indices_of_what_the_agent_says() -> None:
    speakers = ("agent", "customer", "agent", "agent")
    assert Conversation(tuple(Turn(speaker, "Hm.") for speaker in speakers)).agent_turns == (0, 2, 3)


@pytest.mark.parametrize(
    ("turn", "problem"),
    [
        ({"speaker": "Dana", "text": "Hello."}, "unknown speaker 'Dana': expected 'agent' or 'customer'"),
        ({"speaker": "agent", "text": " \n"}, "the text is empty"),
        ({"speaker": "agent", "text": None}, "the text must be a string, not None"),
        ({"speaker": "agent", "text": 7}, "the text must be a string, not 7"),
        ({"speaker": "agent"}, "the turn has no 'text'"),
        ({"text": "Hello."}, "the turn has no 'speaker'"),
        ("Hello.", "a turn must be an object with 'speaker' and 'text', not 'Hello.'"),
        ({"speaker": "agent", "text": "a" * (MAX_TURN_CHARS + 1)}, "20,001 characters; a turn may have at most 20,000"),
        ({"speaker": "agent", "text": "Hi \ud800"}, r"a lone surrogate, '\ud800', at character 3"),
        ({"speaker": "agent", "text": "Hi", "start": 3, "end": 2}, "ends at 2 s, before its start at 3 s"),
        ({"speaker": "agent", "text": "Hi", "start": float("nan")}, "start must be a number of seconds from 0 to"),
        ({"speaker": "agent", "text": "Hi", "end": -1}, "end must be a number of seconds from 0 to"),
        ({"speaker": "agent", "text": "Hi", "end": 10**5000}, "one of too many digits"),
        ({"speaker": "agent", "text": "Hi", "start": "0:12"}, "start must be a number of seconds, not '0:12'"),
        ({"speaker": "agent", "text": "Hi", "start": True}, "start must be a number of seconds, not True"),
        ({"speaker": "agent", "text": "Hi", "labels": "summary"}, "labels must be a list of label names"),
    ],
)
def test_a_bad_turn_is_named_by_its_index_and_what_is_wrong(turn: Any, problem: str) -> None:
    with pytest.raises(TurnError) as caught:
        as_turns([Turn("customer", "Hi."), turn])
    assert str(caught.value).startswith("turn 1: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("turns", ["Hello.", {"speaker": "agent"}, 7])
def test_what_is_no_list_of_turns_is_refused(turns: Any) -> None:
    with pytest.raises(TurnError, match="turns must be a list of turns"):
        as_turns(turns)


def test_an_object_without_turns_is_no_conversation() -> None:
    with pytest.raises(TurnError, match="a conversation must be an object with 'turns'"):
        Conversation.from_dict({"id": "7"})


def test_labels_are_strings_and_have_a_definition() -> None:
    assert [str(label) for label in Label] == [
        "paraphrase",
        "reflection",
        "open_question",
        "summary",
        "interruption",
    ]
    assert all(label.definition.meaning and label.definition.yes and label.definition.no for label in Label)
