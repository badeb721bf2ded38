"""The trained model as an ONNX graph that does just what predicting needs: no padding, nothing that is not read.

Turns run in batches of one length, so that there is nothing to mask; and of the last layer's outputs the classifier
reads the first token's alone, so that the layer need not compute the others: a sixth of a six-layer model's work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from transformers import AttentionInterface, AutoModelForSequenceClassification


def export_onnx(folder: Path, path: Path) -> None:
    """Export the transformers model in `folder` as float32 ONNX with free batch size and length.

    The weights go into a file beside it, named `path` with `.data` behind it.
    """
    model = _loaded(folder)
    names = ["input_ids"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    inputs = {name: torch.ones(2, 8, dtype=torch.int64) for name in names}
    _read_first_token_only(model, inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        model,
        kwargs=inputs,
        f=path,
        dynamo=True,
        external_data=True,
        verbose=False,
        input_names=names,
        output_names=["logits"],
        dynamic_shapes={name: {0: free, 1: free} for name in names},
    )
    _drop_notes(path)


def _loaded(folder: Path) -> Any:
    """The model, without a mask in its attention where its architecture lets one choose the attention."""

    def load(attention: str) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention
        ).eval()

    try:
        return load(_UNMASKED)
    except ValueError:  # older architectures have an attention of their own
        return load("eager")


def _read_first_token_only(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Let the last layer compute the first token's output alone, if that leaves the logits as they are.

    It does so in the family of BERT, unless the classifier reads other tokens too.
    """
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if layers is None or not hasattr(getattr(layers[-1], "attention", None), "self"):
        return
    whole = layers[-1]
    with torch.no_grad():
        expected = model(**inputs).logits
        layers[-1] = _FirstTokenLayer(whole)
        try:
            same = torch.allclose(model(**inputs).logits, expected, atol=1e-4)
        except (AttributeError, RuntimeError, TypeError):  # its parts have other names, or fit together otherwise
            same = False
    if not same:
        layers[-1] = whole


class _FirstTokenLayer(torch.nn.Module):
    """A layer of BERT whose output has the first token alone: keys and values are still those of all tokens."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        attention = self.layer.attention.self
        heads = attention.num_attention_heads
        query, key, value = (
            linear(tokens).unflatten(-1, (heads, -1)).transpose(1, 2)
            for linear, tokens in (
                (attention.query, hidden[:, :1]),
                (attention.key, hidden),
                (attention.value, hidden),
            )
        )
        context, _weights = _unmasked_attention(None, query, key, value, scaling=query.shape[-1] ** -0.5)
        attended = self.layer.attention.output(context.flatten(2), hidden[:, :1])
        output: torch.Tensor = self.layer.output(self.layer.intermediate(attended), attended)
        return output


def _unmasked_attention(
    _module: object,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None = None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of every token to every token, of shape (batch, heads, tokens, width) each, as plain products.

    ONNX Runtime runs these faster than the exported fused operator.
    """
    weights = torch.softmax(query @ key.transpose(2, 3) * scaling, dim=-1)
    return (weights @ value).transpose(1, 2), None


_UNMASKED = "listening_clf_unmasked"
AttentionInterface.register(_UNMASKED, _unmasked_attention)


def _drop_notes(path: Path) -> None:
    """Drop what the exporter notes of the Python that each node came from: three quarters of the graph's file."""
    graph = onnx.load(path, load_external_data=False)
    for part in (graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.input):
        del part.metadata_props[:]
    onnx.save(graph, path)
