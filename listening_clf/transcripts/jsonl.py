"""JSONL: one conversation a line, as `Conversation.to_dict` writes it. Speakers may have other names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from listening_clf.conversation import Conversation
from listening_clf.errors import TurnError
from listening_clf.transcripts.source import Line, Place, Source, Unread
from listening_clf.transcripts.speakers import sides


def split(source: Source, agent: str | None) -> Iterator[Unread]:
    """The conversations of a JSONL file: one for each line that is not blank."""
    for line in source:
        if line.raw.strip():
            yield partial(_read, line, agent)


def _read(line: Line, agent: str | None) -> Conversation:
    try:
        conversation = Conversation.from_dict(_with_sides(_parse(line), agent, line.place))
    except TurnError as error:
        raise line.place.error(str(error)) from None
    if conversation.id is None:
        return replace(conversation, id=f"{line.place.file}:{line.place.line}")
    return conversation


def _parse(line: Line) -> Any:
    text = line.text.rstrip()  # else what is cut short would be missed on the next line
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise line.place.error(f"broken JSON at column {error.colno} ({error.msg})") from None
    except RecursionError:
        raise line.place.error("broken JSON (nested too deep)") from None
    except ValueError as error:
        raise line.place.error(f"broken JSON ({error})") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number: leave out what is not known")


def _with_sides(data: Any, agent: str | None, place: Place) -> Any:
    """The conversation with 'agent' and 'customer' for the speakers' names.

    What is no conversation at all goes through as it is: `Conversation.from_dict` says what is wrong with it.
    """
    if not isinstance(data, dict) or not isinstance(data.get("turns"), list):
        return data
    turns = data["turns"]
    for index, turn in enumerate(turns):
        speaker = turn.get("speaker") if isinstance(turn, dict) else None
        if not isinstance(speaker, str) or not speaker.strip():
            raise place.error(f"turn {index}: a turn must be an object with a 'speaker' and a 'text', both strings")
    side = sides((turn["speaker"] for turn in turns), agent, place)
    return {**data, "turns": [{**turn, "speaker": side[turn["speaker"]]} for turn in turns]}
