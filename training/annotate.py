"""The project's annotations, kept apart from the corpora's text ("stand-off"), and how they meet it again."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from listening_clf.conversation import Conversation
from listening_clf.errors import TrainingError
from training.corpora.text import fold

FOLDER = Path(__file__).parent / "annotations"


def annotate(conversations: Iterable[Conversation], path: Path) -> Iterator[Conversation]:
    """Attach the labels of an annotation file to the conversations that it annotates, and yield these.

    The file has one agent turn a line: `{"conversation", "turn", "labels", "text_sha1"}`. A turn that it does not name
    keeps no labels.

    Args:
        conversations: as a reader yields them, the text as the corpus has it.
        path: the annotation file.

    Raises:
        TrainingError: an annotation that does not mean a turn of the agent, or means one with another text; or a
            conversation that is annotated, but was not among `conversations`.
    """
    missing = _by_conversation(path)
    for conversation in conversations:
        if annotations := missing.pop(conversation.id, None):
            yield _labelled(conversation, annotations)
    if missing:
        raise TrainingError(f"{path}: annotates {', '.join(sorted(map(str, missing)))}, which the corpus does not have")


def text_sha1(text: str) -> str:
    """What an annotation knows its turn by: the first 8 hex digits of the sha1 over the text, white space folded."""
    return hashlib.sha1(fold(text).encode(), usedforsecurity=False).hexdigest()[:8]


def _by_conversation(path: Path) -> dict[str | None, list[dict[str, Any]]]:
    annotations = defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        annotation = json.loads(line)
        annotations[annotation["conversation"]].append(annotation)
    return dict(annotations)


def _labelled(conversation: Conversation, annotations: list[dict[str, Any]]) -> Conversation:
    turns = list(conversation.turns)
    for annotation in annotations:
        index = annotation["turn"]
        if index not in conversation.agent_turns:
            raise TrainingError(f"{conversation.id}: turn {index} is annotated, but is no turn of the agent")
        if (found := text_sha1(turns[index].text)) != annotation["text_sha1"]:
            raise TrainingError(
                f"{conversation.id}: turn {index} has a text of sha1 {found}, not {annotation['text_sha1']} as the "
                "text that was annotated: reader and annotation do not mean the same turn"
            )
        turns[index] = replace(turns[index], labels=tuple(annotation["labels"]))
    return replace(conversation, turns=tuple(turns))
