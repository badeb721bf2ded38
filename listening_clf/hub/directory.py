"""A directory that serves as a hub, without internet: on a disk, or a share that several machines have mounted.

A model is a folder in it that holds every version published, and refs that name some of them:

    team/calls/versions/<id>/     a checkpoint folder, never altered once it is there
    team/calls/refs/main          the id of the version that is called `main`; so may be `v2`, `production` …
    team/calls/log/               a file for each time that a ref was set: when, to which version, by whom and why

The id is made of the sha256 of the version's manifest, which has the sha256 of every other file: who pins an id knows
what is loaded, to the byte. A version is copied under a hidden name and renamed when it is whole, and a ref is replaced
as a whole, so that readers and other publishers never meet a half of either, and an interrupted push leaves no trace
that they would see.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from listening_clf.checkpoint import MANIFEST, Checkpoint, sha256
from listening_clf.errors import CheckpointError
from listening_clf.hub.card import read_card
from listening_clf.hub.common import ID, ID_LENGTH, MAIN, Published

_SHORTEST_ID = 7
_LIKE_AN_ID = re.compile(rf"[0-9a-f]{{{_SHORTEST_ID},}}")
_REF = re.compile(r"\w[\w.-]*")
_STAGING = ".push-"
_ABANDONED_AFTER = 24 * 60 * 60
_DEPTH = 3


@dataclass(frozen=True)
class DirectoryModel:
    """One model in such a directory, at a revision: a version's id or its first digits, or a ref."""

    folder: Path
    revision: str | None = None
    is_remote = False

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether a folder holds versions of a model."""
        return (folder / "refs").is_dir() and (folder / "versions").is_dir()

    @property
    def name(self) -> str:
        """Its URL, with the revision if there is one."""
        url = self.folder.absolute().as_uri()
        return url if self.revision is None else f"{url}@{self.revision}"

    def fetch(self, needed: Sequence[str]) -> Path:
        """The folder of the version, whose manifest has been verified by its id.

        Raises:
            CheckpointError: there is no such revision, or its manifest was altered.
        """
        version = self.resolve()
        folder = self._versions / version
        if not folder.is_dir():
            raise CheckpointError(f"{self.folder} has no version {version}")
        if not _is_version(folder, version):
            raise CheckpointError(f"{MANIFEST} in {folder} is not the one that was published: publish the model anew")
        return folder

    def resolve(self) -> str:
        """The id of the version that the revision is.

        Raises:
            CheckpointError: there is none, or several start so.
        """
        revision = self.revision or MAIN
        if ID.fullmatch(revision):  # before any ref could be called so
            return revision
        refs = self.refs()
        if revision in refs:
            return refs[revision]
        versions = self.versions()
        found = [id for id in versions if len(revision) >= _SHORTEST_ID and id.startswith(revision)]
        if len(found) == 1:
            return found[0]
        known = [*refs, *(id[:_SHORTEST_ID] for id in versions if id not in refs.values())]
        raise CheckpointError(
            f"{self.folder} has {'more than one' if found else 'no'} revision {revision!r}: "
            f"it has {', '.join(known) or 'none at all'}"
        )

    def refs(self) -> dict[str, str]:
        """What the refs are called, and the version that each is."""
        refs = {}
        for path in sorted(self._refs.glob("[!.]*"), key=lambda path: (path.name != MAIN, path.name)):
            with suppress(OSError, UnicodeDecodeError):  # what is no ref is none
                version = path.read_text(encoding="utf-8").strip()
                if ID.fullmatch(version):
                    refs[path.name] = version
        return refs

    def versions(self) -> list[str]:
        """The ids of all versions, those published last first."""
        folders = [path for path in self._versions.glob("[!.]*") if ID.fullmatch(path.name) and path.is_dir()]
        return [path.name for path in sorted(folders, key=lambda path: (-path.stat().st_mtime, path.name))]

    def history(self) -> list[Published]:
        """What the revision, a ref, was set to, the last first. Of a version there is none."""
        ref = self.revision or MAIN
        events = []
        for path in sorted(self._log.glob("[!.]*.json"), reverse=True):
            with suppress(OSError, ValueError, TypeError, KeyError):  # what somebody else wrote there is no event
                event = json.loads(path.read_text(encoding="utf-8"))
                if event.pop("revision") == ref:
                    events.append(Published(**event))
        return events

    def publish(self, checkpoint: Checkpoint, *, message: str | None = None, private: bool | None = None) -> str:
        """Add the checkpoint as a version, and let the revision, a ref, name it.

        To publish a version that is there already sets the ref alone, so one rolls back; a version that was damaged
        since is put right.

        Returns:
            NAME@VERSION, by which these very files are had, whatever is published later.

        Raises:
            CheckpointError: the checkpoint is not whole, was altered or has a card that cannot be read; the revision is
                no name for a ref; the directory cannot be written to, or has other things in it; or `private` is said,
                which its file system decides.
        """
        if private is not None:
            raise CheckpointError(f"private is for the Hugging Face hub: who may read {self.folder}, its disk says")
        ref = self.revision or MAIN
        if not _REF.fullmatch(ref) or _LIKE_AN_ID.fullmatch(ref):
            raise CheckpointError(
                f"a revision cannot be called {ref!r}: expected a name such as main or v2, of letters, digits, "
                "'.', '-' and '_', that does not look like a version's id"
            )
        read_card(checkpoint.folder)
        try:
            self._check_own()
            version = self._add(checkpoint)
            self._set(ref, version, message)
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be published to: {error.strerror or error}") from error
        return f"{self.folder.absolute().as_uri()}@{version}"

    @property
    def _versions(self) -> Path:
        return self.folder / "versions"

    @property
    def _refs(self) -> Path:
        return self.folder / "refs"

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _check_own(self) -> None:
        """Check that nobody named, say, the directory of all models."""
        own = {self._versions.name, self._refs.name, self._log.name}
        if self.folder.exists() and (other := next((it for it in self.folder.iterdir() if it.name not in own), None)):
            raise CheckpointError(f"{self.folder} has other things in it ({other.name}): name a folder for this model")

    def _add(self, checkpoint: Checkpoint) -> str:
        """Put the checkpoint among the versions, where it is not there whole already; gives its id."""
        self._versions.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(self._versions)
        with tempfile.TemporaryDirectory(dir=self._versions, prefix=_STAGING) as scratch:
            staging = Path(scratch) / "new"
            staging.mkdir()
            checkpoint.copy_into(staging)
            for path in (*staging.rglob("*"), staging):
                _sync(path)
            version = _version_of(staging)
            place = self._versions / version
            if place.is_dir() and not _is_whole(place, version):
                place.rename(Path(scratch) / "damaged")
            try:
                staging.rename(place)
            except OSError:
                if not place.is_dir():  # if it is, it is this very version, perhaps since a moment ago
                    raise
            _sync(self._versions)
        return version

    def _set(self, ref: str, version: str, message: str | None) -> None:
        """Let a ref name a version, and log it."""
        for folder in (self._refs, self._log):
            folder.mkdir(exist_ok=True)
            _remove_abandoned(folder)
        now = datetime.now(UTC)
        published = Published(now.isoformat(timespec="seconds"), version, message, _user())
        event = _written(self._log, json.dumps({"revision": ref, **published._asdict()}, ensure_ascii=False))
        _written(self._refs, version + "\n").replace(self._refs / ref)
        _sync(self._refs)
        event.rename(self._log / f"{now:%Y%m%dT%H%M%S%f}{event.name.replace(_STAGING, '-')}.json")


def models_in(directory: Path, depth: int = _DEPTH) -> Iterator[DirectoryModel]:
    """The models in a directory, and in its folders down to some depth (`team/calls`).

    Raises:
        CheckpointError: the directory cannot be read.
    """
    try:
        folders = sorted(it for it in directory.iterdir() if it.name[0] != "." and it.is_dir() and not it.is_symlink())
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be read: {error.strerror}") from error
    for folder in folders:
        if DirectoryModel.is_one(folder):
            yield DirectoryModel(folder)
        elif depth > 1:
            yield from models_in(folder, depth - 1)


def _version_of(folder: Path) -> str:
    return sha256(folder / MANIFEST)[:ID_LENGTH]


def _is_version(folder: Path, version: str) -> bool:
    return (folder / MANIFEST).is_file() and _version_of(folder) == version


def _is_whole(folder: Path, version: str) -> bool:
    """Whether the folder has all files of the version, as they were published."""
    if not _is_version(folder, version):
        return False
    try:
        files = Checkpoint.read(folder).manifest.files
        return all(sha256(folder / path) == expected for path, expected in files.items())
    except (CheckpointError, OSError):
        return False


def _written(folder: Path, text: str) -> Path:
    """A new file of a hidden name, on the disk, that whoever may read the folder's other files may read."""
    path = folder / f"{_STAGING}{secrets.token_hex(4)}"
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    _sync(path)
    return path


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk: after a power cut, no name may stand for what was never written."""
    if path.is_dir() and os.name == "nt":  # there, folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    """Remove what pushes left that were killed, so long ago that none of them can still be under way."""
    for path in folder.glob(f"{_STAGING}*"):
        with suppress(OSError):  # somebody else may be at it
            if time.time() - path.stat().st_mtime < _ABANDONED_AFTER:
                continue
            # Out of the way first: were it not abandoned, its push would fail rather than publish a half of it.
            doomed = path.rename(path.with_name(f"{_STAGING}old-{secrets.token_hex(4)}"))
            if doomed.is_dir():
                shutil.rmtree(doomed)
            else:
                doomed.unlink()


def _user() -> str | None:
    import getpass  # brings the terminal's modules along, which loading a model does not need

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, nobody may have a name
        return None
