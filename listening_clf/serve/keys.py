"""Who may ask: API keys from a file or the environment, kept as digests and compared in constant time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from listening_clf.errors import ServeError

API_KEYS = "LISTENING_CLF_API_KEYS"
ADMIN_KEYS = "LISTENING_CLF_ADMIN_KEYS"

SHORTEST_KEY = 16
"""Characters below which a key can be guessed."""


@dataclass(frozen=True)
class Keys:
    """The digests of the keys that are let in. Without any, everybody may predict and nobody may load models."""

    api: tuple[bytes, ...] = ()
    admin: tuple[bytes, ...] = ()
    """Of those who may load models; they may predict, too."""

    @classmethod
    def read(cls, api_file: Path | None = None, admin_file: Path | None = None) -> Keys:
        """The keys of the files, one a line, and of the environment, separated by white space.

        Raises:
            ServeError: a file that cannot be read, that others may read, or that has no key; a key that is too short.
        """
        return cls(_keys(api_file, API_KEYS), _keys(admin_file, ADMIN_KEYS))

    @property
    def are_asked_for(self) -> bool:
        """Whether one needs a key to predict."""
        return bool(self.api or self.admin)

    def owner(self, key: str | None) -> str | None:
        """By whom a request with this key is: a name that is no secret; None where it must be refused."""
        if not self.are_asked_for:
            return ""
        return _digest(key).hex()[:16] if key is not None and _is_among(key, (*self.api, *self.admin)) else None

    def is_admin(self, key: str | None) -> bool:
        """Whether the bearer of the key may load models."""
        return key is not None and _is_among(key, self.admin)


def _keys(file: Path | None, variable: str) -> tuple[bytes, ...]:
    keys = os.environ.get(variable, "").split()
    origin = [f"${variable}"] * len(keys)
    if file is not None:
        lines = _lines(file)
        keys += lines
        origin += [str(file)] * len(lines)
    for key, where in zip(keys, origin, strict=True):
        if len(key) < SHORTEST_KEY or not key.isascii():
            raise ServeError(
                f"a key in {where} has {len(key)} characters: a key needs at least {SHORTEST_KEY}, all of them ASCII "
                "(python -c 'import secrets; print(secrets.token_urlsafe())' makes one)"
            )
    return tuple(map(_digest, keys))


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"the keys in {file} cannot be read: {getattr(error, 'strerror', error)}") from None
    if os.name == "posix" and mode & stat.S_IROTH:
        raise ServeError(f"everybody on this machine may read the keys in {file}: chmod o-r {file}")
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ServeError(f"there is no key in {file}: write one a line")
    return keys


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_among(key: str, digests: Iterable[bytes]) -> bool:
    """Whether the key has one of the digests; it takes as long whichever it is, and where it is none."""
    digest = _digest(key)
    return sum(compare_digest(digest, known) for known in digests) > 0
