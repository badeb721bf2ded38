"""The command line: `listening-clf predict` and `listening-clf labels`.

What a command needs is imported inside it, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from listening_clf import __version__
from listening_clf.errors import ListeningError, TranscriptError

BAD_INPUT = 2
"""The exit code for input that cannot be used; wrong options have the same."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    # A traceback with locals would show what was said in the call.
    pretty_exceptions_show_locals=False,
)


class OutputFormat(StrEnum):
    """How `predict` writes what it found."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"listening-clf {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Was the agent listening? Tags every agent turn of a service conversation with five listening labels.

    The model comes with the package and runs on this machine: what was said in a call stays here.
    """


@app.command()
def predict(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="WebVTT, JSONL or CSV; - or none is standard input.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another model: a folder, or its id on the Hugging Face hub.")
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who is the agent, where the speakers are not called agent and customer."),
    ] = None,
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="A table to look at, or JSONL or CSV for other programs.")
    ] = OutputFormat.TABLE,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Pass over conversations that cannot be read, and say which.")
    ] = False,
) -> None:
    r"""Tag every agent turn of the calls or chats in the files.

    [bold]Examples[/bold]

    [cyan]listening-clf predict call.vtt[/cyan]

    [cyan]listening-clf predict call.vtt --agent Dana[/cyan]

    [cyan]listening-clf predict calls/*.vtt --format csv --skip-bad > tags.csv[/cyan]

    [cyan]zcat chats.jsonl.gz | listening-clf predict --format jsonl[/cyan]

    [bold]What is read[/bold]

    [bold]WebVTT[/bold], one call a file. Each cue says who speaks: <v Dana>How can I help?

    [bold]JSONL[/bold], one conversation a line: {"turns": \[{"speaker": "agent", "text": "Hello."}]}

    Each turn may have start and end (seconds), the conversation an id.

    [bold]CSV[/bold] with the columns speaker and text, and if known conversation, start and end.

    [bold]CSV[/bold] of single agent turns: text, and if known context (the customer's words before).
    """
    if sys.stdin is None and (not files or "-" in files):
        raise typer.BadParameter("standard input is closed", param_hint="FILE")
    if not files and sys.stdin.isatty():
        raise typer.BadParameter("give a file, or pipe one in", param_hint="FILE")

    from listening_clf import display, transcripts
    from listening_clf.classifier import ListeningClassifier

    read, skipped = 0, 0

    def skip(error: TranscriptError) -> None:
        nonlocal skipped
        skipped += 1
        typer.echo(f"Skipped: {error}", err=True)

    try:
        classifier = ListeningClassifier.from_pretrained(model)
        writer = display.WRITERS[output_format](classifier.labels)
        with display.progress_bar() as bar:
            for file in bar.track(files or [transcripts.STDIN]):
                for conversation in transcripts.read(file, agent=agent, on_bad=skip if skip_bad else None):
                    writer.write(conversation, classifier.predict_conversation(conversation))
                    read += 1
                    bar.update(bar.task_ids[0], description=f"{read:,} conversations")
    except ListeningError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"Error: the results cannot be written ({error.strerror})", err=True)
        # What is still buffered cannot be written at the exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    if read:
        writer.finish()
    if skipped:
        typer.echo(f"{skipped:,} skipped, {read:,} read.", err=True)
    if not read:
        raise typer.Exit(BAD_INPUT)


@app.command()
def labels() -> None:
    """Print the codebook: what each label means, what counts and what does not."""
    from listening_clf import display

    display.print_codebook()
