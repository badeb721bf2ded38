"""The five listening labels and what they mean: the codebook, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

CODEBOOK_VERSION = "1.1"


class Label(StrEnum):
    """A listening label. Members are strings (`Label.SUMMARY == "summary"`), in codebook order."""

    PARAPHRASE = "paraphrase"
    REFLECTION = "reflection"
    OPEN_QUESTION = "open_question"
    SUMMARY = "summary"
    INTERRUPTION = "interruption"

    @property
    def definition(self) -> Definition:
        """What the codebook says of this label."""
        return _DEFINITIONS[self]


@dataclass(frozen=True)
class Definition:
    """One label's entry in the codebook."""

    meaning: str
    """Completes the sentence "The agent turn …"."""
    needs_context: bool
    """Whether the label can hardly be told without the customer's turn before it."""
    yes: tuple[str, ...]
    """What counts."""
    no: tuple[str, ...]
    """What is easily taken for it and does not count."""


_DEFINITIONS = MappingProxyType(
    {
        Label.PARAPHRASE: Definition(
            meaning="restates, in the agent's own or nearly the same words, the content of what the customer said: "
            "the request, problem, fact, view or situation",
            needs_context=True,
            yes=(
                "So you were charged twice for the same order.",
                "So you'd like to move 200 dollars from checking to savings? (a check question counts)",
                "You can't log in since the update, got it.",
            ),
            no=(
                "a read-back of bare data: That's 4-4-7-1?",
                "an acknowledgement, thanks, apology or sympathy alone: I see. Got it.",
                "the agent's own next step: I'll cancel that order for you.",
            ),
        ),
        Label.REFLECTION: Definition(
            meaning="names or mirrors what the customer feels, values or means beneath the words",
            needs_context=False,
            yes=(
                "That must be frustrating after waiting all week.",
                "Being there for your kids matters a lot to you.",
                "That's exciting! (of the customer's own news)",
            ),
            no=(
                "stock sympathy that names no feeling: I'm sorry for the inconvenience.",
                "empathy about nothing in particular, praise, reassurance: I understand. Don't worry.",
                "the agent's own feelings: I hate when that happens to me.",
            ),
        ),
        Label.OPEN_QUESTION: Definition(
            meaning="asks something that invites the customer to explain or elaborate; "
            "a yes/no, a choice from a list, or a single datum would not answer it",
            needs_context=False,
            yes=(
                "What happened when you restarted it?",
                "Can you tell me more about that? (polite forms count by what they ask for)",
                "How can I help you today?",
            ),
            no=(
                "a closed question: Did you restart it? Anything else?",
                "a request for one datum: What's your order number?",
                "a rhetorical question, a tag (right?), How are you? as a bare greeting",
            ),
        ),
        Label.SUMMARY: Definition(
            meaning="pulls together two or more points, facts, steps or decisions from earlier in the conversation "
            "into one overview",
            needs_context=True,
            yes=(
                "To recap: refund for the shoes, new pair out Friday, email confirmation today.",
                "You've told me about the job, the drinking and your sister …",
            ),
            no=(
                "a restatement of the customer's last turn alone (paraphrase)",
                "a list that is new to the conversation: options, terms, results, instructions",
            ),
        ),
        Label.INTERRUPTION: Definition(
            meaning="starts before the customer has finished the turn and takes the floor",
            needs_context=True,
            yes=('customer: "and then when I tried to -", agent: "What is your order number?"',),
            no=(
                "a backchannel that leaves the floor with the customer: mm-hm, yeah, right, I see",
                "the customer trailed off or paused, and the agent waited",
                "an overlap under 0.2 s at a turn's natural end",
            ),
        ),
    }
)
