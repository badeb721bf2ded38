"""The conversations that were written and labelled for this project, in training/authored/."""

from listening_clf.finetune.replay import is_dev, read

__all__ = ["is_dev", "read"]
