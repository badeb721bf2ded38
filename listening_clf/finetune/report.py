"""An evaluation as one HTML file to read and to send on: figures, tables, and the worst mistakes in their context.

The file needs nothing beside itself: no script, no other host, and its content policy forbids both.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from listening_clf import __version__
from listening_clf.conversation import Turn
from listening_clf.display import clock
from listening_clf.errors import TrainingError
from listening_clf.finetune import figures, tables
from listening_clf.finetune.comparison import Comparison
from listening_clf.finetune.evaluation import Evaluation, LabelResult, ScoredTurns

_MISTAKES = 8
"""At most this many false positives, and as many false negatives, of each label."""

_CONTEXT_TURNS = 4
_CHARS = 600
_CONTEXT_CHARS = 300
"""Longer texts lose their middle."""

_NOT_IN_HTML = dict.fromkeys((*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0)), "\ufffd")


@dataclass(frozen=True)
class _Line:
    """A turn as the report shows it."""

    speaker: str
    text: str
    time: str


@dataclass(frozen=True)
class _Mistake:
    """A turn that the model and the annotators judge differently."""

    conversation: str
    index: int
    probability: float
    given: tuple[str, ...]
    predicted: tuple[str, ...]
    context: tuple[_Line, ...]
    turn: _Line


class _LabelPage(NamedTuple):
    """What the report shows of one label."""

    label: str
    result: LabelResult
    precision_recall: Markup | None
    reliability: Markup | None
    wrong: list[_Mistake]
    wrong_in_all: int
    missed: list[_Mistake]
    missed_in_all: int


def write_report(path: str | Path, evaluation: Evaluation, comparison: Comparison | None = None) -> None:
    """Write the report. It appears at `path` whole or not at all, in place of an older one.

    It quotes turns of the data.

    Args:
        path: an HTML file in a folder that exists.
        evaluation: what the report is of.
        comparison: of the same model with another.

    Raises:
        TrainingError: the file cannot be written there.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise TrainingError(f"the report cannot be written to {path}: there is no folder {path.parent}")
    html = report_html(evaluation, comparison)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
            part = Path(scratch) / "new"
            part.write_text(html, encoding="utf-8")
            part.replace(path)
    except OSError as error:
        raise TrainingError(f"the report cannot be written to {path}: {error.strerror}") from error


def report_html(evaluation: Evaluation, comparison: Comparison | None = None) -> str:
    """The report as HTML. The same evaluation gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("listening_clf.finetune", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": tables.number, "interval": tables.interval, "percent": _percent}
    environment.globals |= {"isnan": math.isnan, "tables": tables}
    html = environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        comparison=comparison,
        pages=[_label_page(evaluation, label) for label in evaluation.labels],
        slices=[(key, list(of_key)) for key, of_key in groupby(evaluation.slices, key=lambda it: it.key)],
        reach=_reach(comparison),
        version=__version__,
    )
    return html.translate(_NOT_IN_HTML)


def _label_page(evaluation: Evaluation, label: str) -> _LabelPage:
    scored = evaluation.scored
    column = scored.labels.index(label)
    predicted, targets = scored.predicted[:, column], scored.targets[:, column]
    probabilities = scored.probabilities[:, column]
    wrong, missed = np.flatnonzero(predicted & (targets == 0)), np.flatnonzero(~predicted & (targets == 1))
    wrong = wrong[np.argsort(-probabilities[wrong], kind="stable")]
    missed = missed[np.argsort(probabilities[missed], kind="stable")]
    return _LabelPage(
        label=label,
        result=evaluation.labels[label],
        precision_recall=figures.precision_recall(evaluation, label),
        reliability=figures.reliability(evaluation, label),
        wrong=[_mistake(scored, row, column) for row in wrong[:_MISTAKES]],
        wrong_in_all=len(wrong),
        missed=[_mistake(scored, row, column) for row in missed[:_MISTAKES]],
        missed_in_all=len(missed),
    )


# mistakes


def _mistake(scored: ScoredTurns, row: int, column: int) -> _Mistake:
    conversation, index = scored.conversations[row], scored.indices[row]
    turn = conversation.turns[index]
    earlier = conversation.turns[max(0, index - _CONTEXT_TURNS) : index]
    return _Mistake(
        conversation=conversation.id or "without an id",
        index=index,
        probability=float(scored.probabilities[row, column]),
        given=turn.labels or (),
        predicted=tuple(label for label, yes in zip(scored.labels, scored.predicted[row], strict=True) if yes),
        context=tuple(_line(it, _CONTEXT_CHARS) for it in earlier),
        turn=_line(turn, _CHARS),
    )


def _line(turn: Turn, chars: int) -> _Line:
    times = filter(None, (clock(turn.start), clock(turn.end)))
    return _Line(turn.speaker, _shortened(turn.text, chars), "–".join(times))


def _shortened(text: str, chars: int) -> str:
    """The text, its middle left out where it is longer than `chars`."""
    if len(text) <= chars:
        return text
    tail = chars // 3
    return f"{text[: chars - tail].rstrip()} […] {text[-tail:].lstrip()}"


def _percent(share: float) -> str:
    """A share as a CSS length."""
    return f"{100 * share:.1f}%"


def _reach(comparison: Comparison | None) -> float:
    """How far from zero the intervals of a comparison reach, in whole hundredths: half the width of their axis."""
    if comparison is None:
        return 1.0
    rows = [*comparison.labels.values(), comparison.macro_f1, comparison.micro_f1]
    bounds = [(it.difference.value, it.difference.low, it.difference.high) for it in rows]
    return max(1, math.ceil(100 * float(np.nanmax(np.abs(bounds))))) / 100
