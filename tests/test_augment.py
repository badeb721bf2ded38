"""Conversations made of annotated ones."""

import numpy as np

from listening_clf.conversation import Conversation, Turn
from training.augment import with_other_customers

BILLED = Conversation(
    (
        Turn("customer", "You billed me twice.", 0.0, 1.0),
        Turn("agent", "Billed twice! What happened?", 1.0, 2.0, labels=("paraphrase", "open_question", "reflection")),
        Turn("agent", "One moment.", labels=()),
    )
)
PARCEL = Conversation((Turn("customer", "My parcel is lost."), Turn("agent", "Your parcel is lost.", labels=())))


def test_after_another_customers_words_a_paraphrase_is_none() -> None:
    (made,) = with_other_customers([BILLED, PARCEL], np.random.default_rng(0))

    assert [turn.text for turn in made.turns] == ["My parcel is lost.", "Billed twice! What happened?"]
    assert made.annotated_turns == (1,)
    assert made.turns[1].labels == ("open_question",)
    assert made.unknown_labels(1) == {"reflection", "summary", "interruption"}
    assert made.turns[1].start is None


def test_there_must_be_another_customer() -> None:
    assert not list(with_other_customers([BILLED], np.random.default_rng(0)))
