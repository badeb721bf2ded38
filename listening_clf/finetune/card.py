"""The model card of a trained model, from what is known of the run: what it is, how good, how made, of what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from huggingface_hub import EvalResult, ModelCardData

from listening_clf.checkpoint import Manifest
from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.metrics import LabelMetrics, macro_f1

if TYPE_CHECKING:
    from listening_clf.finetune.data import LabelledTurn
    from listening_clf.finetune.start import Start

TAG = "listening-clf"
"""What models of this library are found by on the hub."""


def model_card(
    manifest: Manifest,
    metrics: Mapping[str, LabelMetrics],
    name: str,
    start: Start,
    config: TrainConfig,
    train: Sequence[LabelledTurn],
) -> str:
    """Write the card, Markdown behind the front matter that the Hugging Face hub reads.

    Args:
        manifest: the model's, with the thresholds that were chosen.
        metrics: what it reaches on dev.
        name: what the model is called.
        start: what the run started from.
        config: the run's settings.
        train: what it learned from.
    """
    base, settings = start.name, {key: value for key, value in config.to_dict().items() if value is not None}
    if Path(base).exists():  # a path of this machine says nothing to others
        base = settings["base"] = Path(base).name
    macro = macro_f1(metrics)
    turns = max(label.turns for label in metrics.values())
    front_matter = ModelCardData(
        library_name="listening_clf",
        pipeline_tag="text-classification",
        tags=[TAG, "onnx"],
        base_model=base if base.count("/") == 1 else None,
        model_name=name,
        eval_results=[
            _result("Macro F1", macro, turns),
            *(_result(f"F1 of {label}", measured.f1, turns) for label, measured in metrics.items() if measured.support),
        ],
    )
    sections = [
        f"---\n{front_matter.to_yaml()}\n---",
        f"# {name}",
        f"Says of an agent's turn in a conversation which of these labels it carries, several, one or none: "
        f"{', '.join(manifest.labels)}. Fine-tuned from {base} with [listening_clf](https://pypi.org/project/listening-clf).",
        "```python\nimport listening_clf as lc\n\n"
        f'clf = lc.ListeningClassifier.from_pretrained("{name}")\n'
        'clf.predict("What happened when you restarted it?", context="It will not start.")\n```',
        "## How good it is",
        f"On the dev data ({turns:,} agent turns), by which epoch, calibration and thresholds were chosen, so that the "
        f"figures are a little rosy: macro F1 {macro:.3f}. `listening-clf evaluate` measures it on other data.",
        _table(
            ("label", "threshold", "precision", "recall", "F1", "average precision", "support"),
            (
                (
                    label,
                    f"{manifest.thresholds[label]:.2f}",
                    *map(_figure, (it.precision, it.recall, it.f1, it.average_precision)),
                    f"{it.support:,}",
                )
                for label, it in metrics.items()
            ),
        ),
        "## What it learned from",
        _table(
            ("label", "turns that have it", "turns that do not", "not known"),
            ((label, *counts) for label, counts in zip(manifest.labels, _counts(train), strict=True)),
        ),
        "Data sets, those of the base among them:",
        "\n".join(f"- {data['name']} (licence: {data['licence']})" for data in manifest.training_data) or "- not named",
        "## How it was made",
        f"By `listening-clf train` with these settings:\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```",
        "The input is a pair: the turn; then a mark of how its start overlaps with the customer's last turn, where "
        f"times are known, and up to {start.encoding.context_tokens} tokens of the turns before.",
    ]
    return "\n\n".join(sections) + "\n"


def _result(name: str, value: float, turns: int) -> EvalResult:
    return EvalResult(
        task_type="text-classification",
        dataset_type="dev",
        dataset_name=f"Dev data of the run ({turns:,} agent turns)",
        metric_type="f1",
        metric_name=name,
        metric_value=round(value, 4),
    )


def _counts(turns: Sequence[LabelledTurn]) -> list[tuple[str, str, str]]:
    targets = np.stack([turn.targets for turn in turns])
    return [(f"{(it == 1).sum():,}", f"{(it == 0).sum():,}", f"{np.isnan(it).sum():,}") for it in targets.T]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
