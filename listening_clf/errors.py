"""The errors that listening_clf raises: each says what was wrong, with what value, and what would be right."""

from __future__ import annotations


class ListeningError(Exception):
    """Base of every error that listening_clf raises on purpose."""


class TurnError(ListeningError, ValueError):
    """A turn, or a list of turns, that cannot be read as one."""


class TranscriptError(ListeningError, ValueError):
    """A file that cannot be read as conversations. The message starts with the file and, where known, the line."""


class SpeakersError(TranscriptError):
    """A conversation of which it cannot be told who is the agent."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names
        """Who speaks in it."""


class CheckpointError(ListeningError):
    """A checkpoint folder that is missing, incomplete, altered, or of a format this version does not know."""


class ThresholdError(ListeningError, ValueError):
    """A precision that no threshold of a model can be chosen by."""


class DeviceError(ListeningError):
    """A device that a model cannot run on."""


class TrainingError(ListeningError, ValueError):
    """Data or settings that a model cannot be trained or measured with."""


class ServeError(ListeningError, ValueError):
    """Settings that a service cannot be started with."""
