"""The model card of a trained model, from what is known of the run: what it is, how good, how made, of what."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from listening_clf.checkpoint import Manifest
from listening_clf.errors import CheckpointError
from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.metrics import LabelMetrics, macro_f1
from listening_clf.finetune.start import Start, public_name
from listening_clf.hub.card import read_card
from listening_clf.hub.common import TAG
from listening_clf.operating_points import OperatingPoint, best_point

if TYPE_CHECKING:
    from listening_clf.finetune.data import LabelledTurn

_EXAMPLES = (
    "What happened when you restarted it?",
    "That must be frustrating after waiting all week.",
    "So you were charged twice for the same order.",
)
"""What the model's page on the hub offers to try. There a turn has no context."""

PRECISIONS = (0.8, 0.9, 0.95)
"""The precisions that the card says recall and threshold of."""


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
        metrics: what it reaches on dev, by these thresholds.
        name: what the model is called.
        start: what the run started from.
        config: the run's settings.
        train: what it learned from.
    """
    settings = {key: value for key, value in config.to_dict().items() if value is not None}
    for model in ("base", "teacher"):
        if model in settings:
            settings[model] = public_name(settings[model])
    turns = max(label.turns for label in metrics.values())
    environment = Environment(
        loader=PackageLoader("listening_clf.finetune", "."),
        undefined=StrictUndefined,
        autoescape=False,  # this is Markdown
    )
    environment.filters["figure"] = _figure
    return environment.get_template("card.md.j2").render(
        front_matter=_front_matter(name, settings["base"], start, manifest, metrics, turns).to_yaml(),
        name=name,
        base=settings["base"],
        start=start,
        manifest=manifest,
        metrics=metrics,
        macro_f1=macro_f1(metrics),
        turns=turns,
        precisions=[f"{precision:.2f}" for precision in PRECISIONS],
        operating_points=recalls(manifest),
        known=dict(zip(manifest.labels, _counts(train), strict=True)),
        teacher=settings.get("teacher"),
        rehearsed=bool(start.manifest and config.replay),
        settings=yaml.safe_dump(settings, sort_keys=False).rstrip(),
    )


def _front_matter(
    name: str, base: str, start: Start, manifest: Manifest, metrics: Mapping[str, LabelMetrics], turns: int
) -> ModelCardData:
    """What the hub reads. Licence and language are those of the base, where it is a model of this library."""
    try:
        of_base = read_card(Path(start.source)) if start.manifest else ModelCardData()
    except CheckpointError:  # that the base's card cannot be read is nothing to lose a trained model for
        of_base = ModelCardData()
    figures = {"Macro F1": macro_f1(metrics)}
    figures |= {f"F1 of {label}": measured.f1 for label, measured in metrics.items() if measured.support}
    return ModelCardData(
        license=of_base.license,
        language=of_base.language,
        library_name="listening_clf",
        pipeline_tag="text-classification",
        tags=[TAG, "onnx"],
        datasets=[id for id in (_hub_id(data["name"]) for data in manifest.training_data) if id] or None,
        base_model=_hub_id(base) or of_base.base_model,
        widget=[{"text": text} for text in _EXAMPLES],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type="dev",
                dataset_name=f"Dev data of the run ({turns:,} agent turns)",
                metric_type="f1",
                metric_name=figure,
                metric_value=round(value, 4),
            )
            for figure, value in figures.items()
        ],
    )


def _hub_id(name: str) -> str | None:
    """The id on the hub in a name with a revision or a split behind it; None where there is none."""
    id = re.split("[@:]", name)[0]
    return id if id.count("/") == 1 and not id.startswith((".", "/")) else None


def _counts(turns: Sequence[LabelledTurn]) -> list[tuple[str, str, str]]:
    """For each label, the turns that have it, that have it not, and of which it is not known."""
    targets = np.stack([turn.targets for turn in turns])
    return [(f"{(it == 1).sum():,}", f"{(it == 0).sum():,}", f"{np.isnan(it).sum():,}") for it in targets.T]


def recalls(manifest: Manifest) -> dict[str, list[str]]:
    """For each label, the recall that is left at each of `PRECISIONS`, and the threshold, as the card shows them."""
    return {
        label: [_recall(best_point(points, precision)) for precision in PRECISIONS]
        for label, points in manifest.operating_points.items()
    }


def _recall(point: OperatingPoint | None) -> str:
    return f"{point.recall:.3f} ({point.threshold:.2f})" if point else "–"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
