"""How many labels of one's own are enough: `python -m training.few_labels` draws docs/learning_curve.svg.

ESConv, typed chats of emotional support, is the new domain: no bundled model was trained on it. The bundled model is
fine-tuned on 50 to 1,600 of its annotated turns, with the settings that `listening-clf train` has by default, and
measured on conversations of ESConv that no run learns from, and on the dev split that the bundled model was chosen by.
SetFit learns from the same turns, where `--setfit-python` names a Python that has it (benchmarks/setfit_baseline.py).

A run's result is kept in `--output`, by the bundled model's sha256, so that a call that was cut off goes on. The
default settings were chosen on other conversations, those of ESConv's validation split. One rule was not chosen blind:
that the last epoch is kept on little dev data came after a first look at two runs on the turns that are measured here.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from listening_clf import Conversation, Label, ListeningClassifier
from listening_clf.checkpoint import WEIGHTS, Checkpoint
from listening_clf.finetune import TrainConfig, train
from listening_clf.finetune.data import LabelledTurn, labelled_turns
from listening_clf.finetune.metrics import label_metrics, macro_f1
from listening_clf.finetune.reading import held_out_split
from listening_clf.hub import locate
from training.data import load_esconv, load_split
from training.setfit import rows, run

ROOT = Path(__file__).parent.parent
PLOT = ROOT / "docs" / "learning_curve.svg"

SIZES = (50, 200, 800, 1600)
TEST_TURNS = 480
LABELS = ("paraphrase", "reflection", "open_question")
"""Those that ESConv has: nobody interrupts in a typed chat, and two of 2,100 turns are summaries."""
HELD_OUT = 0.2

FIGURES = {"macro_f1": "macro F1", "mean_average_precision": "mean average precision"}
COLOURS = {"listening_clf": "#1f6fb4", "SetFit": "#c2571a"}

logger = logging.getLogger(__name__)


def main(
    seeds: Annotated[int, typer.Option(help="Draws of the turns to learn from.")] = 2,
    setfit_python: Annotated[Path | None, typer.Option(help="A Python that has SetFit.")] = None,
    output: Annotated[Path, typer.Option(help="Where results are kept.")] = ROOT / "runs" / "few_labels.jsonl",
) -> None:
    """Run what is not yet in `output`, then draw the curve and print its figures."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.touch()
    dev = load_split("dev")
    test, pool = _split(load_esconv())
    bundled = Checkpoint.open(locate()).manifest.files[WEIGHTS]
    results = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    results = [result for result in results if result["bundled"] == bundled]  # those of another model say nothing
    done = {(result["system"], result["turns"], result["seed"]) for result in results}
    for system, turns, seed in _runs(seeds, with_setfit=setfit_python is not None):
        if (system, turns, seed) in done:
            continue
        begin = time.perf_counter()
        chosen = _draw(pool, turns, seed)
        if system == "SetFit":
            figures = _setfit(str(setfit_python), chosen, test, seed)
        else:
            figures = _ours(chosen, test, dev, seed)
        seconds = time.perf_counter() - begin
        result = {
            "bundled": bundled,
            "system": system,
            "turns": turns,
            "seed": seed,
            **figures,
            "seconds": seconds,
        }
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        results.append(result)
        logger.info("%s", result)
    draw(results)
    report(results)


def _runs(seeds: int, *, with_setfit: bool) -> Iterator[tuple[str, int, int]]:
    yield "listening_clf", 0, 0  # the bundled model as it is
    for seed in range(seeds):
        for turns in SIZES:
            yield "listening_clf", turns, seed
            if with_setfit:
                yield "SetFit", turns, seed


def _split(conversations: Sequence[Conversation]) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations to measure on, of ESConv's test split, and those to learn from."""
    test: list[Conversation] = []
    pool: list[Conversation] = []
    for conversation in conversations:
        wanted = str(conversation.id).startswith("esconv-test") and _annotated(test) < TEST_TURNS
        (test if wanted else pool).append(conversation)
    return test, pool


def _draw(pool: Sequence[Conversation], turns: int, seed: int) -> list[Conversation]:
    """Whole conversations in random order until they have that many annotated turns; a smaller draw is a part of it."""
    chosen: list[Conversation] = []
    for index in np.random.default_rng(seed).permutation(len(pool)):
        if _annotated(chosen) < turns:
            chosen.append(pool[index])
    return chosen


def _annotated(conversations: Sequence[Conversation]) -> int:
    return sum(len(conversation.annotated_turns) for conversation in conversations)


def _ours(
    chosen: Sequence[Conversation], test: Sequence[Conversation], dev: Sequence[Conversation], seed: int
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        model = None
        if chosen:
            mine, held_out = held_out_split(chosen, HELD_OUT, seed)
            model = train(TrainConfig(seed=seed), mine, held_out, Path(scratch) / "model")
        classifier = ListeningClassifier.from_pretrained(model)
        on_test, on_dev = _measure(classifier, test, LABELS), _measure(classifier, dev, classifier.labels)
    return {**on_test, "dev_macro_f1": on_dev["macro_f1"]}


def _measure(
    classifier: ListeningClassifier, conversations: Sequence[Conversation], labels: Sequence[str]
) -> dict[str, float]:
    turns = labelled_turns(conversations, classifier.labels)
    texts, contexts = [it[0][it[1]] for it, _ in turns], [it[0][: it[1]] for it, _ in turns]
    predictions = classifier.predict(texts, context=contexts)
    probabilities = np.array([list(prediction.scores.values()) for prediction in predictions])
    return _figures(probabilities, turns, classifier.thresholds, labels)


def _figures(
    probabilities: Any, turns: Sequence[LabelledTurn], thresholds: dict[str, float], labels: Sequence[str]
) -> dict[str, float]:
    metrics = label_metrics(probabilities, np.stack([turn.targets for turn in turns]), thresholds)
    kept = {label: metrics[label] for label in labels}
    return {
        "macro_f1": macro_f1(kept),
        "mean_average_precision": float(np.mean([label.average_precision for label in kept.values()])),
        **{f"f1_{name}": label.f1 for name, label in kept.items()},
    }


def _setfit(python: str, chosen: Sequence[Conversation], test: Sequence[Conversation], seed: int) -> dict[str, float]:
    learned, asked = (labelled_turns(conversations, tuple(Label)) for conversations in (chosen, test))
    probabilities = np.array(run(python, rows(learned), rows(asked), "--seed", str(seed))["probabilities"])
    return _figures(probabilities, asked, dict.fromkeys(Label, 0.5), LABELS)


def draw(results: Sequence[dict[str, Any]]) -> None:
    """Draw both figures by the number of labelled turns: a point a run, a line through the means."""
    plt.rcParams["svg.hashsalt"] = "listening_clf"
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key, name in zip(panels, FIGURES, FIGURES.values(), strict=True):
        for system, colour in COLOURS.items():
            by_turns = _by_turns(results, system, key)
            if before := by_turns.pop(0, None):
                axes.axhline(
                    before[0], color="#666666", linestyle="--", linewidth=1, label="the bundled model as it is"
                )
            if by_turns:
                axes.plot(list(by_turns), [np.mean(it) for it in by_turns.values()], color=colour, label=system)
            for turns, values in by_turns.items():
                axes.plot([turns] * len(values), values, "o", color=colour, alpha=0.5, markersize=5)
        axes.set_xscale("log")
        axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
        axes.minorticks_off()
        axes.set_xlabel("labelled agent turns of the new domain")
        axes.set_title(f"{name}, on other conversations of it", fontsize="medium")
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})


def report(results: Sequence[dict[str, Any]]) -> None:
    """Print the means over the draws as Markdown."""
    print(
        "| labelled turns | system | macro F1 | lowest to highest | mean average precision | macro F1 on the old dev |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for turns in (0, *SIZES):
        for system in COLOURS:
            values = _by_turns(results, system, "macro_f1").get(turns)
            if not values:
                continue
            precision = np.mean(_by_turns(results, system, "mean_average_precision")[turns])
            dev = _by_turns(results, system, "dev_macro_f1").get(turns)
            cells = (
                f"{turns:,}" if turns else "none",
                system if turns else "the bundled model",
                f"{np.mean(values):.3f}",
                f"{min(values):.3f} to {max(values):.3f}",
                f"{precision:.3f}",
                f"{np.mean(dev):.3f}" if dev else "–",
            )
            print(f"| {' | '.join(cells)} |")


def _by_turns(results: Sequence[dict[str, Any]], system: str, figure: str) -> dict[int, list[float]]:
    values: dict[int, list[float]] = {}
    for result in sorted(results, key=lambda it: it["turns"]):
        if result["system"] == system and figure in result:
            values.setdefault(result["turns"], []).append(result[figure])
    return values


if __name__ == "__main__":
    typer.run(main)
