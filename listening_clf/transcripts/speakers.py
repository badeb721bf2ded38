"""Who is the agent: from the names in a file to the two sides of a conversation."""

from __future__ import annotations

from collections.abc import Iterable

from listening_clf.conversation import SPEAKERS, Speaker
from listening_clf.errors import SpeakersError
from listening_clf.transcripts.source import Place, excerpt

_NAMES_SHOWN = 5


def sides(names: Iterable[str], agent: str | None, place: Place) -> dict[str, Speaker]:
    """Say of each name whether it is the agent or the customer.

    Args:
        names: who speaks, turn by turn.
        agent: the agent's name, in any case; all others are customers. None: the names must be agent and customer.
        place: where the conversation stands, for the error.

    Raises:
        SpeakersError: it cannot be told who is the agent, or nobody is.
        TranscriptError: there are no turns.
    """
    names = list(dict.fromkeys(names))
    if not names:
        raise place.error("there are no turns")
    if agent is None and not all(_key(name) in SPEAKERS for name in names):
        problem = f"the speakers are {_listed(names)}: say which one is the agent with --agent NAME"
        raise SpeakersError(f"{place}: {problem}", tuple(names))
    found: dict[str, Speaker] = {name: "agent" if is_agent(name, agent) else "customer" for name in names}
    if "agent" not in found.values():
        sought = "" if agent is None else f"nobody is called {agent!r}, "
        raise SpeakersError(f"{place}: no agent turn: {sought}the speakers are {_listed(names)}", tuple(names))
    return found


def is_agent(name: str, agent: str | None) -> bool:
    """Whether this is the agent's name, in any case; "agent" where the agent has no other."""
    return _key(name) == _key("agent" if agent is None else agent)


def _key(name: str) -> str:
    return name.strip().casefold()


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(excerpt, names[:_NAMES_SHOWN]))
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
