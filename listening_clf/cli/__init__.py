"""The command line."""

from listening_clf.cli.commands import app

__all__ = ["app"]
