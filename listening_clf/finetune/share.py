"""A float graph for GPUs that costs the folder next to nothing: its weights are those of `model.safetensors`.

ONNX lets a tensor lie anywhere in a file beside the graph, and in safetensors a tensor is its plain bytes. They are
float16 there and, for a product, the other way round, so the graph casts and transposes them, which ONNX Runtime does
once, when it loads the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

_LEAST_VALUES = 1024
"""Smaller tensors stay in the graph."""


def share_weights(source: Path, target: Path, weights: Path) -> None:
    """Write the float32 ONNX model `source` as a graph whose weights are read from `weights`.

    Args:
        source: the exported model.
        target: the file to write.
        weights: the model's own safetensors file in float16, in the folder of `target`.
    """
    model = onnx.load(source)
    stored = _by_content(weights)
    prepared: list[onnx.NodeProto] = []
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < _LEAST_VALUES:
            continue
        half = values.astype(np.float16)
        for array, transposed in ((half, False), (half.T, True)):
            if entry := stored.get((array.shape, array.tobytes())):
                prepared += _prepare(initializer, weights.name, entry, transposed)
                break
    for position, node in enumerate(prepared):
        model.graph.node.insert(position, node)
    onnx.save(model, target)


def _by_content(weights: Path) -> dict[tuple[tuple[int, ...], bytes], dict[str, Any]]:
    """Where in the file each float16 tensor lies, by its shape and content."""
    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    found = {}
    for tensor in header.values():
        first, end = (start + offset for offset in tensor["data_offsets"])
        if tensor["dtype"] == "F16":
            found[tuple(tensor["shape"]), content[first:end]] = {"offset": first, "length": end - first}
    return found


def _prepare(
    initializer: onnx.TensorProto, location: str, entry: dict[str, int], transposed: bool
) -> list[onnx.NodeProto]:
    """Let the initializer be what lies in the file, and give the nodes that make of it what it was."""
    name = initializer.name
    shape = list(initializer.dims)[:: -1 if transposed else 1]
    initializer.Clear()
    initializer.name = f"{name}_stored"
    initializer.data_type = onnx.TensorProto.FLOAT16
    initializer.dims.extend(shape)
    initializer.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entry}.items():
        initializer.external_data.add(key=key, value=str(value))
    if not transposed:
        return [helper.make_node("Cast", [initializer.name], [name], to=onnx.TensorProto.FLOAT)]
    return [
        helper.make_node("Cast", [initializer.name], [f"{name}_float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", [f"{name}_float"], [name]),
    ]
