"""Conversations as hasty people type them. For evaluation only: no model is trained on these."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from listening_clf.conversation import Conversation

SHARE = 0.1
"""Of the words of two letters or more, those that get a typo."""

_WORD = re.compile(r"[A-Za-z]{2,}")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {key: (row[:i][-1:] + row[i + 1 :][:1]) for row in _ROWS for i, key in enumerate(row)}


def with_typos(conversations: Iterable[Conversation], rng: np.random.Generator) -> Iterator[Conversation]:
    """Mistype about every tenth word of both sides, by one letter: swapped, dropped, doubled, or the key beside it."""
    for conversation in conversations:
        turns = [replace(turn, text=_mistyped(turn.text, rng)) for turn in conversation.turns]
        yield replace(conversation, turns=tuple(turns))


def _mistyped(text: str, rng: np.random.Generator) -> str:
    return _WORD.sub(lambda found: _edited(found[0], rng) if rng.random() < SHARE else found[0], text)


def _edited(word: str, rng: np.random.Generator) -> str:
    """One of the four edits, at a letter that has another one after it."""
    at = rng.integers(len(word) - 1)
    before, letter, following, rest = word[:at], word[at], word[at + 1], word[at + 2 :]
    beside = rng.choice(list(_NEIGHBOURS[letter.lower()]))
    edits = (
        following + letter,
        following,
        letter + letter + following,
        (beside.upper() if letter.isupper() else beside) + following,
    )
    return before + edits[rng.integers(len(edits))] + rest
