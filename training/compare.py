"""The table of docs/results.md, a row a call: how well each system does, how large it is, how fast.

    python -m training.compare tfidf                                    TF-IDF and logistic regression
    python -m training.compare setfit --setfit-python ENV/bin/python    SetFit (benchmarks/setfit_baseline.py)
    python -m training.compare small                                    a bundled model, as it ships
    python -m training.compare small --float32                          its weights without quantization
    python -m training.compare runs/plain                               any checkpoint folder
    python -m training.compare runs/teacher --torch                     one that is too large for int8, as it teaches

A call puts its figures in the row that the system has in `--output`, and prints all rows that are there. A row that was
measured with other weights is dropped. Calibration and thresholds are a checkpoint's own; for the others they are
fitted on dev, as an export does it.

TF-IDF and SetFit learn from the train split, as our models do, but of what came before a turn they read only the turn
right before it; SetFit only if it is the customer's. SetFit needs to know all labels of a turn, so it does without
MRDA's. Its encoder learns from 600 batches of pairs, drawn from 4,800 of the turns, its head from all of them; what it
predicted is kept beside `--output`, so that it is trained again only for other turns.

Figures of the test splits and of domains that no system was trained on come with `--test`, once, at the end:

- MRDA, test split: interruption among all changes of speaker.
- AnnoMI, test split, against its experts: a turn that "reflects" has any of paraphrase, reflection and summary.
- ESConv and Switchboard: the labels that they have.

The speed is that of `TIMED_TURNS` dev turns, each with those before it, in one call: the best of three, on all cores;
SetFit's is in bfloat16 where the machine computes in it. Let nothing else run, and leave OMP_NUM_THREADS unset.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import numpy as np
import typer

from listening_clf.checkpoint import WEIGHTS, Checkpoint
from listening_clf.errors import TrainingError
from listening_clf.finetune.data import LabelledTurn, labelled_turns
from listening_clf.finetune.metrics import LabelMetrics, label_metrics, macro_f1
from listening_clf.hub import locate
from listening_clf.labels import Label
from training.corpora.annomi import REFLECTS
from training.data import load_annomi_experts, load_esconv, load_mrda, load_split, load_switchboard
from training.setfit import setfit
from training.systems import Decider, System, as_shipped, in_torch, speed, targets_of, tfidf, unquantized

if TYPE_CHECKING:
    from numpy.typing import NDArray

Metrics: TypeAlias = Mapping[str, LabelMetrics]
Row: TypeAlias = dict[str, Any]
"""A system's figures by their column, those that are not known left out; and by `OF` what was measured."""

ROOT = Path(__file__).parent.parent

LABELS = tuple(Label)
EXPERT_LABELS = (REFLECTS, Label.OPEN_QUESTION)
"""Those of AnnoMI's experts."""
REFLECTING = (Label.PARAPHRASE, Label.REFLECTION, Label.SUMMARY)
"""What AnnoMI's experts call a reflection."""
ESCONV_LABELS = (Label.PARAPHRASE, Label.REFLECTION, Label.OPEN_QUESTION)
"""Those that ESConv has: nobody interrupts in a typed chat, and two of 2,100 turns are summaries."""

TIMED_TURNS = 500

BASELINES = {"tfidf": "TF-IDF + logistic regression", "setfit": "SetFit"}
ORDER = (*BASELINES, "tiny", "plain", "small", "teacher")
"""The first rows of the table; other models follow by name."""


class Column(NamedTuple):
    """A figure of the table, and the data that it is measured on."""

    data: str
    figure: Callable[[Metrics], float]


def _f1(label: str) -> Callable[[Metrics], float]:
    return lambda metrics: metrics[label].f1


def _macro_f1(labels: Sequence[str]) -> Callable[[Metrics], float]:
    return lambda metrics: macro_f1({label: metrics[label] for label in labels})


COLUMNS: dict[str, Column] = {
    "dev: macro F1": Column("dev", macro_f1),
    **{f"dev: {label}": Column("dev", _f1(label)) for label in LABELS},
    "MRDA: interruption": Column("MRDA", _f1(Label.INTERRUPTION)),
    "MRDA: average precision": Column("MRDA", lambda metrics: metrics[Label.INTERRUPTION].average_precision),
    "AnnoMI: reflects": Column("AnnoMI", _f1(REFLECTS)),
    "AnnoMI: open_question": Column("AnnoMI", _f1(Label.OPEN_QUESTION)),
    "ESConv: macro F1": Column("ESConv", _macro_f1(ESCONV_LABELS)),
    **{f"ESConv: {label}": Column("ESConv", _f1(label)) for label in ESCONV_LABELS},
    "Switchboard: paraphrase": Column("Switchboard", _f1(Label.PARAPHRASE)),
    "Switchboard: open_question": Column("Switchboard", _f1(Label.OPEN_QUESTION)),
}
SIZE, SPEED = "MB", "turns a second"
OF = "of"
"""The sha256 of a checkpoint's weights."""


def main(
    name: Annotated[str, typer.Argument(metavar="SYSTEM", help="tfidf, setfit, a bundled model, or a folder.")],
    float32: Annotated[bool, typer.Option("--float32", help="A model's weights without quantization.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="A model in torch, as a teacher is run.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Measure on test and unseen domains, too.")] = False,
    setfit_python: Annotated[Path | None, typer.Option(help="A Python that has SetFit.")] = None,
    output: Annotated[Path, typer.Option(help="Where the rows are kept.")] = ROOT / "runs" / "compare.json",
) -> None:
    """Measure a system, keep its row in `output`, and print the table of all rows that are there."""
    if (float32 or torch) and (name in BASELINES or (float32 and torch)):
        raise typer.BadParameter("--float32 and --torch are for models, one at a time")
    way = " --float32" if float32 else " --torch" if torch else ""
    output.parent.mkdir(parents=True, exist_ok=True)
    data = {"dev": labelled_turns(load_split("dev"), LABELS), **(_test_data() if test else {})}
    with _opened(name, way, data, setfit_python, output.with_name(f"{output.stem}_setfit.json")) as system:
        row = measure(system, data)
    row[OF] = None if name in BASELINES else Checkpoint.open(locate(name)).manifest.files[WEIGHTS]
    print(table(keep(name.rstrip("/") + way, row, output)))


def _test_data() -> dict[str, list[LabelledTurn]]:
    return {
        "MRDA": labelled_turns(load_mrda("test"), LABELS),
        "AnnoMI": labelled_turns(load_annomi_experts(), EXPERT_LABELS),
        "ESConv": labelled_turns(load_esconv(), LABELS),
        "Switchboard": labelled_turns(load_switchboard(), LABELS),
    }


@contextmanager
def _opened(
    name: str, way: str, data: Mapping[str, list[LabelledTurn]], setfit_python: Path | None, setfit_cache: Path
) -> Iterator[System]:
    """The system of that name, trained or loaded."""
    if name in BASELINES:
        train = labelled_turns(load_split("train"), LABELS)
        if name == "tfidf":
            yield tfidf(train)
        else:
            asked = [turn for turns in data.values() for turn in turns]
            yield setfit(setfit_python, train, asked, _timed(data["dev"]), setfit_cache)
        return
    checkpoint = Checkpoint.open(locate(name))
    if checkpoint.manifest.labels != LABELS:
        raise TrainingError(f"{name} has other labels than the codebook's: {', '.join(checkpoint.manifest.labels)}")
    if way == " --float32":
        with unquantized(checkpoint) as system:
            yield system
    else:
        yield in_torch(checkpoint) if way == " --torch" else as_shipped(checkpoint)


def measure(system: System, data: Mapping[str, Sequence[LabelledTurn]]) -> Row:
    """The row of a system: the columns of the data that are given, and what it costs."""
    logits = {corpus: system.logits(turns) for corpus, turns in data.items()}
    targets = {corpus: targets_of(turns) for corpus, turns in data.items()}
    decider = system.decider or Decider.fit(logits["dev"], targets["dev"], LABELS)
    metrics: dict[str, Metrics] = {
        corpus: expert_metrics(decider.decisions(logits[corpus]), targets[corpus])
        if corpus == "AnnoMI"
        else decider.metrics(logits[corpus], targets[corpus])
        for corpus in data
    }
    row = {name: figure(metrics[corpus]) for name, (corpus, figure) in COLUMNS.items() if corpus in data}
    row[SIZE] = system.size / 1e6
    row[SPEED] = speed(system, _timed(data["dev"]))
    return {name: figure for name, figure in row.items() if not math.isnan(figure)}


def expert_metrics(decisions: NDArray[np.bool_], targets: NDArray[np.float32]) -> dict[str, LabelMetrics]:
    """The metrics against AnnoMI's experts, to whom paraphrase, reflection and summary are one label.

    Args:
        decisions: whether each of the five labels is given, shape (turns, 5).
        targets: what the experts say, shape (turns, 2), in the order of `EXPERT_LABELS`.
    """
    by_label = dict(zip(LABELS, decisions.T, strict=True))
    reflects = np.any([by_label[label] for label in REFLECTING], axis=0)
    given = np.stack([reflects, by_label[Label.OPEN_QUESTION]], axis=1).astype(float)
    return label_metrics(given, targets, dict.fromkeys(EXPERT_LABELS, 0.5))


def keep(name: str, row: Row, output: Path) -> dict[str, Row]:
    """Put a row among those in `output`, where it adds to an older one of the same weights; all of them."""
    rows: dict[str, Row] = json.loads(output.read_text("utf-8")) if output.exists() else {}
    older = rows.get(name, {})
    rows[name] = {**older, **row} if older.get(OF) == row.get(OF) else row
    written = output.with_suffix(".new")
    written.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    written.replace(output)
    return rows


def table(rows: Mapping[str, Row]) -> str:
    """The rows in Markdown, always in the same order."""
    lines = [("system", *COLUMNS, SIZE, SPEED), ("---",) * (len(COLUMNS) + 3)]
    for name in sorted(rows, key=_position):
        row = rows[name]
        figures = (f"{row[column]:.3f}" if column in row else "–" for column in COLUMNS)
        lines.append((_title(name), *figures, f"{row[SIZE]:.0f}", f"{row[SPEED]:,.0f}"))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _position(name: str) -> tuple[int, str]:
    model = name.split()[0].rstrip("/").rpartition("/")[2]
    return (ORDER.index(model) if model in ORDER else len(ORDER)), name


def _title(name: str) -> str:
    return BASELINES.get(name, name.replace(" --", ", "))


def _timed(dev: Sequence[LabelledTurn]) -> list[LabelledTurn]:
    """Turns of all of dev, the same in every call."""
    return [dev[index] for index in np.random.default_rng(0).permutation(len(dev))[:TIMED_TURNS]]


if __name__ == "__main__":
    typer.run(main)
