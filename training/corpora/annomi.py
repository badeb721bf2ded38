"""AnnoMI: spoken motivational interviews, therapist and client (Wu et al., ICASSP 2022; Future Internet 15, 2023)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from listening_clf.conversation import Conversation, Speaker, Turn
from training.corpora.archives import Archive
from training.corpora.text import fold

ARCHIVE = Archive(
    name="uccollab-AnnoMI-4293664",
    repository="uccollab/AnnoMI",
    commit="42936645ec3857a9c84ab296a36a3c34b779ef49",
    sha256="1e2029d46c926f37d097a52bddce13f9ee957d400111a88682c758fea0a27f70",
    patterns=("AnnoMI-full.csv",),
)

_SPEAKERS: Final[dict[str, Speaker]] = {"therapist": "agent", "client": "customer"}


def read(archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the interviews as "annomi/N", N their transcript_id; a turn's index is its utterance_id.

    The timestamps are left out: they are whole seconds, of the starts only, so no overlap can be told from them.
    """
    (table,) = archive.read().values()
    rows = csv.DictReader(io.StringIO(table.decode("utf-8"), newline=""))
    for transcript, utterances in groupby(rows, key=lambda row: row["transcript_id"]):
        # One row an annotator: some interviews have ten of them, with the same text.
        first = {int(row["utterance_id"]): row for row in reversed(list(utterances))}
        turns = (
            Turn(_SPEAKERS[first[index]["interlocutor"]], fold(first[index]["utterance_text"]))
            for index in range(len(first))
        )
        yield Conversation(tuple(turns), id=f"annomi/{transcript}", meta={"corpus": "annomi"})
