"""What is known of a model without loading it: its manifest, its card, its files and revisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from listening_clf.checkpoint import CARD, CONFIG, MANIFEST, NEEDED_TO_PREDICT, Manifest, read_manifest, sha256_of
from listening_clf.errors import CheckpointError
from listening_clf.hub.card import in_words, read_card
from listening_clf.hub.common import Published
from listening_clf.hub.directory import DirectoryModel
from listening_clf.hub.remote import HubModel
from listening_clf.hub.source import Source

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

State: TypeAlias = Literal["as published", "altered", "missing", "not downloaded", "edited", "not listed"]
"""How a file compares with the manifest. A card may be edited, and what is not listed is not published either."""

WRONG: tuple[State, ...] = ("altered", "missing")


class FileState(NamedTuple):
    """How one file of a folder compares with the manifest."""

    path: str
    state: State
    expected: str | None
    """The sha256 in the manifest; None where it lists no such file."""
    found: str | None
    """The sha256 of the file; None where there is none, or none is expected."""


@dataclass(frozen=True)
class Facts:
    """What is known of a model."""

    name: str
    revision: str | None
    """The commit or version that the name stands for; None where it has none."""
    manifest: Manifest
    card: ModelCardData
    problem: str | None
    """Why nothing of the card is known."""
    sizes: Mapping[str, int]
    """Bytes of each file of the model, downloaded or not; none where the hub could not be asked."""
    revisions: Mapping[str, str]
    """What there is beside it: names of branches, tags or refs, and the commit or version of each."""
    history: Sequence[Published]
    """What was published to the revision, the last first."""

    @property
    def size(self) -> int:
        """Bytes of all of its files."""
        return sum(self.sizes.values())

    @property
    def size_to_predict(self) -> int:
        """Bytes of what is downloaded to predict."""
        return sum(self.sizes.get(path, 0) for path in (MANIFEST, *NEEDED_TO_PREDICT))

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """What the card says that the model reaches: for each data set, the metrics by name."""
        metrics: dict[str, dict[str, float]] = {}
        for result in self.card.eval_results or []:
            if isinstance(result.metric_value, int | float):
                named = metrics.setdefault(str(result.dataset_name), {})
                named[str(result.metric_name or result.metric_type)] = result.metric_value
        return metrics

    @property
    def trained_on(self) -> str:
        """The data sets that the model has seen labels of, with their licences."""
        return "; ".join(f"{data['name']} (licence: {data['licence']})" for data in self.manifest.training_data)

    def to_dict(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "name": self.name,
            "revision": self.revision,
            "license": in_words(self.card.license) or None,
            "language": in_words(self.card.language) or None,
            "base_model": in_words(self.card.base_model) or None,
            "metrics": self.metrics,
            "size": self.size or None,
            "size_to_predict": self.size_to_predict or None,
            "sizes": dict(self.sizes),
            "revisions": dict(self.revisions),
            "history": [it._asdict() for it in self.history],
            **self.manifest.to_dict(),
        }


def facts_of(source: Source) -> Facts:
    """What is known of a model. Of one on the hub, only the manifest, the config and the card are downloaded.

    Raises:
        CheckpointError: it cannot be had, or is no checkpoint of this library.
    """
    from huggingface_hub import ModelCardData

    folder = source.fetch((CONFIG, CARD))
    manifest = read_manifest(folder)
    sizes: Mapping[str, int] = {}
    revisions: Mapping[str, str] = {}
    history: Sequence[Published] = ()
    if isinstance(source, DirectoryModel):
        revisions, history = source.refs(), source.history()
    if isinstance(source, HubModel):
        with suppress(CheckpointError):  # the hub cannot be asked: what the cache has is known all the same
            sizes = {it.rfilename: it.size or 0 for it in source.info().siblings or []}
            revisions, history = source.revisions(), source.history()
    else:
        sizes = {path: (folder / path).stat().st_size for path in manifest.files if (folder / path).is_file()}
        sizes[MANIFEST] = (folder / MANIFEST).stat().st_size
    try:
        card, problem = read_card(folder), None
    except CheckpointError as error:
        card, problem = ModelCardData(), str(error)
    return Facts(
        name=source.name,
        # Both kinds of hub call the folder by it; the name may have come to stand for another since.
        revision=folder.name if isinstance(source, DirectoryModel | HubModel) else None,
        manifest=manifest,
        card=card,
        problem=problem,
        sizes={path: size for path, size in sizes.items() if path in (MANIFEST, *manifest.files)},
        revisions=revisions,
        history=history,
    )


def compare_files(source: Source) -> list[FileState]:
    """Compare every file of a model with its manifest. Of one on the hub: what the cache has of it.

    Raises:
        CheckpointError: the manifest cannot be read, or is not the one of the version that was asked for.
    """
    folder = source.fetch(())
    manifest = read_manifest(folder)
    states = [_compared(folder, path, expected, source.is_remote) for path, expected in manifest.files.items()]
    present = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    states += [FileState(it, "not listed", None, None) for it in present if it not in (MANIFEST, *manifest.files)]
    return states


def megabytes(size: int) -> str:
    """A size for people, in units of 1,000,000 bytes."""
    return f"{size / 1e6:,.1f} MB"


def _compared(folder: Path, path: str, expected: str, is_remote: bool) -> FileState:
    if not (folder / path).is_file():
        return FileState(path, "not downloaded" if is_remote else "missing", expected, None)
    found = sha256_of(folder, path)
    if found == expected:
        return FileState(path, "as published", expected, found)
    return FileState(path, "edited" if path == CARD else "altered", expected, found)
