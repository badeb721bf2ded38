"""Is labelled data fit to train on? What is wrong with it is found before hours are spent, with file and line."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

import numpy as np

from listening_clf.conversation import Conversation, Turn
from listening_clf.encoding import Encoded, Encoder, EncodingSettings, Timing, timing_of
from listening_clf.errors import TrainingError, TranscriptError
from listening_clf.finetune.data import HOW_TO_ANNOTATE, without_times
from listening_clf.finetune.findings import Balance, Finding, Findings, Kind
from listening_clf.finetune.reading import held_out_split, read_labelled
from listening_clf.transcripts.annotations import is_answer
from listening_clf.transcripts.source import Located, Place, excerpt

FEW_POSITIVES = 10
"""A label that fewer turns have is neither learned nor measured."""

DISTINCTIVE_WORDS = 5
"""An input of fewer words comes up in any two calls: that it is in train and in dev shows nothing."""

_CHUNK = 4096
"""Turns that are encoded at a time."""


@dataclass(frozen=True, slots=True)
class _Input:
    """An annotated agent turn, as the model reads it."""

    located: Located
    index: int
    known: dict[str, bool]
    """Of each label that is known, whether the turn has it."""
    digest: bytes
    """Of the words that the model reads, the turn's and those before; not of the times."""
    timing: Timing
    is_alone: bool
    fills_input: bool
    fills_context: bool

    @property
    def where(self) -> str:
        return self.located.where(self.index)

    @property
    def text(self) -> str:
        return self.located.conversation.turns[self.index].text

    @property
    def is_distinctive(self) -> bool:
        first = self.index if self.is_alone else 0
        turns = self.located.conversation.turns[first : self.index + 1]
        words = accumulate(len(turn.text.split()) for turn in reversed(turns))
        return any(count >= DISTINCTIVE_WORDS for count in words)


def check_sources(
    data: Sequence[str | Path],
    dev: Sequence[str | Path],
    labels: Sequence[str],
    encoder: Encoder,
    *,
    agent: str | None = None,
    dev_share: float = 0.2,
    seed: int = 0,
) -> Findings:
    """Read labelled data and check it. What cannot be read is among the findings, and the rest is checked.

    Args:
        data: the files and datasets to train on, as `read_labelled` takes them.
        dev: those to choose the epoch and thresholds on; without any, `dev_share` of the conversations in `data`.
        labels: the labels that the model shall learn.
        encoder: how the model will read the turns.
        agent: the name of the agent; see `transcripts.read`.
        dev_share: see `held_out_split`.
        seed: see `held_out_split`.

    Raises:
        TrainingError: a split of a dataset must be named, or the `datasets` package is missing.
    """
    unreadable: list[TranscriptError] = []
    train_data = read_labelled(data, labels, agent=agent, on_bad=unreadable.append)
    if not train_data and unreadable:  # nothing else can be said
        nothing = {label: Balance() for label in labels}
        return Findings(tuple(_unreadable(unreadable)), nothing, nothing)
    if dev:
        dev_data = read_labelled(dev, labels, agent=agent, on_bad=unreadable.append)
        return check(train_data, dev_data, labels, encoder, unreadable=unreadable)
    try:
        train_data, held_out = held_out_split(train_data, dev_share, seed)
    except TrainingError as error:
        no_dev = Finding(Kind.NOTHING_TO_LEARN, f"dev: {error}")
        return _check(train_data, None, labels, encoder, [*_unreadable(unreadable), no_dev])
    return check(train_data, held_out, labels, encoder, unreadable=unreadable)


def check(
    train: Sequence[Conversation | Located],
    dev: Sequence[Conversation | Located],
    labels: Sequence[str],
    encoder: Encoder,
    *,
    unreadable: Sequence[TranscriptError] = (),
) -> Findings:
    """Check labelled conversations.

    Args:
        train: what to learn from.
        dev: what to choose the epoch and thresholds on.
        labels: the labels that the model shall learn.
        encoder: how the model will read the turns. Two inputs are the same where it makes the same tokens of them.
        unreadable: what went wrong in reading, to be listed with the rest.
    """
    return _check([*map(_located, train)], [*map(_located, dev)], labels, encoder, _unreadable(unreadable))


def _check(
    train: Sequence[Located],
    dev: Sequence[Located] | None,
    labels: Sequence[str],
    encoder: Encoder,
    found: Iterable[Finding],
) -> Findings:
    """Check what was read; with no dev data at all, `found` says why there is none."""
    labels = [str(label) for label in labels]
    inputs = {"train": list(_inputs(train, labels, encoder)), "dev": list(_inputs(dev or (), labels, encoder))}
    balances = {split: _balance(of_split, labels) for split, of_split in inputs.items()}
    findings = list(found)
    if not inputs["train"]:
        findings.append(_not_annotated("train"))
    if dev is not None and not inputs["dev"]:
        findings.append(_not_annotated("dev"))
    findings += _label_names([*train, *(dev or ())], labels)
    findings += _columns([*train, *(dev or ())], labels)
    findings += _customer_labels([*train, *(dev or ())])
    findings += _conflicts([*inputs["train"], *inputs["dev"]])
    findings += _shared_inputs(inputs["train"], inputs["dev"])
    findings += _shared_conversations(train, dev or ())
    findings += _nameless([*train, *(dev or ())])
    for split, of_split in inputs.items():
        if of_split:
            findings += _rare_labels(split, balances[split])
            findings += _lengths(split, of_split, encoder.settings)
    order = list(Kind)
    findings.sort(key=lambda finding: order.index(finding.kind))
    return Findings(tuple(findings), balances["train"], balances["dev"])


def _located(item: Conversation | Located) -> Located:
    """The conversation with a place; its id where nobody knows better."""
    if isinstance(item, Located):
        return item
    count = len(item.turns)
    return Located(item, (Place(f"conversation {item.id!r}"),) * count, ({},) * count)


def _inputs(data: Sequence[Located], labels: Sequence[str], encoder: Encoder) -> Iterator[_Input]:
    annotated = _annotated(data)
    while chunk := list(islice(annotated, _CHUNK)):
        encoded = encoder.encode_many((untimed, index) for _, untimed, index in chunk)
        for (located, _, index), one in zip(chunk, encoded, strict=True):
            yield _input(located, index, labels, one, encoder.settings)


def _annotated(data: Sequence[Located]) -> Iterator[tuple[Located, Sequence[Turn], int]]:
    """Every annotated agent turn, with its conversation as it is and as if nobody had measured the times."""
    for located in data:
        conversation = located.conversation
        annotated = conversation.annotated_turns
        untimed = without_times(conversation).turns if annotated else ()
        for index in annotated:
            yield located, untimed, index


def _input(located: Located, index: int, labels: Sequence[str], encoded: Encoded, settings: EncodingSettings) -> _Input:
    conversation = located.conversation
    turn = conversation.turns[index]
    unknown = conversation.unknown_labels(index)
    length = len(encoded.input_ids)
    is_alone = encoded.context_start == length
    return _Input(
        located,
        index,
        known={label: label in (turn.labels or ()) for label in labels if label not in unknown},
        digest=hashlib.blake2b(np.array(encoded.input_ids, dtype=np.int32).tobytes(), digest_size=16).digest(),
        timing=timing_of(conversation.turns, index),
        is_alone=is_alone,
        fills_input=is_alone and length == settings.max_length,
        # A last token of the budget may stay free: it would have room for a mark, but for no word behind it.
        fills_context=not is_alone and length - encoded.context_start >= settings.context_tokens,
    )


def _balance(inputs: Sequence[_Input], labels: Sequence[str]) -> dict[str, Balance]:
    balance = {}
    for label in labels:
        known = [one.known[label] for one in inputs if label in one.known]
        balance[label] = Balance(sum(known), len(known), len(inputs) - len(known))
    return balance


def _unreadable(errors: Iterable[TranscriptError]) -> list[Finding]:
    return [Finding(Kind.UNREADABLE, str(error)) for error in errors]


def _not_annotated(split: str) -> Finding:
    return Finding(Kind.NOTHING_TO_LEARN, f"{split}: no agent turn is annotated: {HOW_TO_ANNOTATE}")


def _label_names(data: Sequence[Located], labels: Sequence[str]) -> Iterator[Finding]:
    """Each name that is no label, where it comes up first; in `unlabelled`, if it looks like a slip."""
    given: dict[str, list[tuple[Located, int | None]]] = {}
    unlabelled: dict[str, list[tuple[Located, int | None]]] = {}
    for located in data:
        conversation = located.conversation
        for name in set(conversation.unlabelled).difference(labels):
            unlabelled.setdefault(name, []).append((located, None))
        for index in conversation.agent_turns:
            turn = conversation.turns[index]
            for name in set(turn.labels or ()).difference(labels):
                given.setdefault(name, []).append((located, index))
            for name in set(turn.unlabelled).difference(labels):
                unlabelled.setdefault(name, []).append((located, index))
    for name, places in given.items():
        yield Finding(Kind.UNKNOWN_LABEL, f"{_first(places)}: unknown label {name!r}: {_suggestion(name, labels)}")
    for name, places in unlabelled.items():
        if _closest(name, labels):
            yield Finding(
                Kind.UNKNOWN_UNLABELLED,
                f"{_first(places)}: 'unlabelled' names {name!r}, which is no label: {_suggestion(name, labels)}",
            )


def _first(places: Sequence[tuple[Located, int | None]]) -> str:
    """The first place, of a turn or of a conversation, and how many more there are."""
    located, index = places[0]
    where = str(located.places[0]) if index is None else located.where(index)
    return where if len(places) == 1 else f"{where} (and {len(places) - 1:,} more)"


def _closest(name: str, labels: Sequence[str]) -> str | None:
    closest = difflib.get_close_matches(name.casefold(), labels, n=1)
    return closest[0] if closest else None


def _suggestion(name: str, labels: Sequence[str]) -> str:
    closest = _closest(name, labels)
    if closest is not None:
        return f"is {closest!r} meant?"
    return f"the labels are {', '.join(labels)}; name others under `labels:` in the settings (--config)"


def _columns(data: Sequence[Located], labels: Sequence[str]) -> Iterator[Finding]:
    """The columns, of each file, that hold what labels' columns hold but are none."""
    values: dict[tuple[str, str], set[str | None]] = {}
    for located in data:
        for place, others in zip(located.places, located.others, strict=True):
            for column, value in others.items():
                if value is not None:
                    values.setdefault((place.file, column), set()).add(str(value) if is_answer(value) else None)
    for (file, column), found in values.items():
        # A column that has the same number throughout is more likely a version, or a part of the data.
        if None not in found and (len(found) > 1 or _closest(column, labels)):
            yield Finding(
                Kind.UNKNOWN_COLUMN,
                f"{file}: {column!r} holds only 1 and 0, but is no label: {_suggestion(column, labels)}",
            )


def _customer_labels(data: Sequence[Located]) -> Iterator[Finding]:
    for located in data:
        for index, turn in enumerate(located.conversation.turns):
            if turn.speaker == "customer" and turn.labels:
                yield Finding(
                    Kind.CUSTOMER_LABEL,
                    f"{located.where(index)}: {turn.labels[0]!r} on a customer turn, of which nothing is learned: "
                    f"{excerpt(turn.text)}",
                )


def _conflicts(inputs: Sequence[_Input]) -> Iterator[Finding]:
    """Each turn of which a turn before, that the model cannot tell from it, says otherwise."""
    # Whether a turn interrupts can rest on its time alone.
    said: dict[tuple[bytes, Timing, str], tuple[bool, _Input]] = {}
    for one in inputs:
        for label, has_it in one.known.items():
            before, other = said.setdefault((one.digest, one.timing, label), (has_it, one))
            if before != has_it:
                here, there = ("has", "has not") if has_it else ("has not", "has")
                yield Finding(
                    Kind.CONFLICT,
                    f"{one.where}: {excerpt(one.text)} {here} the label {label!r}; at {other.where} it {there}",
                )
                break


def _shared_inputs(train: Sequence[_Input], dev: Sequence[_Input]) -> Iterator[Finding]:
    in_train = {one.digest: one for one in reversed(train)}
    for one in dev:
        if one.digest in in_train and one.is_distinctive:
            before = "" if one.is_alone else " with the same turns before it"
            yield Finding(
                Kind.SHARED_INPUT,
                f"{one.where}: {excerpt(one.text)}{before} is in train, too: {in_train[one.digest].where}",
            )


def _shared_conversations(train: Sequence[Located], dev: Sequence[Located]) -> Iterator[Finding]:
    in_train = _by_id(train)
    for id, located in _by_id(dev).items():
        if id in in_train:
            yield Finding(
                Kind.SHARED_CONVERSATION,
                f"{located.places[0]}: conversation {id!r} is in train, too: {in_train[id].places[0]}",
            )


def _nameless(data: Sequence[Located]) -> Iterator[Finding]:
    """Rows of single agent turns that have no better id than their place."""
    rows = [it for it in data if len(it.conversation.agent_turns) == 1 and it.conversation.id == it.places[-1].id]
    if len(rows) > 1:
        yield Finding(
            Kind.NO_CONVERSATION,
            f"{rows[0].where(-1)}: this and {len(rows) - 1:,} more name no 'conversation': if some are of one call, "
            "they may come to stand on both sides of a split",
        )


def _by_id(data: Sequence[Located]) -> dict[str, Located]:
    """The first conversation of each id."""
    first: dict[str, Located] = {}
    for located in data:
        if located.conversation.id is not None:
            first.setdefault(located.conversation.id, located)
    return first


def _rare_labels(split: str, balance: Mapping[str, Balance]) -> Iterator[Finding]:
    so = "it cannot be learned" if split == "train" else "no threshold can be chosen for it"
    for label, count in balance.items():
        if not count.known:
            problem = f"nobody looked for {label!r}: {so}"
        elif not count.positive:
            problem = f"no turn has {label!r}: {so}"
        elif count.positive == count.known:
            problem = f"every turn of which it is known has {label!r}: write 0 where it was looked for and is not there"
        elif count.positive < FEW_POSITIVES:
            problem = f"only {count.positive} of {count.known:,} turns have {label!r}: it takes {FEW_POSITIVES} or more"
        else:
            continue
        yield Finding(Kind.RARE_LABEL, f"{split}: {problem}")
    if split == "dev" and not any(count.positive for count in balance.values()):
        yield Finding(Kind.NOTHING_TO_LEARN, "dev: no turn has a label: there is nothing to choose thresholds by")


def _lengths(split: str, inputs: Sequence[_Input], settings: EncodingSettings) -> Iterator[Finding]:
    for one in inputs:
        if one.fills_input:
            yield Finding(
                Kind.CUT_TURN,
                f"{one.where}: the turn alone fills the {settings.max_length} tokens that are read; what is more is "
                f"cut from its middle: {excerpt(one.text)}",
            )
    turns = f"of {len(inputs):,} annotated turns"
    if full := sum(one.fills_context for one in inputs):
        yield Finding(
            Kind.CUT_CONTEXT,
            f"{split}: {_share(full, inputs)} {turns} fill their {settings.context_tokens} tokens of context; older "
            "turns are not read",
        )
    if alone := sum(one.is_alone for one in inputs):
        yield Finding(Kind.NO_CONTEXT, f"{split}: {_share(alone, inputs)} {turns} are read without a turn before them")


def _share(count: int, inputs: Sequence[_Input]) -> str:
    return f"{count:,} ({count / len(inputs):.0%})"
