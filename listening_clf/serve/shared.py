"""What the workers of a service share: a database of SQLite in a folder that only they may read.

It lies in memory where the system has room for that, and goes with the service. Nothing waits for a disk.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_IN_MEMORY = Path("/dev/shm")
_PREFIX = "listening-clf-"
_BUSY_SECONDS = 10.0
_PAGE_BYTES = 4096
MOST_BYTES = 256 * 2**20
"""What the database may take: live calls of some 500,000 turns."""


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that is there until the service ends."""
    has_room = _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > 2 * MOST_BYTES
    parent = _IN_MEMORY if has_room else Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        if _locked(left):  # whose it was has been killed
            shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"new-{_PREFIX}", dir=parent))
    lock = _locked(new)
    folder = new.rename(parent / new.name.removeprefix("new-"))  # before it is locked, nobody may take it for left
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock:
            lock.close()


def _locked(folder: Path) -> IO[bytes] | None:
    """The folder's lock, which goes with the process that has it; None where another one has."""
    if fcntl is None:
        return None
    try:
        lock = (folder / "lock").open("wb")
    except OSError:  # another user's
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def connect(folder: Path) -> sqlite3.Connection:
    """Open the database. Each statement is a transaction of its own unless one is begun."""
    connection = sqlite3.connect(folder / "shared.db", timeout=_BUSY_SECONDS, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute(f"PRAGMA max_page_count = {MOST_BYTES // _PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def is_full(error: sqlite3.OperationalError) -> bool:
    """Whether there is no room for more."""
    return error.sqlite_errorcode == sqlite3.SQLITE_FULL


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing of what is written within, with no other worker in between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        if connection.in_transaction:  # SQLite ends it itself where there is no room
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
