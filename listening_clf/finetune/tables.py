"""Evaluations and comparisons as tables in the terminal."""

from __future__ import annotations

import math
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from listening_clf.display import label_style, many, plain, standard_output
from listening_clf.finetune.bootstrap import Estimate
from listening_clf.finetune.comparison import Comparison, Difference
from listening_clf.finetune.evaluation import Evaluation

_WIDE = 120
"""From this many columns on, an interval stands beside its figure, and not below it."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print how good the model is: by label, on average, and by slice."""
    console = _console()
    console.print(plain(heading(evaluation), "bold"))
    console.print(_labels(evaluation, console.width))
    if evaluation.slices:
        console.print()
        console.print(_slices(evaluation, console.width))
    console.print()
    console.print("AP: average precision. ECE: expected calibration error.", style="dim")
    for note in notes(evaluation):
        console.print(plain(note, "dim"))


def print_comparison(comparison: Comparison) -> None:
    """Print by which figures one model is better than the other."""
    console = _console()
    table = _table(console.width)
    table.add_column("F1", no_wrap=True)
    for name in (comparison.first, comparison.second):
        table.add_column(plain(name), justify="right", overflow="fold")
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("")
    averages = ("macro", comparison.macro_f1), ("micro", comparison.micro_f1)
    for rows in (comparison.labels.items(), averages):
        for name, row in rows:
            difference = _beside(signed(row.difference.value), signed_interval(row.difference), console.width)
            verdict = plain(verdict_on(row, comparison), "bold" if row.beyond_chance else "dim")
            table.add_row(
                plain(name, label_style(name)), number(row.first), number(row.second), difference, p_value(row), verdict
            )
        table.add_section()
    console.print(plain(f"{comparison.first} against {comparison.second}", "bold"))
    console.print(table)
    console.print()
    for note in comparison_notes(comparison):
        console.print(plain(note, "dim"))


# what the report says in the same words


def heading(evaluation: Evaluation) -> str:
    """What was measured on what."""
    on = f" on {evaluation.data}" if evaluation.data else ""
    turns, conversations = many(evaluation.turns, "agent turn"), many(evaluation.conversations, "conversation")
    return f"{evaluation.model}{on}: {turns} of {conversations}"


def notes(evaluation: Evaluation) -> list[str]:
    """What one must know to read the figures."""
    lines = [
        f"In brackets: 95 % intervals of {evaluation.resamples:,} bootstrap resamples of the conversations (seed "
        f"{evaluation.seed}). Macro: the mean over the labels that any turn has."
    ]
    if evaluation.conversations < 2:
        lines[0] = "There are no intervals, since there is one conversation only."
    if missing := [label for label, result in evaluation.labels.items() if result.turns and not result.support]:
        lines.append(f"No turn of the data has: {', '.join(missing)}.")
    if unknown := [label for label, result in evaluation.labels.items() if not result.turns]:
        lines.append(f"Nobody looked in the data for: {', '.join(unknown)}.")
    if evaluation.not_measured:
        lines.append(f"Not measured, since the model does not know them: {', '.join(evaluation.not_measured)}.")
    return lines


def comparison_notes(comparison: Comparison) -> list[str]:
    """What one must know to read the differences."""
    lines = [
        f"Paired bootstrap, {comparison.resamples:,} resamples of {many(comparison.conversations, 'conversation')} "
        f"(seed {comparison.seed}); p is two-sided, for each figure alone. Beyond chance: significant at 0.05 among "
        "all of these figures by Holm's method."
    ]
    if comparison.not_compared:
        lines.append(
            f"Not compared, since only one of the models knows them or no turn has them: "
            f"{', '.join(comparison.not_compared)}."
        )
    return lines


def verdict_on(row: Difference, comparison: Comparison) -> str:
    """Whether the difference is beyond chance, in words."""
    if math.isnan(row.p_value):
        return "too few conversations to say"
    if not row.beyond_chance:
        return "may be chance"
    return f"{comparison.first if row.difference.value > 0 else comparison.second} is better"


def number(value: float) -> str:
    """A figure with three decimals; a dash where it cannot be said."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def interval(estimate: Estimate) -> str:
    """The interval in brackets; nothing where it cannot be said."""
    return "" if math.isnan(estimate.low) else f"[{estimate.low:.2f}, {estimate.high:.2f}]"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.3f}".replace("-", "−")


def signed_interval(estimate: Estimate) -> str:
    """The interval of a difference; nothing where it cannot be said."""
    bounds = f"[{estimate.low:+.2f}, {estimate.high:+.2f}]".replace("-", "−")
    return "" if math.isnan(estimate.low) else bounds


def p_value(row: Difference) -> str:
    """The p-value to three decimals, or that it is below them."""
    if math.isnan(row.p_value):
        return "–"
    return f"{row.p_value:.3f}" if row.p_value >= 0.001 else "< 0.001"


# tables


def _labels(evaluation: Evaluation, width: int) -> Table:
    table = _table(width)
    table.add_column("label", overflow="fold")
    for name in ("precision", "recall", "F1", "AP", "ECE", "support"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, it in evaluation.labels.items():
        figures = [_cell(figure, width) for figure in (it.precision, it.recall, it.f1, it.average_precision)]
        table.add_row(plain(label, label_style(label)), *figures, number(it.calibration_error), f"{it.support:,}")
    table.add_section()
    for name, average in (("macro", evaluation.macro), ("micro", evaluation.micro)):
        figures = [_cell(figure, width) for figure in (average.precision, average.recall, average.f1)]
        table.add_row(plain(name, "bold"), *figures)
    return table


def _slices(evaluation: Evaluation, width: int) -> Table:
    """Macro F1 by slice, and F1 of each label where there is room for all of them."""
    # The columns before take about 50; each has two spaces beside it.
    room = width - 50 - sum(max(len(label), len("0.000")) + 2 for label in evaluation.labels) >= 0
    table = _table(width)
    table.add_column("slice", overflow="fold")
    table.add_column("turns", justify="right", no_wrap=True)
    table.add_column("macro F1", justify="right", no_wrap=True)
    for label in evaluation.labels if room else ():
        table.add_column(plain(label, label_style(label)), justify="right", no_wrap=True)
    for _, slices in groupby(evaluation.slices, key=lambda it: it.key):
        for it in slices:
            f1 = [number(value) for value in it.f1.values()] if room else []
            name = plain(f"{it.key} ", "dim") + plain(it.value, "bold")
            table.add_row(name, f"{it.turns:,}", _cell(it.macro_f1, width), *f1)
        table.add_section()
    return table


def _cell(estimate: Estimate, width: int) -> str:
    return _beside(number(estimate.value), interval(estimate), width)


def _beside(figure: str, bounds: str, width: int) -> str:
    return (" " if width >= _WIDE else "\n").join(filter(None, (figure, bounds)))


def _table(width: int) -> Table:
    padding = (0, 1, 0, 0) if width >= _WIDE else 0
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)


def _console() -> Console:
    """Standard output; wide where it is no terminal."""
    console = Console(file=standard_output(), highlight=False)
    return console if console.is_terminal else Console(file=console.file, highlight=False, width=_WIDE)
