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
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", use_safetensors=True, trust_remote_code=False
    ).eval()
    inputs = _sample(model.config)
    for simplify in (_without_mask, _read_first_token_only):
        simplify(model, inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        model,
        kwargs=inputs,
        f=path,
        dynamo=True,
        external_data=True,
        verbose=False,
        input_names=list(inputs),
        output_names=["logits"],
        dynamic_shapes={name: {0: free, 1: free} for name in inputs},
    )
    _drop_notes(path)


def _sample(config: Any) -> dict[str, torch.Tensor]:
    """Two inputs as long as the model reads, or 512 tokens, so that attention to near tokens alone would show."""
    length = min(512, getattr(config, "max_position_embeddings", 512) - 8)  # some positions may stand for padding
    ids = torch.arange(2 * length).reshape(2, length) % (config.vocab_size - 10) + 10
    inputs = {"input_ids": ids}
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = (torch.arange(length) > length // 2).long().expand(2, length)
    return inputs


@torch.no_grad()
def _without_mask(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Let every token attend to every other, if that leaves the logits as they are and the architecture allows it."""
    expected = model(**inputs).logits
    try:
        model.set_attn_implementation(_UNMASKED)
        same = _close(model, inputs, expected)
    except Exception:  # older architectures have an attention of their own
        same = False
    if not same:
        model.set_attn_implementation("eager")


@torch.no_grad()
def _read_first_token_only(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Let the last layer compute the first token's output alone, if that leaves the logits as they are.

    It does so in the family of BERT, unless the classifier reads other tokens too.
    """
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if layers is None:
        return
    expected = model(**inputs).logits
    whole = layers[-1]
    layers[-1] = _FirstTokenLayer(whole)
    try:
        same = _close(model, inputs, expected)
    except Exception:  # its parts have other names, or fit together otherwise
        same = False
    if not same:
        layers[-1] = whole


def _close(model: Any, inputs: dict[str, torch.Tensor], expected: torch.Tensor) -> bool:
    return torch.allclose(model(**inputs).logits, expected, atol=1e-4)


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
