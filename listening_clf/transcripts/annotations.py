"""What annotators say of a turn, where each label has a column or a key of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from listening_clf.errors import TurnError
from listening_clf.transcripts.source import excerpt

# 1.0 is what becomes of 1 in a column of numbers that has gaps.
_ANSWERS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
    "": None,
}


class Annotation(NamedTuple):
    """The labels of a turn, as `Turn` takes them."""

    labels: tuple[str, ...] | None
    unlabelled: tuple[str, ...]


def annotation(cells: Mapping[str, object]) -> Annotation:
    """Read what stands in the column or key of each label; None or nothing where nobody looked.

    Where nobody looked for any label, the turn is not annotated.

    Raises:
        TurnError: something else than 1 or 0 (or true, false, yes, no in any case).
    """
    answers = {label: _answer(label, cell) for label, cell in cells.items()}
    unknown = tuple(label for label, answer in answers.items() if answer is None)
    if len(unknown) == len(answers):
        return Annotation(None, ())
    return Annotation(tuple(label for label, answer in answers.items() if answer), unknown)


def is_answer(cell: object) -> bool:
    """Whether this could stand in a label's column, and is not empty."""
    return _ANSWERS.get(str(cell).strip().casefold()) is not None


def _answer(label: str, cell: object) -> bool | None:
    if cell is None:
        return None
    text = str(cell).strip()
    try:
        return _ANSWERS[text.casefold()]
    except KeyError:
        raise TurnError(f"{label!r} must be 1 or 0, or empty where nobody looked, not {excerpt(text)}") from None
