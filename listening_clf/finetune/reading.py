"""Labelled data → conversations that know where they stand: files, and datasets as the `datasets` package keeps them.

A row of a dataset is the same object as a line of JSONL, and is read by the same code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from listening_clf import transcripts
from listening_clf.conversation import Conversation
from listening_clf.errors import TrainingError, TranscriptError
from listening_clf.finetune.data import NOT_ANNOTATED
from listening_clf.transcripts import objects
from listening_clf.transcripts.source import Located, Names, Place

if TYPE_CHECKING:
    from datasets import Dataset

_PARQUET = ".parquet"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_BATCH_ROWS = 1000

Labelled = TypeVar("Labelled", Conversation, Located)


def read_labelled(
    sources: Sequence[str | Path],
    labels: Sequence[str],
    *,
    agent: str | None = None,
    on_bad: Callable[[TranscriptError], None] | None = None,
) -> list[Located]:
    """Read labelled conversations from all sources, in order.

    A source is a file that `transcripts.read` reads ("-" is standard input), a Parquet file, a folder that
    `datasets.save_to_disk` wrote, or the id of a dataset on the Hugging Face hub, all of whose rows are loaded before
    the first is read. `NAME:SPLIT` names a split of a dataset.

    Args:
        sources: the files and datasets.
        labels: the labels that may have a column or key of their own; see `transcripts.read`.
        agent: the name of the agent; see `transcripts.read`.
        on_bad: called with what is wrong with a bad conversation, or with a whole source; reading goes on with the
            next one. Without it, the first bad one raises.

    Raises:
        TranscriptError: a source, or a conversation in it, cannot be read.
        TrainingError: a dataset has several splits and none is named, or has not the one that is named; or the
            `datasets` package is missing.
    """
    located: list[Located] = []
    for source in map(str, sources):
        if _is_dataset(source):
            located += _read_dataset(source, Names(agent, tuple(labels)), on_bad)
        else:
            located += transcripts.read_located(source, agent=agent, labels=labels, on_bad=on_bad)
    return located


def held_out_split(data: Sequence[Labelled], share: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """Hold out a share of the conversations for dev; all that have the same id stay together.

    Which ones are held out depends on the seed and the ids alone, not on their order. Only conversations with an
    annotated agent turn are; the others stay in train, where nothing is learned from them.

    Args:
        data: the labelled conversations. One without an id stands for itself.
        share: the share to hold out, between 0 and 1, rounded up to whole conversations.
        seed: another one draws others.

    Returns:
        Train and dev, each in the order of `data`.

    Raises:
        TrainingError: with these conversations and this share, one side would be empty.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < share < 1:
        raise TrainingError(f"the share to hold out for dev must lie between 0 and 1, not {share}")
    # The numbers keep two conversations without an id apart.
    ids = [(id, -1) if (id := _conversation(item).id) is not None else ("", at) for at, item in enumerate(data)]
    annotated = sorted({id for id, item in zip(ids, data, strict=True) if _conversation(item).annotated_turns})
    if not annotated:
        raise TrainingError(NOT_ANNOTATED)
    if len(annotated) < 2:
        raise TrainingError(
            f"{len(annotated)} conversation(s) with annotated turns: to hold some out for dev takes 2 or more; "
            "name a dev set, or give more data"
        )
    try:
        _, held_out = train_test_split(annotated, test_size=share, random_state=seed)
    except ValueError:
        raise TrainingError(
            f"a share of {share} for dev leaves none of {len(annotated)} conversations to train on"
        ) from None
    dev = set(held_out)
    return (
        [item for id, item in zip(ids, data, strict=True) if id not in dev],
        [item for id, item in zip(ids, data, strict=True) if id in dev],
    )


def _conversation(item: Conversation | Located) -> Conversation:
    return item if isinstance(item, Conversation) else item.conversation


def _is_dataset(source: str) -> bool:
    name, _ = _name_and_split(source)
    path = Path(name)
    if source == transcripts.STDIN or path.exists():
        return path.is_dir() or path.suffix.lower() == _PARQUET
    # A name that looks like a file's is one that is missing: it would be no use to ask the hub for it.
    return bool(_HUB_ID.fullmatch(name)) and path.suffix.lower() not in (*transcripts.SUFFIXES, _PARQUET)


def _name_and_split(source: str) -> tuple[str, str | None]:
    name, colon, split = source.rpartition(":")
    return (source, None) if not colon or Path(source).exists() else (name, split)


def _read_dataset(source: str, names: Names, on_bad: Callable[[TranscriptError], None] | None) -> Iterator[Located]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise TrainingError(
            f'{source}: reading datasets needs the package {error.name}: pip install "listening-clf[train]"'
        ) from None
    try:
        dataset = _load(source)
    except TrainingError:
        raise
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        known = Path(_name_and_split(source)[0]).exists()
        problem = (
            "cannot be read as a dataset" if known else "no such file or folder, and no dataset of the hub to read"
        )
        _report(Place(source).error(f"{problem} ({' '.join(str(error).split())})"), on_bad)
        return
    if not len(dataset):
        _report(Place(source).error("the dataset has no rows"), on_bad)
    for number, row in enumerate(_rows(dataset)):
        try:
            yield objects.read(row, names, Place(source, number, "row"))
        except TranscriptError as error:
            _report(error, on_bad)


def _report(error: TranscriptError, on_bad: Callable[[TranscriptError], None] | None) -> None:
    if on_bad is None:
        raise error from None
    on_bad(error)


def _load(source: str) -> Dataset:
    """The rows of one split. What is loaded is data alone: code that a dataset may bring is never run."""
    import datasets
    import pyarrow.parquet

    name, split = _name_and_split(source)
    path = Path(name)
    if path.is_file():
        # Read in place: `Dataset.from_parquet` would leave a copy in the user's cache.
        loaded = datasets.Dataset(pyarrow.parquet.read_table(path))
    elif path.is_dir():
        loaded = datasets.load_from_disk(name)
    else:
        return datasets.load_dataset(name, split=_chosen(datasets.get_dataset_split_names(name), split, source))
    if isinstance(loaded, datasets.DatasetDict):
        return loaded[_chosen(list(loaded), split, source)]
    if split is not None:
        raise TrainingError(f"{source}: the dataset has no splits: leave out :{split}")
    return loaded


def _chosen(splits: Sequence[str], split: str | None, source: str) -> str:
    """The split to read; which one is never guessed, or a model would one day be trained on its test data."""
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None:
        raise TrainingError(f"{source}: name one of its splits ({', '.join(splits)}), as in {source}:{splits[0]}")
    if split not in splits:
        raise TrainingError(f"{source}: there is no split {split!r}: its splits are {', '.join(splits)}")
    return split


def _rows(dataset: Dataset) -> Iterator[Mapping[str, Any]]:
    """The rows as JSON objects, counted as `dataset[0]`, `dataset[1]` …"""
    for batch in dataset.with_format("arrow").iter(_BATCH_ROWS):
        for row in batch.to_pylist():
            yield _transposed(_plain(row, dataset.features))


def _plain(value: Any, feature: Any) -> Any:
    """The value without the nulls by which Arrow fills up absent fields, and with names for the numbers of classes."""
    if isinstance(value, dict):
        fields = feature if isinstance(feature, dict) else {}
        return {key: _plain(item, fields.get(key)) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        return [_plain(item, inner) for item in value]
    if isinstance(value, int) and hasattr(feature, "int2str"):
        return feature.int2str(value) if value >= 0 else None  # -1 is a class that is not known
    return value


def _transposed(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a list of turns, where the dataset keeps turns as a list for each of their fields."""
    turns = row.get("turns")
    if not isinstance(turns, dict):
        return row
    columns = [[(key, item) for item in column] for key, column in turns.items()]
    return {**row, "turns": [dict(fields) for fields in zip(*columns, strict=True)]}
