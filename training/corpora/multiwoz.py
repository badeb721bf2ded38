"""MultiWOZ: typed booking dialogues with human clerks (Budzianowski et al., EMNLP 2018), as in ConvLab-3."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator

from listening_clf.conversation import Conversation, Turn
from training.corpora.archives import Archive
from training.corpora.text import fold

ARCHIVE = Archive(
    name="ConvLab-ConvLab-3-2a168fc",
    repository="ConvLab/ConvLab-3",
    commit="2a168fc9843e54a468ddec71e001b7559c36aff4",
    sha256="bdf188e9ac3a397369a7ba2fb7b6248b2f46cce32c11c684187bb55127e86b94",
    patterns=("data/multiwoz/val.json.zip", "data/multiwoz/test.json.zip"),
)


def read(archive: Archive = ARCHIVE) -> Iterator[Conversation]:
    """Read the dialogues as "multiwoz-val/ID" and "multiwoz-test/ID". The text is tokenised, as it comes."""
    members = archive.read()
    for part in ("val", "test"):
        with zipfile.ZipFile(io.BytesIO(members[f"data/multiwoz/{part}.json.zip"])) as file:
            dialogues = json.loads(file.read(f"{part}.json"))
        for name, dialogue in dialogues.items():
            turns = (
                Turn("agent" if index % 2 else "customer", fold(turn["text"]))
                for index, turn in enumerate(dialogue["log"])
            )
            yield Conversation(
                tuple(turns), id=f"multiwoz-{part}/{name.removesuffix('.json')}", meta={"corpus": "multiwoz"}
            )
