"""The model that training starts from: a pretrained encoder, with marks in its vocabulary and a head for the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from listening_clf.checkpoint import MANIFEST, NEEDED_TO_TRAIN, Checkpoint
from listening_clf.encoding import MARKS
from listening_clf.errors import TrainingError
from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.data import LENGTH_MULTIPLE
from listening_clf.hub import BUNDLED, bundled_models


def load_base(config: TrainConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load `config.base` for fine-tuning, in float32: a bundled model's name, a folder, or a hub id.

    A plain encoder gets a new head; a model that has one for as many labels keeps it.

    Raises:
        TrainingError: the base cannot be loaded, has no fast tokenizer, or reads fewer tokens than the encoding makes.
        CheckpointError: the base is a listening_clf checkpoint and was altered.
    """
    source = str(BUNDLED / config.base) if config.base in bundled_models() else config.base
    if (Path(source) / MANIFEST).is_file():
        Checkpoint.open(source, NEEDED_TO_TRAIN)  # verified before it is loaded
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        architecture = AutoConfig.from_pretrained(
            source,
            num_labels=len(config.labels),
            id2label=dict(enumerate(config.labels)),
            label2id={label: i for i, label in enumerate(config.labels)},
            problem_type="multi_label_classification",
        )
        if hasattr(architecture, "attention_probs_dropout_prob"):
            # Drawing these masks took a third of a step on a CPU; dropout of the hidden states stays.
            architecture.attention_probs_dropout_prob = 0.0
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=architecture,
            dtype=torch.float32,
            # On a CPU in bfloat16, the fused attention's backward pass takes twice as long as the plain one's.
            attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise TrainingError(f"the base model {config.base!r} cannot be loaded: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TrainingError(f"the base model {config.base!r} has no tokenizer.json, so it could not be used offline")
    positions = getattr(architecture, "max_position_embeddings", config.encoding.max_length)
    positions -= positions % LENGTH_MULTIPLE
    if config.encoding.max_length > positions:
        raise TrainingError(
            f"encoding.max_length is {config.encoding.max_length}, but the base model {config.base!r} reads "
            f"at most {positions} tokens"
        )
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)}, replace_extra_special_tokens=False)
    tokenizer.model_max_length = config.encoding.max_length
    tokenizer.backend_tokenizer.no_truncation()  # some bases bring lengths of their own
    tokenizer.backend_tokenizer.no_padding()
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
