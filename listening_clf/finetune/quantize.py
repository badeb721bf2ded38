"""Post-training static quantization to int8 (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018).

Every product of activations with a weight matrix becomes one of 8-bit integers: weights have a scale a column, and
activations one that is fixed here, from what sample turns let through. As no scale depends on what runs beside a turn,
neither do its scores; dynamic quantization, whose scales do, moved single logits by up to 2.

onnxruntime's own static quantizer leaves the addition of the bias apart, which takes a twelfth longer
(`python -m benchmarks.execution`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ranges: TypeAlias = Mapping[str, tuple[float, float]]

WEIGHT_LEVELS = 63
"""Weights use 7 of the 8 bits: on x86 without VNNI, products of full int8 weights overflow their 16-bit sums."""

ACTIVATION_LEVELS = 255

_CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators, which every build of it has for the CPU."""


def quantize(source: Path, target: Path, samples: Iterable[Mapping[str, NDArray[np.int64]]]) -> None:
    """Quantize the ONNX model `source`; weights go into a file named `target` with `.data` behind it.

    Args:
        source: a float32 model.
        target: the file to write.
        samples: the model's inputs for a few hundred turns, from which the range of each activation is taken.
    """
    ranges = activation_ranges(source, samples)
    model = onnx.load(source)
    graph = _Graph(model)
    for node in weight_products(model):
        graph.quantize_product(node, ranges[node.input[0]])
    for node in model.graph.node:
        if node.op_type == "Gather" and graph.has_table(node.input[0]):
            graph.quantize_table(node)
    graph.save(target)


def weight_products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The products of an activation with a weight matrix."""
    weights = {initializer.name for initializer in model.graph.initializer if len(initializer.dims) == 2}
    return [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]


def activation_ranges(source: Path, samples: Iterable[Mapping[str, NDArray[np.int64]]]) -> Ranges:
    """The smallest and largest value that any sample gives each activation that meets a weight matrix."""
    model = onnx.load(source, load_external_data=False)
    names = sorted({node.input[0] for node in weight_products(model)})
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    watched = source.with_name("watched.onnx")  # beside the weights, which it shares
    onnx.save(model, watched)
    session = ort.InferenceSession(watched)
    watched.unlink()
    low, high = np.zeros(len(names)), np.zeros(len(names))
    for inputs in samples:
        activations = session.run(names, {node.name: inputs[node.name] for node in session.get_inputs()})
        low = np.minimum(low, [activation.min() for activation in activations])
        high = np.maximum(high, [activation.max() for activation in activations])
    return dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))


class _Graph:
    """A model whose nodes are replaced one by one."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self.weights = {it.name: numpy_helper.to_array(it) for it in model.graph.initializer}
        self._new: dict[str, NDArray[Any]] = {}
        self._replaced: dict[str, list[onnx.NodeProto]] = {}
        """By the output of a node that goes, the nodes that stand in its place."""
        self._quantized: set[str] = set()
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self._readers[name].append(node)

    def quantize_product(self, node: onnx.NodeProto, span: tuple[float, float]) -> None:
        """Multiply as integers, with the addition of a bias that may follow."""
        activation, weight = node.input
        output, bias = self._bias_after(node)
        scale, zero_point = _affine(*span)
        integers, column_scales = _by_column(self.weights[weight])
        product = helper.make_node(
            "MatMulIntegerToFloat",
            [
                activation + _QUANTIZED,
                self._add(weight + _QUANTIZED, integers),
                self._add(activation + _SCALE, scale),
                self._add(weight + _SCALE, column_scales),
                self._add(activation + _ZERO_POINT, zero_point),
                "",
                *([bias] if bias else []),
            ],
            [output],
            domain=_CONTRIB,
        )
        quantizer = helper.make_node("QuantizeLinear", [activation, *product.input[2:5:2]], product.input[:1])
        self._replaced[node.output[0]] = [product] if activation in self._quantized else [quantizer, product]
        self._quantized.add(activation)
        if bias:
            self._replaced[output] = []

    def has_table(self, name: str) -> bool:
        """Whether that is a table of embeddings."""
        table = self.weights.get(name)
        return table is not None and table.ndim == 2 and table.dtype == np.float32

    def quantize_table(self, node: onnx.NodeProto) -> None:
        """Look embeddings up as integers."""
        table, ids = node.input
        scale = np.float32(np.abs(self.weights[table]).max() / 127)
        integers = np.round(self.weights[table] / scale).astype(np.int8)
        rows = node.output[0] + _QUANTIZED
        self._replaced[node.output[0]] = [
            helper.make_node("Gather", [self._add(table + _QUANTIZED, integers), ids], [rows], axis=0),
            helper.make_node("DequantizeLinear", [rows, self._add(table + _SCALE, scale)], [node.output[0]]),
        ]

    def save(self, path: Path) -> None:
        """Write the model, without the weights that no node reads any more."""
        graph = self._model.graph
        nodes = [new for node in graph.node for new in self._replaced.get(node.output[0], [node])]
        del graph.node[:]
        graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [initializer for initializer in graph.initializer if initializer.name in read]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *(numpy_helper.from_array(it, name) for name, it in self._new.items())])
        self._model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(self._model, path, save_as_external_data=True, location=path.name + ".data")

    def _bias_after(self, node: onnx.NodeProto) -> tuple[str, str | None]:
        """What the product ends in, and the bias that is added on the way."""
        readers = self._readers[node.output[0]]
        if len(readers) == 1 and readers[0].op_type == "Add":
            for name in readers[0].input:
                if name in self.weights and self.weights[name].ndim == 1:
                    return readers[0].output[0], name
        return node.output[0], None

    def _add(self, name: str, values: NDArray[Any] | np.generic) -> str:
        self._new[name] = np.asarray(values)
        return name


_QUANTIZED = "_quantized"
_SCALE = "_scale"
_ZERO_POINT = "_zero_point"


def _affine(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point by which uint8 covers the range from `low` (0 or less) to `high` (0 or more)."""
    scale = (high - low) / ACTIVATION_LEVELS or 1.0
    return np.float32(scale), np.uint8(round(-low / scale))


def _by_column(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The weight matrix as integers, and the scale of each column."""
    scales = np.abs(weight).max(axis=0) / WEIGHT_LEVELS
    scales[scales == 0] = 1.0
    return np.round(weight / scales).astype(np.int8), scales.astype(np.float32)
