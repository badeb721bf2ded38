"""Archives of public repositories: from a local folder, or fetched once and cached."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pooch

from listening_clf.errors import TrainingError

CORPORA_VARIABLE = "LISTENING_CLF_CORPORA"
"""The environment variable that names a folder of archives, looked in before anything is fetched."""


@dataclass(frozen=True)
class Archive:
    """One commit of a public GitHub repository, and the files of it that a reader uses."""

    name: str
    """The file's name without ".zip": owner, repository and commit, joined by hyphens."""
    repository: str
    """Owner and name, as in "uccollab/AnnoMI"."""
    commit: str
    """The commit's full hash."""
    sha256: str
    """The `content_sha256` of the files that match `patterns`."""
    patterns: tuple[str, ...]
    """Which files are read: shell patterns of their paths in the repository."""

    def read(self) -> dict[str, bytes]:
        """Read the files that match `patterns`, by their path in the repository.

        Raises:
            TrainingError: the files are not the ones that this archive is known by.
        """
        path = self._locate()
        with zipfile.ZipFile(path) as file:
            # GitHub puts everything into one folder, which it names after the repository and the commit.
            paths = {name: name.partition("/")[2] for name in file.namelist() if not name.endswith("/")}
            members = {paths[name]: file.read(name) for name in paths if self._matches(paths[name])}
        found = content_sha256(members)
        if found != self.sha256:
            raise TrainingError(
                f"{path}: the {len(members)} files that are read from it have sha256 {found}, not {self.sha256}: "
                f"delete it, to have commit {self.commit} of {self.repository} fetched again"
            )
        return members

    def _locate(self) -> Path:
        file = f"{self.name}.zip"
        if (folder := os.environ.get(CORPORA_VARIABLE)) and (local := Path(folder, file)).exists():
            return local
        url = f"https://github.com/{self.repository}/archive/{self.commit}.zip"
        return Path(
            pooch.retrieve(url, known_hash=None, fname=file, path=pooch.os_cache("listening_clf"), progressbar=True)
        )

    def _matches(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.patterns)


def content_sha256(members: Mapping[str, bytes]) -> str:
    """The sha256 over names and bytes of files, in the order of their names.

    It is this, not the hash of the zip file, that is checked: GitHub makes its archives on request and does not
    promise their bytes, and a copy that holds the files that are read and no others is as good.
    """
    digest = hashlib.sha256()
    for name in sorted(members):
        digest.update(f"{name}\0{len(members[name])}\0".encode())
        digest.update(members[name])
    return digest.hexdigest()
