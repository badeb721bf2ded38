"""Files of the world become conversations, or a sentence that says what is wrong and where."""

import io
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from listening_clf import Conversation, TranscriptError, Turn
from listening_clf.conversation import MAX_TURN_CHARS
from listening_clf.encoding import Timing, timing_of
from listening_clf.transcripts import read, read_located

Write = Callable[[str, str | bytes], str]

EXAMPLE = Path(__file__).parent.parent / "examples" / "call.vtt"
HELLO = '{"turns": [{"speaker": "agent", "text": "Hello."}]}'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file into the working folder, and gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str | bytes) -> str:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


def vtt(*cues: str) -> str:
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def jsonl(**turn: object) -> str:
    return json.dumps({"turns": [turn]})


def error_of(path: str, agent: str | None = None) -> str:
    with pytest.raises(TranscriptError) as caught:
        list(read(path, agent=agent))
    return str(caught.value)


def turns_of(path: str, agent: str | None = None) -> tuple[Turn, ...]:
    (conversation,) = read(path, agent=agent)
    return conversation.turns


def labels_of(path: str, labels: tuple[str, ...] = ("summary", "reflection")) -> list[tuple[object, object]]:
    """The labels of each agent turn, and those that nobody looked for."""
    turns = [conversation.turns[i] for conversation in read(path, labels=labels) for i in conversation.agent_turns]
    return [(turn.labels, turn.unlabelled) for turn in turns]


def texts_of(path: str) -> list[str]:
    return [turn.text for turn in turns_of(path)]


# WebVTT


def test_a_cue_is_a_turn_with_its_voice_and_its_times_in_seconds(write: Write) -> None:
    path = write(
        "call.vtt", vtt("00:01.500 --> 00:02.000\n<v Customer>It leaks.", "01:00:02.250 --> 01:00:03.000\n<v Agent>Oh.")
    )
    assert turns_of(path) == (Turn("customer", "It leaks.", 1.5, 2.0), Turn("agent", "Oh.", 3602.25, 3603.0))


def test_consecutive_cues_of_one_side_are_one_turn(write: Write) -> None:
    path = write(
        "call.vtt",
        vtt(
            "00:01.000 --> 00:09.000\n<v Dana>Let me",
            "00:02.000 --> 00:03.000\n<v Dana>look.",
            "00:09.500 --> 00:10.000\n<v Mr Lee>Thanks",
            "00:10.000 --> 00:11.000\n<v Mrs Lee>a lot.",
        ),
    )
    assert turns_of(path, agent="dana") == (
        Turn("agent", "Let me look.", 1.0, 9.0),
        Turn("customer", "Thanks a lot.", 9.5, 11.0),
    )


def test_tags_character_references_and_line_breaks_are_no_words(write: Write) -> None:
    path = write(
        "call.vtt", vtt("1\n00:01.000 --> 00:02.000 align:middle\n<v.loud Agent>Terms <i>&amp;</i>\nconditions</v>")
    )
    assert texts_of(path) == ["Terms & conditions"]


def test_notes_styles_regions_and_empty_cues_say_nothing(write: Write) -> None:
    cues = (
        "NOTE two\nlines",
        "STYLE\n::cue {}",
        "00:01.000 --> 00:02.000\n<v Customer></v>",
        "00:02.000 --> 00:03.000\n<v Agent>Hi.",
    )
    assert texts_of(write("call.vtt", vtt(*cues))) == ["Hi."]


def test_voices_that_share_a_cue_do_not_seem_to_talk_over_each_other(write: Write) -> None:
    path = write("call.vtt", vtt("00:01.000 --> 00:05.000\n<v Customer>It leaks.</v>\n<v Agent>I see.</v>"))
    turns = turns_of(path)
    assert turns == (Turn("customer", "It leaks.", start=1.0), Turn("agent", "I see.", end=5.0))
    assert timing_of(turns, 1) is Timing.UNKNOWN


def test_the_example_is_two_minutes_with_one_cut_off_customer() -> None:
    turns = turns_of(str(EXAMPLE))
    assert 110 < (turns[-1].end or 0) < 140
    cut_off = [
        agent.text
        for index, (customer, agent) in enumerate(pairwise(turns), start=1)
        if customer.text.endswith("-") and timing_of(turns, index) is Timing.LONG_OVERLAP
    ]
    assert cut_off == ["Sorry, which number did you ring?"]


# JSONL


def test_jsonl_is_read_as_conversations_write_it(write: Write) -> None:
    conversations = [
        Conversation(
            (Turn("customer", "Hi.", 0.0, 1.0), Turn("agent", "Hello!", 0.9, 2.0, ("summary",))),
            "a",
            ("reflection",),
            {"channel": "phone"},
        ),
        Conversation((Turn("agent", "é"),), "b"),
    ]
    path = write("calls.jsonl", "\n\n".join(json.dumps(conversation.to_dict()) for conversation in conversations))
    assert list(read(path)) == conversations


def test_speakers_in_jsonl_may_have_names(write: Write) -> None:
    path = write(
        "calls.ndjson", '{"turns": [{"speaker": "Kim", "text": "Hi."}, {"speaker": "DANA", "text": "Hello."}]}'
    )
    assert [turn.speaker for turn in turns_of(path, agent="Dana")] == ["customer", "agent"]


def test_agent_and_customer_may_be_written_in_any_case(write: Write) -> None:
    path = write(
        "calls.jsonl", '{"turns": [{"speaker": "Customer", "text": "Hi."}, {"speaker": "AGENT", "text": "Hi."}]}'
    )
    assert [turn.speaker for turn in turns_of(path)] == ["customer", "agent"]


def test_jsonl_is_read_line_by_line(write: Write) -> None:
    conversations = read(write("calls.jsonl", f"{HELLO}\n" + "{broken"))
    assert next(conversations).turns[0].text == "Hello."
    with pytest.raises(TranscriptError):
        next(conversations)


# CSV


def test_csv_rows_with_a_speaker_are_turns(write: Write) -> None:
    path = write(
        "calls.csv",
        "Conversation,Speaker,Text,Start,End\n"
        'a,customer,"It leaks,\nbadly.",0,1.5\n'
        "a,agent,I see.,2,\n"
        "b,agent,Hello.,,\n",
    )
    assert list(read(path)) == [
        Conversation((Turn("customer", "It leaks,\nbadly.", 0.0, 1.5), Turn("agent", "I see.", 2.0)), id="a"),
        Conversation((Turn("agent", "Hello."),), id="b"),
    ]


def test_csv_without_a_conversation_column_is_one_conversation(write: Write) -> None:
    path = write("call.csv", "speaker,text\r\nKim,It leaks.\r\nDana,I see.\r\n")
    assert turns_of(path, agent="Dana") == (Turn("customer", "It leaks."), Turn("agent", "I see."))


def test_csv_rows_without_a_speaker_are_agent_turns_by_themselves(write: Write) -> None:
    path = write("turns.csv", "text,context\nSo it leaks.,It leaks.\nHello.,\n")
    assert [conversation.turns for conversation in read(path)] == [
        (Turn("customer", "It leaks."), Turn("agent", "So it leaks.")),
        (Turn("agent", "Hello."),),
    ]


# A single agent turn a line


def test_a_line_of_jsonl_with_a_text_and_no_turns_is_an_agent_turn(write: Write) -> None:
    lines = [
        {"text": "So it leaks.", "context": "It leaks.", "start": 2.0, "turns": None},
        {"text": "Hello.", "context": " ", "speaker": "Agent"},
        {"text": "Hello."},
    ]
    path = write("turns.jsonl", "\n".join(map(json.dumps, lines)))
    assert [conversation.turns for conversation in read(path)] == [
        (Turn("customer", "It leaks."), Turn("agent", "So it leaks.", 2.0)),
        (Turn("agent", "Hello."),),
        (Turn("agent", "Hello."),),
    ]


def test_the_context_of_a_line_may_be_turns_with_the_names_of_the_file(write: Write) -> None:
    context = [{"speaker": "Kim", "text": "It leaks.", "end": 3}, {"speaker": "DANA", "text": "Oh."}]
    path = write("turns.jsonl", json.dumps({"text": "Since when?", "context": context}))
    assert turns_of(path, agent="Dana") == (
        Turn("customer", "It leaks.", end=3),
        Turn("agent", "Oh."),
        Turn("agent", "Since when?"),
    )


def test_turns_of_one_conversation_have_its_id_and_others_their_place(write: Write) -> None:
    paths = (
        write("a.jsonl", '{"text": "Hi.", "conversation": 7}\n{"text": "Hi.", "id": "x"}\n{"text": "Hi."}'),
        write("b.csv", "text,conversation\nHi.,7\nHi.,7\nHi.,\n"),
    )
    ids = [conversation.id for path in paths for conversation in read(path)]
    assert ids == ["7", "x", "a.jsonl:3", "7", "7", "b.csv:4"]


# Labels


def test_a_label_may_have_a_key_of_its_own(write: Write) -> None:
    lines = [
        {"text": "Hi.", "summary": 1, "reflection": False},
        {"text": "Hi.", "summary": 0.0, "reflection": None},
        {"text": "Hi.", "summary": None},
        {"text": "Hi.", "labels": ["summary"], "unlabelled": ["reflection"]},
        {"turns": [{"speaker": "agent", "text": "Hi.", "reflection": "yes", "unlabelled": ["paraphrase"]}]},
    ]
    assert labels_of(write("turns.jsonl", "\n".join(map(json.dumps, lines)))) == [
        (("summary",), ()),
        ((), ("reflection",)),
        (None, ()),
        (("summary",), ("reflection",)),
        (("reflection",), ("paraphrase", "summary")),
    ]


@pytest.mark.parametrize(
    ("header", "row"), [("text,Summary,{}\n", "Hi.,{},{}\n"), ("speaker,text,Summary,{}\n", "agent,Hi.,{},{}\n")]
)
def test_a_label_may_have_a_column_in_either_shape_of_csv(write: Write, header: str, row: str) -> None:
    cells = [("1", "0"), ("yes", "TRUE"), ("No", " "), ("", ""), ("0.0", "1.0")]
    path = write("turns.csv", header.format("reflection") + "".join(row.format(*pair) for pair in cells))
    assert labels_of(path) == [
        (("summary",), ()),
        (("summary", "reflection"), ()),
        ((), ("reflection",)),
        (None, ()),
        (("reflection",), ()),
    ]


def test_a_label_without_a_column_is_unknown(write: Write) -> None:
    assert labels_of(write("turns.csv", "text,summary\nHi.,0\n")) == [((), ("reflection",))]


def test_without_names_of_labels_no_column_is_one(write: Write) -> None:
    paths = write("turns.csv", "text,summary\nHi.,0.97\n"), write("turns.jsonl", '{"text": "Hi.", "summary": 1}')
    for path in paths:
        assert labels_of(path, labels=()) == [(None, ())]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.csv",
            "text,summary\nHi.,1\nHi.,2\n",
            "line 3: 'summary' must be 1 or 0, or empty where nobody looked, not '2'",
        ),
        ("a.csv", "speaker,text,summary\nagent,Hi.,x\n", "line 2: 'summary' must be 1 or 0, or empty"),
        ("a.csv", "text,summary,SUMMARY\nHi.,1,1\n", "line 1: the header has the column 'summary' twice"),
        ("a.jsonl", '{"text": "Hi.", "summary": "maybe"}', "line 1: 'summary' must be 1 or 0, or empty"),
        (
            "a.jsonl",
            '{"turns": [{"speaker": "agent", "text": "Hi.", "summary": [1]}]}',
            "line 1: turn 0: 'summary' must be 1 or 0, or empty where nobody looked, not '[1]'",
        ),
        (
            "a.jsonl",
            '{"text": "Hi.", "labels": [], "summary": 1}',
            "line 1: both 'labels' and 'summary' say what the labels are: leave one of them out",
        ),
        (
            "a.jsonl",
            '{"text": "Hi.", "summary": 1, "unlabelled": 5}',
            "line 1: unlabelled must be a list of label names",
        ),
        ("a.jsonl", '{"text": "Hi.", "labels": "summary"}', "line 1: labels must be a list of label names"),
    ],
)
def test_labels_that_cannot_be_read_are_one_sentence(write: Write, name: str, content: str, problem: str) -> None:
    with pytest.raises(TranscriptError) as caught:
        list(read(write(name, content), labels=("summary",)))
    assert str(caught.value).startswith(f"{name}, {problem}")


# What else a file says


def test_other_columns_and_keys_are_what_the_file_says_of_the_conversation(write: Write) -> None:
    paths = (
        write("a.jsonl", '{"text": "Hi.", "channel": "phone", "summary": 1, "reflection": null}'),
        write("b.csv", "text,channel,summary,style\nHi.,phone,1,\n"),
        write("c.csv", "speaker,text,channel,summary,row\ncustomer,Hi.,phone,,1\nagent,Hi.,phone,1,2\n"),
    )
    for path in paths:
        (conversation,) = read(path, labels=("summary", "reflection"))
        assert conversation.meta == {"channel": "phone"}


def test_no_column_takes_the_place_of_a_conversations_own_keys(write: Write) -> None:
    (conversation,) = read(write("a.csv", "text,id,turns,conversation\nHi.,3,4,c\n"))
    assert conversation.to_dict() == {"id": "c", "turns": [{"speaker": "agent", "text": "Hi."}]}


# Where it stands


def test_each_turn_knows_its_line(write: Write) -> None:
    paths = (
        write("a.csv", 'conversation,speaker,text\na,customer,"It\nleaks."\na,agent,I see.\nb,agent,Hello.\n'),
        write("b.csv", "text,context\nHi.,Hello.\n"),
        write("c.jsonl", f"\n{HELLO}"),
        write("d.vtt", vtt(f"{AT}<v Agent>Let me", f"{AT}<v Agent>look.", f"{AT}<v Customer>Hm.")),
    )
    places = [[str(place) for place in located.places] for path in paths for located in read_located(path)]
    assert places == [
        ["a.csv, line 2", "a.csv, line 4"],
        ["a.csv, line 5"],
        ["b.csv, line 2", "b.csv, line 2"],
        ["c.jsonl, line 2"],
        ["d.vtt, line 3", "d.vtt, line 9"],
    ]


def test_turns_of_one_line_are_told_apart_by_their_index(write: Write) -> None:
    turns = [{"speaker": "agent", "text": "Hi."}, {"speaker": "agent", "text": "Hello."}]
    path = write("a.jsonl", json.dumps({"turns": turns}) + '\n{"text": "Hi.", "context": "Hello."}')
    several, single = read_located(path)
    assert (several.where(1), single.where(1)) == ("a.jsonl, line 1: turn 1", "a.jsonl, line 2")


# Any format


@pytest.mark.parametrize("name", ["call.txt", "call"])
@pytest.mark.parametrize(
    "content",
    [vtt("00:01.000 --> 00:02.000\n<v Agent>Hello."), HELLO, "speaker,text\nagent,Hello.\n", "text\nHello.\n"],
)
def test_without_a_known_suffix_the_first_line_tells_the_format(write: Write, name: str, content: str) -> None:
    assert texts_of(write(name, content)) == ["Hello."]


def test_standard_input_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(HELLO.encode())))
    assert texts_of("-") == ["Hello."]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.vtt", vtt("00:01.000 --> 00:02.000\n<v Agent>Hello.")), ("a.jsonl", HELLO), ("a.csv", "text\nHello.")],
)
def test_a_byte_order_mark_is_passed_over(write: Write, name: str, content: str) -> None:
    assert texts_of(write(name, content.encode("utf-8-sig"))) == ["Hello."]


def test_a_conversation_without_an_id_is_called_by_its_place(write: Write) -> None:
    paths = (
        write("a.vtt", vtt("00:01.000 --> 00:02.000\n<v Agent>Hi.")),
        write("b.jsonl", f"\n{HELLO}"),
        write("c.csv", "text\nHi."),
    )
    assert [conversation.id for path in paths for conversation in read(path)] == ["a.vtt", "b.jsonl:2", "c.csv:2"]


def test_on_bad_hears_of_each_bad_conversation_and_the_rest_is_read(write: Write) -> None:
    lines = [HELLO] * 10
    lines[6] = "{broken"
    bad: list[TranscriptError] = []
    assert len(list(read(write("calls.jsonl", "\n".join(lines)), on_bad=bad.append))) == 9
    assert [str(error) for error in bad] == [
        "calls.jsonl, line 7: broken JSON at column 2 (Expecting property name enclosed in double quotes)"
    ]


def test_a_line_of_jsonl_that_is_not_utf_8_spoils_only_itself(write: Write) -> None:
    bad: list[TranscriptError] = []
    path = write("calls.jsonl", b'{"turns": "\xe9"}\n' + HELLO.encode())
    assert len(list(read(path, on_bad=bad.append))) == 1
    assert len(bad) == 1


def test_on_bad_hears_of_a_bad_file(write: Write) -> None:
    bad: list[TranscriptError] = []
    assert list(read(write("calls.vtt", ""), on_bad=bad.append)) == []
    assert [str(error) for error in bad] == ["calls.vtt: the file is empty"]


AT = "00:01.000 --> 00:02.000\n"
TOO_LONG = "a" * (MAX_TURN_CHARS + 1)
LIMIT = "the text has 20,001 characters; a turn may have at most 20,000"
NO_SIDES = "the speakers are 'Dana', 'Kim': say which one is the agent with --agent NAME"
NOT_UTF8 = "is not UTF-8: save the file as UTF-8"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("\n \n", ": the file is empty"),
        ("Hello", ", line 1: a WebVTT file must begin with the line WEBVTT"),
        (f"WEBVTT\n{AT}<v Agent>Hi.", ", line 1: a blank line must follow the header"),
        (vtt(), ": there are no turns"),
        (
            vtt("00:01.000 --> 00:0x.000\n<v Agent>Hi."),
            ", line 3: '00:01.000 --> 00:0x.000' must be times like 00:01:02.500 --> 00:01:04.000",
        ),
        (
            vtt("a name\n00:61.000 --> 01:02.000\n<v Agent>Hi."),
            ", line 4: '00:61.000 --> 01:02.000' must be times like 00:01:02.500 --> 00:01:04.000",
        ),
        (
            vtt("00:02.000 --> 00:01.000\n<v Agent>Hi."),
            ", line 3: the cue ends at 1.0 s, before its start at 2.0 s",
        ),
        (
            vtt(f"{AT}<v Agent>Hi.", "00:00.500 --> 00:03.000\n<v Agent>Hi."),
            ", line 6: the cue starts at 0.5 s, before the cue above it (1.0 s): sort the cues",
        ),
        (
            vtt(f"{AT}<v Agent>Hi.\n{AT}<v Agent>Hi."),
            ", line 5: a second --> in one cue: a blank line must stand between cues",
        ),
        (
            vtt(f"{AT}<v Agent>Hi.", "How are you?"),
            ", line 6: neither a cue with its times nor a NOTE, STYLE or REGION",
        ),
        (vtt(f"{AT}Hi."), ", line 3: no voice says 'Hi.': put <v NAME> before the words"),
        (vtt(f"{AT}<v Agent>Hi.</v> Bye."), ", line 3: no voice says 'Bye.': put <v NAME> before the words"),
        (vtt(f"{AT}<v Dana>Hi.", f"{AT}<v Kim>Hi."), f": {NO_SIDES}"),
        (vtt(f"{AT}<v Customer>Hi."), ": no agent turn: the speakers are 'Customer'"),
        (vtt(f"{AT}<v Agent>{TOO_LONG}"), f", line 3: {LIMIT}"),
        (vtt(f"{AT}<v Agent>é").encode("latin-1"), f", line 4: byte 10 of the line (0xe9) {NOT_UTF8}"),
    ],
)
def test_a_bad_webvtt_file_is_one_sentence(write: Write, content: str | bytes, problem: str) -> None:
    assert error_of(write("bad.vtt", content)) == f"bad.vtt{problem}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"turns": [}', "broken JSON at column 12 (Expecting value)"),
        ('{"turns": [{"speaker": "agent"', "broken JSON at column 31 (Expecting ',' delimiter)"),
        ("[" * 100_000, "broken JSON (nested too deep)"),
        (
            jsonl(speaker="agent", text="Hi.", start=math.nan),
            "broken JSON (NaN is no JSON number: leave out what is not known)",
        ),
        ("[1]", "a conversation must be an object with 'turns', not [1]"),
        ('{"turns": 5}', "turns must be a list of turns, not 5"),
        ('{"turns": []}', "there are no turns"),
        (jsonl(text="Hi."), "turn 0: a turn must be an object with a 'speaker' and a 'text', both strings"),
        (jsonl(speaker="agent", text=""), "turn 0: the text is empty: leave the turn out, or give it words"),
        (jsonl(speaker="agent", text=TOO_LONG), f"turn 0: {LIMIT}"),
        (
            jsonl(speaker="agent", text="Hi.", start=-1),
            "turn 0: start must be a number of seconds from 0 to 10,000,000,000, not -1",
        ),
        (jsonl(speaker="agent", text="Hi.", start=2, end=1), "turn 0: the turn ends at 1 s, before its start at 2 s"),
        (jsonl(speaker="customer", text="Hi."), "no agent turn: the speakers are 'customer'"),
        (jsonl(speaker="Dana", text="Hi."), "the speakers are 'Dana': say which one is the agent with --agent NAME"),
        (b'{"turns": "\xe9"}', f"byte 12 of the line (0xe9) {NOT_UTF8}"),
        ('{"words": "Hi."}', "neither a conversation with 'turns' nor an agent turn with a 'text', but 'words'"),
        ('{"text": 5}', "the text must be a string, not 5"),
        (
            jsonl(speaker="customer", text="Hi.").removeprefix('{"turns": [').removesuffix("]}"),
            "a 'text' without 'turns' is the agent's, not that of 'customer': "
            "put the turns of a conversation into 'turns'",
        ),
        ('{"text": "Hi.", "context": 5}', "context: turns must be a list of turns, not 5"),
        (
            '{"text": "Hi.", "context": [{"text": "Hi."}]}',
            "context: turn 0: a turn must be an object with a 'speaker' and a 'text', both strings",
        ),
    ],
)
def test_a_bad_line_of_jsonl_is_one_sentence(write: Write, content: str | bytes, problem: str) -> None:
    assert error_of(write("bad.jsonl", content)) == f"bad.jsonl, line 1: {problem}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", ": the file is empty"),
        ("speaker,text\n", ": the file has no conversation, only a header"),
        (
            "who,what\nagent,Hi.",
            ", line 1: a CSV needs a column 'text', and 'speaker' for turns of both sides, but has 'who, what'",
        ),
        ("text,text\nHi.,Hi.", ", line 1: the header has the column 'text' twice"),
        ("speaker,text\nagent,Hi, you.", ", line 2: the row has 3 cells, the header has 2"),
        ('speaker,text\nagent,Hi.\nagent,"Hi.', ", line 3: broken CSV (unexpected end of data)"),
        ("speaker,text,start\nagent,Hi.,0:03", ", line 2: start must be a number of seconds, not '0:03'"),
        (
            "speaker,text,start\nagent,Hi.,nan",
            ", line 2: start must be a number of seconds from 0 to 10,000,000,000, not nan",
        ),
        ("speaker,text\nagent,Hi.\n,Hi.", ", line 3: the row has no speaker"),
        ("speaker,text\nDana,Hi.\nKim,Hi.", f", line 2: {NO_SIDES}"),
        ("speaker,text\ncustomer,Hi.", ", line 2: no agent turn: the speakers are 'customer'"),
        (
            "conversation,speaker,text\n,agent,Hi.",
            ", line 2: the row has no conversation: name one, or leave the column out",
        ),
        ("text\n  \n", ", line 2: the text is empty: leave the turn out, or give it words"),
        (f"text,context\nHi.,{TOO_LONG}", f", line 2: {LIMIT}"),
        ("text\nHi.".encode("utf-16"), f", line 1: byte 1 of the line (0xff) {NOT_UTF8}"),
    ],
)
def test_a_bad_csv_file_is_one_sentence(write: Write, content: str | bytes, problem: str) -> None:
    assert error_of(write("bad.csv", content)) == f"bad.csv{problem}"


def test_a_conversation_that_goes_on_after_others_is_refused(write: Write) -> None:
    path = write("calls.csv", "conversation,speaker,text\na,agent,Hi.\nb,agent,Hi.\na,agent,Hi.")
    bad: list[TranscriptError] = []
    assert [conversation.id for conversation in read(path, on_bad=bad.append)] == ["a", "b"]
    assert [str(error) for error in bad] == [
        "calls.csv, line 4: conversation 'a' goes on after others: keep its rows together"
    ]


def test_an_agent_who_is_not_there_is_named_with_those_who_are(write: Write) -> None:
    path = write("calls.csv", "speaker,text\nKim,Hi.\nLee,Hi.")
    assert error_of(path, agent="Dana").endswith(
        "no agent turn: nobody is called 'Dana', the speakers are 'Kim', 'Lee'"
    )


def test_of_many_speakers_only_some_are_named(write: Write) -> None:
    path = write("calls.csv", "speaker,text\n" + "".join(f"{name},Hi.\n" for name in "ABCDEFG"))
    assert "the speakers are 'A', 'B', 'C', 'D', 'E' and 2 more: say which" in error_of(path)


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.vtt"
    assert error_of(str(missing)) == f"{missing}: cannot be read (No such file or directory)"
    assert error_of(str(tmp_path)) == f"{tmp_path}: cannot be read (Is a directory)"
