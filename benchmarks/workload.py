"""Calls without end to measure on: the authored conversations' turns, recombined.

A call has the speakers of one authored conversation, so calls are as long as those are, and each of its turns is drawn
from all that this speaker says in any of them. So nearly every input is a new one, of the length that real ones have:
what a model remembers of earlier inputs does not make it look fast. Nobody times the turns.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from listening_clf.conversation import Conversation, Speaker, Turn, TurnInContext
from listening_clf.encoding import EncodingSettings, as_text_pair, timing_of
from training.corpora import authored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenizers import Tokenizer

CONTEXT_TOKENS = EncodingSettings().context_tokens


def conversations(seed: int) -> Iterator[Conversation]:
    """Calls, endlessly."""
    rng = random.Random(seed)
    shapes, _ = _authored()
    while True:
        yield _filled(rng.choice(shapes), rng)


def conversations_of(turns: int, seed: int) -> Iterator[Conversation]:
    """Calls of so many turns in which the agent, who begins, and the customer take turns; endlessly."""
    rng = random.Random(seed)
    speakers: tuple[Speaker, ...] = tuple(islice(cycle(("agent", "customer")), turns))
    while True:
        yield _filled(speakers, rng)


def endless_agent_turns(seed: int) -> Iterator[TurnInContext]:
    """Every agent turn of `conversations`, with its call."""
    for conversation in conversations(seed):
        for index in conversation.agent_turns:
            yield conversation.turns, index


def agent_turns(n: int, seed: int) -> list[TurnInContext]:
    """The first `n` of them."""
    return list(islice(endless_agent_turns(seed), n))


def one_turn_of_context(item: TurnInContext) -> TurnInContext:
    """The turn with only the one before it, if there is one."""
    turns, index = item
    first = max(0, index - 1)
    return turns[first : index + 1], index - first


def for_predict(item: TurnInContext) -> tuple[Turn, tuple[Turn, ...]]:
    """The turn and those before it, as `predict` and `predict_stream` take them."""
    turns, index = item
    return turns[index], tuple(turns[:index])


def as_read(item: TurnInContext, tokenizer: Tokenizer) -> TurnInContext:
    """The turn with what a listening_clf model reads of those before it: the latest, the oldest of them cut.

    So others can be given the same words, and need not read more than our models do.
    """
    turns, index = item
    room = CONTEXT_TOKENS - bool(timing_of(turns, index))
    kept = [turns[index]]
    for earlier in reversed(turns[:index]):
        if room < 2:  # a mark of who spoke, and a word
            break
        starts = [start for start, _ in tokenizer.encode(earlier.text, add_special_tokens=False).offsets][1 - room :]
        if starts:
            kept.append(replace(earlier, text=earlier.text[starts[0] :]))
            room -= len(starts) + 1
    return kept[::-1], len(kept) - 1


def for_contender(item: TurnInContext, tokenizer: Tokenizer) -> dict[str, Any]:
    """The turn in each form in which a contender may want it, to be sent as JSON; what annotators said is left out."""
    turn, before = for_predict(item)
    kept, index = as_read(item, tokenizer)
    text, text_pair = as_text_pair(kept, index)
    return {
        "turn": _bare(turn),
        "context": [_bare(it) for it in before],
        "text": text,
        "text_pair": text_pair,
        "one_text": " ".join([text, *_after_separator(it.text for it in kept[:index])]),
    }


def _after_separator(context: Iterable[str]) -> list[str]:
    """The context's words without marks of who spoke, which an encoder that does not know them would cut in three."""
    words = list(context)
    return ["[SEP]", *words] if words else []


def _bare(turn: Turn) -> dict[str, Any]:
    return replace(turn, labels=None, unlabelled=()).to_dict()


def _filled(speakers: tuple[Speaker, ...], rng: random.Random) -> Conversation:
    _, said = _authored()
    return Conversation(tuple(rng.choice(said[speaker]) for speaker in speakers))


@cache
def _authored() -> tuple[list[tuple[Speaker, ...]], dict[Speaker, list[Turn]]]:
    """The sequence of speakers of each authored conversation, and what each speaker says in all of them."""
    shapes = []
    said: dict[Speaker, list[Turn]] = {"agent": [], "customer": []}
    for conversation in authored.read():
        shapes.append(tuple(turn.speaker for turn in conversation.turns))
        for turn in conversation.turns:
            said[turn.speaker].append(Turn(turn.speaker, turn.text))
    return shapes, said
