"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

AgentOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who is the agent, where the speakers are not called agent and customer."),
]

MinPrecisionOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[LABEL=]NUMBER",
        help="Take the threshold with the most recall among those with at least this precision on the model's dev "
        "data: of all labels, or with LABEL= of one; may be given for several.",
    ),
]


def min_precision_of(values: list[str] | None) -> float | dict[str, float] | None:
    """What --min-precision says: a number for all labels, a number by label, or nothing.

    Raises:
        BadParameter: something that is no number, or several for one label.
    """
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return _number(values[0])
    by_label: dict[str, float] = {}
    for value in values:
        label, equals, number = value.rpartition("=")
        if not equals or label in by_label:
            raise _bad_min_precision("give one number for all labels, or LABEL=NUMBER once for each of some")
        by_label[label] = _number(number)
    return by_label


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _bad_min_precision(f"expected a number such as 0.9, or LABEL=0.9, not {text!r}") from None


def _bad_min_precision(problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint="--min-precision")
