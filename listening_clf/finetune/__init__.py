"""Train a listening model on labelled conversations, calibrate it, measure it, and write it as a checkpoint.

Needs the `train` extra: `pip install "listening-clf[train]"`. Predicting needs nothing of this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from listening_clf.finetune.config import TrainConfig

if TYPE_CHECKING:
    from listening_clf.finetune.comparison import compare
    from listening_clf.finetune.evaluation import evaluate
    from listening_clf.finetune.loop import train
    from listening_clf.finetune.reading import held_out_split, read_labelled

__all__ = ["TrainConfig", "compare", "evaluate", "held_out_split", "read_labelled", "train"]

_HOMES = {
    "compare": "comparison",
    "evaluate": "evaluation",
    "held_out_split": "reading",
    "read_labelled": "reading",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    """Import a function when it is asked for: only `train` needs PyTorch."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
