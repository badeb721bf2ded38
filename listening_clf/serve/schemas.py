"""What requests and answers look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictStr,
    Tag,
    model_validator,
)

from listening_clf.conversation import MAX_SECONDS, MAX_TURN_CHARS, Conversation, Speaker, Turn
from listening_clf.serve.settings import LIVE_TURNS, REQUEST_TURNS

Text: TypeAlias = Annotated[
    StrictStr,
    Field(min_length=1, max_length=MAX_TURN_CHARS, pattern=r"\S", examples=["So you were charged twice?"]),
]
Seconds: TypeAlias = Annotated[
    float,
    Field(strict=True, ge=0, le=MAX_SECONDS, allow_inf_nan=False, description="Seconds from the start of the call."),
]
Id: TypeAlias = Annotated[StrictStr, Field(min_length=1, max_length=200, examples=["call-7"])]
ModelName: TypeAlias = Annotated[
    StrictStr | None,
    Field(description="Which of the loaded models. Absent: the default one.", examples=[None]),
]
EXAMPLE_SCORES = {
    "paraphrase": 0.97,
    "reflection": 0.02,
    "open_question": 0.01,
    "summary": 0.01,
    "interruption": 0.0,
}


MOST_KEYS = 16
"""Keys of an object of a request, known or not."""


class Strict(BaseModel):
    """An object that has no keys but its own: a misspelt one is an error, not passed over."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_keys(cls, data: Any) -> Any:
        """Each unknown key is an error of its own: with a million of them, there is no end to what is wrong."""
        if isinstance(data, dict) and len(data) > MOST_KEYS:
            raise ValueError(f"{len(data):,} keys, of which it can have {', '.join(cls.model_fields)}")
        return data


class TurnIn(BaseModel):
    """A turn of either side. Other keys are passed over."""

    speaker: Speaker
    text: Text
    start: Seconds | None = None
    end: Seconds | None = None

    def to_turn(self) -> Turn:
        """The turn.

        Raises:
            TurnError: it ends before it starts.
        """
        return Turn(self.speaker, self.text, self.start, self.end)


def _kind_of_context(context: Any) -> str:
    return "<turns>" if isinstance(context, list) else "<said>"


Context: TypeAlias = Annotated[
    Annotated[Text, Tag("<said>")]
    | Annotated[list[TurnIn], Field(max_length=REQUEST_TURNS, fail_fast=True), Tag("<turns>")],
    Discriminator(_kind_of_context),
    Field(
        description="What came before: the customer's words, or the turns of both sides, oldest first.",
        examples=["There are two charges on my card."],
    ),
]


class AgentTurn(Strict):
    """An agent turn, with what came before it."""

    text: Text
    start: Seconds | None = None
    end: Seconds | None = None
    context: Context | None = None

    def to_turn(self) -> Turn:
        """The turn itself.

        Raises:
            TurnError: it ends before it starts.
        """
        return Turn("agent", self.text, self.start, self.end)


class OneTurn(AgentTurn):
    """One agent turn to judge."""

    model: ModelName = None

    @property
    def turns(self) -> list[AgentTurn]:
        """The turn itself, as `ManyTurns` has several."""
        return [self]


class ManyTurns(Strict):
    """Agent turns to judge that need not belong together."""

    turns: Annotated[list[AgentTurn], Field(min_length=1, max_length=REQUEST_TURNS)]
    model: ModelName = None


def _one_or_many(body: Any) -> str:
    has_turns = "turns" in body if isinstance(body, dict) else isinstance(body, ManyTurns)
    return "<many>" if has_turns else "<one>"


PredictRequest: TypeAlias = Annotated[
    Annotated[OneTurn, Tag("<one>")] | Annotated[ManyTurns, Tag("<many>")], Discriminator(_one_or_many)
]


class ConversationIn(BaseModel):
    """A conversation, as JSONL has one a line. Other keys are passed over."""

    id: Id | None = None
    turns: Annotated[list[TurnIn], Field(min_length=1, max_length=REQUEST_TURNS, fail_fast=True)]

    def to_conversation(self) -> Conversation:
        """The conversation.

        Raises:
            TurnError: a turn ends before it starts.
        """
        return Conversation(tuple(turn.to_turn() for turn in self.turns), self.id)


def _not_too_long(conversations: list[ConversationIn]) -> list[ConversationIn]:
    turns = sum(turn.speaker == "agent" for conversation in conversations for turn in conversation.turns)
    if turns > REQUEST_TURNS:
        raise ValueError(f"{turns:,} agent turns; a request may have {REQUEST_TURNS:,}")
    return conversations


class ConversationsRequest(Strict):
    """Whole conversations, each agent turn of which is read with the turns before it."""

    conversations: Annotated[
        list[ConversationIn], Field(min_length=1, max_length=REQUEST_TURNS), AfterValidator(_not_too_long)
    ]
    model: ModelName = None


Scores: TypeAlias = Annotated[
    dict[str, float],
    Field(description="The calibrated probability of each label.", examples=[EXAMPLE_SCORES]),
]
Labels: TypeAlias = Annotated[
    list[str],
    Field(description="Those whose probability passes their own threshold.", examples=[["paraphrase"]]),
]


class PredictionOut(BaseModel):
    """What the model says of one agent turn."""

    labels: Labels
    scores: Scores


class OnePrediction(PredictionOut):
    """The answer to `OneTurn`."""

    model: str = Field(examples=["small"])


class ManyPredictions(BaseModel):
    """The answer to `ManyTurns`: a prediction a turn, in order."""

    predictions: list[PredictionOut]
    model: str = Field(examples=["small"])


class JudgedTurn(PredictionOut):
    """What the model says of an agent turn of a conversation."""

    index: int = Field(description="The turn's index in the conversation.", examples=[1])


class Totals(BaseModel):
    """What a conversation adds up to."""

    agent_turns: int = Field(examples=[1])
    customer_turns: int = Field(examples=[1])
    labels: dict[str, int] = Field(description="How many agent turns have each label.", examples=[{"paraphrase": 1}])


class JudgedConversation(BaseModel):
    """A conversation's agent turns, judged."""

    id: str | None = Field(examples=["call-7"])
    turns: list[JudgedTurn]
    totals: Totals


class ConversationsAnswer(BaseModel):
    """The answer to `ConversationsRequest`, in the same order."""

    conversations: list[JudgedConversation]
    model: str = Field(examples=["small"])


class TranscribedTurn(BaseModel):
    """A turn of a transcript; of the customer's, nothing is said."""

    speaker: Speaker
    text: str
    start: float | None = None
    end: float | None = None
    labels: Labels | None
    scores: Scores | None


class TranscribedConversation(BaseModel):
    """A conversation of a transcript, all of its turns with it."""

    id: str | None
    turns: list[TranscribedTurn]
    totals: Totals


class TranscriptAnswer(BaseModel):
    """All conversations of a file."""

    conversations: list[TranscribedConversation]
    model: str


class ModelInfo(BaseModel):
    """What is known of a loaded model."""

    name: str = Field(examples=["small"])
    is_default: bool
    source: str = Field(description="Where it is from.", examples=["small"])
    labels: list[str]
    thresholds: dict[str, float] = Field(description="The probability from which on a label is given.")
    device: str = Field(examples=["cpu"])
    context_tokens: int = Field(description="How many tokens of the turns before are read.", examples=[96])
    versions: dict[str, str | int | None] = Field(
        description="Of the library, the codebook, the encoding and the checkpoint's format.",
        examples=[{"listening_clf": "0.1.0", "codebook": "1.1", "encoding": 1, "format": 1}],
    )
    sha256: str = Field(description="Of the model's weights, as they are run.")


class ModelList(BaseModel):
    """All loaded models, the first loaded first."""

    models: list[ModelInfo]


class LoadRequest(Strict):
    """Which model to load."""

    source: Annotated[StrictStr, Field(min_length=1, max_length=1000)] | None = Field(
        None,
        description="A bundled model, a folder, or a hub's NAME@REVISION. Absent: the name in the address.",
        examples=["org/calls@v2"],
    )
    make_default: StrictBool = Field(True, description="Send requests that name no model to it from now on.")


class Start(Strict):
    """The first message of a live call: begin it, or go on with it after the connection dropped."""

    type: Literal["start"]
    call: Id
    model: ModelName = None
    key: StrictStr | None = Field(None, description="The API key, where no header can be sent.")


class LiveTurnIn(Strict):
    """A turn of the live call, or as much of it as has been said."""

    type: Literal["turn"]
    seq: Annotated[int, Field(strict=True, ge=0, lt=LIVE_TURNS)]
    speaker: Speaker
    text: Text
    start: Seconds | None = None
    end: Seconds | None = None
    final: StrictBool = True
    revision: Annotated[int, Field(strict=True, ge=0, le=2**53)] = 0


class End(Strict):
    """The call is over: forget it."""

    type: Literal["end"]


MessageType: TypeAlias = Literal["start", "turn", "end"]
Message: TypeAlias = Annotated[Start | LiveTurnIn | End, Field(discriminator="type")]
