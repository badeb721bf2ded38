"""What becomes of the turns of a live call that come in any order, in parts, late or twice; and that none is lost."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listening_clf import Prediction, Turn
from listening_clf.serve.call import LiveCall, LiveTurn, Taken
from listening_clf.serve.calls import Calls, TakenOverError, TooManyCallsError

SUMMARY = Prediction(("summary",), {"paraphrase": 0.1, "summary": 0.9})
NOTHING = Prediction((), {"paraphrase": 0.1, "summary": 0.1})


def agent(seq: int, text: str = "What happened?", *, final: bool = True, revision: int = 0) -> LiveTurn:
    return LiveTurn(seq, Turn("agent", text), final, revision)


def customer(seq: int, text: str = "It broke.", *, final: bool = True) -> LiveTurn:
    return LiveTurn(seq, Turn("customer", text), final)


def test_a_turn_is_read_with_those_that_began_before_it_in_whatever_order_they_came() -> None:
    call = LiveCall()
    for turn in (agent(2), customer(3), customer(1, "It leaks."), agent(0, "Hello.")):
        assert call.take(turn) == Taken.NEW
    turns, index = call.in_context(2)
    assert [turn.text for turn in turns] == ["Hello.", "It leaks.", "What happened?"]
    assert index == 2


def test_a_turn_that_comes_again_changes_nothing() -> None:
    call = LiveCall([agent(0)])
    call.judged(0, SUMMARY)
    assert call.take(agent(0)) == Taken.REPEATED
    assert call[0].prediction == SUMMARY
    assert len(call) == 1


def test_a_turn_that_grows_is_judged_again() -> None:
    call = LiveCall([agent(0, "What", final=False)])
    call.judged(0, NOTHING)
    assert call.take(agent(0, "What happened?", final=False)) == Taken.CHANGED
    assert call.unjudged == [0]


def test_a_turn_that_only_becomes_final_is_not() -> None:
    call = LiveCall([agent(0, final=False)])
    call.judged(0, SUMMARY)
    assert call.take(agent(0)) == Taken.CHANGED
    assert call.unjudged == []


@pytest.mark.parametrize("late", [agent(0, "What", final=False), agent(0, "Wat happened?", revision=1)])
def test_what_is_older_than_what_is_known_is_passed_over(late: LiveTurn) -> None:
    call = LiveCall([agent(0, revision=2)])
    assert call.take(late) == Taken.STALE
    assert call[0].turn.text == "What happened?"


def test_a_final_turn_can_be_corrected() -> None:
    call = LiveCall([agent(0, "Wat happened?")])
    assert call.take(agent(0)) == Taken.CHANGED
    assert call[0].turn.text == "What happened?"


def test_totals_count_final_turns() -> None:
    call = LiveCall([customer(0), agent(1), agent(2, final=False), customer(3, final=False)])
    call.judged(1, SUMMARY)
    call.judged(2, SUMMARY)
    assert call.totals() == {
        "agent_turns": 1,
        "customer_turns": 1,
        "labels": {"paraphrase": 0, "summary": 1},
    }


def test_the_next_turn_is_the_first_that_is_not_final() -> None:
    assert LiveCall().next == 0
    assert LiveCall([customer(0), agent(2)]).next == 1
    assert LiveCall([customer(0), agent(1, final=False), customer(2)]).next == 1


def test_a_late_turn_concerns_the_agent_turns_whose_context_reaches_it() -> None:
    call = LiveCall([agent(0), agent(2), customer(3, "Well. " * 5), agent(4), agent(6, "So " * 9), agent(7)])
    assert call.reading(1, context_tokens=20) == [2, 4, 6]
    assert call.reading(1, context_tokens=96) == [2, 4, 6, 7]
    assert call.reading(7, context_tokens=96) == []


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6))
def test_in_whatever_order_and_how_often_turns_come_the_call_is_the_same(order: list[int], again: list[int]) -> None:
    call = LiveCall()
    for seq in [*order, *again]:
        call.take(agent(seq, f"{seq}") if seq % 2 else customer(seq, f"{seq}"))
    assert [it.turn.text for it in call.turns] == ["0", "1", "2", "3", "4", "5"]
    assert call.next == 6
    assert call.totals()["agent_turns"] == 3


def test_a_call_is_taken_up_where_it_was(tmp_path: Path) -> None:
    Calls(tmp_path).open("owner", "7", "first")
    judged = LiveTurn(1, Turn("agent", "So it broke?", 1.5, 2.0), prediction=SUMMARY)
    Calls(tmp_path).save("owner", "7", "first", [customer(0), judged])
    assert Calls(tmp_path).open("owner", "7", "second").turns == [customer(0), judged]


def test_a_call_belongs_to_the_connection_that_came_last(tmp_path: Path) -> None:
    calls = Calls(tmp_path)
    calls.open("owner", "7", "first")
    calls.open("owner", "7", "second")
    with pytest.raises(TakenOverError):
        calls.save("owner", "7", "first", [customer(0)])
    assert len(calls.open("owner", "7", "third")) == 0


def test_nobody_gets_at_the_calls_of_another_key(tmp_path: Path) -> None:
    calls = Calls(tmp_path)
    calls.open("owner", "7", "first")
    calls.save("owner", "7", "first", [customer(0)])
    assert len(calls.open("other", "7", "second")) == 0


def test_calls_in_which_nothing_happens_are_forgotten(tmp_path: Path) -> None:
    calls = Calls(tmp_path, seconds=-1)
    calls.open("owner", "7", "first")
    calls.save("owner", "7", "first", [customer(0)])
    assert len(calls.open("owner", "7", "second")) == 0


def test_no_more_calls_are_remembered_than_may_be(tmp_path: Path) -> None:
    calls = Calls(tmp_path, limit=1)
    calls.open("owner", "7", "first")
    with pytest.raises(TooManyCallsError):
        calls.open("owner", "8", "second")
    calls.open("owner", "7", "third")
    calls.end("owner", "7", "third")
    calls.open("owner", "8", "fourth")


def test_a_call_that_ended_is_forgotten(tmp_path: Path) -> None:
    calls = Calls(tmp_path)
    calls.open("owner", "7", "first")
    calls.save("owner", "7", "first", [customer(0)])
    calls.end("owner", "7", "first")
    with pytest.raises(TakenOverError):
        calls.save("owner", "7", "first", [])
    assert len(calls.open("owner", "7", "second")) == 0


def test_where_there_is_no_room_for_more_that_is_told_and_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listening_clf.serve.shared.MOST_BYTES", 64 * 4096)
    calls = Calls(tmp_path)
    calls.open("owner", "7", "first")
    calls.save("owner", "7", "first", [customer(0)])
    with pytest.raises(TooManyCallsError):
        calls.save("owner", "7", "first", [customer(seq, "It broke. " * 1000) for seq in range(1, 100)])
    assert [it.seq for it in calls.open("owner", "7", "second").turns] == [0]
