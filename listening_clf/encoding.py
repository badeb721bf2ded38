"""From a turn of a conversation to the model's input: the one place that knows the input format.

Training and prediction both encode here, so they cannot drift apart. The input is a pair of segments:

    [CLS] the agent's turn [SEP] timing mark  [customer] … [agent] … [customer] … [SEP]

The second segment holds the turns before it, oldest first, each behind the mark of who said it, as many as fit
the budget; it starts with a mark of how the turn's start overlaps with the customer's last turn. Without times
there is no mark; with neither times nor context there is no second segment, so that `transformers.pipeline` on a
bare sentence sees just what `predict` on that sentence sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from listening_clf.conversation import Speaker, Turn, TurnInContext

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

ENCODING_VERSION = 1
"""Raised whenever the same turn would become another input; a checkpoint says which version it was trained with."""

SHORT_OVERLAP_SECONDS = 0.2
"""An overlap below this is natural turn-taking by the codebook ("overlap under 0.2 s at a turn's natural end")."""


class Timing(StrEnum):
    """How the agent's start lies to the end of the customer's turn before it. The value is the mark that is read."""

    UNKNOWN = ""
    NO_OVERLAP = "[no_overlap]"
    SHORT_OVERLAP = "[short_overlap]"
    LONG_OVERLAP = "[long_overlap]"


SPEAKER_MARKS: dict[Speaker, str] = {"agent": "[agent]", "customer": "[customer]"}
MARKS: tuple[str, ...] = (*SPEAKER_MARKS.values(), *filter(None, Timing))
"""The tokens that a tokenizer must have beside its own."""


@dataclass(frozen=True)
class EncodingSettings:
    """How much of a conversation the model reads, in tokens."""

    context_tokens: int = 96
    """At most this many tokens for the turns before (their marks included). The oldest go first."""
    max_length: int = 512
    """At most this many tokens in all. Only a turn that is longer than this by itself is ever cut, in its middle."""
    version: int = ENCODING_VERSION

    def __post_init__(self) -> None:
        if self.version != ENCODING_VERSION:
            raise ValueError(
                f"encoding version {self.version} is not {ENCODING_VERSION}, by which this version encodes"
            )
        if not self.context_tokens >= 0 or not self.max_length >= 8:
            raise ValueError(
                f"context_tokens must be 0 or more and max_length 8 or more, not {self.context_tokens} and "
                f"{self.max_length}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return asdict(self)


class Encoded(NamedTuple):
    """One agent turn as the model reads it."""

    input_ids: list[int]
    context_start: int
    """Where the second segment begins in `input_ids`; their length where there is none."""


class Encoder:
    """Encodes agent turns for one tokenizer.

    Args:
        tokenizer: has every one of `MARKS` as a token. It is set to read marks and special tokens in people's own
            words as plain text, never as marks, and to leave truncation and padding to this class.
        settings: how much the model reads.
    """

    def __init__(self, tokenizer: Tokenizer, settings: EncodingSettings | None = None) -> None:
        self.settings = settings or EncodingSettings()
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._marks = {mark: _mark_id(tokenizer, mark) for mark in MARKS}
        self._before, self._between, self._after = _frame(tokenizer)
        self._remembered: dict[str, list[int]] = {}
        """The tokens of texts that were read lately: as a call goes on, its turns are read again and again."""

    def encode(self, turns: Sequence[Turn], index: int) -> Encoded:
        """Encode `turns[index]` with the turns before it."""
        return self.encode_many([(turns, index)])[0]

    def encode_many(self, items: Iterable[TurnInContext]) -> list[Encoded]:
        """Encode each `(turns, index)`: the turn at that index with the turns before it. A text that is met again is
        not tokenized again.
        """
        items = list(items)
        texts = {text: None for turns, index in items for text in self._likely_read(turns, index)}
        if len(self._remembered) > REMEMBERED_TEXTS:
            self._remembered.clear()
        ids = _Tokens(self._tokenizer, list(texts), self._remembered)
        return [self._assemble(turns, index, ids) for turns, index in items]

    def _likely_read(self, turns: Sequence[Turn], index: int) -> list[str]:
        """The text of the turn at `index`, and of those before it whose words fill the budget of context."""
        texts, words = [turns[index].text], 0
        for earlier in _backwards(turns, index):
            if words >= self.settings.context_tokens:
                break
            texts.append(earlier.text)
            words += len(earlier.text.split()) + 1
        return texts

    def _assemble(self, turns: Sequence[Turn], index: int, ids: _Tokens) -> Encoded:
        room = self.settings.max_length - len(self._before) - len(self._after)
        turn = _without_middle(ids[turns[index].text], room)

        room -= len(turn) + len(self._between)
        context = self._context(turns, index, ids, min(room, self.settings.context_tokens))
        if not context:
            input_ids = self._before + turn + self._after
            return Encoded(input_ids, len(input_ids))
        first = self._before + turn + self._between
        return Encoded(first + context + self._after, len(first))

    def _context(self, turns: Sequence[Turn], index: int, ids: _Tokens, room: int) -> list[int]:
        """The second segment, at most `room` tokens: the timing mark, then the latest of the turns before."""
        timing = timing_of(turns, index)
        head = [self._marks[timing]] if timing and room > 0 else []
        room -= len(head)
        spoken: list[list[int]] = []
        for earlier in _backwards(turns, index):
            if room < 2:
                break
            words = ids[earlier.text][1 - room :]
            spoken.append([self._marks[SPEAKER_MARKS[earlier.speaker]], *words])
            room -= len(words) + 1
        return head + [token for turn in reversed(spoken) for token in turn]


class _Tokens:
    """The token ids of texts, each tokenized once: those that are likely asked for together, others when they are.

    Args:
        tokenizer: what tokenizes them.
        texts: those that are likely asked for.
        remembered: those that were tokenized before; short ones are added.
    """

    def __init__(self, tokenizer: Tokenizer, texts: list[str], remembered: dict[str, list[int]]) -> None:
        self._tokenizer = tokenizer
        found = ((text, remembered.get(text)) for text in texts)
        self._ids: dict[str, list[int]] = {text: ids for text, ids in found if ids is not None}
        new = [text for text in texts if text not in self._ids]
        encodings = (
            tokenizer.encode_batch(new, add_special_tokens=False)
            if len(new) >= _WORTH_THREADS
            else map(self._encode, new)
        )
        tokenized = {text: it.ids for text, it in zip(new, encodings, strict=True)}
        self._ids |= tokenized
        remembered.update((text, ids) for text, ids in tokenized.items() if len(text) <= _REMEMBERED_CHARACTERS)

    def __getitem__(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self._encode(text).ids
        return self._ids[text]

    def _encode(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)


REMEMBERED_TEXTS = 4096
"""Texts whose tokens are kept, about 3 MB; then all are forgotten."""

_REMEMBERED_CHARACTERS = 1000

_WORTH_THREADS = 100
"""Texts for which the tokenizer's threads save more than they cost; with fewer they take from the model's time."""


def timing_of(turns: Sequence[Turn], index: int) -> Timing:
    """How the start of `turns[index]` overlaps with the last customer turn before it."""
    customer = next((turn for turn in _backwards(turns, index) if turn.speaker == "customer"), None)
    start = turns[index].start
    if customer is None or customer.end is None or start is None:
        return Timing.UNKNOWN
    overlap = customer.end - start
    if overlap <= 0:
        return Timing.NO_OVERLAP
    return Timing.SHORT_OVERLAP if overlap < SHORT_OVERLAP_SECONDS else Timing.LONG_OVERLAP


def _backwards(turns: Sequence[Turn], index: int) -> Iterator[Turn]:
    """The turns before the one at `index`, the latest first."""
    return (turns[i] for i in range(index - 1, -1, -1))


def as_text_pair(turns: Sequence[Turn], index: int) -> tuple[str, str | None]:
    """The same input as texts: what a `transformers` tokenizer or pipeline takes as `text` and `text_pair`.

    It becomes the same tokens as `Encoder.encode`, as long as the context fits the budget.
    """
    timing = timing_of(turns, index)
    parts = [timing.value] if timing else []
    parts += [f"{SPEAKER_MARKS[turn.speaker]} {turn.text}" for turn in turns[:index]]
    return turns[index].text, " ".join(parts) or None


def pad(batch: Sequence[Encoded], pad_id: int, to_multiple_of: int = 1) -> dict[str, NDArray[np.int64]]:
    """Stack encoded turns into the model's arrays.

    Each has the shape (len(batch), longest turn of the batch), the length rounded up to a multiple of `to_multiple_of`.
    """
    longest = max(len(encoded.input_ids) for encoded in batch)
    shape = len(batch), -(-longest // to_multiple_of) * to_multiple_of
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    token_type_ids = np.zeros(shape, dtype=np.int64)
    for row, encoded in enumerate(batch):
        length = len(encoded.input_ids)
        input_ids[row, :length] = encoded.input_ids
        attention_mask[row, :length] = 1
        token_type_ids[row, encoded.context_start : length] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}


def _without_middle(ids: list[int], length: int) -> list[int]:
    """The first and last parts of `ids`, `length` in all: a turn's question often stands at its end."""
    if len(ids) <= length:
        return ids
    tail = length // 2
    return ids[: length - tail] + ids[len(ids) - tail :]


def _mark_id(tokenizer: Tokenizer, mark: str) -> int:
    token_id = tokenizer.token_to_id(mark)
    if token_id is None:
        raise ValueError(f"the tokenizer has no token {mark!r}: add listening_clf.encoding.MARKS to it")
    return int(token_id)


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int], list[int]]:
    """The special tokens that this tokenizer sets before, between and after two segments."""
    word = tokenizer.encode("a", add_special_tokens=False).ids
    pair = tokenizer.encode("a", "a").ids
    starts = [i for i in range(len(pair)) if pair[i : i + len(word)] == word]
    first, second = starts[0], starts[-1]
    return pair[:first], pair[first + len(word) : second], pair[second + len(word) :]
