"""The command line: `listening-clf predict`, `train`, `evaluate`, `data check`, `serve`, `labels`; `hub` has a module.

What a command needs is imported inside it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from listening_clf import __version__
from listening_clf.cli.endings import BAD_INPUT, plain_errors
from listening_clf.cli.hub import hub_app
from listening_clf.cli.options import AgentOption, MinPrecisionOption, min_precision_of
from listening_clf.errors import TranscriptError

if TYPE_CHECKING:
    from listening_clf.finetune import TrainConfig

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    # A traceback with locals would show what was said in the call.
    pretty_exceptions_show_locals=False,
)
data_app = typer.Typer(no_args_is_help=True, help="Look at labelled data before training on it.")
app.add_typer(data_app, name="data")
app.add_typer(hub_app, name="hub")

DataArgument = Annotated[
    list[str], typer.Argument(metavar="DATA...", help="Labelled turns: JSONL, CSV, Parquet, or a dataset.")
]
DevOption = Annotated[
    list[str] | None,
    typer.Option(metavar="DATA", help="Data to choose epoch and thresholds by; may be given several times."),
]
HeldOutOption = Annotated[
    float, typer.Option(metavar="SHARE", help="Without --dev: the share of the conversations that is held out.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(metavar="YAML", help="The settings of the run: epochs, learning_rate, labels … (docs/train.md)."),
]
BaseOption = Annotated[
    str | None,
    typer.Option("--from", metavar="MODEL", help="The model to start from: bundled (small), a folder, or a hub's."),
]


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
        str | None, typer.Option(metavar="NAME", help="Another model: a folder, or a hub's (listening-clf hub --help).")
    ] = None,
    agent: AgentOption = None,
    min_precision: MinPrecisionOption = None,
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

    [cyan]listening-clf predict call.vtt --min-precision 0.9[/cyan] (of each label, 9 in 10 right on dev)

    [cyan]listening-clf predict calls/*.vtt --format csv --skip-bad > tags.csv[/cyan]

    [cyan]zcat chats.jsonl.gz | listening-clf predict --format jsonl[/cyan]

    [bold]What is read[/bold]

    [bold]WebVTT[/bold], one call a file. Each cue says who speaks: <v Dana>How can I help?

    [bold]JSONL[/bold], one conversation a line: {"turns": \[{"speaker": "agent", "text": "Hello."}]}

    Each turn may have start and end (seconds), the conversation an id.

    [bold]CSV[/bold] with the columns speaker and text, and if known conversation, start and end.

    [bold]CSV[/bold] of single agent turns: text, and if known context (the customer's words before).

    Up to 2,048 agent turns are read before the first is written: they run together.
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

    with plain_errors():
        classifier = ListeningClassifier.from_pretrained(model, min_precision=min_precision_of(min_precision))
        writer = display.WRITERS[output_format](classifier.labels)
        with display.progress_bar() as bar:
            conversations = (
                conversation
                for file in bar.track(files or [transcripts.STDIN])
                for conversation in transcripts.read(file, agent=agent, on_bad=skip if skip_bad else None)
            )
            for conversation, predictions in classifier.predict_conversations(conversations):
                writer.write(conversation, predictions)
                read += 1
                bar.update(bar.task_ids[0], description=f"{read:,} conversations")
    if read:
        writer.finish()
    if skipped:
        typer.echo(f"{skipped:,} skipped, {read:,} read.", err=True)
    if not read:
        raise typer.Exit(BAD_INPUT)


@app.command()
def train(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The checkpoint folder to write.")],
    dev: DevOption = None,
    held_out: HeldOutOption = 0.2,
    config: ConfigOption = None,
    base: BaseOption = None,
    agent: AgentOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off.")] = False,
    log_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write what TensorBoard shows: loss, rate, macro F1 on dev.")
    ] = None,
) -> None:
    r"""Fine-tune a model on your own labelled turns.

    [bold]Examples[/bold]

    [cyan]listening-clf train calls.jsonl --output my-model[/cyan]

    [cyan]listening-clf train calls.csv --dev dev.csv --config my.yaml --output my-model[/cyan]

    [cyan]listening-clf train org/calls:train --dev org/calls:validation --from my-model --output newer[/cyan]

    [cyan]accelerate launch -m listening_clf train calls.jsonl --output my-model[/cyan] (several GPUs or machines)

    [bold]What is read[/bold]

    [bold]JSONL[/bold], one conversation a line, "labels" on the agent turns that were annotated:

    {"id": "7", "turns": \[{"speaker": "agent", "text": "What happened?", "labels": \["open_question"]}]}

    [bold]CSV, JSONL or Parquet[/bold], one agent turn a row: text, context, conversation, and a column a label with
    1, 0, or nothing where nobody looked.

    [bold]CSV[/bold] of both sides, one turn a row: conversation, speaker, text, start, end, and a column a label.

    [bold]A dataset[/bold] of such rows: a folder that the library datasets saved, or an id on the Hugging Face hub;
    NAME:SPLIT names one of its splits.

    Data are split by conversation. They are checked first: [cyan]listening-clf data check --help[/cyan].

    [bold]If it stops[/bold]

    The same command with --resume goes on from the last checkpoint of the run, which lies in DIR.run until the model
    is complete.
    """
    with plain_errors(resumable=True):
        from accelerate import PartialState
        from rich.console import Console
        from transformers.utils import logging as transformers_logging

        from listening_clf import finetune
        from listening_clf.finetune.check import check
        from listening_clf.finetune.findings import print_findings
        from listening_clf.finetune.reading import held_out_split, read_labelled
        from listening_clf.finetune.start import Start

        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        is_main = PartialState().is_main_process
        _log(logging.INFO if is_main and not sys.stderr.isatty() else logging.WARNING)
        settings = _settings(config, base)
        start = Start.of(settings)
        located = read_labelled(data, start.labels, agent=agent)
        if dev:
            train_data, dev_data = located, read_labelled(dev, start.labels, agent=agent)
        else:
            train_data, dev_data = held_out_split(located, held_out, settings.seed)
        findings = check(train_data, dev_data, start.labels, start.encoder())
        if is_main:
            print_findings(findings, Console(stderr=True))
        if findings.has_errors:
            raise typer.Exit(BAD_INPUT)
        finetune.train(
            settings,
            [it.conversation for it in train_data],
            [it.conversation for it in dev_data],
            output,
            training_data=[
                {"name": Path(name).name if Path(name).exists() else name, "licence": "not stated"} for name in data
            ],
            resume=resume,
            log_dir=log_dir,
        )
        if is_main:
            typer.echo(f"The model is in {output}. Try it: listening-clf predict --model {output} FILE")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="The model: bundled (small), a folder, or a hub's.")],
    data: DataArgument,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Another model, to compare with on the same turns.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Write a report with curves and the worst mistakes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, for other programs.")] = False,
    agent: AgentOption = None,
    min_precision: MinPrecisionOption = None,
) -> None:
    r"""Measure a model on labelled turns, with the intervals that chance leaves open.

    [bold]Examples[/bold]

    [cyan]listening-clf evaluate small calls.jsonl[/cyan]

    [cyan]listening-clf evaluate my-model test.csv --against small --report report.html[/cyan]

    [cyan]listening-clf evaluate my-model test.csv --min-precision paraphrase=0.9 --min-precision summary=0.8[/cyan]

    Gives precision, recall, F1, average precision and calibration error of each label, with 95 % intervals by a
    bootstrap over conversations, and F1 by corpus, channel, style, times, punctuation and context, where the data have
    several of these. --against says which differences between two models are beyond chance; --min-precision counts
    for both. The report is one file that needs no network; it quotes the conversations.

    Data have the shapes that [cyan]listening-clf train --help[/cyan] describes. What nobody looked for is left out.
    """
    with plain_errors():
        from listening_clf.classifier import ListeningClassifier
        from listening_clf.finetune.comparison import compare
        from listening_clf.finetune.evaluation import evaluate as measure
        from listening_clf.finetune.reading import read_labelled
        from listening_clf.finetune.report import write_report
        from listening_clf.finetune.tables import print_comparison, print_evaluation

        if report is not None and not report.absolute().parent.is_dir():
            raise typer.BadParameter(f"there is no folder {report.absolute().parent}", param_hint="--report")
        names = [model] if against is None else [model, against]
        asked = min_precision_of(min_precision)
        classifiers = [ListeningClassifier.from_pretrained(name, min_precision=asked) for name in names]
        known = tuple(dict.fromkeys(label for classifier in classifiers for label in classifier.labels))
        conversations = [located.conversation for located in read_labelled(data, known, agent=agent)]
        evaluations = [
            measure(classifier, conversations, model=name, data=", ".join(data), passed_over=known)
            for name, classifier in zip(names, classifiers, strict=True)
        ]
        comparison = None if against is None else compare(*evaluations)
        if as_json:
            figures = {"evaluation": evaluations[0].to_dict()}
            figures |= {} if comparison is None else {"comparison": comparison.to_dict()}
            typer.echo(json.dumps(figures, ensure_ascii=False, indent=2))
        else:
            print_evaluation(evaluations[0])
            if comparison is not None:
                print_comparison(comparison)
        if report is not None:
            write_report(report, evaluations[0], comparison)
            typer.echo(f"The report is in {report}.", err=True)


@data_app.command("check")
def data_check(
    data: DataArgument,
    dev: DevOption = None,
    held_out: HeldOutOption = 0.2,
    config: ConfigOption = None,
    base: BaseOption = None,
    agent: AgentOption = None,
) -> None:
    r"""Find what is wrong with labelled data before hours are spent on it.

    [bold]Examples[/bold]

    [cyan]listening-clf data check calls.jsonl[/cyan]

    [cyan]listening-clf data check calls.csv --dev dev.csv --config my.yaml[/cyan] (labels of your own)

    Says, with file and line, what cannot be read, unknown label names, the same turn with other labels or in both train
    and dev, labels that are never given, turns that are longer than the model reads; and prints how often each label is
    given. [cyan]listening-clf train[/cyan] makes the same checks, and takes the same options. Exits with 2 if something
    cannot be trained on.
    """
    with plain_errors():
        from listening_clf.finetune.check import check_sources
        from listening_clf.finetune.findings import print_findings
        from listening_clf.finetune.start import Start

        settings = _settings(config, base)
        start = Start.of(settings)
        findings = check_sources(
            data, dev or [], start.labels, start.encoder(), agent=agent, dev_share=held_out, seed=settings.seed
        )
        print_findings(findings)
    if findings.has_errors:
        raise typer.Exit(BAD_INPUT)


@app.command()
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The model; may be given several times: the first is the default one."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on. 0.0.0.0: all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes. One uses all cores; with several, one that dies is replaced.")
    ] = 1,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answer only those who have one of its keys, one a line.")
    ] = None,
    admin_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Those who have one of its keys may also load models.")
    ] = None,
) -> None:
    r"""Serve predictions over HTTP and WebSocket, with a page to try them.

    [bold]Examples[/bold]

    [cyan]listening-clf serve[/cyan], then open http://127.0.0.1:8000

    [cyan]listening-clf serve --host 0.0.0.0 --api-key-file keys.txt[/cyan]

    [cyan]curl localhost:8000/v1/predict --json '{"text": "So you were charged twice?"}'[/cyan]

    [cyan]curl localhost:8000/v1/transcripts --data-binary @call.vtt[/cyan]

    [bold]What it answers[/bold]

    /v1/predict (turns), /v1/conversations, /v1/transcripts (files), /v1/live (a WebSocket for calls that go on),
    /v1/model; the clients of Hugging Face's inference API and of KServe's Open Inference Protocol; /healthz, /readyz,
    /metrics for Prometheus; /docs describes all of it.

    [bold]Keys[/bold] may also come from the environment: LISTENING_CLF_API_KEYS, LISTENING_CLF_ADMIN_KEYS.

    No text of a call is logged. SIGTERM and Ctrl-C let requests in flight finish.
    """
    with plain_errors(extra="serve"):
        from listening_clf.serve import Settings
        from listening_clf.serve import serve as run
        from listening_clf.serve.keys import Keys

        keys = Keys.read(api_key_file, admin_key_file)
        settings = Settings(tuple(model or ["small"]), host, port, workers, keys)
        if not settings.is_local and not keys.are_asked_for:
            typer.echo(f"Whoever reaches {host} may use the service: --api-key-file lets in only some.", err=True)
        run(settings, on_listening=lambda url: typer.echo(f"listening_clf at {url} (Ctrl-C stops it)", err=True))


@app.command()
def labels() -> None:
    """Print the codebook: what each label means, what counts and what does not."""
    from listening_clf import display

    display.print_codebook()


def _log(level: int) -> None:
    """Log to standard error from `level` on: what happens, where there is no terminal for a progress bar."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("listening_clf").setLevel(level)


def _settings(config: Path | None, base: str | None) -> TrainConfig:
    from listening_clf.finetune import TrainConfig

    settings = TrainConfig() if config is None else TrainConfig.from_yaml(config)
    return settings if base is None else replace(settings, base=base)
