"""STAR: typed service dialogues with human wizards (Mosig et al., arXiv:2010.11853)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from listening_clf.conversation import Conversation, Speaker, Turn
from training.corpora.archives import Archive
from training.corpora.text import fold

ARCHIVE = Archive(
    name="RasaHQ-STAR-3058975",
    repository="RasaHQ/STAR",
    commit="3058975092cdd09798e4a3a9e4ae135755824545",
    sha256="1b2d05e3009d9c10b065b7bb6c4e0817d0513849e0728e0c197e243f1fbb1dff",
    patterns=("dialogues/*.json",),
)

_SPEAKERS: Final[dict[tuple[str, str], Speaker]] = {
    ("User", "utter"): "customer",
    ("Wizard", "utter"): "agent",
    ("Wizard", "pick_suggestion"): "agent",
}
"""Who speaks in an event of this agent and action; the other events are not said to the other side."""


def read(archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the dialogues as "star/N", N their DialogueID; what one side says in a row is one turn."""
    for content in archive.read().values():
        dialogue = json.loads(content)
        spoken = [event for event in dialogue["Events"] if _kind(event) in _SPEAKERS]
        turns = (
            Turn(speaker, fold(" ".join(event["Text"] for event in events)))
            for speaker, events in groupby(spoken, key=lambda event: _SPEAKERS[_kind(event)])
        )
        yield Conversation(tuple(turns), id=f"star/{dialogue['DialogueID']}", meta={"corpus": "star"})


def _kind(event: dict[str, Any]) -> tuple[str, str]:
    return event["Agent"], event["Action"]
