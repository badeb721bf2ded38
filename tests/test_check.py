"""The check of labelled data: what is wrong with it is found, with its place, and nothing else is."""

import io
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tokenizers import Tokenizer

from listening_clf import Conversation, Label, TranscriptError, Turn
from listening_clf.encoding import Encoder, EncodingSettings
from listening_clf.finetune.check import check, check_sources
from listening_clf.finetune.findings import Balance, Finding, Findings, Kind, Severity, print_findings

LABELS = ("open_question", "summary")


@pytest.fixture(scope="module")
def tokenizer(bundled_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(bundled_folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def encoder(tokenizer: Tokenizer) -> Encoder:
    return Encoder(tokenizer, EncodingSettings(context_tokens=32, max_length=64))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def good(split: str) -> list[Conversation]:
    """Data in which there is nothing to find: other words in each split, and enough of each label."""
    labels: list[tuple[str, ...]] = [("open_question",), ("summary",), ()]
    return [
        Conversation(
            (
                Turn("customer", f"It leaks, {split} {number}."),
                Turn("agent", f"Since when, {split} {number}?", labels=labels[number % 3]),
            ),
            f"{split}-{number}",
        )
        for number in range(30)
    ]


def agent(text: str, *labels: str, unlabelled: tuple[str, ...] = (), id: str | None = None) -> Conversation:
    return Conversation((Turn("agent", text, labels=labels),), id, unlabelled)


def call(before: str, text: str, *labels: str, id: str | None = None) -> Conversation:
    return Conversation((Turn("customer", before), Turn("agent", text, labels=labels)), id)


def found(
    encoder: Encoder,
    kind: Kind,
    train: Sequence[Conversation] = (),
    dev: Sequence[Conversation] = (),
    labels: Sequence[str] = LABELS,
) -> list[str]:
    """What is found of a kind, when this is added to good data."""
    findings = check([*good("train"), *train], [*good("dev"), *dev], labels, encoder)
    return [finding.message for finding in findings.findings if finding.kind is kind]


def in_file(name: str, content: str) -> str:
    Path(name).write_text(content)
    return name


def jsonl(name: str, conversations: Sequence[Conversation]) -> str:
    return in_file(name, "\n".join(json.dumps(conversation.to_dict()) for conversation in conversations))


def test_in_good_data_nothing_is_found(encoder: Encoder) -> None:
    findings = check(good("train"), good("dev"), LABELS, encoder)
    assert findings.findings == ()
    assert not findings.has_errors


def test_the_balance_counts_what_is_known_of_each_label(encoder: Encoder) -> None:
    train = [agent("Hi.", "summary", unlabelled=("open_question",)), Conversation((Turn("agent", "Not annotated."),))]
    findings = check([*good("train"), *train], good("dev"), LABELS, encoder)
    assert findings.train == {"open_question": Balance(10, 30, 1), "summary": Balance(11, 31, 0)}
    assert findings.dev == {label: Balance(10, 30, 0) for label in LABELS}


# the same input


def test_an_input_that_is_in_train_and_in_dev_is_named_with_both_places(encoder: Encoder) -> None:
    train, dev = call("It leaks a lot.", "Since when?", id="a"), call("it  LEAKS a lot.", "Since when?", id="b")
    assert found(encoder, Kind.SHARED_INPUT, [train], [dev]) == [
        "conversation 'b': 'Since when?' with the same turns before it is in train, too: conversation 'a'"
    ]


def test_the_same_words_after_other_words_are_another_input(encoder: Encoder) -> None:
    train, dev = call("It leaks a lot.", "Since when?"), call("It is broken.", "Since when?")
    assert found(encoder, Kind.SHARED_INPUT, [train], [dev]) == []


def test_a_greeting_in_train_and_in_dev_shows_nothing(encoder: Encoder) -> None:
    short, long = agent("How can I help?"), agent("How can I help you today, Kim?")
    assert found(encoder, Kind.SHARED_INPUT, [short], [short]) == []
    assert len(found(encoder, Kind.SHARED_INPUT, [long], [long])) == 1


def test_times_do_not_make_another_input_of_the_same_words(encoder: Encoder) -> None:
    plain = call("It leaks a lot.", "Since when?")
    timed = replace(plain, turns=(replace(plain.turns[0], end=2.0), replace(plain.turns[1], start=1.0)))
    assert len(found(encoder, Kind.SHARED_INPUT, [plain], [timed])) == 1


def test_a_conversation_in_both_splits_is_found_once(encoder: Encoder) -> None:
    train, dev = [agent("Hi.", id="c")], [agent("Bye.", id="c"), agent("Oh.", id="c")]
    assert found(encoder, Kind.SHARED_CONVERSATION, train, dev) == [
        "conversation 'c': conversation 'c' is in train, too: conversation 'c'"
    ]


def test_labels_that_contradict_each_other_are_named_with_both_places(encoder: Encoder) -> None:
    train = [
        call("It leaks.", "Since when?", "open_question", id="a"),
        call("It leaks.", "Since when?", "open_question", id="b"),
        call("It leaks.", "Since when?", id="c"),
    ]
    assert found(encoder, Kind.CONFLICT, train) == [
        "conversation 'c': 'Since when?' has not the label 'open_question'; at conversation 'a' it has"
    ]


def test_what_is_unknown_contradicts_nothing(encoder: Encoder) -> None:
    train = [agent("Since when?", "open_question"), agent("Since when?", unlabelled=("open_question",))]
    assert found(encoder, Kind.CONFLICT, train) == []


def test_what_is_said_at_another_time_may_have_other_labels(encoder: Encoder) -> None:
    def said(start: float, *labels: str) -> Conversation:
        return Conversation((Turn("customer", "It leaks.", 0, 2), Turn("agent", "When?", start, labels=labels)))

    labels = (*LABELS, "interruption")
    assert found(encoder, Kind.CONFLICT, [said(1, "interruption"), said(2)], labels=labels) == []
    assert len(found(encoder, Kind.CONFLICT, [said(1, "interruption"), said(1.1)], labels=labels)) == 1


# names


def test_an_unknown_label_is_an_error_with_the_closest_one(encoder: Encoder) -> None:
    train = [agent("Hi.", "sumary", id="a"), agent("Hello.", "sumary", id="b"), agent("Hey.", "greeting", id="c")]
    assert found(encoder, Kind.UNKNOWN_LABEL, train) == [
        "conversation 'a' (and 1 more): unknown label 'sumary': is 'summary' meant?",
        "conversation 'c': unknown label 'greeting': the labels are open_question, summary; name others under "
        "`labels:` in the settings (--config)",
    ]
    assert check(train, good("dev"), LABELS, encoder).has_errors


def test_a_slip_in_unlabelled_is_found(encoder: Encoder) -> None:
    train = [agent("Hi.", unlabelled=("sumary", "interruption"), id="a")]
    assert found(encoder, Kind.UNKNOWN_UNLABELLED, train) == [
        "conversation 'a': 'unlabelled' names 'sumary', which is no label: is 'summary' meant?"
    ]


def test_a_column_that_looks_like_a_misspelt_label_is_found(encoder: Encoder) -> None:
    row = "agent,Hi.,{},{},{},{},0.5\n"
    content = "speaker,text,open question,resolved,version,summary,score\n"
    path = in_file("a.csv", content + row.format(1, 0, 1, 1) + row.format("", 1, 1, 0))
    findings = check_sources([path], [jsonl("dev.jsonl", good("dev"))], LABELS, encoder)
    assert [finding.message for finding in findings.findings if finding.kind is Kind.UNKNOWN_COLUMN] == [
        "a.csv: 'open question' holds only 1 and 0, but is no label: is 'open_question' meant?",
        "a.csv: 'resolved' holds only 1 and 0, but is no label: the labels are open_question, summary; name others "
        "under `labels:` in the settings (--config)",
    ]


def test_labels_on_a_customer_turn_are_found(encoder: Encoder) -> None:
    turns = (Turn("customer", "It leaks.", labels=("summary",)), Turn("agent", "Oh.", labels=()))
    assert found(encoder, Kind.CUSTOMER_LABEL, [Conversation(turns, "a")]) == [
        "conversation 'a': 'summary' on a customer turn, of which nothing is learned: 'It leaks.'"
    ]


# how much there is


def test_data_without_annotations_is_an_error_in_either_split(encoder: Encoder) -> None:
    nothing = [Conversation((Turn("agent", "Hi."),))]
    for train, dev, split in ((nothing, good("dev"), "train"), (good("train"), [], "dev")):
        (finding,) = check(train, dev, LABELS, encoder).of(Severity.ERROR)
        assert finding.kind is Kind.NOTHING_TO_LEARN
        assert finding.message.startswith(f"{split}: no agent turn is annotated")


def test_a_dev_set_without_any_label_is_an_error(encoder: Encoder) -> None:
    (finding,) = check(good("train"), [call("It leaks.", "Oh.")], LABELS, encoder).of(Severity.ERROR)
    assert finding.message == "dev: no turn has a label: there is nothing to choose thresholds by"


@pytest.mark.parametrize(
    ("train", "dev", "messages"),
    [
        ([], [], ["train: no turn has 'new': it cannot be learned", "dev: no turn has 'new': no threshold can be"]),
        ([agent("Hi.", "new")] * 9, [agent("Hi.", "new")] * 10, ["train: only 9 of 39 turns have 'new': it takes 10"]),
        ([agent("Hi.", "new")] * 10, [], ["dev: no turn has 'new': no threshold can be chosen for it"]),
    ],
)
def test_a_label_that_is_hardly_there_is_found(
    encoder: Encoder, train: list[Conversation], dev: list[Conversation], messages: list[str]
) -> None:
    labelled = found(encoder, Kind.RARE_LABEL, train, dev, (*LABELS, "new"))
    assert len(labelled) == len(messages)
    for message, beginning in zip(labelled, messages, strict=True):
        assert message.startswith(beginning)


def test_a_label_that_nobody_looked_for_or_that_is_never_absent_is_found(encoder: Encoder) -> None:
    train = [replace(conversation, unlabelled=("summary",)) for conversation in good("train")]
    train += [agent(f"Hi {number}.", "always", unlabelled=LABELS) for number in range(20)]
    train = [
        replace(conversation, unlabelled=(*conversation.unlabelled, "always")) if conversation.id else conversation
        for conversation in train
    ]
    findings = check(train, good("dev"), (*LABELS, "always"), encoder)
    assert [finding.message for finding in findings.findings if finding.message.startswith("train: nobody")] == [
        "train: nobody looked for 'summary': it cannot be learned"
    ]
    assert "train: every turn of which it is known has 'always': write 0 where it was looked for and is not there" in {
        finding.message for finding in findings.findings
    }


def test_turns_without_context_are_counted_in_one_note(encoder: Encoder) -> None:
    (note,) = found(encoder, Kind.NO_CONTEXT, [agent(f"Oh, number {number}.") for number in range(10)])
    assert note == "train: 10 (25%) of 40 annotated turns are read without a turn before them"


def test_a_turn_that_is_cut_and_contexts_that_are_full_are_found(encoder: Encoder) -> None:
    train = [call("It leaks.", "word " * 100, id="a"), call("word " * 40, "Oh."), call("word " * 20, "Oh.")]
    (cut,) = found(encoder, Kind.CUT_TURN, train)
    assert cut.startswith("conversation 'a': the turn alone fills the 64 tokens that are read")
    (note,) = found(encoder, Kind.CUT_CONTEXT, train)
    assert note.startswith("train: 1 (3%) of 33 annotated turns fill their 32 tokens of context")


# sources


def test_what_cannot_be_read_is_found_with_its_line_and_the_rest_is_checked(encoder: Encoder) -> None:
    train = jsonl("train.jsonl", good("train"))
    with Path(train).open("a") as file:
        file.write('\n{"turns": [{"text": "Hi."}]}\n{"turns": [{"speaker": "customer", "text": "Hi."}]}')
    dev = in_file("dev.csv", "text,summary\nSo it leaks.,maybe\nTo recap it all.,1\n")
    findings = check_sources([train, "missing.csv"], [dev], LABELS, encoder)
    assert [finding.message for finding in findings.of(Severity.ERROR)] == [
        "train.jsonl, line 31: turn 0: a turn must be an object with a 'speaker' and a 'text', both strings",
        "train.jsonl, line 32: no agent turn: the speakers are 'customer'",
        "missing.csv: cannot be read (No such file or directory)",
        "dev.csv, line 2: 'summary' must be 1 or 0, or empty where nobody looked, not 'maybe'",
    ]
    assert findings.train["summary"].positive == 10


def test_findings_name_the_line_of_the_turn(encoder: Encoder) -> None:
    rows = "conversation,speaker,text,summary\n{0},customer,It leaks.,\n{0},agent,So it leaks a lot.,{1}\n"
    train, dev = in_file("train.csv", rows.format("a", 1)), in_file("dev.csv", rows.format("b", 0))
    messages = {finding.kind: finding.message for finding in check_sources([train], [dev], LABELS, encoder).findings}
    assert messages[Kind.SHARED_INPUT].startswith("dev.csv, line 3: 'So it leaks a lot.' with the same turns before it")
    assert messages[Kind.SHARED_INPUT].endswith("is in train, too: train.csv, line 3")
    assert messages[Kind.CONFLICT] == (
        "dev.csv, line 3: 'So it leaks a lot.' has not the label 'summary'; at train.csv, line 3 it has"
    )


@pytest.mark.parametrize(
    ("column", "expected"), [("conversation", []), ("call", ["rows.csv, line 2: this and 1 more"])]
)
def test_rows_that_name_no_conversation_are_found(encoder: Encoder, column: str, expected: list[str]) -> None:
    path = in_file("rows.csv", f"{column},text,summary\n7,So it leaks a lot.,1\n7,Since when is that?,0\n")
    findings = check_sources([path], [jsonl("dev.jsonl", good("dev"))], LABELS, encoder).findings
    messages = [
        finding.message.partition(" name no")[0] for finding in findings if finding.kind is Kind.NO_CONVERSATION
    ]
    assert messages == expected


def test_without_a_dev_set_conversations_are_held_out(encoder: Encoder) -> None:
    findings = check_sources([jsonl("all.jsonl", good("train"))], [], LABELS, encoder, dev_share=0.2)
    assert (findings.train["summary"].known, findings.dev["summary"].known) == (24, 6)
    assert not findings.has_errors


def test_where_nothing_can_be_held_out_that_is_found(encoder: Encoder) -> None:
    path = jsonl("one.jsonl", [call("It leaks.", "Since when?", "open_question")])
    (finding,) = check_sources([path], [], LABELS, encoder).of(Severity.ERROR)
    assert finding.message.startswith("dev: 1 conversation(s) with annotated turns: to hold some out")


def test_labels_may_be_members_of_the_codebook(encoder: Encoder) -> None:
    messages = [finding.message for finding in check(good("train"), good("dev"), tuple(Label), encoder).findings]
    assert "train: no turn has 'reflection': it cannot be learned" in messages


def test_thousands_of_turns_that_are_all_the_same_take_seconds(encoder: Encoder) -> None:
    turns = [Turn("customer", "It leaks a lot."), Turn("agent", "Since when does it leak?", labels=())]
    contradicting = [turns[0], replace(turns[1], labels=("summary",))]
    train = [Conversation(tuple(turns if number % 2 else contradicting) * 10) for number in range(1000)]
    start = time.perf_counter()
    findings = check(train, train, LABELS, encoder)
    # What goes through all pairs of turns takes minutes.
    assert time.perf_counter() - start < 20
    assert len(findings.findings) > 10_000


# how it looks


def printed(findings: Findings) -> str:
    output = io.StringIO()
    print_findings(findings, Console(file=output, width=100))
    return output.getvalue()


def test_of_many_findings_of_a_kind_the_first_are_printed(encoder: Encoder) -> None:
    errors = [TranscriptError(f"a.csv, line {line}: the row has no speaker") for line in range(2, 127)]
    output = printed(check(good("train"), good("dev"), LABELS, encoder, unreadable=errors))
    assert output.count("the row has no speaker") == 5
    assert "error: cannot be read\n  a.csv, line 2:" in output
    assert "… and 120 more" in output


def test_the_balance_is_printed_as_a_table(encoder: Encoder) -> None:
    output = printed(check(good("train"), good("dev"), LABELS, encoder))
    assert "summary" in output
    assert output.splitlines()[-1].split() == ["summary", "10", "30", "0", "10", "30", "0"]


def test_markup_in_a_message_is_only_text() -> None:
    output = printed(Findings((Finding(Kind.CONFLICT, "a[/b].csv: '[bold]'"),), {}, {}))
    assert "a[/b].csv: '[bold]'" in output
