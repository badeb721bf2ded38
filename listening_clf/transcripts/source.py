"""A file as its lines, each of which knows where it stands: what every format reads from."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple, TypeAlias

from listening_clf.conversation import Conversation
from listening_clf.errors import TranscriptError

_EXCERPT = 40


class Place(NamedTuple):
    """Where something stands: in a file, on a line of it where known."""

    file: str
    line: int | None = None

    def error(self, problem: str) -> TranscriptError:
        """The error that says what is wrong here."""
        where = self.file if self.line is None else f"{self.file}, line {self.line}"
        return TranscriptError(f"{where}: {problem}")


def excerpt(text: str) -> str:
    """The beginning of a text, quoted, as an error can show it."""
    return repr(text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 1]}…")


class Line(NamedTuple):
    """One line, with its line break. It is decoded when asked for, so that a bad byte spoils only its own line."""

    place: Place
    raw: bytes

    @property
    def text(self) -> str:
        """The line as text.

        Raises:
            TranscriptError: it is not UTF-8.
        """
        try:
            return self.raw.decode()
        except UnicodeDecodeError as error:
            byte = self.raw[error.start]
            raise self.place.error(
                f"byte {error.start + 1} of the line (0x{byte:02x}) is not UTF-8: save the file as UTF-8"
            ) from None


class Source:
    """The lines of an open file, which can be gone through once. A byte order mark is passed over."""

    def __init__(self, stream: Iterable[bytes], name: str) -> None:
        self.name = name
        self._lines: Iterator[Line] = (
            Line(Place(name, number), raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw)
            for number, raw in enumerate(stream, start=1)
        )

    def __iter__(self) -> Iterator[Line]:
        return self._lines

    def first_line(self) -> bytes:
        """Look at the first line that is not blank, without taking it; empty where there is none."""
        head = []
        for line in self._lines:
            head.append(line)
            if line.raw.strip():
                break
        self._lines = chain(head, self._lines)
        return head[-1].raw.strip() if head else b""


Unread: TypeAlias = Callable[[], Conversation]
"""A conversation of a file that is yet to be read: calling it gives the conversation, or raises a TranscriptError."""

Split: TypeAlias = Callable[[Source, str | None], Iterator[Unread]]
"""A format: from a file and the agent's name to its conversations. A TranscriptError here is one of the whole file."""
