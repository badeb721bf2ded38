"""A live call: its turns as far as they came, in the order in which they began, with what was said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from typing import Any

from listening_clf.conversation import Conversation, Prediction, Turn, TurnInContext


class Taken(StrEnum):
    """What became of a turn that came."""

    NEW = "new"
    CHANGED = "changed"
    """It had come before, with other words or times, or not yet final."""
    REPEATED = "repeated"
    """It is just as it was."""
    STALE = "stale"
    """It is older than what is known: a part of a turn that is final, or an earlier revision. It was passed over."""


@dataclass(frozen=True)
class LiveTurn:
    """A turn of a live call, final or as far as it has been said."""

    seq: int
    """Its place in the call: 0 for the turn that began first."""
    turn: Turn
    final: bool = True
    revision: int = 0
    prediction: Prediction | None = None

    @property
    def is_agents(self) -> bool:
        """Whether it is to be judged."""
        return self.turn.speaker == "agent"

    def to_dict(self) -> dict[str, Any]:
        """The turn as a JSON object."""
        judged = None if self.prediction is None else self.prediction.to_dict()
        return {
            "seq": self.seq,
            "turn": self.turn.to_dict(),
            "final": self.final,
            "revision": self.revision,
            "prediction": judged,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LiveTurn:
        """Read what `to_dict` wrote."""
        judged = data["prediction"]
        return cls(
            data["seq"],
            Turn.from_dict(data["turn"]),
            data["final"],
            data["revision"],
            None if judged is None else Prediction.from_dict(judged),
        )


class LiveCall:
    """The turns of a call, which may come out of order, in parts, late, or more than once.

    Args:
        turns: those that are known already.
    """

    def __init__(self, turns: Iterable[LiveTurn] = ()) -> None:
        self._turns = {it.seq: it for it in sorted(turns, key=lambda it: it.seq)}

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, seq: int) -> LiveTurn:
        return self._turns[seq]

    def __contains__(self, seq: object) -> bool:
        return seq in self._turns

    @property
    def turns(self) -> list[LiveTurn]:
        """All of them, in the order in which they began."""
        return list(self._turns.values())

    @property
    def unjudged(self) -> list[int]:
        """The agent turns that nothing was said of yet."""
        return [it.seq for it in self._turns.values() if it.is_agents and it.prediction is None]

    @property
    def characters(self) -> int:
        """How much has been said."""
        return sum(len(it.turn.text) for it in self._turns.values())

    @property
    def next(self) -> int:
        """The first turn that is not known as final: from there on, a client that has lost count sends again."""
        return next(seq for seq in count() if seq not in self._turns or not self._turns[seq].final)

    def take(self, new: LiveTurn) -> Taken:
        """Put a turn that came in its place."""
        known = self._turns.get(new.seq)
        if known is None:
            in_order = not self._turns or new.seq > next(reversed(self._turns))
            self._turns[new.seq] = new
            if not in_order:
                self._turns = dict(sorted(self._turns.items()))
            return Taken.NEW
        if (new.turn, new.final, new.revision) == (known.turn, known.final, known.revision):
            return Taken.REPEATED
        if new.revision < known.revision or (known.final and not new.final):
            return Taken.STALE
        # What is said of the same words stays true: a part that only became final need not be judged again.
        self._turns[new.seq] = replace(new, prediction=known.prediction if new.turn == known.turn else None)
        return Taken.CHANGED

    def judged(self, seq: int, prediction: Prediction) -> bool:
        """Note what was said of a turn, and say whether that is news."""
        known = self._turns[seq]
        self._turns[seq] = replace(known, prediction=prediction)
        return known.prediction != prediction

    def in_context(self, seq: int) -> TurnInContext:
        """The turn with those before it, as a model takes it."""
        before = [it.turn for it in self._turns.values() if it.seq <= seq]
        return before, len(before) - 1

    def reading(self, seq: int, context_tokens: int) -> list[int]:
        """The later agent turns whose context reaches back to this turn, at the most.

        A word is a token at least, and so is the mark of who said it.
        """
        readers, tokens = [], 0
        for later in self._turns.values():
            if later.seq <= seq:
                continue
            if later.is_agents:
                readers.append(later.seq)
            tokens += len(later.turn.text.split()) + 1
            if tokens >= context_tokens:
                break
        return readers

    def totals(self) -> dict[str, Any]:
        """How often what was said, as `totals` counts it, in the turns that are final."""
        final = [it for it in self._turns.values() if it.final]
        predictions = [it.prediction for it in final if it.prediction is not None]
        agents = sum(it.is_agents for it in final)
        return _totals(agents, len(final) - agents, predictions)


def totals(conversation: Conversation, predictions: Iterable[Prediction]) -> dict[str, Any]:
    """How many turns a conversation has, and how many of the agent's have each label, as a JSON object."""
    agents = len(conversation.agent_turns)
    return _totals(agents, len(conversation.turns) - agents, predictions)


def _totals(agents: int, customers: int, predictions: Iterable[Prediction]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for prediction in predictions:
        counts.update(dict.fromkeys(prediction.scores, 0))
        counts.update(prediction.labels)
    return {"agent_turns": agents, "customer_turns": customers, "labels": dict(counts)}
