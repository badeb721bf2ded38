"""What a check of labelled data has found, and how it looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_SHOWN = 5


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The data cannot be trained on."""
    WARNING = "warning"
    """Probably not what was meant."""
    NOTE = "note"
    """Good to know; nothing need be done."""


class Kind(StrEnum):
    """What is found, the worst first. The value is what it is called above its findings."""

    UNREADABLE = "cannot be read"
    NOTHING_TO_LEARN = "nothing to learn from"
    UNKNOWN_LABEL = "unknown labels"
    UNKNOWN_UNLABELLED = "unknown labels under 'unlabelled'"
    UNKNOWN_COLUMN = "columns that look like labels"
    CONFLICT = "the same input, labelled differently"
    SHARED_INPUT = "the same input in train and dev"
    SHARED_CONVERSATION = "the same conversation in train and dev"
    CUSTOMER_LABEL = "labels on what the customer says"
    RARE_LABEL = "labels that are hardly there"
    CUT_TURN = "turns that are too long"
    NO_CONVERSATION = "rows without a conversation"
    CUT_CONTEXT = "long contexts"
    NO_CONTEXT = "turns without context"

    @property
    def severity(self) -> Severity:
        """How bad a finding of this kind is."""
        if self in (Kind.UNREADABLE, Kind.NOTHING_TO_LEARN, Kind.UNKNOWN_LABEL):
            return Severity.ERROR
        is_note = self in (Kind.NO_CONVERSATION, Kind.CUT_CONTEXT, Kind.NO_CONTEXT)
        return Severity.NOTE if is_note else Severity.WARNING


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found."""

    kind: Kind
    message: str
    """Starts with the place; then what is there, and what would be right."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.kind.severity


@dataclass(frozen=True)
class Balance:
    """How often a label is given, in the annotated agent turns of a split."""

    positive: int = 0
    known: int = 0
    """The turns of which it is known whether they have the label."""
    unknown: int = 0


@dataclass(frozen=True)
class Findings:
    """All that a check has found."""

    findings: tuple[Finding, ...]
    """In the order of their kinds."""
    train: Mapping[str, Balance] = field(hash=False)
    """The balance of each label."""
    dev: Mapping[str, Balance] = field(hash=False)

    @property
    def has_errors(self) -> bool:
        """Whether the data cannot be trained on as it is."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)


_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold"}


def print_findings(findings: Findings, console: Console | None = None) -> None:
    """Print what a check has found, the first few of each kind, and the balance of the labels as a table.

    Args:
        findings: what to print.
        console: where to print it; standard output if not given.
    """
    console = console or Console(highlight=False)
    for kind, found in groupby(findings.findings, lambda finding: finding.kind):
        messages = [finding.message for finding in found]
        console.print(Text.assemble((kind.severity, _STYLES[kind.severity]), f": {kind}"))
        for message in messages[:_SHOWN]:
            console.print(Padding(Text(message), (0, 0, 0, 2), expand=False))
        if len(messages) > _SHOWN:
            console.print(f"  … and {len(messages) - _SHOWN:,} more")
        console.print()
    console.print(_balances(findings))


def _balances(findings: Findings) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("label", no_wrap=True)
    for split in ("train", "dev"):
        for count in ("with it", "known", "unknown"):
            table.add_column(f"{split}\n{count}", justify="right")
    for label, train in findings.train.items():
        dev = findings.dev[label]
        counts = (train.positive, train.known, train.unknown, dev.positive, dev.known, dev.unknown)
        table.add_row(Text(label), *(f"{count:,}" for count in counts))
    return table
