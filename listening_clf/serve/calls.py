"""The live calls that are remembered, so that a connection that drops can be taken up again, by any worker."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from listening_clf.serve.call import LiveCall, LiveTurn
from listening_clf.serve.settings import LIVE_CALLS, LIVE_SECONDS
from listening_clf.serve.shared import connect, is_full, transaction

_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    owner TEXT, id TEXT, connection TEXT NOT NULL, touched REAL NOT NULL, PRIMARY KEY (owner, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (
    owner TEXT, id TEXT, seq INTEGER, data TEXT NOT NULL, PRIMARY KEY (owner, id, seq)
) WITHOUT ROWID;
"""


class TooManyCallsError(Exception):
    """Nothing further can be remembered."""


class TakenOverError(Exception):
    """Another connection goes on with the call."""


class Calls:
    """The calls of all workers. Each belongs to one connection at a time, and to whom has the key that began it.

    Args:
        folder: what the workers share.
        limit: how many calls are remembered.
        seconds: how long a call is remembered in which nothing happens.
    """

    def __init__(self, folder: Path, limit: int = LIVE_CALLS, seconds: float = LIVE_SECONDS) -> None:
        self._database = connect(folder)
        self._database.executescript(_TABLES)
        self._limit = limit
        self._seconds = seconds

    def open(self, owner: str, call: str, connection: str) -> LiveCall:
        """Begin a call, or go on with it: from now on it is this connection's.

        Raises:
            TooManyCallsError: there are as many as may be, and it is none of them.
        """
        self.forget_idle()
        with transaction(self._database) as database:
            known = database.execute("SELECT 1 FROM calls WHERE owner = ? AND id = ?", (owner, call)).fetchone()
            (count,) = database.execute("SELECT COUNT(*) FROM calls").fetchone()
            if not known and count >= self._limit:
                raise TooManyCallsError
            database.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)", (owner, call, connection, time.time()))
            rows = database.execute("SELECT data FROM turns WHERE owner = ? AND id = ?", (owner, call)).fetchall()
        return LiveCall(LiveTurn.from_dict(json.loads(data)) for (data,) in rows)

    def save(self, owner: str, call: str, connection: str, turns: Iterable[LiveTurn]) -> None:
        """Remember turns of the call, and that something happened in it.

        Raises:
            TakenOverError: the call is another connection's now, or has been forgotten.
            TooManyCallsError: there is no room for more.
        """
        rows = [(owner, call, it.seq, json.dumps(it.to_dict(), ensure_ascii=False)) for it in turns]
        try:
            with transaction(self._database) as database:
                mine = database.execute(
                    "UPDATE calls SET touched = ? WHERE owner = ? AND id = ? AND connection = ?",
                    (time.time(), owner, call, connection),
                )
                if not mine.rowcount:
                    raise TakenOverError
                database.executemany("INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            if is_full(error):
                raise TooManyCallsError from error
            raise

    def end(self, owner: str, call: str, connection: str) -> None:
        """Forget a call.

        Raises:
            TakenOverError: the call is another connection's now.
        """
        with transaction(self._database) as database:
            mine = database.execute(
                "DELETE FROM calls WHERE owner = ? AND id = ? AND connection = ?", (owner, call, connection)
            )
            if not mine.rowcount:
                raise TakenOverError
            database.execute("DELETE FROM turns WHERE owner = ? AND id = ?", (owner, call))

    def forget_idle(self) -> None:
        """Forget the calls in which nothing has happened for long."""
        oldest = time.time() - self._seconds
        idle = self._database.execute("SELECT owner, id, connection FROM calls WHERE touched < ?", (oldest,)).fetchall()
        for owner, call, connection in idle:
            with suppress(TakenOverError):  # another worker was faster
                self.end(owner, call, connection)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
