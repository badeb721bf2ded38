"""A directory that serves as a hub, without internet: on a disk, or a share that several machines have mounted.

A model is a folder in it that holds every version published, and refs that name some of them:

    team/calls/versions/<id>/     a checkpoint folder, never altered once it is there
    team/calls/refs/main          the id of the version that is called `main`; so may be `v2`, `production` …
    team/calls/log.jsonl          when which ref was set to which version, by whom and why

The id is made of the sha256 of the version's manifest, which has the sha256 of every other file: who pins an id knows
what is loaded, to the byte. A version is copied under a hidden name and renamed when it is whole, and a ref is replaced
as a whole, so that readers and other publishers never meet a half of either, and an interrupted push leaves no trace
that they would see.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from listening_clf.checkpoint import MANIFEST, Checkpoint, sha256
from listening_clf.errors import CheckpointError
from listening_clf.hub.card import read_card
from listening_clf.hub.remote import MAIN, Published

ID_LENGTH = 40
"""Hexadecimal digits of a version's id, as many as of a commit on the hub."""

_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")
_SHORTEST_ID = 7
_LOG = "log.jsonl"
_STAGING = ".push-"
_ABANDONED_AFTER = 24 * 60 * 60
_REF = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class DirectoryModel:
    """One model in such a directory, at a revision: a ref, or a version's id or its first 7 digits or more."""

    folder: Path
    revision: str | None = None
    is_remote = False

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether a folder holds versions of a model."""
        return (folder / "refs").is_dir() and not (folder / MANIFEST).exists()

    @property
    def name(self) -> str:
        """Its URL, with the revision if there is one."""
        url = self.folder.absolute().as_uri()
        return url if self.revision is None else f"{url}@{self.revision}"

    def fetch(self, needed: Sequence[str] | None = None) -> Path:
        """The folder of the version, whose manifest has been verified by its id.

        Raises:
            CheckpointError: there is no such revision, or its manifest was altered.
        """
        version = self.resolve()
        folder = self.folder / "versions" / version
        if not (folder / MANIFEST).is_file() or _id(folder) != version:
            raise CheckpointError(f"{MANIFEST} in {folder} is not the one that was published: publish the model anew")
        return folder

    def resolve(self) -> str:
        """The id of the version that the revision is.

        Raises:
            CheckpointError: there is none, or several start so.
        """
        revision = self.revision or MAIN
        refs, versions = self.refs(), self.versions()
        if revision in refs:
            if not _ID.fullmatch(refs[revision]):
                raise CheckpointError(f"{self.folder / 'refs' / revision} holds no version's id")
            return refs[revision]
        found = [id for id in versions if len(revision) >= _SHORTEST_ID and id.startswith(revision)]
        if len(found) == 1:
            return found[0]
        known = [*refs, *(id[:_SHORTEST_ID] for id in versions if id not in refs.values())]
        raise CheckpointError(
            f"{self.folder} has {'no' if not found else 'more than one'} revision {revision!r}: "
            f"it has {', '.join(known) or 'none at all'}"
        )

    def refs(self) -> dict[str, str]:
        """What the refs are called, and the version that each is."""
        names = sorted((self.folder / "refs").glob("[!.]*"), key=lambda path: (path.name != MAIN, path.name))
        return {path.name: path.read_text(encoding="utf-8").strip() for path in names}

    def versions(self) -> list[str]:
        """The ids of all versions, those published last first."""
        folders = [path for path in (self.folder / "versions").glob("[!.]*") if path.is_dir()]
        return [path.name for path in sorted(folders, key=lambda path: (-path.stat().st_mtime, path.name))]

    def history(self) -> list[Published]:
        """What the revision, a ref, was set to, the last first. Of a version there is none."""
        try:
            lines = (self.folder / _LOG).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        entries = (json.loads(line) for line in reversed(lines))
        ref = self.revision or MAIN
        return [Published(**entry) for entry in entries if entry.pop("revision") == ref]

    def publish(self, checkpoint: Checkpoint, *, message: str | None = None, private: bool | None = None) -> str:
        """Add the checkpoint as a version, and let the revision, a ref, name it.

        To publish a version that is there already only sets the ref: so one rolls back.

        Returns:
            NAME@VERSION, by which these very files are had, whatever is published later.

        Raises:
            CheckpointError: the checkpoint is not whole or was altered, the revision is no name for a ref, the
                directory cannot be written to, or `private` is said, which its file system decides.
        """
        read_card(checkpoint.folder)  # one that cannot be read would be found by everybody who asks for it
        if private is not None:
            raise CheckpointError(f"private is for the Hugging Face hub: who may read {self.folder}, its disk says")
        ref = self.revision or MAIN
        if not _REF.fullmatch(ref) or re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_ID},}}", ref):
            raise CheckpointError(
                f"a revision cannot be called {ref!r}: expected a name such as main or v2, of letters, digits, "
                "'.', '-' and '_', that does not look like a version's id"
            )
        try:
            version = self._add(checkpoint)
            self._set(ref, version, message)
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be published to: {error.strerror or error}") from error
        return f"{self.folder.absolute().as_uri()}@{version}"

    def _add(self, checkpoint: Checkpoint) -> str:
        versions = self.folder / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(versions)
        with tempfile.TemporaryDirectory(dir=versions, prefix=_STAGING) as scratch:
            staging = Path(scratch) / "new"
            checkpoint.copy_to(staging)
            _sync(staging)
            version = _id(staging)
            try:
                staging.rename(versions / version)
            except OSError:
                if not (versions / version).is_dir():
                    raise
                # The same version is there, perhaps since a moment ago. It must be whole, too.
                Checkpoint.open(versions / version, tuple(checkpoint.manifest.files))
        return version

    def _set(self, ref: str, version: str, message: str | None) -> None:
        refs = self.folder / "refs"
        refs.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=refs, prefix=_STAGING, encoding="utf-8", delete=False) as file:
            file.write(version + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        Path(file.name).replace(refs / ref)
        published = Published(datetime.now(UTC).isoformat(timespec="seconds"), version, message, _user())
        line = json.dumps({"revision": ref, **published._asdict()}, ensure_ascii=False)
        with (self.folder / _LOG).open("a", encoding="utf-8") as log:
            log.write(line + "\n")  # in one write, so that two publishers' lines do not mix


def models_in(directory: Path) -> Iterator[DirectoryModel]:
    """The models in a directory: folders of it, and folders of its folders (`team/calls`)."""
    for refs in sorted([*directory.glob("[!.]*/refs"), *directory.glob("[!.]*/[!.]*/refs")]):
        if DirectoryModel.is_one(refs.parent):
            yield DirectoryModel(refs.parent)


def _user() -> str | None:
    import getpass  # brings the terminal's modules along, which loading a model does not need

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, nobody may have a name
        return None


def _id(folder: Path) -> str:
    return sha256(folder / MANIFEST)[:ID_LENGTH]


def _sync(folder: Path) -> None:
    """Wait until the files are on the disk: after a power cut, a name must not stand for what was never written."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _remove_abandoned(versions: Path) -> None:
    """Remove what pushes left that were killed, so long ago that none of them can still be under way."""
    for folder in versions.glob(f"{_STAGING}*"):
        try:
            if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            pass  # it was not abandoned
