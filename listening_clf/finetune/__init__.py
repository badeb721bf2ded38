"""Train a listening model on labelled conversations, calibrate it, measure it, and write it as a checkpoint.

Needs the `train` extra: `pip install "listening-clf[train]"`. Predicting needs nothing of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from listening_clf.finetune.config import TrainConfig

if TYPE_CHECKING:
    from listening_clf.finetune.loop import train

__all__ = ["TrainConfig", "train"]


def __getattr__(name: str) -> Any:
    """Import `train`, and PyTorch with it, when it is asked for: what checks and measures does without."""
    if name == "train":
        from listening_clf.finetune.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
