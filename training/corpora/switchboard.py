"""Switchboard: telephone small talk with experts' dialogue acts (Stolcke et al., Computational Linguistics 26, 2000).

For evaluation only (CC BY-NC-SA 3.0). The corpus knows two of the five labels: open_question ("qo") and paraphrase
("bf": one reformulates or summarises what the other said).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from listening_clf.conversation import Conversation, Turn
from listening_clf.labels import Label
from training.corpora.archives import Archive
from training.corpora.text import mend_tokenised

ARCHIVE = Archive(
    name="NathanDuran-Switchboard-Corpus-2aec5da",
    repository="NathanDuran/Switchboard-Corpus",
    commit="2aec5da98f15808d578c83328b871907b9d31f05",
    sha256="eb18efbbf6d2129ef1e2d55ba69066a5c4f2a3be09ba1b9c57243b751f33c84d",
    patterns=("swda_data/train/*.txt", "swda_data/val/*.txt", "swda_data/test/*.txt"),
)

TRAIN_STEP = 5
"""Of the train split, one conversation in this many is read: the first by number, and so on in even steps."""

_LABELS: Final = {"qo": Label.OPEN_QUESTION, "bf": Label.PARAPHRASE}
"""The label that an act gives to its turn."""

_CLOSED_QUESTIONS = frozenset({"qy", "qy^d"})
"""Yes-no questions, be it in the form of a statement. Any other "q…" but "qo" (what or which, rhetorical, "or …?") may
be open or closed.
"""

_MAYBE_PARAPHRASES = frozenset({"^2", "b^m"})
"""One finishes the other's sentence, or repeats a phrase of it: by our codebook often a paraphrase, and not always."""

_OTHER_LABELS = tuple(label.value for label in Label if label not in _LABELS.values())


class Utterance(NamedTuple):
    """One dialogue act, as a line of a transcript has it."""

    speaker: str
    """A or B."""
    text: str
    act: str


def read(archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the conversations of the val and test splits and one in `TRAIN_STEP` of the train split, each of them twice.

    Both speakers are judged: "switchboard/swN/A" and "switchboard/swN/B" are conversation N with one or the other as
    its agent. What one says in a row is one turn; any change of speaker ends it, even for a mere backchannel. (An
    utterance that the other talked into is already whole in this archive, and stands where it began.)

    A turn carries the labels of all its acts. Whether it asks an open question is unknown if one of its acts is a
    question other than open or yes-no, unless another one is an open question; whether it paraphrases, if one finishes
    or repeats what the other said, unless another one is a paraphrase.
    """
    members = archive.read()
    for path in _selected(members):
        utterances = [Utterance(*line.split("|")) for line in members[path].decode().splitlines()]
        for agent in ("A", "B"):
            yield Conversation(
                tuple(_turns(utterances, agent)),
                id=f"switchboard/sw{PurePosixPath(path).stem}/{agent}",
                unlabelled=_OTHER_LABELS,
                meta={"corpus": "switchboard"},
            )


def _selected(paths: Collection[str]) -> list[str]:
    val, test, train = (
        sorted(path for path in paths if path.startswith(f"swda_data/{split}/")) for split in ("val", "test", "train")
    )
    return val + test + train[::TRAIN_STEP]


def _turns(utterances: list[Utterance], agent: str) -> Iterator[Turn]:
    for speaker, group in groupby(utterances, key=lambda utterance: utterance.speaker):
        said = list(group)
        text = " ".join(_spoken(utterance.text) for utterance in said)
        if speaker == agent:
            acts = {utterance.act for utterance in said}
            yield Turn("agent", text, labels=_labels(acts), unlabelled=_unlabelled(acts))
        else:
            yield Turn("customer", text)


def _spoken(transcribed: str) -> str:
    """The words, without the notes that are left among them ("*sp: their" up to the end, "<laughter>", "((", "))")."""
    return mend_tokenised(re.sub(r"\*.*|<\w+>|[()]", " ", transcribed))


def _labels(acts: Collection[str]) -> tuple[str, ...]:
    return tuple(label.value for act, label in _LABELS.items() if act in acts)


def _unlabelled(acts: Collection[str]) -> tuple[str, ...]:
    doubtful = {
        Label.OPEN_QUESTION: any(act.startswith("q") and act not in _CLOSED_QUESTIONS for act in acts),
        Label.PARAPHRASE: not _MAYBE_PARAPHRASES.isdisjoint(acts),
    }
    known = _labels(acts)
    return tuple(label.value for label, unclear in doubtful.items() if unclear and label.value not in known)
