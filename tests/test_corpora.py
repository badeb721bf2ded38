"""The corpus readers, on archives of invented sentences."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pooch")

from listening_clf.encoding import Timing, timing_of
from listening_clf.errors import TrainingError
from training.corpora import annomi, archives, authored, esconv, mrda, multiwoz, star, switchboard
from training.corpora.archives import Archive, content_sha256
from training.corpora.text import mend_tokenised

Pack = Callable[[Archive, Mapping[str, str | bytes]], Archive]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Pack files as a local archive, in the form of GitHub's, and say by what hash they are known."""
    monkeypatch.setenv(archives.CORPORA_VARIABLE, str(tmp_path))

    def write(archive: Archive, files: Mapping[str, str | bytes]) -> Archive:
        contents = {path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()}
        with zipfile.ZipFile(tmp_path / f"{archive.name}.zip", "w") as file:
            file.mkdir(f"Repository-{archive.commit}")
            for path, content in contents.items():
                file.writestr(f"Repository-{archive.commit}/{path}", content)
        return replace(archive, sha256=content_sha256(contents))

    return write


TOY = Archive(name="someone-Toys-0123456", repository="someone/Toys", commit="0123456", sha256="", patterns=("toys/*",))


def test_an_archive_reads_the_files_of_its_patterns(pack: Pack, tmp_path: Path) -> None:
    archive = pack(TOY, {"toys/a": "ball", "toys/b": "kite"})
    with zipfile.ZipFile(tmp_path / f"{TOY.name}.zip", "a") as file:
        file.writestr(f"Repository-{TOY.commit}/README", "not read, so not hashed")
    assert archive.read() == {"toys/a": b"ball", "toys/b": b"kite"}


@pytest.mark.parametrize("files", [{"toys/a": "bell"}, {"toys/b": "ball"}, {"toys/a": "ball", "toys/b": ""}, {}])
def test_an_archive_with_other_files_is_refused(pack: Pack, files: dict[str, str]) -> None:
    archive = pack(TOY, {"toys/a": "ball"})
    pack(TOY, files)
    with pytest.raises(TrainingError, match=r"Toys-0123456\.zip: the \d files .* sha256 \w{64}, not \w{64}"):
        archive.read()


def test_an_archive_that_is_not_there_is_fetched_by_its_commit(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(TOY, {"toys/a": "ball"})
    monkeypatch.setenv(archives.CORPORA_VARIABLE, str(tmp_path / "elsewhere"))
    urls = []

    def retrieve(url: str, fname: str, **_: Any) -> str:
        urls.append(url)
        return str(tmp_path / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert archive.read() == {"toys/a": b"ball"}
    assert urls == ["https://github.com/someone/Toys/archive/0123456.zip"]


def test_annomi_keeps_one_row_an_utterance(pack: Pack) -> None:
    columns = ("transcript_id", "utterance_id", "interlocutor", "timestamp", "utterance_text", "annotator_id")
    table = io.StringIO()
    csv.writer(table).writerows(
        [
            columns,
            ("4", "0", "therapist", "00:00:01", "What made you  come?", "1"),
            ("4", "0", "therapist", "00:00:01", "What made you  come?", "2"),
            ("4", "1", "client", "00:00:04", "My sister, she said-", "1"),
            ("4", "1", "client", "00:00:04", "My sister, she said-", "2"),
            ("9", "0", "client", "00:00:00", "Hello.", "1"),
        ]
    )
    interview, other = annomi.read(pack(annomi.ARCHIVE, {"AnnoMI-full.csv": table.getvalue()}))
    assert (interview.id, other.id) == ("annomi/4", "annomi/9")
    assert [(turn.speaker, turn.text) for turn in interview.turns] == [
        ("agent", "What made you come?"),
        ("customer", "My sister, she said-"),
    ]
    assert all(turn.start is None and turn.labels is None for turn in interview.turns)


def test_annomi_has_what_the_first_expert_said_of_each_therapist_turn(pack: Pack) -> None:
    spoken = ("transcript_id", "utterance_id", "interlocutor", "utterance_text")
    table = io.StringIO()
    csv.writer(table).writerows(
        [
            (*spoken, "annotator_id", "reflection_exists", "question_subtype"),
            ("4", "0", "therapist", "What made you  come?", "1", "False", "open"),
            ("4", "0", "therapist", "What made you  come?", "2", "True", "closed"),
            ("4", "1", "client", "My sister, she said-", "1", "n/a", "n/a"),
            ("4", "2", "therapist", "She sent you. And then?", "1", "True", "open"),
            ("4", "3", "therapist", "So she was worried?", "1", "True", "closed"),
            ("4", "4", "therapist", "Take a seat.", "1", "False", "n/a"),
        ]
    )
    archive = pack(annomi.ARCHIVE, {"AnnoMI-full.csv": table.getvalue()})
    (interview,) = annomi.experts(archive)
    assert [turn.labels for turn in interview.turns] == [
        ("open_question",),
        None,
        ("reflects", "open_question"),
        ("reflects",),
        (),
    ]
    assert set(interview.unlabelled) == {"paraphrase", "reflection", "summary", "interruption"}
    (unlabelled,) = annomi.read(archive)
    assert [turn.text for turn in interview.turns] == [turn.text for turn in unlabelled.turns]
    assert (interview.id, interview.meta) == (unlabelled.id, unlabelled.meta)


def test_star_joins_what_one_side_says_in_a_row(pack: Pack) -> None:
    events = [
        {"Agent": "UserGuide", "Action": "instruct", "Text": "Greet the assistant."},
        {"Agent": "User", "Action": "utter", "Text": "Hi "},
        {"Agent": "Wizard", "Action": "request_suggestions", "Text": "hello"},
        {"Agent": "User", "Action": "utter", "Text": "A kayak, please."},
        {"Agent": "Wizard", "Action": "pick_suggestion", "Text": "For which day?"},
        {"Agent": "Wizard", "Action": "utter", "Text": "And how long?"},
    ]
    dialogue = json.dumps({"DialogueID": 12, "Events": events})
    (conversation,) = star.read(pack(star.ARCHIVE, {"dialogues/12.json": dialogue}))
    assert conversation.id == "star/12"
    assert [(turn.speaker, turn.text) for turn in conversation.turns] == [
        ("customer", "Hi A kayak, please."),
        ("agent", "For which day? And how long?"),
    ]


def test_multiwoz_has_the_customer_first_and_keeps_its_text(pack: Pack) -> None:
    def packed(part: str, name: str) -> bytes:
        log = [{"text": "Is the castle open ?"}, {"text": "It is n't , sorry ."}]
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as file:
            file.writestr(f"{part}.json", json.dumps({name: {"log": log}}))
        return content.getvalue()

    files = {
        "data/multiwoz/val.json.zip": packed("val", "MUL7"),
        "data/multiwoz/test.json.zip": packed("test", "SNG8.json"),
    }
    val, test = multiwoz.read(pack(multiwoz.ARCHIVE, files))
    assert (val.id, test.id) == ("multiwoz-val/MUL7", "multiwoz-test/SNG8")
    assert [(turn.speaker, turn.text) for turn in val.turns] == [
        ("customer", "Is the castle open ?"),
        ("agent", "It is n't , sorry ."),
    ]


def test_esconv_counts_lines_from_0(pack: Pack) -> None:
    chat = json.dumps({"dialog": [{"speaker": "usr", "text": "I lost it ."}, {"speaker": "sys", "text": "Oh no ."}]})
    files = {"MultiESC/data/valid.txt": f"{chat}\n{chat}\n", "MultiESC/data/test.txt": f"{chat}\n"}
    chats = list(esconv.read(pack(esconv.ARCHIVE, files)))
    assert [chat.id for chat in chats] == ["esconv-valid/0", "esconv-valid/1", "esconv-test/0"]
    assert [turn.speaker for turn in chats[0].turns] == ["customer", "agent"]


def switchboard_files(val: str = "A|Hello.|fp\n", train: int = 1) -> dict[str, str]:
    """One call in the val split, which is this, one in the test split, and so many in the train split."""
    return {
        "swda_data/val/2001.txt": val,
        "swda_data/test/2002.txt": "A|Hello.|fp\n",
        **{f"swda_data/train/{3000 + number}.txt": "A|Hello.|fp\n" for number in range(train)},
    }


def test_switchboard_judges_either_speaker_of_a_call(pack: Pack) -> None:
    call = "\n".join(
        [
            "A|Uh, hello.|fp",
            "A|What is keeping bees like?|qo",
            "B|Well , I 'm, I'm new to it,|sd",
            "A|Uh-huh.|b",
            "B|and they sting.|sd",
            "B|Do you keep any?|qy",
            "A|So it hurts.|bf\n",
        ]
    )
    first, second, *_ = switchboard.read(pack(switchboard.ARCHIVE, switchboard_files(call)))
    assert [first.id, second.id] == ["switchboard/sw2001/A", "switchboard/sw2001/B"]
    assert [(turn.speaker, turn.text, turn.labels) for turn in first.turns] == [
        ("agent", "Uh, hello. What is keeping bees like?", ("open_question",)),
        ("customer", "Well, I'm, I'm new to it,", None),
        ("agent", "Uh-huh.", ()),
        ("customer", "and they sting. Do you keep any?", None),
        ("agent", "So it hurts.", ("paraphrase",)),
    ]
    assert [turn.labels for turn in second.turns] == [None, (), None, (), None]
    assert [turn.text for turn in second.turns] == [turn.text for turn in first.turns]
    for conversation in (first, second):
        assert set(conversation.unlabelled) == {"reflection", "summary", "interruption"}
        assert conversation.meta == {"corpus": "switchboard"}


@pytest.mark.parametrize(
    ("acts", "labels", "unlabelled"),
    [
        (("sd", "qo"), ("open_question",), ()),
        (("bf", "qo"), ("open_question", "paraphrase"), ()),
        (("qw", "qo"), ("open_question",), ()),
        (("sd", "qw"), (), ("open_question",)),
        (("bf", "qw^d"), ("paraphrase",), ("open_question",)),
        (("qh",), (), ("open_question",)),
        (("qy", "qrr"), (), ("open_question",)),
        (("qy", "qy^d"), (), ()),
        (("^q", "bh", "^g", "br", "%"), (), ()),
        (("sd", "b^m"), (), ("paraphrase",)),
        (("^2", "bf"), ("paraphrase",), ()),
        (("aa", 'fo_o_fw_"_by_bc'), (), ()),
    ],
)
def test_switchboard_a_turn_has_the_labels_of_all_its_acts(
    pack: Pack, acts: tuple[str, ...], labels: tuple[str, ...], unlabelled: tuple[str, ...]
) -> None:
    call = "".join(f"A|Bees.|{act}\n" for act in acts)
    conversation, *_ = switchboard.read(pack(switchboard.ARCHIVE, switchboard_files(call)))
    (turn,) = conversation.turns
    assert set(turn.labels or ()) == set(labels)
    assert turn.unlabelled == unlabelled


@pytest.mark.parametrize(
    ("transcribed", "spoken"),
    [
        ("They bought there hive, *sp: their", "They bought there hive,"),
        ("More honey <laughter> )),", "More honey,"),
        ("(( )) right , or ...", "right, or..."),
    ],
)
def test_switchboard_text_is_what_was_said(pack: Pack, transcribed: str, spoken: str) -> None:
    archive = pack(switchboard.ARCHIVE, switchboard_files(f"A|{transcribed}|sd\n"))
    assert next(switchboard.read(archive)).turns[0].text == spoken


def test_switchboard_reads_val_and_test_and_one_in_five_of_train(pack: Pack) -> None:
    calls = list(switchboard.read(pack(switchboard.ARCHIVE, switchboard_files(train=11))))
    assert [str(call.id).split("/")[1] for call in calls[::2]] == ["sw2001", "sw2002", "sw3000", "sw3005", "sw3010"]


def test_authored_conversations_keep_what_is_said_of_them() -> None:
    conversations = list(authored.read())
    assert len(conversations) == len({conversation.id for conversation in conversations}) > 1000
    assert all(conversation.meta["corpus"] == "authored" for conversation in conversations)
    assert {conversation.meta["channel"] for conversation in conversations} == {
        "phone",
        "chat",
        "video",
        "in person",
        "email_thread",
    }
    assert all(c.turns[index].labels is not None for c in conversations for index in c.agent_turns)


@pytest.mark.parametrize(
    ("tokenised", "mended"),
    [
        ("Is it , by chance , free ?", "Is it, by chance, free?"),
        ("I do n't know , it 's late .", "I don't know, it's late."),
        ("We ' ll see if they ' re in , I can ' t .", "We'll see if they're in, I can't."),
        ('It is called " The Owl " .', 'It is called "The Owl".'),
        ("Two rooms ( a double ) at $ 40 : fine ; 10 % off !", "Two rooms (a double) at $40: fine; 10% off!"),
        ("Lovely : ) See you", "Lovely :) See you"),
        ("Well - at 10 : 30 , a / b / c 4 - 5", "Well - at 10:30, a/b/c 4-5"),
        ("Nothing to mend: it's 10:30, isn't it?", "Nothing to mend: it's 10:30, isn't it?"),
    ],
)
def test_tokenised_text_is_mended(tokenised: str, mended: str) -> None:
    assert mend_tokenised(tokenised) == mended
    assert mend_tokenised(mended) == mended


Said = tuple[str, float, float, str, str]
"""Speaker, start, end, act and transcribed text of an utterance."""


@pytest.fixture
def changes(pack: Pack) -> Callable[..., dict[str, Any]]:
    """The changes of speaker in a meeting of these utterances, by id."""

    def read(*meeting: Said) -> dict[str, Any]:
        database, transcript = [], []
        for number, (speaker, start, end, act, text) in enumerate(meeting):
            database.append(f"{start},{end},Toy1-{number},A,,{act},Toy1-c0,{speaker},{act},,,,,\n")
            transcript.append(f"Toy1-{number},{text},{text}\n")
        files = {
            "mrda_archive/database/Toy1.dadb": "".join(database),
            "mrda_archive/transcripts/Toy1.trans": "".join(transcript),
            "mrda_data/train/Toy1.txt": "",
        }
        return {str(change.id): change for change in mrda.read("train", pack(mrda.ARCHIVE, files))}

    return read


def test_mrda_who_speaks_after_one_who_was_cut_off_interrupts(changes: Callable[..., dict[str, Any]]) -> None:
    (change,) = changes(
        ("ann", 0.0, 2.0, "s", "the kettle is broken ."),
        ("ann", 2.0, 5.0, "s.%--", "so i thought we c- - we could buy a ?=="),
        ("bob", 4.5, 6.0, "qy", "who broke it ?"),
    ).values()
    assert change.id == "mrda/Toy1/2"
    customer, agent = change.turns
    assert (customer.speaker, customer.text) == ("customer", "the kettle is broken so i thought we c- we could buy a")
    assert (customer.start, customer.end) == (0.0, 5.0)
    assert (agent.speaker, agent.text, agent.labels) == ("agent", "who broke it", ("interruption",))
    assert timing_of(change.turns, 1) is Timing.LONG_OVERLAP
    assert set(change.unlabelled) == {"paraphrase", "reflection", "open_question", "summary"}
    assert change.meta == {"corpus": "mrda", "broken_off": True}


@pytest.mark.parametrize(
    ("act", "reply"),
    [
        ("s.%--", ("bob", 4.5, 5.0, "s^bk", "oh okay .")),
        ("s.%--", ("bob", 4.5, 5.0, "fg|s", "yeah | but why .")),
        ("s.%-", ("bob", 4.5, 6.0, "s", "the red one is better .")),
        ("s.%--|s", ("bob", 4.5, 6.0, "s", "the red one is better .")),
        ("s", ("bob", 4.5, 6.0, "s", "the red one is better .")),
    ],
)
def test_mrda_other_changes_of_speaker_are_no_interruptions(
    changes: Callable[..., dict[str, Any]], act: str, reply: Said
) -> None:
    (change,) = changes(("ann", 2.0, 5.0, act, "so i thought we could =="), reply).values()
    assert change.turns[-1].labels == ()


@pytest.mark.parametrize(
    "reply",
    [
        ("bob", 7.1, 8.0, "s", "too late ."),
        ("bob", 2.0, 8.0, "s", "began at the same time ."),
        ("ann", 4.5, 8.0, "s", "the same speaker ."),
        ("bob", 4.5, 8.0, "z", "not labelled ."),
        ("bob", 4.5, 8.0, "x", "cough"),
        ("bob", 4.5, 8.0, "", "DIGIT_TASK"),
    ],
)
def test_mrda_knows_no_change_of_speaker_here(changes: Callable[..., dict[str, Any]], reply: Said) -> None:
    assert not changes(("ann", 2.0, 5.0, "s.%--", "so i thought we could =="), reply)


def test_mrda_leaves_out_what_may_or_may_not_have_cut_somebody_off(changes: Callable[..., dict[str, Any]]) -> None:
    found = changes(
        ("ann", 0.0, 4.0, "s.%--", "the blue one has a =="),
        ("bob", 1.0, 1.3, "b", "uhhuh ."),
        ("cem", 3.9, 5.0, "s", "i never liked it ."),
        ("ann", 5.5, 6.0, "b", "hm ."),
        ("bob", 9.0, 9.5, "s", "a cup of tea then ."),
    )
    assert list(found) == ["mrda/Toy1/1", "mrda/Toy1/3"]
    assert all(change.turns[-1].labels == () for change in found.values())


def test_mrda_context_is_what_began_before(changes: Callable[..., dict[str, Any]]) -> None:
    found = changes(
        *(
            (speaker, float(second), second + 0.9, "s", f"{speaker} {second} .")
            for second, speaker in enumerate("abcadb")
        ),
        ("e", 6.0, 7.0, "s", "later ."),
    )
    turns = found["mrda/Toy1/5"].turns
    assert [(turn.speaker, turn.text) for turn in turns] == [
        ("customer", "a 0"),
        ("agent", "b 1"),
        ("customer", "c 2 a 3 d 4"),
        ("agent", "b 5"),
    ]
    assert [turn.start for turn in turns] == [0.0, 1.0, 2.0, 5.0]


def test_mrda_a_split_has_its_own_meetings(pack: Pack) -> None:
    row = "0.0,1.0,{0}-0,A,,s,{0}-c0,ann,s,,,,,\n0.5,1.5,{0}-1,A,,s,{0}-c1,bob,s,,,,,\n"
    files = {
        path.format(meeting): content.format(meeting)
        for meeting in ("Toy1", "Toy2")
        for path, content in (
            ("mrda_archive/database/{}.dadb", row),
            ("mrda_archive/transcripts/{}.trans", "{0}-0,one .,one .\n{0}-1,two .,two .\n"),
        )
    }
    files |= {"mrda_data/train/Toy1.txt": "", "mrda_data/val/Toy2.txt": ""}
    archive = pack(mrda.ARCHIVE, files)
    assert [change.id for change in mrda.read("train", archive)] == ["mrda/Toy1/1"]
    assert [change.id for change in mrda.read("val", archive)] == ["mrda/Toy2/1"]
    assert not list(mrda.read("test", archive))
