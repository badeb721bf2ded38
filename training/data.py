"""What a model is trained on and what it is chosen by: every corpus, annotated and split.

`python -m training.data` prints what there is.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from listening_clf.conversation import Conversation
from listening_clf.errors import TrainingError
from listening_clf.labels import Label
from training.annotate import FOLDER as ANNOTATIONS
from training.annotate import annotate
from training.corpora import annomi, authored, esconv, mrda, multiwoz, star, switchboard
from training.corpora.text import mended

Split: TypeAlias = Literal["train", "dev"]
Part: TypeAlias = Literal["dev", "test"]
"""What a conversation is held out for."""

SPLITS = Path(__file__).parent / "splits.json"

SAMPLE_SEED = 0


def load_split(split: Split) -> list[Conversation]:
    """The labelled conversations of one split.

    MRDA gives of its train split what `sample_changes` keeps. It gives nothing to dev: its 8,526 changes of speaker in
    meetings would outweigh the 154 service and counselling conversations that a model is chosen by; `load_mrda` has
    them.

    Raises:
        TrainingError: a corpus or an annotation is not what it is known to be, or a conversation that is held out has
            come among those to train on.
    """
    conversations = chain(_annotated(), authored.read())
    held_out = _held_out()
    if split == "dev":
        return [conversation for conversation in conversations if _part_of(conversation, held_out) == "dev"]
    train = [conversation for conversation in conversations if _part_of(conversation, held_out) is None]
    train += sample_changes(mrda.read("train"))
    check_none_held_out(train)
    return train


def load_unlabelled() -> list[Conversation]:
    """The conversations of STAR and MultiWOZ that nobody annotated, of which none is held out."""
    held_out = _held_out()
    annotated = {conversation.id for conversation in _annotated()}
    corpora = chain(star.read(), map(mended, multiwoz.read()))
    unlabelled = [it for it in corpora if it.id not in annotated and _part_of(it, held_out) is None and it.agent_turns]
    check_none_held_out(unlabelled)
    return unlabelled


def load_mrda(split: Literal["val", "test"]) -> list[Conversation]:
    """Every change of speaker in MRDA's meetings of that split."""
    return list(mrda.read(split))


def load_esconv() -> list[Conversation]:
    """ESConv's annotated conversations, a domain that no model was trained on. For evaluation only."""
    return list(map(mended, annotate(esconv.read(), ANNOTATIONS / "esconv.jsonl")))


def load_switchboard() -> list[Conversation]:
    """Switchboard's telephone talk with its experts' open questions and paraphrases, each call once for either speaker.

    Another domain that no model was trained on. For evaluation only.
    """
    return list(switchboard.read())


def load_annomi_experts() -> list[Conversation]:
    """AnnoMI's test interviews with what its own experts said of the therapists. For the last measurement only."""
    held_out = _held_out()
    return [interview for interview in annomi.experts() if _part_of(interview, held_out) == "test"]


def check_none_held_out(train: Iterable[Conversation]) -> None:
    """Check that no conversation to train on is kept for development or test.

    Raises:
        TrainingError: one is.
    """
    held_out = _held_out()
    if found := [conversation.id for conversation in train if _part_of(conversation, held_out)]:
        raise TrainingError(f"held out for development or test, not to be trained on: {', '.join(map(str, found))}")


def sample_changes(changes: Iterable[Conversation]) -> list[Conversation]:
    """Keep MRDA's interruptions, and for each of them two other changes of speaker.

    One of the two comes after an utterance that was left unfinished and is yet no interruption (its speaker abandoned
    it, or a backchannel came): from the words alone this is the hard kind. The other one is any other change of
    speaker. Which ones is drawn at random within each kind, so that overlap stays as frequent as it is in the meetings:
    to prefer what overlaps would teach a model that an overlap speaks against an interruption.
    """
    interruptions, unfinished, others = [], [], []
    for change in changes:
        if change.turns[-1].labels:
            interruptions.append(change)
        elif change.meta["broken_off"]:
            unfinished.append(change)
        else:
            others.append(change)
    rng = np.random.default_rng(SAMPLE_SEED)
    drawn = [
        kind[index]
        for kind in (unfinished, others)
        for index in sorted(rng.permutation(len(kind))[: len(interruptions)])
    ]
    return interruptions + drawn


def main() -> None:
    """Print how much of what each corpus gives to each split."""
    table = Table("corpus", "split", "conversations", "agent turns", *Label)
    for split, conversations in (
        ("train", load_split("train")),
        ("dev", load_split("dev")),
        ("dev", load_mrda("val")),
        ("evaluation", load_esconv()),
        ("evaluation", load_switchboard()),
    ):
        by_corpus = defaultdict(list)
        for conversation in conversations:
            by_corpus[conversation.meta["corpus"]].append(conversation)
        for corpus, members in by_corpus.items():
            table.add_row(corpus, split, str(len(members)), *_counts(members))
    Console().print(table)
    Console().print("Under each label: the turns that carry it / those of which it is not known whether they do.")


def _annotated() -> Iterator[Conversation]:
    yield from annotate(annomi.read(), ANNOTATIONS / "annomi.jsonl")
    yield from annotate(star.read(), ANNOTATIONS / "star.jsonl")
    yield from map(mended, annotate(multiwoz.read(), ANNOTATIONS / "multiwoz.jsonl"))


def _held_out() -> dict[str, Part]:
    """The conversations that splits.json lists, all corpora, and what they are kept for."""
    splits = json.loads(SPLITS.read_text("utf-8"))
    return {
        conversation: part
        for corpus in splits.values()
        for part in get_args(Part)
        for conversation in corpus.get(part, ())
    }


def _part_of(conversation: Conversation, held_out: Mapping[str, Part]) -> Part | None:
    """What an annotated or authored conversation is kept for; None if it is there to train on."""
    if conversation.meta["corpus"] == "authored":
        return "dev" if authored.is_dev(conversation) else None
    return held_out.get(str(conversation.id))


def _counts(conversations: Iterable[Conversation]) -> list[str]:
    """The number of annotated turns, then of each label: known to be there / unknown."""
    turns = 0
    positive: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for conversation in conversations:
        for index in conversation.annotated_turns:
            turns += 1
            positive.update(conversation.turns[index].labels or ())
            unknown.update(conversation.unknown_labels(index))
    return [f"{turns:,}", *(f"{positive[label]:,} / {unknown[label]:,}" for label in Label)]


if __name__ == "__main__":
    main()
