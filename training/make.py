"""Make a bundled model, and what it is made from: `python -m training.make small`, again if it was cut off."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from listening_clf.checkpoint import MANIFEST
from listening_clf.conversation import Conversation
from listening_clf.finetune import TrainConfig, train
from listening_clf.finetune.replay import AUTHORED
from training.augment import with_other_customers
from training.base import local_base
from training.data import load_split, load_unlabelled
from training.timing import with_times

ROOT = Path(__file__).parent.parent

TRAINING_DATA = (
    {"name": "AnnoMI", "licence": "none stated; published by its authors (Wu et al. 2022, 2023)"},
    {"name": "STAR", "licence": "MIT"},
    {"name": "MultiWOZ 2.1", "licence": "Apache-2.0"},
    {"name": "MRDA", "licence": "GPL-3.0"},
    AUTHORED,
)

logger = logging.getLogger(__name__)


class Model(StrEnum):
    """What can be made."""

    PLAIN = "plain"
    TEACHER = "teacher"
    DISTILLED = "distilled"
    SMALL = "small"
    TINY = "tiny"


def main(
    model: Annotated[Model, typer.Argument(help="What to make.")],
    runs: Annotated[Path, typer.Option(help="The folder that the models are written to.")] = ROOT / "runs",
) -> None:
    """Train a model on the train split of all corpora, and choose its epoch and its thresholds on dev.

    It has the settings of configs/NAME.yaml and is written to runs/NAME. What it needs is made first; what is there
    already is taken as it is. On two cores with bfloat16:

    teacher, all-mpnet-base-v2 on the labels: two and a half hours

    plain, all-MiniLM-L6-v2 on the labels: half an hour

    distilled, plain taught by teacher: two hours

    small, distilled with the labels alone, and the mean of its weights on the way: an hour and a half

    tiny, three layers of small taught by small: half an hour
    """
    logging.basicConfig(format="%(asctime)s %(message)s")
    for package in ("listening_clf", "training"):
        logging.getLogger(package).setLevel(logging.INFO)
    make(model, runs.resolve())


def make(model: Model, runs: Path) -> Path:
    """The checkpoint folder of a model, trained unless it is there.

    Args:
        model: which.
        runs: where the checkpoint folders are. A run that was cut off there is gone on with.
    """
    folder = runs / model
    if (folder / MANIFEST).is_file():
        logger.info("%s is there already: delete it to have it made anew", folder)
        return folder
    settings = TrainConfig.from_yaml(ROOT / "configs" / f"{model}.yaml")
    if settings.teacher:  # first, since what it is made from is not installed everywhere
        settings = replace(settings, teacher=_source(settings.teacher, runs))
    settings = replace(settings, base=_source(settings.base, runs))
    logger.info("%s: from %s, taught by %s", model, settings.base, settings.teacher or "the labels alone")
    return train(
        settings,
        _train_data(np.random.default_rng(settings.seed)),
        load_split("dev"),
        folder,
        unlabelled=load_unlabelled() if settings.teacher else (),
        training_data=TRAINING_DATA,
        card=(ROOT / "model_card.md").read_text(encoding="utf-8") if model == Model.SMALL else None,
        resume=True,
    )


def _train_data(rng: np.random.Generator) -> list[Conversation]:
    """The train split, and half as many paraphrases again as it has, after another customer's words.

    AnnoMI's interviews are in it twice: the only real talk in which all labels occur is an eighth of it.
    """
    train_data = load_split("train")
    interviews = [it for it in train_data if it.meta["corpus"] == "annomi"]
    misplaced = list(with_other_customers(train_data, rng))[::2]
    return [*with_times([*train_data, *interviews], rng), *misplaced]


def _source(name: str, runs: Path) -> str:
    """The folder of a base or a teacher: another model of ours, or a pretrained encoder."""
    ours = name.removeprefix("runs/")
    return local_base(name) if ours == name else str(make(Model(ours), runs))


if __name__ == "__main__":
    typer.run(main)
