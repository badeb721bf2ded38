"""Which models there are: bundled, in the cache, in a directory, on the hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from listening_clf.display import many
from listening_clf.errors import CheckpointError
from listening_clf.hub.directory import models_in
from listening_clf.hub.remote import cached_models, published_models
from listening_clf.hub.source import BUNDLED, bundled_models, path_of


class Entry(NamedTuple):
    """One model."""

    name: str
    revisions: tuple[str, ...] = ()
    """Names of its revisions, or the commit of one that has none."""
    size: int | None = None
    """Bytes on the disk; None where they are not here."""
    note: str = ""


@dataclass
class Listing:
    """The models, by where they are. What was not looked into is None."""

    bundled: list[Entry] = field(default_factory=list)
    cache: list[Entry] = field(default_factory=list)
    directory: list[Entry] | None = None
    hub: list[Entry] | None = None
    problem: str | None = None
    """Why the hub could not be asked."""

    def to_dict(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            place: [entry._asdict() for entry in value] if isinstance(value, list) else value
            for place, value in vars(self).items()
        }


def list_all(directory: str | None = None, search: str | None = None) -> Listing:
    """List the models. The hub is asked where no directory is named; that it cannot be reached is no error.

    Raises:
        CheckpointError: there is no such directory, or it cannot be read.
    """
    listing = Listing(
        bundled=[Entry(name, size=_size(BUNDLED / name)) for name in bundled_models()],
        cache=[
            Entry(
                repo.repo_id,
                tuple(sorted(name for it in repo.revisions for name in (it.refs or [it.commit_hash]))),
                repo.size_on_disk,
            )
            for repo in cached_models()
        ],
    )
    if directory is not None:
        folder = path_of(directory)
        if folder is None or not folder.is_dir():
            raise CheckpointError(f"there is no directory {directory}")
        listing.directory = [
            Entry(model.name, tuple(model.refs()), _size(model.folder), many(len(model.versions()), "version"))
            for model in models_in(folder)
            if search is None or search in model.name
        ]
        return listing
    try:
        listing.hub = [Entry(it.id, note=f"{it.downloads or 0:,} downloads") for it in published_models(search)]
    except CheckpointError as error:
        listing.problem = str(error)
    return listing


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
