"""ESConv: typed emotional-support chats (Liu et al., ACL 2021), as in MultiESC. For evaluation only (CC BY-NC 4.0)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from listening_clf.conversation import Conversation, Speaker, Turn
from training.corpora.archives import Archive
from training.corpora.text import fold

ARCHIVE = Archive(
    name="lwgkzl-MultiESC-46834e1",
    repository="lwgkzl/MultiESC",
    commit="46834e134320253e51920a2f5d34f166335bd965",
    sha256="1d7367a76c0da09be776477d0f6e4f26095fbcda52c49e8dc397aac74326a6ea",
    patterns=("MultiESC/data/valid.txt", "MultiESC/data/test.txt"),
)

_SPEAKERS: Final[dict[str, Speaker]] = {"sys": "agent", "usr": "customer"}


def read(archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the chats as "esconv-valid/N" and "esconv-test/N", N their line. The text is tokenised, as it comes."""
    members = archive.read()
    for part in ("valid", "test"):
        for number, line in enumerate(members[f"MultiESC/data/{part}.txt"].splitlines()):
            turns = (Turn(_SPEAKERS[turn["speaker"]], fold(turn["text"])) for turn in json.loads(line)["dialog"])
            yield Conversation(tuple(turns), id=f"esconv-{part}/{number}", meta={"corpus": "esconv"})
