"""What both kinds of hub have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

TAG = "listening-clf"
"""What models of this library are found by on the hub."""

MAIN = "main"
"""The revision that is meant where none is named."""

ID_LENGTH = 40
"""Hexadecimal digits of a commit on the hub, and of a version in a directory."""

ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


class Access(NamedTuple):
    """How the Hugging Face hub is asked."""

    token: str | None = None
    """None: HF_TOKEN, or the one that `hf auth login` stored."""
    cache_dir: str | Path | None = None
    """None: the cache that HF_HOME or HF_HUB_CACHE names."""
    local_files_only: bool = False
    """Take what the cache has, and do not ask the hub."""
    force_download: bool = False
    """Download even what the cache has."""


DEFAULT_ACCESS = Access()


class Published(NamedTuple):
    """One time that a model was published."""

    time: str
    """In ISO 8601, UTC."""
    version: str
    """The commit or version: who names it gets these very files, whatever is published later."""
    message: str | None = None
    by: str | None = None
