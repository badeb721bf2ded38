"""MRDA: dialogue acts of the ICSI meetings (Shriberg et al., SIGdial 2004): who cut off whom, and when.

The corpus knows one of the five labels, interruption. An utterance whose act ends in "%--" was cut off by another
speaker; one that ends in "%-" was abandoned by its own. Each change of speaker becomes a small conversation: the one
who speaks next is its agent, everybody else its customer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

from listening_clf.conversation import Conversation, Turn
from listening_clf.labels import Label
from training.corpora.archives import Archive
from training.corpora.text import fold

Split: TypeAlias = Literal["train", "val", "test"]

ARCHIVE = Archive(
    name="NathanDuran-MRDA-Corpus-58006b3",
    repository="NathanDuran/MRDA-Corpus",
    commit="58006b32d4e36ca518e365899924cd56035466a2",
    sha256="43cf21de799d38daea8c98275defcc39ce7a090782be6858e5eafd0458c0af88",
    patterns=(
        "mrda_archive/database/*.dadb",
        "mrda_archive/transcripts/*.trans",
        "mrda_data/train/*.txt",
        "mrda_data/val/*.txt",
        "mrda_data/test/*.txt",
    ),
)

WINDOW_SECONDS = 2.0
"""How long after the end of an utterance another speaker's may start, for this to be a change of speaker."""

CONTEXT_UTTERANCES = 4
"""How many utterances are kept before the one that was, or was not, cut off."""

_BACKCHANNELS = frozenset({"b", "bk", "aa", "ba", "fh", "fg"})
"""Continuers, acknowledgements, acceptances, assessments, floor holders and grabbers: they take no floor if short."""

_BACKCHANNEL_WORDS = 4

_NO_ACT = frozenset({"", "z"})
"""The act of an utterance that was not labelled."""

_NONSPEECH = "x"

_OTHER_LABELS = tuple(label.value for label in Label if label is not Label.INTERRUPTION)


@dataclass(frozen=True)
class Utterance:
    """One dialogue act, or two that were said as one ("fh|s": a floor holder, then a statement)."""

    number: int
    """Its place in the meeting, from 0."""
    speaker: str
    text: str
    start: float
    end: float
    act: str

    @property
    def has_act(self) -> bool:
        """Whether an expert said what it does."""
        return self.act not in _NO_ACT

    @property
    def cut_off(self) -> bool:
        """Whether another speaker kept it from being finished."""
        return self.act.endswith("%--")

    @property
    def broken_off(self) -> bool:
        """Whether it was left unfinished, be it cut off or abandoned."""
        return self.act.endswith(("%-", "%--"))

    @property
    def backchannel(self) -> bool:
        """Whether it leaves the floor with the other speaker."""
        tags = re.split(r"[\^.:]", self.act.partition("|")[0])
        return not _BACKCHANNELS.isdisjoint(tags) and len(self.text.split()) <= _BACKCHANNEL_WORDS

    def leaves_window_to(self, later: Utterance) -> bool:
        """Whether `later` is another speaker's and began after this one began and within the window of its end."""
        return self.speaker != later.speaker and self.start < later.start <= self.end + WINDOW_SECONDS


def read(split: Split, archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the changes of speaker in one split's meetings as "mrda/MEETING/N", N the number of the agent's utterance.

    The last turn is the agent's and is labelled: interruption, or none. `meta["broken_off"]` says whether the utterance
    before it was left unfinished.
    """
    members = archive.read()
    meetings = sorted(PurePosixPath(path).stem for path in members if path.startswith(f"mrda_data/{split}/"))
    for meeting in meetings:
        utterances = list(_utterances(members, meeting))
        for index in range(1, len(utterances)):
            if _is_change(utterances, index):
                yield _conversation(meeting, utterances, index)


def _utterances(members: Mapping[str, bytes], meeting: str) -> Iterator[Utterance]:
    """The meeting's utterances in the order in which they began, without those that have no words."""
    database = members[f"mrda_archive/database/{meeting}.dadb"].decode().splitlines()
    transcript = members[f"mrda_archive/transcripts/{meeting}.trans"].decode().splitlines()
    texts = {key: _spoken(text) for key, text, _ in (line.split(",") for line in transcript)}
    for number, line in enumerate(database):
        start, end, key, _, _, act, _, speaker, *_ = line.split(",")
        if act != _NONSPEECH and texts[key]:
            yield Utterance(number, speaker, texts[key], float(start), float(end), act)


def _spoken(transcribed: str) -> str:
    """The words alone: no punctuation, as the transcribers' tells what was cut off ("==" for "." at the end).

    There is none within the utterances; what remains has the form of a speech recogniser's text.
    """
    return fold(re.sub(r"DIGIT_TASK|BLEEPED|[.?!=|@]|(?<!\S)-(?!\S)", " ", transcribed))


def _is_change(utterances: list[Utterance], index: int) -> bool:
    """Whether the speaker changes at `utterances[index]` in a way that can be judged."""
    before, after = utterances[index - 1 : index + 1]
    if not (before.has_act and after.has_act and before.leaves_window_to(after)):
        return False
    # Two utterances may follow one that was cut off, the first of them a backchannel or its speaker's next start: the
    # corpus does not say which of them cut it off, so the second is no example of either kind.
    earlier = utterances[max(0, index - 1 - CONTEXT_UTTERANCES) : index - 1]
    doubtful = any(utterance.cut_off and utterance.leaves_window_to(after) for utterance in earlier)
    return before.cut_off or after.backchannel or not doubtful


def _conversation(meeting: str, utterances: list[Utterance], index: int) -> Conversation:
    before, after = utterances[index - 1 : index + 1]
    labels = (Label.INTERRUPTION.value,) if before.cut_off and not after.backchannel else ()
    context = utterances[max(0, index - 1 - CONTEXT_UTTERANCES) : index]
    return Conversation(
        (*_turns(context, agent=after.speaker), Turn("agent", after.text, after.start, after.end, labels)),
        id=f"mrda/{meeting}/{after.number}",
        unlabelled=_OTHER_LABELS,
        meta={"corpus": "mrda", "broken_off": before.broken_off},
    )


def _turns(context: Iterable[Utterance], agent: str) -> Iterator[Turn]:
    """What each side said in a row, as one turn that ends when the last of its voices does."""
    for is_agent, group in groupby(context, key=lambda utterance: utterance.speaker == agent):
        utterances = list(group)
        yield Turn(
            "agent" if is_agent else "customer",
            " ".join(utterance.text for utterance in utterances),
            start=utterances[0].start,
            end=max(utterance.end for utterance in utterances),
        )
