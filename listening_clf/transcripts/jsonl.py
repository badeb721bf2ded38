"""JSONL: a conversation, or a single agent turn, a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

from listening_clf.transcripts import objects
from listening_clf.transcripts.source import Line, Located, Names, Source, Unread


def split(source: Source, names: Names) -> Iterator[Unread]:
    """The conversations of a JSONL file: one for each line that is not blank."""
    for line in source:
        if line.raw.strip():
            yield partial(_read, line, names)


def _read(line: Line, names: Names) -> Located:
    try:
        return objects.read(_parse(line), names, line.place)
    except RecursionError:
        raise line.place.error("broken JSON (nested too deep)") from None


def _parse(line: Line) -> Any:
    text = line.text.rstrip()  # else what is cut short would be missed on the next line
    try:
        found = json.loads(text, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise line.place.error(f"broken JSON at column {error.colno} ({error.msg})") from None
    except UnicodeEncodeError as error:
        raise line.place.error(f"a lone surrogate, {error.object[error.start]!r}, which is no character") from None
    except ValueError as error:
        raise line.place.error(f"broken JSON ({error})") from None
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number: leave out what is not known")
