"""Which turns run together: each different input once, in batches of one length, in chunks of bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from listening_clf.encoding import Encoded

    Batch: TypeAlias = list[Encoded]
    Wait: TypeAlias = Callable[[], NDArray[np.float32]]
    """Waits for the logits of what was begun, of shape (turns, labels)."""

T = TypeVar("T")

TOKENS_PER_BATCH = 256
"""Tokens that run at once on one core: more would no longer fit its cache."""

CHUNK_TURNS = 1024
"""Turns that are read ahead: of these, those of one length run together."""

REMEMBERED_INPUTS = 16_384
"""Different inputs whose logits are kept for when they come again, as greetings do: about 10 MB."""


def chunks(items: Iterable[T]) -> Iterator[tuple[list[T], Exception | None]]:
    """Up to `CHUNK_TURNS` items at a time, and with the last chunk the error, if any, in which `items` ended."""
    iterator = iter(items)
    ended: Exception | None = None
    while ended is None:
        chunk: list[T] = []
        try:
            chunk.extend(islice(iterator, CHUNK_TURNS))  # what came before an error is kept
        except Exception as error:
            ended = error
        if chunk or ended:
            yield chunk, ended
        if len(chunk) < CHUNK_TURNS:
            return


def batches(turns: Iterable[Encoded], tokens: int = TOKENS_PER_BATCH) -> list[Batch]:
    """The turns in batches of one length each, of at most so many tokens or a single turn; the longest first.

    With no padding, no turn's scores depend on what runs beside it, and nothing is computed in vain.
    """
    by_length = defaultdict(list)
    for turn in turns:
        by_length[len(turn.input_ids)].append(turn)
    cut = []
    for length, members in sorted(by_length.items(), reverse=True):
        size = max(1, tokens // length)
        cut += [members[first : first + size] for first in range(0, len(members), size)]
    return cut


class Pass:
    """One pass over many turns, in which each different input is run once.

    Args:
        start: begins to run batches, and gives for each what waits for it.
        tokens: what a batch has at most.
    """

    def __init__(self, start: Callable[[list[Batch]], list[Wait]], tokens: int = TOKENS_PER_BATCH) -> None:
        self._start = start
        self._tokens = tokens
        self._known: dict[bytes, tuple[Wait, int]] = {}
        """Of an input that was met: what waits for its batch, and its row there."""

    def begin(self, turns: Sequence[Encoded]) -> Wait:
        """Begin to run some turns; what is returned waits for the logits of all of them, in order."""
        if len(self._known) > REMEMBERED_INPUTS:
            self._known.clear()
        keys = [input_key(turn) for turn in turns]
        new = {key: turn for key, turn in zip(keys, turns, strict=True) if key not in self._known}
        cut = batches(new.values(), self._tokens)
        for batch, wait in zip(cut, self._start(cut), strict=True):
            self._known.update((input_key(turn), (wait, row)) for row, turn in enumerate(batch))
        found = [self._known[key] for key in keys]
        return lambda: np.stack([wait()[row] for wait, row in found])


def input_key(turn: Encoded) -> bytes:
    """What tells an input from all others: a model gives the same logits where it is the same."""
    content = np.array([turn.context_start, *turn.input_ids], dtype=np.int32)
    return blake2b(content.tobytes(), digest_size=16).digest()
