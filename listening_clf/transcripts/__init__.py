"""Files of the world → `Conversation`.

One module a format; each splits a file into its conversations, and `read` reads them one by one, so that a bad one
need not spoil the rest. To add a format, write a `Split` and name it in `_BY_SUFFIX` (and in `_by_content`, if
its first line tells it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import BinaryIO

from listening_clf.conversation import Conversation
from listening_clf.errors import TranscriptError
from listening_clf.transcripts import jsonl, table, vtt
from listening_clf.transcripts.source import Located, Names, Place, Source, Split, Unread

STDIN = "-"
"""The name that stands for standard input."""

_BY_SUFFIX: dict[str, Split] = {
    ".vtt": vtt.split,
    ".jsonl": jsonl.split,
    ".ndjson": jsonl.split,
    ".csv": table.split,
}
SUFFIXES = tuple(_BY_SUFFIX)
"""The suffixes that name a format."""


def read(
    path: str | Path,
    *,
    agent: str | None = None,
    labels: Sequence[str] = (),
    on_bad: Callable[[TranscriptError], None] | None = None,
    stream: BinaryIO | None = None,
) -> Iterator[Conversation]:
    """Read the conversations of a file, one at a time.

    The format goes by the file's suffix: WebVTT (.vtt), JSONL (.jsonl, .ndjson) or CSV (.csv). With another suffix,
    and on standard input, it goes by the first line. A conversation without an id gets the place where it stands as
    its id: the file, or with several in a file `file:line`. Single agent turns that name the same conversation are
    conversations of their own with the same id.

    Args:
        path: the file, or "-" for standard input.
        agent: the name of the agent in the file (in any case); all others are customers. Not needed where the
            speakers are called agent and customer.
        labels: the columns of a CSV, or the keys of a turn in JSONL, that are labels of the turn: 1 or 0, or nothing
            where nobody looked. Without it there are none, and only a list of `labels` in JSONL is read.
        on_bad: called with what is wrong with a bad conversation, or with the whole file; reading goes on with the
            next one. Without it, the first bad one raises.
        stream: what the file holds, where it is not to be opened: `path` is only its name then.

    Raises:
        TranscriptError: the file, or a conversation in it, cannot be read.
    """
    for located in read_located(path, agent=agent, labels=labels, on_bad=on_bad, stream=stream):
        yield located.conversation


def read_located(
    path: str | Path,
    *,
    agent: str | None = None,
    labels: Sequence[str] = (),
    on_bad: Callable[[TranscriptError], None] | None = None,
    stream: BinaryIO | None = None,
) -> Iterator[Located]:
    """Read the conversations of a file as `read` does, each with the places of its turns."""
    with closing(_split(str(path), Names(agent, tuple(labels)), stream)) as conversations:
        while True:
            try:
                # Both may raise: getting the next one (that ends the file) and reading it (the next may be good).
                located = next(conversations)()
            except StopIteration:
                return
            except TranscriptError as error:
                if on_bad is None:
                    raise
                on_bad(error)
            else:
                yield located


def _split(path: str, names: Names, stream: BinaryIO | None) -> Generator[Unread, None, None]:
    place = Place("standard input" if path == STDIN else path)
    empty = True
    try:
        with nullcontext(stream) if stream else _opened(path) as lines:
            source = Source(lines, place.file)
            first_line = source.first_line()
            if not first_line:
                raise place.error("the file is empty")
            split = _BY_SUFFIX.get(Path(path).suffix.lower()) or _by_content(first_line)
            for conversation in split(source, names):
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
