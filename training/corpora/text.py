"""The form of a corpus's text: white space, and what a tokenizer did to punctuation."""

from __future__ import annotations

import re
from dataclasses import replace

from listening_clf.conversation import Conversation


def fold(text: str) -> str:
    """The text with every run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def mend_tokenised(text: str) -> str:
    """Undo the spaces that a tokenizer set round punctuation: "does n't it ?" becomes "doesn't it?"."""
    for pattern, replacement in _MENDINGS:
        text = pattern.sub(replacement, text)
    return fold(text)


def mended(conversation: Conversation) -> Conversation:
    """The conversation with `mend_tokenised` text."""
    turns = tuple(replace(turn, text=mend_tokenised(turn.text)) for turn in conversation.turns)
    return replace(conversation, turns=turns)


_MENDINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"``|''", '"'),
        (r"(\w) (n't)\b", r"\1\2"),
        (r"(\w) ?' ?(s|m|d|t|re|ve|ll)\b", r"\1'\2"),
        (r'(^| )" ([^"]*?) ?"(?=\W|$)', r'\1"\2"'),
        (r"(?<=\d) ([:-]) (?=\d)|(?<=\w) (/) (?=\w)", r"\1\2"),
        (r" : ([()])", r" :\1"),
        (r" +([.,?!;)%]|:(?![()]))", r"\1"),
        (r"\( +", "("),
        (r"([#$]) (?=\d)", r"\1"),
    )
)
