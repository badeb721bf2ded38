"""The models that a service has loaded, and which of them is the default one: the same in all workers."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from listening_clf.classifier import ListeningClassifier
from listening_clf.conversation import Prediction, TurnInContext
from listening_clf.errors import ListeningError, ServeError
from listening_clf.serve.batcher import Batcher
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import ProblemError
from listening_clf.serve.settings import LOADED_MODELS
from listening_clf.serve.shared import connect, transaction

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_LOOK_SECONDS = 0.05
"""How often it is looked for what other workers have loaded."""

_TABLES = """
CREATE TABLE IF NOT EXISTS models (
    name TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    folder TEXT NOT NULL,
    loaded INTEGER NOT NULL,
    is_default INTEGER NOT NULL
)
"""


@dataclass(frozen=True)
class Entry:
    """A model as all workers know it."""

    name: str
    source: str
    """As whoever loaded it called it."""
    folder: str
    """Where its files lie, so that all workers load the same ones, whatever a branch may have become since."""
    loaded: int
    """How many loads there had been before."""
    is_default: bool


@dataclass(frozen=True)
class Served:
    """A model that this worker has loaded."""

    name: str
    classifier: ListeningClassifier
    batcher: Batcher

    async def predict(self, turns: Sequence[TurnInContext], *, live: bool = False) -> list[Prediction]:
        """Judge turns together with those of other requests: see `Batcher.predict`."""
        return await self.batcher.predict(turns, live=live)


class Registry:
    """The models of this worker, which follows what any worker is told to load.

    A model that is switched from answers what it has begun; it stays loaded, so that one can switch back at once.

    Args:
        folder: what the workers share.
        metrics: where runs are counted.
        loaded: models by their names that are loaded already.
    """

    def __init__(self, folder: Path, metrics: Metrics, loaded: Mapping[str, ListeningClassifier] | None = None) -> None:
        self._metrics = metrics
        self._loaded = dict(loaded or {})
        self._database = connect(folder)
        self._database.execute(_TABLES)
        self._served: dict[tuple[str, int], Served] = {}
        self._entries: dict[str, Entry] = {}
        self._version: int | None = None
        self._look_again = 0.0
        self._loading = asyncio.Lock()

    def entries(self) -> list[Entry]:
        """All models, the first loaded first."""
        self._refresh()
        return list(self._entries.values())

    def entry(self, name: str | None = None) -> Entry:
        """What is known of a model by its name; None: the default one.

        Raises:
            ProblemError: 404, none has that name.
        """
        entries = self.entries()
        for entry in entries:
            if entry.is_default if name is None else entry.name == name:
                return entry
        raise ProblemError(404, f"no model is called {name!r}: there is {', '.join(it.name for it in entries)}")

    async def get(self, name: str | None = None) -> Served:
        """A model by its name; None: the default one.

        Raises:
            ProblemError: 404, none has that name.
        """
        entry = self.entry(name)
        return self._served.get((entry.name, entry.loaded)) or await self._follow(entry)

    def turned_away(self) -> ProblemError | None:
        """What is answered to requests of which it need not even be known what they ask, where no model has room."""
        batchers = [served.batcher for served in self._served.values()]
        return batchers[0].turn_away() if batchers and all(it.is_full for it in batchers) else None

    async def load(self, name: str, source: str, *, make_default: bool) -> Served:
        """Load a model, from wherever it comes, and let all workers know: see `add`."""
        check_name(name)  # before anything is downloaded
        classifier = await asyncio.to_thread(ListeningClassifier.from_pretrained, source)
        return self.add(name, source, classifier, make_default=make_default)

    def add(self, name: str, source: str, classifier: ListeningClassifier, *, make_default: bool) -> Served:
        """Serve a model that is loaded, and let all workers know.

        Args:
            name: what requests shall call it. What had that name before is replaced.
            source: where it is from, as `from_pretrained` takes it.
            classifier: the model.
            make_default: whether requests that name no model shall go to it from now on.

        Raises:
            ServeError: a name that cannot stand in an address.
        """
        check_name(name)
        folder = str(classifier.checkpoint.folder.resolve())
        with transaction(self._database) as database:
            _write(database, name, source, folder, make_default)
        self._version = None  # what one has written oneself does not change the database's version
        return self._serve(self.entry(name), classifier)

    def close(self) -> None:
        """Let go of all of them."""
        for served in self._served.values():
            served.batcher.close()
        self._database.close()

    async def _follow(self, entry: Entry) -> Served:
        """Load what another worker was told to; one model at a time, however many requests ask for it."""
        async with self._loading:
            if found := self._served.get((entry.name, entry.loaded)):
                return found
            classifier = self._loaded.pop(entry.name, None)
            if classifier is None:
                try:
                    classifier = await asyncio.to_thread(ListeningClassifier.from_pretrained, Path(entry.folder))
                except ListeningError as error:  # the folder has been altered since
                    raise ProblemError(503, f"the model {entry.name!r} cannot be loaded here: {error}") from None
            return self._serve(entry, classifier)

    def _serve(self, entry: Entry, classifier: ListeningClassifier) -> Served:
        served = Served(entry.name, classifier, Batcher(classifier, entry.name, self._metrics))
        self._served[entry.name, entry.loaded] = served
        return served

    def _refresh(self) -> None:
        """Look whether another worker has loaded something; forget what is no more."""
        if self._version is not None and monotonic() < self._look_again:
            return
        self._look_again = monotonic() + _LOOK_SECONDS
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self._version = version
        rows = self._database.execute("SELECT name, source, folder, loaded, is_default FROM models ORDER BY loaded")
        self._entries = {row[0]: Entry(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows}
        wanted = {(entry.name, entry.loaded) for entry in self._entries.values()}
        for key in self._served.keys() - wanted:
            self._served.pop(key)  # requests that are in flight hold it, and it goes with the last of them


def _write(database: sqlite3.Connection, name: str, source: str, folder: str, make_default: bool) -> None:
    (loaded,) = database.execute("SELECT COALESCE(MAX(loaded), 0) + 1 FROM models").fetchone()
    was_default = database.execute("SELECT is_default FROM models WHERE name = ?", (name,)).fetchone() == (1,)
    if make_default:
        database.execute("UPDATE models SET is_default = 0")
    database.execute(
        "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?)",
        (name, source, folder, loaded, make_default or was_default),
    )
    database.execute(
        "DELETE FROM models WHERE name IN (SELECT name FROM models WHERE NOT is_default AND name != ? "
        "ORDER BY loaded LIMIT MAX(0, (SELECT COUNT(*) FROM models) - ?))",
        (name, LOADED_MODELS),
    )


def name_of(source: str) -> str:
    """What requests call a model that was given no name: the last part of its path or id, without its revision."""
    return source.partition("@")[0].rstrip("/").rpartition("/")[2]


def check_name(name: str) -> None:
    """Check that requests can call a model so.

    Raises:
        ServeError: they cannot.
    """
    if not _NAME.fullmatch(name):
        raise ServeError(
            f"a model cannot be called {name!r} here: a name has 1 to 64 letters, digits, '.', '_' or '-', and starts "
            "with a letter or digit"
        )
