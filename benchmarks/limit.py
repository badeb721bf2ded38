"""How near a contender comes to what the machine can do: multiply-adds a second, beside those of bare products.

The machine's limit is the best rate of a single matrix product, on all cores in ONNX Runtime, over some sizes. A
contender's rate counts what its model has to multiply for the tokens that were asked for: padding, and whatever else
it computes, count for nothing. Not counted on either side: additions, activations, normalisations, the classifier.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from tokenizers import Tokenizer

from listening_clf.checkpoint import TOKENIZER, Checkpoint
from listening_clf.conversation import TurnInContext
from listening_clf.encoding import Encoder
from listening_clf.runtime import CORES, encoding_settings

Arithmetic: TypeAlias = Literal["int8", "float32"]

SIZES = ((256, 384, 1536), (1024, 384, 1536), (1024, 1536, 384), (1024, 1024, 1024), (2048, 2048, 2048))
"""Rows, inner length and columns of the products: some as in a small BERT, some larger."""
SECONDS_PER_SIZE = 1.0

_TYPES: dict[Arithmetic, tuple[str, Any, Any, Any]] = {
    "int8": ("MatMulInteger", np.uint8, np.int8, np.int32),
    "float32": ("MatMul", np.float32, np.float32, np.float32),
}


def limits() -> dict[Arithmetic, float]:
    """The most multiply-adds a second that products of uint8 with int8, and of float32, reached."""
    return {arithmetic: max(_rate(arithmetic, *size) for size in SIZES) for arithmetic in get_args(Arithmetic)}


def multiply_adds(config: Mapping[str, Any], lengths: Sequence[int], *, last_layer_whole: bool) -> float:
    """What a BERT multiplies to read inputs of these lengths in tokens.

    Args:
        config: its config.json.
        lengths: of each input.
        last_layer_whole: whether the last layer is computed for all tokens. The graphs of listening_clf compute only
            its keys and values for all, and the rest for the first token, which alone is classified.
    """
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    tokens = np.array(lengths, dtype=np.float64)
    whole = tokens * (4 * width**2 + 2 * width * inner) + 2 * tokens**2 * width
    first_token = 2 * width**2 + 2 * width * inner + 2 * tokens * width
    last = whole if last_layer_whole else tokens * 2 * width**2 + first_token
    return float(((layers - 1) * whole + last).sum())


def distinct_lengths(items: Sequence[TurnInContext], checkpoint: Checkpoint) -> list[int]:
    """The lengths of the inputs that a listening_clf model runs for these turns: each different one once."""
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / TOKENIZER))
    encoded = Encoder(tokenizer, encoding_settings(checkpoint)).encode_many(items)
    return [len(ids) for _, ids in {(it.context_start, tuple(it.input_ids)) for it in encoded}]


def _rate(arithmetic: Arithmetic, rows: int, inner: int, columns: int) -> float:
    operator, left_type, right_type, out_type = _TYPES[arithmetic]
    rng = np.random.default_rng(0)
    left = rng.integers(0, 100, (rows, inner)).astype(left_type)
    right = rng.integers(-100, 100, (inner, columns)).astype(right_type)
    session = _session(operator, left, right, out_type)
    binding = session.io_binding()  # into memory that is there: no time goes into having it given
    binding.bind_cpu_input("left", left)
    binding.bind_ortvalue_output("out", ort.OrtValue.ortvalue_from_numpy(np.zeros((rows, columns), out_type)))
    best = np.inf
    end = time.perf_counter() + SECONDS_PER_SIZE
    while (begin := time.perf_counter()) < end:
        session.run_with_iobinding(binding)
        best = min(best, time.perf_counter() - begin)
    return float(rows * inner * columns / best)


def _session(operator: str, left: Any, right: Any, out_type: Any) -> ort.InferenceSession:
    def described(name: str, shape: Sequence[int], numpy_type: Any) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(numpy_type)), shape)

    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["out"])],
        "product",
        [described("left", left.shape, left.dtype)],
        [described("out", (left.shape[0], right.shape[1]), out_type)],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = CORES
    return ort.InferenceSession(model.SerializeToString(), options)
