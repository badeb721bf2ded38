"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

AgentOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who is the agent, where the speakers are not called agent and customer."),
]
