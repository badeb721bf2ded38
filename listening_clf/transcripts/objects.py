"""A conversation, or a single agent turn, as a JSON object: a line of JSONL, or a row of a dataset.

A conversation has `turns`, as `Conversation.to_dict` writes it; speakers may have other names. An agent turn by itself
has `text`, and where known `context` (the customer's words, or a list of turns) and `conversation` (its id). In both,
a turn's labels are a list of `labels`, or a key each. A key that is null is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from listening_clf.conversation import Conversation, Turn, as_turns
from listening_clf.errors import TurnError
from listening_clf.transcripts.annotations import annotation
from listening_clf.transcripts.source import Located, Names, Place, excerpt
from listening_clf.transcripts.speakers import is_agent, sides

_TURN_KEYS = frozenset({"speaker", "text", "start", "end", "labels", "unlabelled"})
_SINGLE_KEYS = _TURN_KEYS | {"context", "conversation", "id", "turns"}


def read(data: Any, names: Names, place: Place) -> Located:
    """Read the object that stands at `place`.

    Raises:
        TranscriptError: it is neither a conversation nor an agent turn, or something in it cannot be read.
    """
    try:
        if isinstance(data, Mapping) and data.get("turns") is None:
            return _single(data, names, place)
        return _conversation(data, names, place)
    except TurnError as error:
        raise place.error(str(error)) from None


def _conversation(data: Any, names: Names, place: Place) -> Located:
    # What is no conversation at all goes through as it is: `Conversation.from_dict` says what is wrong with it.
    turns = data["turns"] if isinstance(data, Mapping) else None
    others: tuple[Mapping[str, Any], ...] = ()
    if isinstance(turns, list):
        turns = _with_sides(turns, names, place)
        others = tuple(_others(turn, _TURN_KEYS, names) for turn in turns)
        data = {**data, "turns": [_with_labels(turn, names, f"turn {i}: ") for i, turn in enumerate(turns)]}
    conversation = Conversation.from_dict(data)
    if conversation.id is None:
        conversation = replace(conversation, id=place.id)
    return Located(conversation, (place,) * len(others), others)


def _single(data: Mapping[str, Any], names: Names, place: Place) -> Located:
    if "text" not in data:
        raise place.error(f"neither a conversation with 'turns' nor an agent turn with a 'text', but {_keys(data)}")
    speaker = data.get("speaker")
    if speaker is not None and not is_agent(str(speaker), names.agent):
        raise place.error(
            f"a 'text' without 'turns' is the agent's, not that of {excerpt(str(speaker))}: "
            "put the turns of a conversation into 'turns'"
        )
    before = _context(data.get("context"), names, place)
    turn = Turn.from_dict({**_with_labels(data, names), "speaker": "agent"})
    others = _others(data, _SINGLE_KEYS, names)
    identifier = next((str(data[key]) for key in ("conversation", "id") if data.get(key) is not None), place.id)
    conversation = Conversation((*before, turn), id=identifier, meta=others)
    return Located(conversation, (place,) * len(conversation.turns), (*({},) * len(before), others))


def _context(context: Any, names: Names, place: Place) -> Sequence[Turn]:
    """The turns before a single one."""
    try:
        if isinstance(context, str):
            return [Turn("customer", context)] if context.strip() else []
        if isinstance(context, list) and context:
            # Nobody but the agent need have spoken before: the turn itself is what makes two sides of it.
            itself = {"speaker": "agent" if names.agent is None else names.agent, "text": ""}
            return as_turns(_with_sides([*context, itself], names, place)[:-1])
        return as_turns(context or ())
    except TurnError as error:
        raise TurnError(f"context: {error}") from None


def _with_sides(turns: Sequence[Any], names: Names, place: Place) -> list[dict[str, Any]]:
    """The turns with 'agent' and 'customer' for the speakers' names."""
    for index, turn in enumerate(turns):
        speaker = turn.get("speaker") if isinstance(turn, Mapping) else None
        if not isinstance(speaker, str) or not speaker.strip():
            raise TurnError(f"turn {index}: a turn must be an object with a 'speaker' and a 'text', both strings")
    side = sides((turn["speaker"] for turn in turns), names.agent, place)
    return [{**turn, "speaker": side[turn["speaker"]]} for turn in turns]


def _with_labels(turn: Mapping[str, Any], names: Names, prefix: str = "") -> Mapping[str, Any]:
    """The turn with a list of `labels`, where each label has a key of its own."""
    try:
        found = annotation({label: turn.get(label) for label in names.labels})
    except TurnError as error:
        raise TurnError(f"{prefix}{error}") from None
    if found.labels is None:
        return turn
    if turn.get("labels") is not None:
        key = next(label for label in names.labels if turn.get(label) is not None)
        raise TurnError(f"{prefix}both 'labels' and {key!r} say what the labels are: leave one of them out")
    unlabelled = turn.get("unlabelled") or []
    if isinstance(unlabelled, list):  # else `Turn` says what is wrong with it
        unlabelled = [*unlabelled, *found.unlabelled]
    return {**turn, "labels": found.labels, "unlabelled": unlabelled}


def _others(turn: Mapping[str, Any], known: frozenset[str], names: Names) -> dict[str, Any]:
    return {key: value for key, value in turn.items() if key not in known and key not in names.labels}


def _keys(data: Mapping[str, Any]) -> str:
    return excerpt(", ".join(map(str, data)))
