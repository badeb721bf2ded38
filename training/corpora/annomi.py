"""AnnoMI: spoken motivational interviews, therapist and client (Wu et al., ICASSP 2022; Future Internet 15, 2023)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Final, TypeAlias

from listening_clf.conversation import Conversation, Speaker, Turn
from listening_clf.labels import Label
from training.corpora.archives import Archive
from training.corpora.text import fold

ARCHIVE = Archive(
    name="uccollab-AnnoMI-4293664",
    repository="uccollab/AnnoMI",
    commit="42936645ec3857a9c84ab296a36a3c34b779ef49",
    sha256="1e2029d46c926f37d097a52bddce13f9ee957d400111a88682c758fea0a27f70",
    patterns=("AnnoMI-full.csv",),
)

REFLECTS = "reflects"
"""What AnnoMI's experts call a reflection: this project's paraphrase, reflection and summary are all kinds of it."""

_SPEAKERS: Final[dict[str, Speaker]] = {"therapist": "agent", "client": "customer"}

_OTHER_LABELS = tuple(label.value for label in Label if label is not Label.OPEN_QUESTION)

_Row: TypeAlias = dict[str, str]


def read(archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the interviews as "annomi/N", N their transcript_id; a turn's index is its utterance_id.

    The timestamps are left out: they are whole seconds, of the starts only, so no overlap can be told from them.
    """
    for interview, _ in _interviews(archive):
        yield interview


def experts(archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the interviews as `read` does, with what AnnoMI's experts said of the therapists' turns.

    The labels are `REFLECTS` (their reflection_exists) and open_question (their question_subtype "open"), by the first
    annotator that the table has. Both are known of every turn of a therapist: a question_subtype is "n/a" where
    question_exists is false, and nowhere else.
    """
    for interview, rows in _interviews(archive):
        turns = (
            replace(turn, labels=_labels(row)) if turn.speaker == "agent" else turn
            for turn, row in zip(interview.turns, rows, strict=True)
        )
        yield replace(interview, turns=tuple(turns), unlabelled=_OTHER_LABELS)


def _interviews(archive: Archive) -> Iterator[tuple[Conversation, list[_Row]]]:
    """Each interview, and the row of the table that each of its turns comes from."""
    (table,) = archive.read().values()
    reader = csv.DictReader(io.StringIO(table.decode("utf-8"), newline=""))
    for transcript, utterances in groupby(reader, key=lambda row: row["transcript_id"]):
        # One row an annotator: some interviews have ten of them, with the same text.
        first = {int(row["utterance_id"]): row for row in reversed(list(utterances))}
        rows = [first[index] for index in range(len(first))]
        turns = (Turn(_SPEAKERS[row["interlocutor"]], fold(row["utterance_text"])) for row in rows)
        yield Conversation(tuple(turns), id=f"annomi/{transcript}", meta={"corpus": "annomi"}), rows


def _labels(row: _Row) -> tuple[str, ...]:
    found = {
        REFLECTS: row["reflection_exists"] == "True",
        Label.OPEN_QUESTION.value: row["question_subtype"] == "open",
    }
    return tuple(label for label, carried in found.items() if carried)
