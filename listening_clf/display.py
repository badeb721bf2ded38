"""Predictions as people and programs read them: a table in the terminal, JSONL, CSV; and the codebook for people."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TextIO

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from listening_clf.conversation import Conversation, Prediction
from listening_clf.labels import CODEBOOK_VERSION, Label

# Each has a contrast of 3.3 or more on white as on black.
_COLOURS: dict[str, str] = {
    Label.PARAPHRASE: "color(33)",
    Label.REFLECTION: "color(133)",
    Label.OPEN_QUESTION: "color(29)",
    Label.SUMMARY: "color(136)",
    Label.INTERRUPTION: "color(160)",
}
_CONTROL_CODES = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")


class Writer(Protocol):
    """Writes predictions to standard output, conversation by conversation."""

    def write(self, conversation: Conversation, predictions: Sequence[Prediction]) -> None:
        """Write one conversation with a prediction for each of its agent turns."""

    def finish(self) -> None:
        """Write what comes after the last conversation."""


class TableWriter:
    """A table a conversation, and a line of totals."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._console = Console(file=standard_output(), highlight=False)
        self._counts = Counter(dict.fromkeys(labels, 0))
        self._conversations = self._turns = self._labelled = 0

    def write(self, conversation: Conversation, predictions: Sequence[Prediction]) -> None:
        """Print the table."""
        of_turn = dict(zip(conversation.agent_turns, predictions, strict=True))
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("speaker", no_wrap=True)
        table.add_column("text", overflow="fold")
        table.add_column("labels", no_wrap=True)
        for index, turn in enumerate(conversation.turns):
            labels = _labels(of_turn[index]) if index in of_turn else Text()
            style = "dim" if turn.speaker == "customer" else ""
            table.add_row(clock(turn.start), turn.speaker, plain(turn.text), labels, style=style)
        self._console.print(plain(conversation.id or ""), style="bold")
        self._console.print(table)
        self._console.print()
        self._count(predictions)

    def _count(self, predictions: Sequence[Prediction]) -> None:
        self._conversations += 1
        self._turns += len(predictions)
        self._labelled += sum(bool(prediction.labels) for prediction in predictions)
        self._counts.update(label for prediction in predictions for label in prediction.labels)

    def finish(self) -> None:
        """Print the totals."""
        share = _percent(self._labelled / self._turns)
        turns = f"{many(self._turns, 'agent turn')} in {many(self._conversations, 'conversation')}"
        totals = Text(f"{turns}, {share} with a label: ")
        counts = [Text.assemble((label, label_style(label)), f" {count}") for label, count in self._counts.items()]
        self._console.print(totals + Text(", ").join(counts))


class JsonlWriter:
    """A conversation a line, as it can be read, with `labels` and `scores` on each agent turn."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._stream = standard_output(encoding="utf-8")

    def write(self, conversation: Conversation, predictions: Sequence[Prediction]) -> None:
        """Write the line."""
        # The labels are now the model's, which looks for all of its own.
        data = replace(conversation, unlabelled=()).to_dict()
        for index, prediction in zip(conversation.agent_turns, predictions, strict=True):
            scores = {label: round(prediction.scores[label], 4) for label in self._labels}
            turn = data["turns"][index]
            turn |= {"labels": list(prediction.labels), "scores": scores}
            turn.pop("unlabelled", None)
        print(json.dumps(data, ensure_ascii=False), file=self._stream, flush=True)

    def finish(self) -> None:
        """Nothing comes after the last line."""


class CsvWriter:
    """An agent turn a row, with a column of probabilities for each label."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._stream = standard_output(encoding="utf-8")
        self._csv = csv.writer(self._stream, lineterminator="\n")
        self._csv.writerow(["conversation", "turn", "start", "end", "text", "labels", *labels])

    def write(self, conversation: Conversation, predictions: Sequence[Prediction]) -> None:
        """Write the rows."""
        for index, prediction in zip(conversation.agent_turns, predictions, strict=True):
            turn = conversation.turns[index]
            scores = [f"{prediction.scores[label]:.4f}" for label in self._labels]
            labels = "|".join(prediction.labels)
            self._csv.writerow([conversation.id, index, turn.start, turn.end, turn.text, labels, *scores])
        self._stream.flush()

    def finish(self) -> None:
        """Nothing comes after the last row."""


WRITERS: dict[str, Callable[[Sequence[str]], Writer]] = {
    "table": TableWriter,
    "jsonl": JsonlWriter,
    "csv": CsvWriter,
}
"""The writer of each format, to be made with the model's labels in their order."""


def progress_bar() -> Progress:
    """A bar on stderr, which only shows where the results themselves do not go to the terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} files"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        disable=sys.stdout.isatty() or not sys.stderr.isatty(),
    )


def print_codebook() -> None:
    """Print what each label means, what counts and what does not."""
    console = Console(file=standard_output(), highlight=False)
    console.print(f"The five listening labels of an agent turn, by version {CODEBOOK_VERSION} of the codebook.")
    for label in Label:
        definition = label.definition
        console.print(Text(f"\n{label}", label_style(label)))
        console.print(Padding(f"The agent turn {definition.meaning}.", (0, 0, 0, 2)))
        examples = Table.grid(padding=(0, 2), pad_edge=True)
        for word, lines in (("yes", definition.yes), ("no", definition.no)):
            for number, line in enumerate(lines):
                examples.add_row(word if number == 0 else "", Text(line))
        console.print(examples)
        if definition.needs_context:
            console.print(Padding("Can hardly be told without the turn before it.", (0, 0, 0, 2)))


def standard_output(encoding: str | None = None) -> TextIO:
    """Standard output, which a character that it does not know shall not stop."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    return sys.stdout


def plain(text: str, style: str = "") -> Text:
    """The text with nothing in it that a terminal would obey, or that is markup to rich."""
    return Text(text.translate(_CONTROL_CODES), style)


def label_style(label: str) -> str:
    """The style of a label's name. A label that is not of the codebook has no colour."""
    return f"bold {_COLOURS.get(label, '')}"


def clock(seconds: float | None) -> str:
    """Seconds as m:ss.s; nothing where they are not known."""
    if seconds is None:
        return ""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def many(count: int, noun: str) -> str:
    """The count with its noun in the right number."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _labels(prediction: Prediction) -> Text:
    return Text("\n").join(
        Text.assemble((label, label_style(label)), f" {_percent(prediction.scores[label])}")
        for label in prediction.labels
    )


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
