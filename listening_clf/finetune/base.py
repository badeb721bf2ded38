"""The model that training starts from: a pretrained encoder, with marks in its vocabulary and a head for the labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from listening_clf.encoding import MARKS
from listening_clf.errors import TrainingError
from listening_clf.finetune.data import LENGTH_MULTIPLE
from listening_clf.finetune.start import Start


def load_base(start: Start) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load the base for fine-tuning, in float32, with one output a label.

    The outputs of labels that the base knows already are kept; the others, and the head of a plain encoder, are new.

    Raises:
        TrainingError: the base cannot be loaded, has no fast tokenizer, or reads fewer tokens than the encoding makes.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(start.source, trust_remote_code=False)
        architecture = AutoConfig.from_pretrained(start.source, trust_remote_code=False)
        own_labels = tuple(architecture.id2label[i] for i in range(architecture.num_labels))
        shared = set(own_labels) & set(start.labels)
        if not shared:
            _name_outputs(architecture, start.labels)
        for brought in (vars(architecture), tokenizer.init_kwargs):
            brought.pop("auto_map", None)  # what comes of it has no code of its own to point to
        if hasattr(architecture, "attention_probs_dropout_prob"):
            # Drawing these masks took a third of a step on a CPU; dropout of the hidden states stays.
            architecture.attention_probs_dropout_prob = 0.0
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            start.source,
            config=architecture,
            dtype=torch.float32,
            # On a CPU in bfloat16, the fused attention's backward pass takes twice as long as the plain one's.
            attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
            use_safetensors=True,
            trust_remote_code=False,  # otherwise a base with code of its own has people asked whether to run it
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise TrainingError(f"the base model {start.name!r} cannot be loaded: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TrainingError(f"the base model {start.name!r} has no tokenizer.json, so it could not be used offline")
    positions = getattr(architecture, "max_position_embeddings", start.encoding.max_length)
    positions -= positions % LENGTH_MULTIPLE
    if start.encoding.max_length > positions:
        raise TrainingError(
            f"encoding.max_length is {start.encoding.max_length}, but the base model {start.name!r} reads "
            f"at most {positions} tokens"
        )
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)}, replace_extra_special_tokens=False)
    tokenizer.model_max_length = start.encoding.max_length
    # Some bases bring lengths of their own.
    tokenizer.init_kwargs.pop("max_length", None)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)

    is_new = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    if not shared and start.manifest is None:
        _start_head_as_identity(model, is_new)
    name = _output_layer(model)
    if shared and own_labels != start.labels:
        model.set_submodule(name, _outputs_of(model.get_submodule(name), own_labels, start.labels))
    elif not shared and f"{name}.weight" not in is_new:  # a head for as many labels, but for others
        model.get_submodule(name).reset_parameters()
    _name_outputs(model.config, start.labels)
    model.num_labels = len(start.labels)
    return model, tokenizer


def keep_layers(model: Any, count: int | None) -> None:
    """Drop all but `count` of the encoder's layers, evenly spaced from the first to the last. None: keep all.

    To start a small student from some of a trained model's layers is DistilBERT's way (Sanh et al., arXiv:1910.01108).

    Raises:
        TrainingError: the model has fewer layers, or they cannot be told from its other parts.
    """
    total = getattr(model.config, "num_hidden_layers", None)
    if count is None or count == total:
        return
    stacks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == total
    ]
    if len(stacks) != 1:
        raise TrainingError(f"layers is {count}, but the base's layers cannot be told from its other parts")
    if total is None or count > total:
        raise TrainingError(f"layers is {count}, but the base has {total}")
    name, stack = stacks[0]
    kept = [round(position) for position in torch.linspace(0, total - 1, count).tolist()]
    model.set_submodule(name, torch.nn.ModuleList(stack[index] for index in kept))
    model.config.num_hidden_layers = count
    if layer_types := getattr(model.config, "layer_types", None):
        model.config.layer_types = [layer_types[index] for index in kept]


def set_dropout(model: torch.nn.Module, share: float | None) -> None:
    """Have training steps drop that share of the hidden states, wherever the model drops any. None: as it is."""
    if share is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout) and module.p:
                module.p = share


def _start_head_as_identity(model: Any, is_new: Collection[str]) -> None:
    """Let a new output layer see the first token's state itself, through the square layer between them.

    That layer is new too in most architectures. BERT's pooler is not, but in sentence encoders such as all-MiniLM it
    was never trained (standard deviation 0.009): it passes next to nothing on, and training through it stays near
    chance for hundreds of steps.
    """
    pooler = getattr(getattr(model.base_model, "pooler", None), "dense", None)
    for name, module in model.named_modules():
        square = isinstance(module, torch.nn.Linear) and module.in_features == module.out_features
        if square and (module is pooler or f"{name}.weight" in is_new):
            with torch.no_grad():
                torch.nn.init.eye_(module.weight)
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)


def _output_layer(model: Any) -> str:
    """The name of the layer that gives the logits: the last linear one."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return names[-1]


def _outputs_of(layer: torch.nn.Linear, own_labels: Sequence[str], labels: Sequence[str]) -> torch.nn.Linear:
    """An output layer for `labels`, in which those of the base keep what it learned of them."""
    outputs = torch.nn.Linear(layer.in_features, len(labels), bias=layer.bias is not None)
    with torch.no_grad():
        for row, label in enumerate(labels):
            if label in own_labels:
                outputs.weight[row] = layer.weight[own_labels.index(label)]
                if layer.bias is not None:
                    outputs.bias[row] = layer.bias[own_labels.index(label)]
    return outputs


def _name_outputs(architecture: Any, labels: Sequence[str]) -> None:
    """Say in the model's config what its outputs are."""
    architecture.id2label = dict(enumerate(labels))
    architecture.label2id = {label: i for i, label in enumerate(labels)}
    architecture.problem_type = "multi_label_classification"
