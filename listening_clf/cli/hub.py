"""`listening-clf hub`: list, info, pull, push, verify, diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from listening_clf.cli.endings import plain_errors
from listening_clf.cli.options import AgentOption

DIFFERENT = 1
"""The exit code where a model is not what was published."""

hub_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Publish models, find them, pin them, verify them.",
    epilog="A model is named by NAME or NAME@REVISION. NAME is a bundled model (small), a checkpoint folder, org/name "
    "on the Hugging Face hub, or the path or file:// URL of a model in a directory that serves as a hub. REVISION is a "
    "branch, tag or commit, or a directory's ref or version; without one it is main. The variables of the Hugging "
    "Face hub count: HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE.",
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME[@REVISION]", help="The model.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON, for other programs.")]


@hub_app.command("list")
def list_models(
    directory: Annotated[
        str | None,
        typer.Option(
            "--hub", metavar="DIR", help="A directory that serves as a hub (or its file:// URL) to look into."
        ),
    ] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of the hub's models, those with this in their name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    r"""List the models there are: bundled, in the cache, in a directory, and on the hub.

    [bold]Examples[/bold]

    [cyan]listening-clf hub list[/cyan]

    [cyan]listening-clf hub list --hub file:///models[/cyan]

    On the hub, those with the tag listening-clf are found, the 50 most downloaded. With --hub, the Hugging Face hub is
    not asked.
    """
    with plain_errors():
        from listening_clf.hub.listing import list_all
        from listening_clf.hub.tables import print_listing

        listing = list_all(directory, search)
        if as_json:
            typer.echo(json.dumps(listing.to_dict(), ensure_ascii=False, indent=2))
        else:
            print_listing(listing)


@hub_app.command()
def info(name: NameArgument, as_json: JsonOption = False) -> None:
    r"""Say what a model is: labels, codebook version, data, licence, metrics, size, revisions.

    [bold]Examples[/bold]

    [cyan]listening-clf hub info small[/cyan]

    [cyan]listening-clf hub info org/calls@v2[/cyan]

    Of a model on the hub, only the card and two small files are downloaded.
    """
    with plain_errors():
        from listening_clf.hub import find
        from listening_clf.hub.facts import facts_of
        from listening_clf.hub.tables import print_facts

        facts = facts_of(find(name))
        if as_json:
            typer.echo(json.dumps(facts.to_dict(), ensure_ascii=False, indent=2))
        else:
            print_facts(facts)


@hub_app.command()
def pull(
    name: NameArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Also write it there, to a folder of its own.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Download even what the cache has (it may be damaged).")
    ] = False,
) -> None:
    r"""Download a whole model, for use without a network, and verify it.

    [bold]Examples[/bold]

    [cyan]listening-clf hub pull org/calls@v2[/cyan]

    [cyan]listening-clf hub pull file:///models/team/calls@v2 --output model[/cyan]

    Prints the folder. A download that was cut off goes on with the files that are missing. Where DIR has another model,
    that one stays.
    """
    with plain_errors():
        from listening_clf.checkpoint import CARD, MANIFEST, read_manifest
        from listening_clf.errors import CheckpointError
        from listening_clf.hub import fetch_whole, find
        from listening_clf.hub.common import Access

        checkpoint = fetch_whole(find(name, access=Access(force_download=force)))
        if output is None:
            checkpoint.verify(*(path for path in checkpoint.manifest.files if path != CARD))
        elif (output / MANIFEST).exists() and read_manifest(output) != checkpoint.manifest:
            raise CheckpointError(f"{output} has another model: name another folder, or delete that one first")
        else:
            checkpoint.copy_to(output)
        typer.echo(output or checkpoint.folder)


@hub_app.command()
def push(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The checkpoint folder, or another model's name.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME[@REVISION]", help="org/name, or the path or file:// URL of a directory.")
    ],
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Who sees a repository that is made. [default: the account's setting]"),
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="What is new in this version.")] = None,
) -> None:
    r"""Publish a model: to the Hugging Face hub, or into a directory that serves as one.

    [bold]Examples[/bold]

    [cyan]listening-clf hub push my-model org/calls --private -m "Trained on October, too"[/cyan]

    [cyan]listening-clf hub push my-model file:///models/team/calls@v2[/cyan]

    [cyan]listening-clf hub push file:///models/team/calls@v1 file:///models/team/calls[/cyan] (roll main back)

    Prints the name with the commit or version, by which others pin just this. It is there whole or not at all. In a
    directory, the folder of a model holds its versions and nothing else.
    """
    with plain_errors():
        from listening_clf.hub import destination, fetch_whole, find
        from listening_clf.hub.card import missing_from_card, read_card

        target = destination(name)
        checkpoint = fetch_whole(find(model))
        for problem in missing_from_card(read_card(checkpoint.folder)):
            typer.echo(f"Note: {problem}.", err=True)
        typer.echo(target.publish(checkpoint, message=message, private=private))


@hub_app.command()
def verify(name: NameArgument, as_json: JsonOption = False) -> None:
    r"""Compare every file of a model with what was published, and say what differs.

    [bold]Examples[/bold]

    [cyan]listening-clf hub verify my-model[/cyan]

    [cyan]listening-clf hub verify org/calls@v2[/cyan] (what the cache has of it)

    Exits with 1 if a file was altered or is missing, with 2 if the list itself, the manifest, cannot be had. The card
    may be edited: nothing of it is run.
    """
    with plain_errors():
        from listening_clf.hub import find
        from listening_clf.hub.common import Access
        from listening_clf.hub.facts import WRONG, compare_files
        from listening_clf.hub.tables import print_files

        source = find(name, access=Access(local_files_only=True))
        files = compare_files(source)
        if as_json:
            typer.echo(json.dumps([file._asdict() for file in files], ensure_ascii=False, indent=2))
        else:
            print_files(source.name, files)
    if any(file.state in WRONG for file in files):
        raise typer.Exit(DIFFERENT)


@hub_app.command()
def diff(
    first: NameArgument,
    second: Annotated[str, typer.Argument(metavar="NAME[@REVISION]", help="The other model.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Conversations to try both on, as predict reads them; several times if need be."
        ),
    ] = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Compare two models: what their manifests and cards say, and what they answer.

    [bold]Examples[/bold]

    [cyan]listening-clf hub diff small tiny[/cyan]

    [cyan]listening-clf hub diff org/calls@v1 org/calls@v2 --data calls.jsonl[/cyan]

    With --data, counts for each label how often both models give it, only one, and neither, and shows the turns on
    which they differ most. The data need no labels; with labels, [cyan]listening-clf evaluate --against[/cyan] says
    which one is better.
    """
    with plain_errors():
        from listening_clf import transcripts
        from listening_clf.agreement import differing_predictions
        from listening_clf.classifier import ListeningClassifier
        from listening_clf.hub import find
        from listening_clf.hub.diff import differing_facts
        from listening_clf.hub.facts import facts_of
        from listening_clf.hub.tables import print_differing_facts, print_differing_predictions

        rows = differing_facts(facts_of(find(first)), facts_of(find(second)))
        predictions = None
        if data:
            predictions = differing_predictions(
                ListeningClassifier.from_pretrained(first),
                ListeningClassifier.from_pretrained(second),
                (conversation for file in data for conversation in transcripts.read(file, agent=agent)),
            )
        if as_json:
            found = {"facts": [row._asdict() for row in rows], "predictions": predictions and predictions.to_dict()}
            typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
            return
        print_differing_facts(first, second, rows)
        if predictions:
            print_differing_predictions(first, second, predictions)
