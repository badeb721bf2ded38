"""The model that training starts from: a pretrained encoder, with marks in its vocabulary and a head for the labels."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from listening_clf.encoding import MARKS
from listening_clf.errors import TrainingError
from listening_clf.finetune.config import TrainConfig


def load_base(config: TrainConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load `config.base` for fine-tuning, in float32.

    A plain encoder gets a new head; a model that has one for as many labels keeps it.

    Raises:
        TrainingError: the base cannot be loaded, or has no fast tokenizer.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.base)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            config.base,
            num_labels=len(config.labels),
            id2label=dict(enumerate(config.labels)),
            label2id={label: i for i, label in enumerate(config.labels)},
            problem_type="multi_label_classification",
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise TrainingError(f"the base model {config.base!r} cannot be loaded: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TrainingError(f"the base model {config.base!r} has no tokenizer.json, so it could not be used offline")
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)}, replace_extra_special_tokens=False)
    tokenizer.model_max_length = config.encoding.max_length
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if loading["missing_keys"]:
        _start_pooler_as_identity(model)
    return model, tokenizer


def _start_pooler_as_identity(model: Any) -> None:
    """Let a new head see the first token's state itself.

    The pooler between them was never trained in sentence encoders such as all-MiniLM (standard deviation 0.009): it
    passes next to nothing on, and training through it stays near chance for hundreds of steps.
    """
    pooler = getattr(model.base_model, "pooler", None)
    if pooler is not None and hasattr(pooler, "dense"):
        with torch.no_grad():
            torch.nn.init.eye_(pooler.dense.weight)
            torch.nn.init.zeros_(pooler.dense.bias)
