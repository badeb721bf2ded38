"""Make the bundled model `small`: `python -m training.small`, and again with `--resume` if it was cut off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from listening_clf.conversation import Conversation
from listening_clf.finetune import TrainConfig, train
from listening_clf.finetune.replay import AUTHORED
from training.base import local_base
from training.data import load_split
from training.timing import with_times

ROOT = Path(__file__).parent.parent

TRAINING_DATA = (
    {"name": "AnnoMI", "licence": "none stated; published by its authors (Wu et al. 2022, 2023)"},
    {"name": "STAR", "licence": "MIT"},
    {"name": "MultiWOZ 2.1", "licence": "Apache-2.0"},
    {"name": "MRDA", "licence": "GPL-3.0"},
    AUTHORED,
)


def main(
    output: Annotated[Path, typer.Option(help="The checkpoint folder to write.")] = ROOT / "runs" / "small",
    config: Annotated[Path, typer.Option(help="The settings.")] = ROOT / "configs" / "small.yaml",
    resume: Annotated[bool, typer.Option(help="Go on from where a run was cut off.")] = False,
) -> None:
    """Train the bundled model on the train split of all corpora, and choose its thresholds on dev."""
    settings = TrainConfig.from_yaml(config)
    card = (ROOT / "model_card.md").read_text(encoding="utf-8")
    make(replace(settings, base=local_base(settings.base)), output, card=card, resume=resume)


def make(
    settings: TrainConfig,
    output: Path,
    *,
    unlabelled: Sequence[Conversation] = (),
    card: str | None = None,
    resume: bool = False,
) -> None:
    """Train a bundled model on the train split, and write its checkpoint folder.

    Args:
        settings: those of the run.
        output: the folder.
        unlabelled: conversations that nobody annotated, for a run with a teacher.
        card: the model card. None: one is written from what is known of the run.
        resume: go on from where a run was cut off.
    """
    logging.basicConfig(format="%(asctime)s %(message)s")
    for package in ("listening_clf", "training"):
        logging.getLogger(package).setLevel(logging.INFO)
    train(
        settings,
        list(with_times(load_split("train"), np.random.default_rng(settings.seed))),
        load_split("dev"),
        output,
        unlabelled=unlabelled,
        training_data=TRAINING_DATA,
        card=card,
        resume=resume,
    )


if __name__ == "__main__":
    typer.run(main)
