"""Names → where a model comes from, or goes to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from listening_clf.checkpoint import MANIFEST, NEEDED_TO_PREDICT, Checkpoint, read_manifest
from listening_clf.errors import CheckpointError
from listening_clf.hub.common import DEFAULT_ACCESS, Access
from listening_clf.hub.directory import DirectoryModel
from listening_clf.hub.remote import HubModel

BUNDLED = Path(__file__).parent.parent / "models"
DEFAULT_MODEL = "small"

_URL = "file://"
_PATHS = (_URL, "/", ".")
"""What the name of a path starts with, whether it is there or not."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Source(Protocol):
    """Where a model comes from."""

    @property
    def name(self) -> str:
        """What people call it, with its revision if it has one."""

    @property
    def is_remote(self) -> bool:
        """Whether its files have to be downloaded, so that only what is needed should be asked for."""

    def fetch(self, needed: Sequence[str]) -> Path:
        """The model's folder, with the manifest and the needed files in it as far as it has them.

        Raises:
            CheckpointError: it cannot be had.
        """


@dataclass(frozen=True)
class Folder:
    """A checkpoint folder, bundled or anywhere."""

    name: str
    folder: Path
    is_remote = False

    def fetch(self, needed: Sequence[str]) -> Path:
        """The folder."""
        return self.folder


def bundled_models() -> tuple[str, ...]:
    """The names of the models that come with the library."""
    return tuple(sorted(manifest.parent.name for manifest in BUNDLED.glob(f"*/{MANIFEST}")))


def find(
    name_or_path: str | Path | None = None, *, revision: str | None = None, access: Access = DEFAULT_ACCESS
) -> Source:
    """Where the model of that name comes from. Nothing is downloaded yet.

    Args:
        name_or_path: NAME or NAME@REVISION, as the package's docstring lists them; None: the default model.
        revision: a branch, tag or commit of the hub, a ref or version of a directory. None: `main`.
        access: how the Hugging Face hub would be asked.

    Raises:
        CheckpointError: it is no name of any kind, names two revisions, or one of what has none.
    """
    name = DEFAULT_MODEL if name_or_path is None else str(name_or_path)
    name, revision = _split(name, revision)
    folder = BUNDLED / name if name in bundled_models() else path_of(name)
    if folder and _is_dir(folder):
        if DirectoryModel.is_one(folder):
            return DirectoryModel(folder, revision)
        if revision is not None:
            raise CheckpointError(f"{name} is one folder and has no revisions, so there is no {revision!r} of it")
        return Folder(name, folder)
    if _HUB_ID.fullmatch(name) and not isinstance(name_or_path, Path):
        return HubModel(name, revision, access)
    raise _no_such_model(name)


def locate(name_or_path: str | Path | None = None, *, revision: str | None = None) -> Path:
    """The folder of a model; where it lies on the hub, what predicting needs is downloaded first.

    Raises:
        CheckpointError: nothing is there by that name, or it cannot be had.
    """
    return find(name_or_path, revision=revision).fetch(NEEDED_TO_PREDICT)


def fetch_whole(source: Source) -> Checkpoint:
    """A model with all the files that its manifest lists; no others that may lie beside them are downloaded.

    Raises:
        CheckpointError: it cannot be had, is no checkpoint of this library, or lacks a file.
    """
    folder = source.fetch(tuple(read_manifest(source.fetch(())).files))
    return Checkpoint.read(folder, tuple(read_manifest(folder).files))


def destination(
    name: str, *, revision: str | None = None, access: Access = DEFAULT_ACCESS
) -> DirectoryModel | HubModel:
    """Where a model of that name is published to: a path or file:// URL is a directory's, org/name the hub's.

    Raises:
        CheckpointError: it is neither, or a checkpoint folder.
    """
    name, revision = _split(name, revision)
    folder = path_of(name)
    if folder and (folder / MANIFEST).exists():
        raise CheckpointError(f"{name} is a checkpoint folder, which holds one version: name a folder to hold several")
    if folder and (DirectoryModel.is_one(folder) or name.startswith(_PATHS)):
        return DirectoryModel(folder, revision)
    if _HUB_ID.fullmatch(name):
        return HubModel(name, revision, access)
    raise CheckpointError(
        f"a model cannot be published as {name!r}: expected org/name for the Hugging Face hub, or a path such as "
        "file:///models/team/name"
    )


def path_of(name: str) -> Path | None:
    """The path that a name means; None for an empty one, and for a URL that is not of this machine."""
    if not name.startswith(_URL):
        return Path(name) if name else None
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        url = urlsplit(name)
    except ValueError:
        return None
    return Path(url2pathname(url.path)) if url.path and url.netloc in ("", "localhost") else None


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long for a path
        return False


def _split(name: str, revision: str | None) -> tuple[str, str | None]:
    """NAME@REVISION, unless a folder is called so, or a folder on the way to one."""
    plain, at, own = name.rpartition("@")
    in_path = "/" in own and name.startswith(_PATHS)
    if not (at and plain and own) or in_path or _is_dir(Path(name)):
        return name, revision
    if revision not in (None, own):
        raise CheckpointError(f"{name} names the revision {own!r}, but revision is {revision!r}")
    return plain, own


def _no_such_model(name: str) -> CheckpointError:
    if name.startswith(_URL):
        return CheckpointError(f"there is no model {name}: no such folder on this machine")
    return CheckpointError(
        f"there is no model {name!r}: expected a bundled model ({', '.join(bundled_models())}), "
        "a checkpoint folder, a file:// URL, or a hub id such as org/name"
    )
