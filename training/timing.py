"""Simulated times: few corpora say when a turn began, but a model must know all the labels beside the timing marks.

The figures follow the codebook, for a conversation of two. For comparison, the 39,258 changes of speaker in MRDA's
training meetings, of several people who know each other well:

- Words a second (utterances of five words or more): median 3.9, quartiles 3.1 and 4.9. Here 2.7, as in calls.
- Interruptions: 55 % overlap, median 0.69 s, quartiles 0.35 and 1.53 s. Here 85 %, by 0.6 s, 0.37 and 0.96 s.
- Backchannels: 49 % overlap by 0.2 s or more. Here 30 %.
- Other changes: 36 % overlap by 0.2 s or more, as several people do. Here none, as the codebook calls it an
  interruption if a turn takes the floor so early.
- Gaps without overlap: median 0.5 s, one in ten above 1.4 s. Here an exponential distribution: 0.42 s and 1.4 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from listening_clf.conversation import SPEAKERS, Conversation, Speaker, Turn
from listening_clf.encoding import SHORT_OVERLAP_SECONDS
from listening_clf.labels import Label

WORDS_A_SECOND = 2.7
RATE_SIGMA = 0.25
"""Standard deviation of the logarithm of a turn's words a second."""

MEAN_GAP_SECONDS = 0.6

INTERRUPTION_OVERLAP_SHARE = 0.85
"""After the other interruptions' start nothing is heard of the one who was cut off."""
INTERRUPTION_OVERLAP_SECONDS = 0.6
"""Median of a log-normal distribution: two in three lie between 0.3 and 1.2 s."""
INTERRUPTION_OVERLAP_SIGMA = 0.7
STOP_SECONDS = 0.3
"""An interruption that does not overlap starts at most this long after the one who was cut off stopped."""

BACKCHANNEL_WORDS = 4
BACKCHANNEL_OVERLAP_SHARE = 0.3
BACKCHANNEL_OVERLAP_SECONDS = (SHORT_OVERLAP_SECONDS, 1.0)

NATURAL_OVERLAP_SHARE = 0.1
"""Of all other turns: those that start a moment, below `SHORT_OVERLAP_SECONDS`, before the last one's end."""

LONGEST_OVERLAP = 0.8
"""The largest part of a turn that the next turn can overlap with."""

SPOKEN_CHANNELS = frozenset({"phone", "video", "in person"})


def with_times(conversations: Iterable[Conversation], rng: np.random.Generator) -> Iterator[Conversation]:
    """Give simulated times to those conversations that are spoken but have none: AnnoMI's and the authored calls."""
    for conversation in conversations:
        spoken = conversation.meta["corpus"] == "annomi" or conversation.meta.get("channel") in SPOKEN_CHANNELS
        yield simulate_times(conversation, rng) if spoken else conversation


def simulate_times(conversation: Conversation, rng: np.random.Generator) -> Conversation:
    """Give every turn a start and an end, in seconds, that suit its words and its labels.

    An interruption mostly begins well before the other side's end, and a short turn without labels (most often a
    backchannel) sometimes does. Other turns begin after it, or a moment before.
    """
    turns: list[Turn] = []
    ends: dict[Speaker, float] = dict.fromkeys(SPEAKERS, 0.0)
    last_duration = 0.0
    for turn in conversation.turns:
        overlap = min(_overlap(turn, rng), LONGEST_OVERLAP * last_duration)
        start = max(max(ends.values()) - overlap, ends[turn.speaker])
        last_duration = len(turn.text.split()) / (WORDS_A_SECOND * rng.lognormal(0.0, RATE_SIGMA))
        ends[turn.speaker] = start + last_duration
        turns.append(replace(turn, start=start, end=ends[turn.speaker]))
    return replace(conversation, turns=tuple(turns))


def _overlap(turn: Turn, rng: np.random.Generator) -> float:
    """Draw the seconds by which the turn overlaps with the turn before it; below 0, the gap between them."""
    if turn.labels and Label.INTERRUPTION in turn.labels:
        if rng.random() < INTERRUPTION_OVERLAP_SHARE:
            return INTERRUPTION_OVERLAP_SECONDS * rng.lognormal(0.0, INTERRUPTION_OVERLAP_SIGMA)
        return -rng.uniform(0.0, STOP_SECONDS)
    backchannel = not turn.labels and len(turn.text.split()) <= BACKCHANNEL_WORDS
    if backchannel and rng.random() < BACKCHANNEL_OVERLAP_SHARE:
        return rng.uniform(*BACKCHANNEL_OVERLAP_SECONDS)
    if rng.random() < NATURAL_OVERLAP_SHARE:
        return rng.uniform(0.0, SHORT_OVERLAP_SECONDS)
    return -rng.exponential(MEAN_GAP_SECONDS)
