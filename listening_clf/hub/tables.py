"""What the commands of `listening-clf hub` show in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from listening_clf.agreement import PredictionDiff
from listening_clf.checkpoint import NEEDED_TO_PREDICT
from listening_clf.display import label_style, many, plain, standard_output
from listening_clf.hub.card import in_words
from listening_clf.hub.diff import Row
from listening_clf.hub.facts import WRONG, Facts, FileState, megabytes
from listening_clf.hub.listing import Entry, Listing

LATEST = 10
"""How many of the times that a model was published are shown."""


def print_listing(listing: Listing) -> None:
    """Print the models, place by place."""
    console = _console()
    places: list[tuple[str, list[Entry] | None]] = [
        ("Bundled with the library", listing.bundled),
        ("In the cache", listing.cache),
        ("In the directory", listing.directory),
        ("On the Hugging Face hub", listing.hub),
    ]
    for place, entries in places:
        if entries is None:
            continue
        console.print(place, style="bold")
        table = Table.grid(padding=(0, 2), pad_edge=True)
        for entry in entries:
            size = "" if entry.size is None else megabytes(entry.size)
            table.add_row(plain(entry.name), plain(", ".join(entry.revisions)), size, entry.note)
        console.print(table if entries else "  none")
        console.print()
    if listing.problem:
        console.print(plain(f"Not listed: {listing.problem}", "dim"))


def print_facts(facts: Facts) -> None:
    """Print what a model is."""
    console = _console()
    manifest, card = facts.manifest, facts.card
    console.print(plain(facts.name, "bold"))
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "labels": ", ".join(manifest.labels),
        "codebook": manifest.codebook_version and f"version {manifest.codebook_version}",
        "licence": in_words(card.license),
        "language": in_words(card.language),
        "base model": in_words(card.base_model),
        "trained on": facts.trained_on,
        "reads": f"{manifest.encoding.get('context_tokens')} tokens of context",
        "size": facts.sizes and f"{megabytes(facts.size)}, of which {megabytes(facts.size_to_predict)} to predict",
    }
    if facts.revision:
        rows["version"] = facts.revision
        rows["revisions"] = ", ".join(f"{name} ({version[:7]})" for name, version in facts.revisions.items())
    if facts.problem:
        rows["card"] = facts.problem
    for what, value in rows.items():
        table.add_row(what, plain(value or "not stated", "" if value else "dim"))
    console.print(table)
    for data, metrics in facts.metrics.items():
        console.print()
        console.print(plain(f"The card's figures on {data}:"))
        table = Table.grid(padding=(0, 2), pad_edge=True)
        for metric, figure in metrics.items():
            table.add_row(plain(metric), f"{figure:.3f}")
        console.print(table)
    if facts.history:
        console.print("\nPublished:")
        table = Table.grid(padding=(0, 2), pad_edge=True)
        for whole in (True, True, False, False):  # who rolls back needs all of a version's id
            table.add_column(no_wrap=whole, overflow="fold")
        for event in facts.history[:LATEST]:
            when = event.time[:16].replace("T", " ")
            table.add_row(when, event.version, plain(event.message or ""), plain(event.by or "", "dim"))
        console.print(table)


def print_files(name: str, files: Sequence[FileState]) -> None:
    """Print how each file compares with the manifest, and what that means."""
    console = _console()
    table = Table.grid(padding=(0, 2), pad_edge=True)
    for file in files:
        detail = ""
        if file.expected and file.found and file.expected != file.found:
            detail = f"sha256 {file.found[:12]}…, published {file.expected[:12]}…"
        style = "bold red" if file.state in WRONG else "dim" if file.state != "as published" else ""
        table.add_row(plain(file.path), plain(file.state, style), detail)
    console.print(plain(name, "bold"))
    console.print(table)
    wrong = [file for file in files if file.state in WRONG]
    absent = [file for file in files if file.state == "not downloaded" and file.path in NEEDED_TO_PREDICT]
    if wrong:
        console.print(
            f"\n{many(len(wrong), 'file')} of {len(files)} not as published: the model is refused. Get it anew; where "
            "it came from the hub, by `listening-clf hub pull --force`.",
            highlight=False,
        )
    elif absent:
        console.print(
            "\nWhat is there is as published. Predicting needs more, which `listening-clf hub pull` downloads."
        )
    else:
        console.print("\nEvery file that is loaded is as published.")


def print_differing_facts(first: str, second: str, rows: Sequence[Row]) -> None:
    """Print what manifests and cards have different."""
    console = _console()
    if not rows:
        console.print("The same files, labels, thresholds and card.")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", overflow="fold")
    for name in (first, second):
        table.add_column(plain(name), overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    console.print(table)


def print_differing_predictions(first: str, second: str, diff: PredictionDiff) -> None:
    """Print how often two models agree, and on which turns they do not."""
    console = _console()
    console.print(f"\n{many(diff.turns, 'agent turn')}, {diff.same:,} with the same labels by both.")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("label", no_wrap=True)
    for heading in ("both", f"only {first}", f"only {second}", "neither", "kappa", "mean difference"):
        table.add_column(plain(heading), justify="right", overflow="fold")
    for label, it in diff.labels.items():
        counts = (f"{count:,}" for count in (it.both, it.only_first, it.only_second, it.neither))
        kappa = "–" if it.kappa is None else f"{it.kappa:.3f}"
        mean = f"{it.difference / it.turns:.3f}" if it.turns else "–"
        table.add_row(plain(label, label_style(label)), *counts, kappa, mean)
    console.print(table)
    if diff.most_different:
        console.print(f"\nWhere they differ most ({first} | {second}):", highlight=False)
    for turn in diff.most_different:
        where = f"{turn.conversation or ''} turn {turn.turn}".strip()
        ours, theirs = (", ".join(labels) or "none" for labels in (turn.first, turn.second))
        console.print(plain(f"  {where}: {ours} | {theirs}", "bold"))
        console.print(plain(f"    {turn.text}"))


def _console() -> Console:
    return Console(file=standard_output(), highlight=False)
