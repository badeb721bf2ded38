"""SetFit, as benchmarks/setfit_baseline.py trains it, in a Python of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from listening_clf.errors import TrainingError
from listening_clf.finetune.data import LabelledTurn
from training.systems import System

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "setfit_baseline.py"

_SURE = 1e-9
"""Probabilities are taken to lie at least this far from 0 and 1, which have no logit."""


def rows(turns: Sequence[LabelledTurn]) -> list[dict[str, Any]]:
    """The turns as SetFit's script reads them, each with what the customer said right before it."""
    return [
        {"text": turns[index].text, "context": _context(turns, index), "targets": (targets == 1).astype(int).tolist()}
        for (turns, index), targets in turns
    ]


def run(
    python: str | Path, train: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]], *options: str
) -> dict[str, Any]:
    """What the script writes, having learnt from the rows of `train` and predicted those of `test`."""
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / name for name in ("train.jsonl", "test.jsonl", "out.json")]
        for file, lines in zip(files[:2], (train, test), strict=True):
            file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        subprocess.run([python, SCRIPT, *files, *options], check=True)
        result: dict[str, Any] = json.loads(files[2].read_text("utf-8"))
    return result


def setfit(
    python: Path | None,
    train: Sequence[LabelledTurn],
    test: Sequence[LabelledTurn],
    timed: Sequence[LabelledTurn],
    cache: Path,
) -> System:
    """SetFit, trained on those turns of `train` of which all labels are known: it has no way to leave one open.

    What it says is kept in `cache`, and it is trained again only if it has to learn from or to predict other turns.

    Args:
        python: one that has SetFit; None where the cache is to do.
        train: what to learn from.
        test: all that will be asked of the system.
        timed: turns to measure its speed on.
        cache: a JSON file, without a word of the turns.

    Raises:
        TrainingError: it has to be trained, and there is no Python to do it.
    """
    learned = rows([turn for turn in train if not np.isnan(turn.targets).any()])
    asked = rows([*timed, *test])
    recipe = hashlib.sha256(SCRIPT.read_bytes() + json.dumps(learned).encode()).hexdigest()
    kept = json.loads(cache.read_text("utf-8")) if cache.exists() else {}
    if kept.get("recipe") != recipe or any(_key(row) not in kept["probabilities"] for row in asked):
        if python is None:
            raise TrainingError("SetFit has to be trained for this: --setfit-python names a Python that has it")
        result = run(python, learned, asked, "--timed", str(len(timed)))
        by_turn = dict(zip(map(_key, asked), result["probabilities"], strict=True))
        kept = {**result, "recipe": recipe, "turns": len(learned), "probabilities": by_turn}
        written = cache.with_suffix(".new")
        written.write_text(json.dumps(kept) + "\n", encoding="utf-8")
        written.replace(cache)

    def logits(turns: Sequence[LabelledTurn]) -> Any:
        probabilities = np.array([kept["probabilities"][_key(row)] for row in rows(turns)])
        probabilities = probabilities.clip(_SURE, 1 - _SURE)
        return np.log(probabilities / (1 - probabilities)).astype(np.float32)

    return System(logits, size=kept["bytes"], turns_per_second=kept["turns_per_second"])


def _context(turns: Sequence[Any], index: int) -> str:
    return turns[index - 1].text if index and turns[index - 1].speaker == "customer" else ""


def _key(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([row["context"], row["text"]]).encode()).hexdigest()[:16]
