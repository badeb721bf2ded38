"""Work that goes on in a thread while something else is done."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Calls `work` in a thread of its own.

    `concurrent.futures` does this and more, but takes 12 ms to import, a tenth of the time in which a model loads.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """Wait for what the work returns, or raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result
