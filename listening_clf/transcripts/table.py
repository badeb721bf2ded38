"""CSV, in two shapes that the header tells apart.

With a column `speaker`, each row is a turn (`text`, and where known `conversation`, `start` and `end` in seconds).
Without it, each row is an agent turn by itself (`text`, and where known `context`: what the customer said before, and
`conversation`). Labels have a column each. Other columns are what the file says of the conversation.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from listening_clf.conversation import Conversation, Speaker, Turn
from listening_clf.errors import TurnError
from listening_clf.transcripts.annotations import Annotation, annotation
from listening_clf.transcripts.source import RESERVED, Located, Names, Place, Source, Unread, excerpt
from listening_clf.transcripts.speakers import sides

_COLUMNS = ("conversation", "speaker", "text", "start", "end", "context")
_NOT_ANNOTATED = Annotation(None, ())


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

    def context(self) -> list[Turn]:
        """What the customer said before a single agent turn, where it is known."""
        return [self._turn("customer", "context")] if self.get("context").strip() else []

    def turn(self, speaker: Speaker, names: Names, start: float | None = None, end: float | None = None) -> Turn:
        """The row as a turn."""
        try:
            found = annotation({label: self.get(_column(label)) for label in names.labels})
        except TurnError as error:
            raise self.place.error(str(error)) from None
        return self._turn(speaker, "text", start, end, found)

    def others(self, names: Names) -> dict[str, str]:
        """The cells of all other columns that are not empty."""
        known = RESERVED.union(map(_column, names.labels))
        return {
            column: cell
            for column, cell in zip(self.columns, self.cells, strict=True)
            if column not in known and cell.strip()
        }

    def _turn(
        self,
        speaker: Speaker,
        column: str,
        start: float | None = None,
        end: float | None = None,
        labels: Annotation = _NOT_ANNOTATED,
    ) -> Turn:
        try:
            return Turn(speaker, self.get(column), start, end, labels.labels, labels.unlabelled)
        except TurnError as error:
            raise self.place.error(str(error)) from None


def split(source: Source, names: Names) -> Iterator[Unread]:
    """The conversations of a CSV file: runs of rows with the same `conversation`, or single rows."""
    rows = _rows(source)
    header = next(rows)
    _check_columns(header, names)
    if "speaker" not in header.columns:
        yield from (partial(_read_row, row, names) for row in rows)
        return
    seen: set[str] = set()
    for name, run in groupby(rows, lambda row: row.get("conversation")):
        yield partial(_read_turns, list(run), names, is_torn=name in seen)
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
            columns = columns or [_column(cell) for cell in cells]
            yield _Row(place, columns, cells)
    except csv.Error as error:
        raise Place(source.name, line).error(f"broken CSV ({error})") from None


def _column(name: str) -> str:
    """A column's name as it is looked for: in any case."""
    return name.strip().casefold()


def _check_columns(header: _Row, names: Names) -> None:
    if "text" not in header.columns:
        found = excerpt(", ".join(header.columns))
        raise header.place.error(f"a CSV needs a column 'text', and 'speaker' for turns of both sides, but has {found}")
    if names.labels and "labels" in header.columns:
        raise header.place.error("a CSV has no column 'labels', but one for each label, with 1 and 0")
    for column in (*_COLUMNS, *map(_column, names.labels)):
        if header.columns.count(column) > 1:
            raise header.place.error(f"the header has the column {column!r} twice")


def _read_row(row: _Row, names: Names) -> Located:
    row.check()
    turns = (*row.context(), row.turn("agent", names))
    others = row.others(names)
    conversation = Conversation(turns, id=row.get("conversation").strip() or row.place.id, meta=others)
    return Located(conversation, (row.place,) * len(turns), (*({},) * (len(turns) - 1), others))


def _read_turns(rows: Sequence[_Row], names: Names, is_torn: bool) -> Located:
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
    side = sides((row.get("speaker") for row in rows), names.agent, first.place)
    turns = tuple(row.turn(side[row.get("speaker")], names, row.seconds("start"), row.seconds("end")) for row in rows)
    others = tuple(row.others(names) for row in rows)
    conversation = Conversation(turns, id=name or first.place.file, meta=_shared(others))
    return Located(conversation, tuple(row.place for row in rows), others)


def _shared(others: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all rows say alike: of the conversation, not of a turn."""
    first, *rest = others
    return {column: cell for column, cell in first.items() if all(other.get(column) == cell for other in rest)}
