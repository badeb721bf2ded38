"""WebVTT: one call a file, each cue with who speaks as a voice (`<v Dana>How can I help?`).

webvtt-py reads the cues, in its strict mode. It is given one block of the file at a time, because its errors do not
say on which line they happened, and ours must.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import webvtt
from webvtt.errors import MalformedCaptionError

from listening_clf.conversation import Conversation, Speaker, Turn
from listening_clf.errors import TurnError
from listening_clf.transcripts.source import Located, Names, Place, Source, Unread, excerpt
from listening_clf.transcripts.speakers import sides

_ARROW = "-->"
_HEADER = re.compile(r"WEBVTT(?:\s|$)")
_NOT_A_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
# Of webvtt-py's, but for the "<" that a name cannot have: else a cue of many that never close takes for ever.
_VOICE = re.compile(r"<v(?:\.\w+)*\s+([^<>\s][^<>]*)>")
_SETTINGS = re.compile(r"(?<=-->)(\s*\S+).*")


class _Line(NamedTuple):
    place: Place
    text: str


class _Speech(NamedTuple):
    """What one voice says in one cue."""

    place: Place
    voice: str
    text: str
    start: float | None
    end: float | None


def split(source: Source, names: Names) -> Iterator[Unread]:
    """The one conversation of a WebVTT file."""
    text = "".join(line.text for line in source)
    yield partial(_read, text, source.name, names.agent)


def _read(text: str, file: str, agent: str | None) -> Located:
    speeches = list(_speeches(text, file))
    side = sides((speech.voice for speech in speeches), agent, Place(file))
    runs = [(speaker, list(said)) for speaker, said in groupby(speeches, lambda speech: side[speech.voice])]
    turns = tuple(_turn(speaker, said) for speaker, said in runs)
    places = tuple(said[0].place for _, said in runs)
    return Located(Conversation(turns, id=file), places, ({},) * len(turns))


def _turn(speaker: Speaker, said: Sequence[_Speech]) -> Turn:
    """All that one side says in consecutive cues, as one turn: the codebook's unit."""
    first, last = said[0], said[-1]
    # The cue that begins last need not end last.
    end = None if last.end is None else max(speech.end for speech in said if speech.end is not None)
    try:
        return Turn(speaker, " ".join(speech.text for speech in said), first.start, end)
    except TurnError as error:
        raise first.place.error(str(error)) from None


def _speeches(text: str, file: str) -> Iterator[_Speech]:
    if not _HEADER.match(text):
        raise Place(file, 1).error("a WebVTT file must begin with the line WEBVTT")
    header, *blocks = _blocks(text, file)
    if any(_ARROW in line.text for line in header):
        raise header[0].place.error("a blank line must follow the header")
    latest = 0.0
    for block in blocks:
        if _NOT_A_CUE.match(block[0].text):
            continue
        timing, cue = _cue(block)
        start, end = cue.start_time.in_milliseconds() / 1000, cue.end_time.in_milliseconds() / 1000
        if end < start:
            raise timing.place.error(f"the cue ends at {end} s, before its start at {start} s")
        if start < latest:
            raise timing.place.error(
                f"the cue starts at {start} s, before the cue above it ({latest} s): sort the cues"
            )
        latest = start
        yield from _voices(cue, timing.place, start, end)


def _blocks(text: str, file: str) -> list[list[_Line]]:
    """The runs of lines between blank lines."""
    lines = (_Line(Place(file, number), line) for number, line in enumerate(re.split(r"\r\n?|\n", text), start=1))
    return [list(block) for blank, block in groupby(lines, lambda line: not line.text.strip()) if not blank]


def _cue(block: Sequence[_Line]) -> tuple[_Line, webvtt.Caption]:
    """The line with a cue's times, and the cue."""
    timings = [line for line in block if _ARROW in line.text]
    if not timings:
        raise block[0].place.error("neither a cue with its times nor a NOTE, STYLE or REGION")
    if len(timings) > 1:
        raise timings[1].place.error(f"a second {_ARROW} in one cue: a blank line must stand between cues")
    # Where a cue stands on a screen is nothing to us, so a setting that is not quite right is no reason to refuse it.
    lines = [_SETTINGS.sub(r"\1", line.text) for line in block]
    try:
        cues = webvtt.from_string("\n".join(["WEBVTT", "", *lines]), strict=True).captions
    except MalformedCaptionError:
        cues = []
    if not cues:
        raise timings[0].place.error(
            f"{excerpt(timings[0].text)} must be times like 00:01:02.500 {_ARROW} 00:01:04.000"
        )
    return timings[0], cues[0]


def _voices(cue: webvtt.Caption, place: Place, start: float, end: float) -> Iterator[_Speech]:
    """What each voice of a cue says; empty ones say nothing."""
    before, *spans = _VOICE.split(cue.raw_text)
    said = []
    for voice, span in zip(spans[::2], spans[1::2], strict=True):
        inside, _, after = span.partition("</v>")
        before += after
        if words := _plain(inside):
            said.append((_plain(voice), words))
    if astray := _plain(before):
        raise place.error(f"no voice says {excerpt(astray)}: put <v NAME> before the words")
    for number, (voice, words) in enumerate(said):
        # When the voices of one cue take turns is not known: it would be wrong to give them the cue's times, they
        # would seem to talk over each other.
        begins, ends = number == 0, number == len(said) - 1
        yield _Speech(place, voice, words, start if begins else None, end if ends else None)


def _plain(text: str) -> str:
    """The words without tags, character references and line breaks."""
    return " ".join(html.unescape(webvtt.Caption(text=text).text).split())
