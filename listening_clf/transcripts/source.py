"""A file as its lines, each of which knows where it stands: what every format reads from."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from listening_clf.conversation import Conversation
from listening_clf.errors import TranscriptError

RESERVED = frozenset(
    {"conversation", "id", "turns", "speaker", "text", "start", "end", "context", "labels", "unlabelled"}
)
"""The columns and keys that formats use themselves: no label can be called so."""

_EXCERPT = 40


class Place(NamedTuple):
    """Where something stands: in a file or a dataset, on a line or row of it where known."""

    file: str
    number: int | None = None
    unit: str = "line"

    def __str__(self) -> str:
        return self.file if self.number is None else f"{self.file}, {self.unit} {self.number}"

    @property
    def id(self) -> str:
        """What a conversation is called that stands here and has no other id."""
        return self.file if self.number is None else f"{self.file}:{self.number}"

    def error(self, problem: str) -> TranscriptError:
        """The error that says what is wrong here."""
        return TranscriptError(f"{self}: {problem}")


class Names(NamedTuple):
    """What a file calls things by."""

    agent: str | None = None
    """The agent's name, in any case; all others are customers. None: the speakers are called agent and customer."""
    labels: tuple[str, ...] = ()
    """The labels that may have a column or a key of their own."""


class Located(NamedTuple):
    """A conversation, and where it stands."""

    conversation: Conversation
    places: tuple[Place, ...]
    """The place of each turn."""
    others: tuple[Mapping[str, Any], ...]
    """What else the file says of each turn: the columns or keys that are neither the format's own nor a label's."""

    def where(self, index: int) -> str:
        """The place of a turn, with the turn's index where other agent turns stand there too."""
        place = self.places[index]
        is_shared = self.places[0] == self.places[-1] and len(self.conversation.agent_turns) > 1
        return f"{place}: turn {index}" if is_shared else str(place)


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


Unread: TypeAlias = Callable[[], Located]
"""A conversation of a file that is yet to be read: calling it gives the conversation, or raises a TranscriptError."""

Split: TypeAlias = Callable[[Source, Names], Iterator[Unread]]
"""A format: from a file to its conversations. A TranscriptError here is one of the whole file."""
