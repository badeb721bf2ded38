"""Train a listening model on labelled conversations, calibrate it, and write it as a checkpoint.

Needs the `train` extra: `pip install "listening-clf[train]"`. Predicting needs nothing of this package.
"""

from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.loop import train

__all__ = ["TrainConfig", "train"]
