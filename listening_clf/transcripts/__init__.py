"""Files of the world → `Conversation`.

One module a format; each splits a file into its conversations, and `read` reads them one by one, so that a bad one
need not spoil the rest. To add a format, write a `Split` and name it in `_BY_SUFFIX` (and in `_by_content`, if
its first line tells it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import BinaryIO

from listening_clf.conversation import Conversation
from listening_clf.errors import TranscriptError
from listening_clf.transcripts import jsonl, table, vtt
from listening_clf.transcripts.source import Place, Source, Split, Unread

STDIN = "-"
"""The name that stands for standard input."""

_BY_SUFFIX: dict[str, Split] = {
    ".vtt": vtt.split,
    ".jsonl": jsonl.split,
    ".ndjson": jsonl.split,
    ".csv": table.split,
}


def read(
    path: str | Path, *, agent: str | None = None, on_bad: Callable[[TranscriptError], None] | None = None
) -> Iterator[Conversation]:
    """Read the conversations of a file, one at a time.

    The format goes by the file's suffix: WebVTT (.vtt), JSONL of conversations (.jsonl, .ndjson) or CSV (.csv). With
    another suffix, and on standard input, it goes by the first line. A conversation without an id gets the place
    where it stands as its id: the file, or with several in a file `file:line`.

    Args:
        path: the file, or "-" for standard input.
        agent: the name of the agent in the file (in any case); all others are customers. Not needed where the
            speakers are called agent and customer.
        on_bad: called with what is wrong with a bad conversation, or with the whole file; reading goes on with the
            next one. Without it, the first bad one raises.

    Raises:
        TranscriptError: the file, or a conversation in it, cannot be read.
    """
    with closing(_split(str(path), agent)) as conversations:
        while True:
            try:
                # Both may raise: getting the next one (that ends the file) and reading it (the next may be good).
                conversation = next(conversations)()
            except StopIteration:
                return
            except TranscriptError as error:
                if on_bad is None:
                    raise
                on_bad(error)
            else:
                yield conversation


def _split(path: str, agent: str | None) -> Generator[Unread, None, None]:
    place = Place("standard input" if path == STDIN else path)
    empty = True
    try:
        with _opened(path) as stream:
            source = Source(stream, place.file)
            first_line = source.first_line()
            if not first_line:
                raise place.error("the file is empty")
            split = _BY_SUFFIX.get(Path(path).suffix.lower()) or _by_content(first_line)
            for conversation in split(source, agent):
                empty = False
                yield conversation
    except OSError as error:
        raise place.error(f"cannot be read ({error.strerror})") from None
    if empty:
        raise place.error("the file has no conversation, only a header")


def _opened(path: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path == STDIN else Path(path).open("rb")


def _by_content(first_line: bytes) -> Split:
    if first_line.startswith(b"WEBVTT"):
        return vtt.split
    return jsonl.split if first_line.startswith((b"{", b"[")) else table.split
