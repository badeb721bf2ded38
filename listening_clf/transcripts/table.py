"""CSV, in two shapes that the header tells apart.

With a column `speaker`, each row is a turn (`text`, and where known `conversation`, `start` and `end` in seconds).
Without it, each row is an agent turn by itself (`text`, and where known `context`: what the customer said before).
Other columns are passed over.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from listening_clf.conversation import Conversation, Speaker, Turn
from listening_clf.errors import TurnError
from listening_clf.transcripts.source import Place, Source, Unread, excerpt
from listening_clf.transcripts.speakers import sides

_COLUMNS = ("conversation", "speaker", "text", "start", "end", "context")


@dataclass(frozen=True)
class _Row:
    place: Place
    columns: Sequence[str]
    cells: Sequence[str]

    def get(self, column: str) -> str:
        """The cell of a column; empty where there is none."""
        return next((cell for name, cell in zip(self.columns, self.cells, strict=False) if name == column), "")

    def check(self) -> None:
        """Raise where the row does not fit the header: which cell belongs where would be a guess."""
        if len(self.cells) != len(self.columns):
            raise self.place.error(f"the row has {len(self.cells)} cells, the header has {len(self.columns)}")

    def seconds(self, column: str) -> float | None:
        """The time in a column, where there is one."""
        cell = self.get(column).strip()
        try:
            return float(cell) if cell else None
        except ValueError:
            raise self.place.error(f"{column} must be a number of seconds, not {excerpt(cell)}") from None

    def turn(
        self, speaker: Speaker, column: str = "text", start: float | None = None, end: float | None = None
    ) -> Turn:
        """The words in a column, as a turn."""
        try:
            return Turn(speaker, self.get(column), start, end)
        except TurnError as error:
            raise self.place.error(str(error)) from None


def split(source: Source, agent: str | None) -> Iterator[Unread]:
    """The conversations of a CSV file: runs of rows with the same `conversation`, or single rows."""
    rows = _rows(source)
    header = next(rows)
    _check_columns(header)
    if "speaker" not in header.columns:
        yield from (partial(_read_row, row) for row in rows)
        return
    seen: set[str] = set()
    for name, run in groupby(rows, lambda row: row.get("conversation")):
        yield partial(_read_turns, list(run), agent, is_torn=name in seen)
        seen.add(name)


def _rows(source: Source) -> Iterator[_Row]:
    """The rows of the file that are not blank, the header first."""
    reader = csv.reader((line.text for line in source), strict=True)
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            place = Place(source.name, line)
            line = reader.line_num + 1
            if not cells or (columns and not any(cells)):
                continue
            columns = columns or [cell.strip().casefold() for cell in cells]
            yield _Row(place, columns, cells)
    except csv.Error as error:
        raise Place(source.name, line).error(f"broken CSV ({error})") from None


def _check_columns(header: _Row) -> None:
    if "text" not in header.columns:
        found = excerpt(", ".join(header.columns))
        raise header.place.error(f"a CSV needs a column 'text', and 'speaker' for turns of both sides, but has {found}")
    for column in _COLUMNS:
        if header.columns.count(column) > 1:
            raise header.place.error(f"the header has the column {column!r} twice")


def _read_row(row: _Row) -> Conversation:
    row.check()
    context = [row.turn("customer", "context")] if row.get("context").strip() else []
    return Conversation((*context, row.turn("agent")), id=f"{row.place.file}:{row.place.line}")


def _read_turns(rows: Sequence[_Row], agent: str | None, is_torn: bool) -> Conversation:
    first = rows[0]
    for row in rows:
        row.check()
        if not row.get("speaker").strip():
            raise row.place.error("the row has no speaker")
    name = first.get("conversation")
    if "conversation" in first.columns and not name.strip():
        raise first.place.error("the row has no conversation: name one, or leave the column out")
    if is_torn:
        raise first.place.error(f"conversation {excerpt(name)} goes on after others: keep its rows together")
    side = sides((row.get("speaker") for row in rows), agent, first.place)
    turns = (row.turn(side[row.get("speaker")], start=row.seconds("start"), end=row.seconds("end")) for row in rows)
    return Conversation(tuple(turns), id=name or first.place.file)
