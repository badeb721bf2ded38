"""The conversations that were written and labelled for this project, in training/authored/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from listening_clf.conversation import Conversation

FOLDER = Path(__file__).parents[1] / "authored"


def read(folder: Path = FOLDER) -> Iterator[Conversation]:
    """Read the conversations, fully labelled, as "aM-NNN"; `meta` says their channel, style and the like."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            conversation = Conversation.from_dict(json.loads(line))
            yield replace(conversation, meta={"corpus": "authored", **conversation.meta})
