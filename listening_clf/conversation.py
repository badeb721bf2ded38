"""What goes in and what comes out: `Turn`, `Conversation`, `Prediction`. Plain, frozen, JSON-ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from listening_clf.errors import TurnError

Speaker: TypeAlias = Literal["agent", "customer"]
SPEAKERS: tuple[Speaker, ...] = get_args(Speaker)

MAX_TURN_CHARS = 20_000
"""The longest text that one turn may have, in characters (about half an hour of speech)."""

MAX_SECONDS = 10**10
"""The latest time that a turn may have: wide enough for clocks that count from 1970."""


@dataclass(frozen=True)
class Turn:
    """What one side says between two turns of the other.

    Raises:
        TurnError: an unknown speaker, an empty or overlong text, a value of the wrong type, times that run backwards.
    """

    speaker: Speaker
    text: str
    start: float | None = None
    """Seconds from the start of the call; None where not known."""
    end: float | None = None
    labels: tuple[str, ...] | None = None
    """The labels that annotators gave this turn; None where nobody looked."""
    unlabelled: tuple[str, ...] = ()
    """Labels that this turn's annotators did not look for: unknown, not absent."""

    def __post_init__(self) -> None:
        if self.speaker not in SPEAKERS:
            raise TurnError(f"unknown speaker {self.speaker!r}: expected 'agent' or 'customer'")
        _check_text(self.text)
        _check_time("start", self.start)
        _check_time("end", self.end)
        if self.start is not None and self.end is not None and self.end < self.start:
            raise TurnError(f"the turn ends at {self.end} s, before its start at {self.start} s")
        if self.labels is not None:
            object.__setattr__(self, "labels", _strings("labels", self.labels))
        object.__setattr__(self, "unlabelled", _strings("unlabelled", self.unlabelled))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Turn:
        """Read a turn from `{"speaker", "text", "start"?, "end"?, "labels"?, "unlabelled"?}`; other keys are passed
        over.
        """
        if not isinstance(data, Mapping):
            raise TurnError(f"a turn must be an object with 'speaker' and 'text', not {_shown(data)}")
        for key in ("speaker", "text"):
            if key not in data:
                raise TurnError(f"the turn has no {key!r}: it needs 'speaker' and 'text'")
        return cls(
            data["speaker"],
            data["text"],
            data.get("start"),
            data.get("end"),
            data.get("labels"),
            data.get("unlabelled") or (),
        )

    def to_dict(self) -> dict[str, Any]:
        """The turn as a JSON object; what is not known is left out."""
        data: dict[str, Any] = {"speaker": self.speaker, "text": self.text}
        if self.start is not None:
            data["start"] = self.start
        if self.end is not None:
            data["end"] = self.end
        if self.labels is not None:
            data["labels"] = list(self.labels)
        if self.unlabelled:
            data["unlabelled"] = list(self.unlabelled)
        return data


TurnInContext: TypeAlias = tuple[Sequence[Turn], int]
"""One turn with those before it: the turns of a conversation, and the index of the turn that is meant."""


@dataclass(frozen=True)
class Conversation:
    """The turns of one conversation, in the order in which they began."""

    turns: tuple[Turn, ...]
    id: str | None = None
    unlabelled: tuple[str, ...] = ()
    """Labels that this conversation's annotators did not look for: unknown everywhere, not absent."""
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Whatever else the source says of the conversation (channel, style, …); carried along, never read by a model."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", as_turns(self.turns))
        object.__setattr__(self, "unlabelled", _strings("unlabelled", self.unlabelled))

    @property
    def agent_turns(self) -> tuple[int, ...]:
        """The indices of the agent's turns, in order: what a model predicts for."""
        return tuple(i for i, turn in enumerate(self.turns) if turn.speaker == "agent")

    @property
    def annotated_turns(self) -> tuple[int, ...]:
        """The indices of those agent turns that somebody annotated, in order: what is learned from and measured on."""
        return tuple(i for i in self.agent_turns if self.turns[i].labels is not None)

    def unknown_labels(self, index: int) -> frozenset[str]:
        """The labels that nobody looked for on the turn at `index`."""
        return frozenset({*self.unlabelled, *self.turns[index].unlabelled})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conversation:
        """Read a conversation from `{"turns": [...], "id"?, "unlabelled"?, ...}`.

        Raises:
            TurnError: a turn that is not one, named by its index.
        """
        if not isinstance(data, Mapping) or "turns" not in data:
            raise TurnError(f"a conversation must be an object with 'turns', not {_shown(data)}")
        known = {"id", "turns", "unlabelled"}
        identifier = data.get("id")
        return cls(
            turns=as_turns(data["turns"]),
            id=None if identifier is None else str(identifier),
            unlabelled=data.get("unlabelled") or (),
            meta={key: value for key, value in data.items() if key not in known},
        )

    def to_dict(self) -> dict[str, Any]:
        """The conversation as a JSON object, as `from_dict` reads it."""
        data: dict[str, Any] = {} if self.id is None else {"id": self.id}
        data |= self.meta
        data["turns"] = [turn.to_dict() for turn in self.turns]
        if self.unlabelled:
            data["unlabelled"] = list(self.unlabelled)
        return data


@dataclass(frozen=True)
class Prediction:
    """What a model says of one agent turn."""

    labels: tuple[str, ...]
    """The labels whose probability passes their own threshold, in the order of the model's labels."""
    scores: Mapping[str, float] = field(hash=False)
    """The calibrated probability, 0 to 1, of every label that the model knows."""

    def to_dict(self) -> dict[str, Any]:
        """The prediction as a JSON object."""
        return {"labels": list(self.labels), "scores": dict(self.scores)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prediction:
        """Read what `to_dict` wrote."""
        return cls(tuple(data["labels"]), dict(data["scores"]))


def as_turns(items: Iterable[Turn | Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Take turns, or their JSON objects, as turns.

    Raises:
        TurnError: an item that is no turn, named by its index in `items`.
    """
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise TurnError(f"turns must be a list of turns, not {_shown(items)}")
    turns = []
    for index, item in enumerate(items):
        try:
            turns.append(item if isinstance(item, Turn) else Turn.from_dict(item))
        except TurnError as error:
            raise TurnError(f"turn {index}: {error}") from None
    return tuple(turns)


def in_context(text: Any, context: Any = None) -> TurnInContext:
    """An agent turn with what came before it, each as `ListeningClassifier.predict` takes it.

    Raises:
        TurnError: the turn or one before it is none, or the turn is the customer's.
    """
    turn = text if isinstance(text, Turn) else Turn("agent", text)
    if turn.speaker != "agent":
        raise TurnError("the turn to predict is the customer's: labels are for what the agent says")
    if context is None:
        return (turn,), 0
    before = (Turn("customer", context),) if isinstance(context, str) else as_turns(context)
    return (*before, turn), len(before)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise TurnError(f"the text must be a string, not {_shown(text)}")
    if not text.strip():
        raise TurnError("the text is empty: leave the turn out, or give it words")
    if len(text) > MAX_TURN_CHARS:
        raise TurnError(f"the text has {len(text):,} characters; a turn may have at most {MAX_TURN_CHARS:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TurnError(f"the text has a lone surrogate, {text[error.start]!r}, at character {error.start}") from None


def _check_time(name: str, seconds: object) -> None:
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TurnError(f"{name} must be a number of seconds, not {_shown(seconds)}")
    if not 0 <= seconds <= MAX_SECONDS:  # false for NaN, too
        shown = "one of too many digits" if seconds > MAX_SECONDS else seconds
        raise TurnError(f"{name} must be a number of seconds from 0 to {MAX_SECONDS:,}, not {shown}")


def _strings(name: str, values: object) -> tuple[str, ...]:
    if isinstance(values, Sequence) and not isinstance(values, str) and all(isinstance(v, str) for v in values):
        return tuple(values)
    raise TurnError(f"{name} must be a list of label names, not {_shown(values)}")


def _shown(value: object) -> str:
    """The value as an error message can show it: short, whatever it is."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
