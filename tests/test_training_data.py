"""Annotations meet their corpora, splits stay apart, and simulated times suit the labels."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pooch")

from listening_clf.conversation import SPEAKERS, Conversation, Turn
from listening_clf.encoding import Timing, timing_of
from listening_clf.errors import TrainingError
from listening_clf.labels import Label
from training import data
from training.annotate import FOLDER, annotate, text_sha1
from training.corpora import authored
from training.corpora.archives import CORPORA_VARIABLE
from training.timing import simulate_times, with_times

needs_corpora = pytest.mark.skipif(CORPORA_VARIABLE not in os.environ, reason=f"{CORPORA_VARIABLE} names no folder")

CHAT = Conversation(
    (
        Turn("customer", "My kite is stuck in a tree."),
        Turn("agent", "So the kite is up in the tree."),
        Turn("customer", "Yes."),
        Turn("agent", "One moment."),
    ),
    id="toy/1",
    meta={"corpus": "toy"},
)


@pytest.fixture
def annotation_file(tmp_path: Path) -> Callable[..., Path]:
    """Write an annotation file of one line: the agent's first turn of `CHAT`, but for what the test changes."""

    def write(**changed: Any) -> Path:
        line = {
            "conversation": "toy/1",
            "turn": 1,
            "labels": ["paraphrase"],
            "text_sha1": text_sha1(CHAT.turns[1].text),
        }
        path = tmp_path / "toy.jsonl"
        path.write_text(json.dumps(line | changed) + "\n", "utf-8")
        return path

    return write


def test_annotated_turns_get_their_labels_and_the_others_none(annotation_file: Callable[..., Path]) -> None:
    other = Conversation(CHAT.turns, id="toy/2")
    (labelled,) = annotate([CHAT, other], annotation_file())
    assert labelled.id == "toy/1"
    assert [turn.labels for turn in labelled.turns] == [None, ("paraphrase",), None, None]
    assert [turn.text for turn in labelled.turns] == [turn.text for turn in CHAT.turns]


def test_an_annotation_knows_its_text_whatever_the_white_space() -> None:
    assert text_sha1(" So the  kite\n") == text_sha1("So the kite")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text_sha1": "00000000"}, r"toy/1: turn 1 has a text of sha1 \w{8}, not 00000000"),
        ({"turn": 3}, "toy/1: turn 3 has a text of sha1"),
        ({"turn": 2}, "toy/1: turn 2 is annotated, but is no turn of the agent"),
        ({"turn": 4}, "toy/1: turn 4 is annotated, but is no turn of the agent"),
        ({"conversation": "toy/9"}, "annotates toy/9, which the corpus does not have"),
    ],
)
def test_an_annotation_that_means_another_turn_is_an_error(
    annotation_file: Callable[..., Path], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        list(annotate([CHAT], annotation_file(**changed)))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_committed_annotations_name_turns_and_labels_of_the_codebook(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines
    assert all(set(line["labels"]) <= set(Label) for line in lines)
    turns = [(line["conversation"], line["turn"]) for line in lines]
    assert len(turns) == len(set(turns))
    assert {conversation.partition("/")[0].partition("-")[0] for conversation, _ in turns} == {path.stem}


def test_no_test_conversation_is_annotated() -> None:
    annotated = {
        json.loads(line)["conversation"]
        for path in FOLDER.glob("*.jsonl")
        for line in path.read_text("utf-8").splitlines()
    }
    splits = json.loads(data.SPLITS.read_text("utf-8"))
    test = {conversation for corpus in splits.values() for conversation in corpus.get("test", ())}
    assert test
    assert not annotated & test


@pytest.mark.parametrize(
    ("identifier", "corpus"),
    [("annomi/131", "annomi"), ("annomi/7", "annomi"), ("star/115", "star"), ("a3-010", "authored")],
)
def test_what_is_held_out_is_not_trained_on(identifier: str, corpus: str) -> None:
    fine = Conversation((), id="a3-011", meta={"corpus": "authored"})
    data.check_none_held_out([fine])
    with pytest.raises(TrainingError, match=f"not to be trained on: {identifier}$"):
        data.check_none_held_out([fine, Conversation((), id=identifier, meta={"corpus": corpus})])


@pytest.fixture
def only_authored(monkeypatch: pytest.MonkeyPatch) -> None:
    """No corpus but the one that is part of the project."""
    monkeypatch.setattr(data, "_annotated", lambda: iter(()))
    monkeypatch.setattr("training.corpora.mrda.read", lambda split: iter(()))


@pytest.mark.usefixtures("only_authored")
def test_every_tenth_authored_conversation_is_for_development() -> None:
    train, dev = data.load_split("train"), data.load_split("dev")
    assert len(dev) == 100
    assert all(str(conversation.id).endswith("0") for conversation in dev)
    assert {conversation.id for conversation in [*train, *dev]} == {it.id for it in authored.read()}
    assert len(train) + len(dev) == len(list(authored.read()))


def change(number: int, labels: tuple[str, ...], broken_off: bool) -> Conversation:
    """A change of speaker as MRDA's reader yields them."""
    turns = Turn("customer", "and then we"), Turn("agent", "Lunch is here.", labels=labels)
    return Conversation(turns, id=f"mrda/Toy/{number}", meta={"corpus": "mrda", "broken_off": broken_off})


def test_changes_of_speaker_are_sampled_two_for_an_interruption() -> None:
    interruptions = [change(number, ("interruption",), True) for number in range(10)]
    others = [change(number, (), number % 2 == 0) for number in range(10, 110)]
    sample = data.sample_changes([*others, *interruptions])
    kinds = Counter((bool(it.turns[-1].labels), it.meta["broken_off"]) for it in sample)
    assert kinds == {(True, True): 10, (False, True): 10, (False, False): 10}
    assert len({it.id for it in sample}) == 30
    assert sample == data.sample_changes([*others, *interruptions])


def test_fewer_changes_than_asked_for_are_all_kept() -> None:
    changes = [change(0, ("interruption",), True), change(1, ("interruption",), True), change(2, (), True)]
    assert data.sample_changes(changes) == changes


LABEL_SETS = st.one_of(st.none(), st.lists(st.sampled_from([*Label]), unique=True, max_size=2).map(tuple))
TURNS = st.builds(
    Turn, st.sampled_from(["agent", "customer"]), st.integers(1, 40).map("word ".__mul__), labels=LABEL_SETS
)


@given(st.lists(TURNS, max_size=12), st.integers(0, 9))
def test_simulated_times_run_forwards(turns: list[Turn], seed: int) -> None:
    timed = simulate_times(Conversation(tuple(turns)), np.random.default_rng(seed)).turns
    assert [(turn.speaker, turn.text, turn.labels) for turn in timed] == [
        (turn.speaker, turn.text, turn.labels) for turn in turns
    ]
    times = [(turn.start, turn.end) for turn in timed if turn.start is not None and turn.end is not None]
    assert len(times) == len(timed)
    assert all(start < end for start, end in times)
    assert times == sorted(times, key=lambda time: time[0])
    for speaker in SPEAKERS:
        own = [time for time, turn in zip(times, timed, strict=True) if turn.speaker == speaker]
        assert all(first[1] <= second[0] for first, second in pairwise(own))


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("What is the order number, please?", ("interruption",), {"no": 0.15, "short": 0.05, "long": 0.80}),
        ("Mm-hm.", (), {"no": 0.63, "short": 0.07, "long": 0.30}),
        ("What is the order number, please?", (), {"no": 0.90, "short": 0.10, "long": 0.0}),
        ("Tough week.", ("reflection",), {"no": 0.90, "short": 0.10, "long": 0.0}),
    ],
)
def test_simulated_overlap_suits_the_labels(text: str, labels: tuple[str, ...], expected: dict[str, float]) -> None:
    customer = Turn("customer", "and so I went back to the shop and told them all about it")
    conversation = Conversation((customer, Turn("agent", text, labels=labels)))
    rng = np.random.default_rng(0)
    marks = Counter(timing_of(simulate_times(conversation, rng).turns, 1) for _ in range(4000))
    found = {"no": marks[Timing.NO_OVERLAP], "short": marks[Timing.SHORT_OVERLAP], "long": marks[Timing.LONG_OVERLAP]}
    assert {mark: count / 4000 for mark, count in found.items()} == pytest.approx(expected, abs=0.02)


def test_simulated_times_are_the_same_for_the_same_seed() -> None:
    first, second = (simulate_times(CHAT, np.random.default_rng(5)) for _ in range(2))
    assert first == second
    assert first != simulate_times(CHAT, np.random.default_rng(6))


def test_only_what_was_spoken_gets_times() -> None:
    metas: list[dict[str, str]] = [
        {"corpus": "annomi"},
        {"corpus": "authored", "channel": "phone"},
        {"corpus": "authored", "channel": "chat"},
        {"corpus": "star"},
    ]
    conversations = [Conversation(CHAT.turns, id=str(number), meta=meta) for number, meta in enumerate(metas)]
    timed = with_times(conversations, np.random.default_rng(0))
    assert [conversation.turns[0].start is not None for conversation in timed] == [True, True, False, False]


@needs_corpora
def test_the_development_split_is_the_one_that_was_agreed() -> None:
    counts = Counter(
        conversation.meta["corpus"]
        for conversation in data.load_split("dev")
        for turn in conversation.turns
        if turn.labels is not None
    )
    splits = json.loads(data.SPLITS.read_text("utf-8"))
    agreed = {corpus: split["dev_turns"] for corpus, split in splits.items() if "dev_turns" in split}
    assert {corpus: counts[corpus] for corpus in agreed} == agreed


@needs_corpora
def test_training_and_development_share_no_conversation() -> None:
    train, dev = data.load_split("train"), data.load_split("dev")
    assert not {conversation.id for conversation in train} & {conversation.id for conversation in dev}
    meetings = [{str(it.id).split("/")[1] for it in split if it.meta["corpus"] == "mrda"} for split in (train, dev)]
    assert not meetings[0] & meetings[1]


@needs_corpora
def test_esconv_has_all_the_turns_that_were_annotated() -> None:
    turns = [turn for chat in data.load_esconv() for turn in chat.turns if turn.labels is not None]
    assert len(turns) == len((FOLDER / "esconv.jsonl").read_text("utf-8").splitlines())
    assert not any(" ?" in turn.text for turn in turns)


@needs_corpora
def test_switchboard_is_judged_on_open_questions_and_paraphrases() -> None:
    calls = data.load_switchboard()
    assert len({call.id for call in calls}) == len(calls) == 2 * 263
    assert sum(len(call.annotated_turns) for call in calls) == 22_871
    labels = Counter(label for call in calls for turn in call.turns for label in turn.labels or ())
    assert labels == {"open_question": 140, "paraphrase": 214}
    assert not any(set("<>*()") & set(turn.text) for call in calls for turn in call.turns)


@needs_corpora
def test_annomis_experts_speak_of_every_therapist_turn_of_the_test_interviews() -> None:
    interviews = data.load_annomi_experts()
    assert {it.id for it in interviews} == set(json.loads(data.SPLITS.read_text("utf-8"))["annomi"]["test"])
    assert all(interview.annotated_turns == interview.agent_turns for interview in interviews)
    with pytest.raises(TrainingError, match="not to be trained on"):
        data.check_none_held_out(interviews)
