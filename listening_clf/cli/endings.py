"""How a command ends where something is wrong: one sentence on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from listening_clf.errors import ListeningError

BAD_INPUT = 2
"""The exit code for input that cannot be used; wrong options have the same."""


@contextmanager
def plain_errors(*, resumable: bool = False, extra: str = "train") -> Iterator[None]:
    """End in one sentence where something is wrong with the input, the disk, or what is installed.

    Args:
        resumable: whether the same command could go on where it stopped.
        extra: what to install where something is missing.
    """
    try:
        yield
    except ListeningError as error:
        say_error(str(error))
        raise typer.Exit(BAD_INPUT) from None
    except BrokenPipeError:
        raise
    except ImportError as error:
        say_error(f'{error.name or error} is missing: pip install "listening-clf[{extra}]"')
        raise typer.Exit(1) from None
    except OSError as error:
        say_error(f"the results cannot be written ({error.strerror or error})")
        # What is still buffered cannot be written at the exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        if resumable:
            typer.echo("Stopped. The same command with --resume goes on.", err=True)
        raise


def say_error(problem: str) -> None:
    """Say it once, where several processes of one run have it."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"Error: {problem}", err=True)
