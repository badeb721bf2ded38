"""What is exported computes what was trained, the int8 graph nearly so, whatever the architecture."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from listening_clf.finetune.graph import export_onnx
from listening_clf.finetune.quantize import WEIGHT_LEVELS, quantize
from tests.conftest import plain_encoder


@pytest.fixture(scope="module", params=["Bert", "Roberta", "DistilBert", "MPNet", "DebertaV2", "ModernBert"])
def folder(request: pytest.FixtureRequest, tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of that architecture that knows nothing yet."""
    folder = tmp_path_factory.mktemp(request.param)
    base = plain_encoder(request.param, tiny_base, folder / "base")
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=5).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "model")
    return folder / "model"


def inputs(folder: Path, turns: int, length: int) -> dict[str, np.ndarray]:
    vocabulary = AutoTokenizer.from_pretrained(folder).vocab_size
    ids = np.random.default_rng(length).integers(5, vocabulary, (turns, length))
    return {"input_ids": ids, "token_type_ids": (np.arange(length) > length // 2) * np.ones_like(ids)}


def run(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(path)
    return session.run(None, {node.name: arrays[node.name] for node in session.get_inputs()})[0]


def exported(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_onnx(folder, folder / "onnx" / "model.onnx")
    return folder / "onnx" / "model.onnx"


@torch.no_grad()
def test_the_graph_computes_the_logits_of_transformers_for_any_batch_and_length(folder: Path) -> None:
    path = exported(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    names = [node.name for node in ort.InferenceSession(path).get_inputs()]
    for turns, length in ((1, 3), (3, 40), (2, 128)):
        arrays = inputs(folder, turns, length)
        expected = model(**{name: torch.from_numpy(arrays[name]) for name in names}).logits
        np.testing.assert_allclose(run(path, arrays), expected.numpy(), atol=1e-4)


def test_int8_stays_near_and_a_turn_does_not_feel_the_others(folder: Path, tmp_path: Path) -> None:
    source, target = exported(folder), tmp_path / "model.onnx"
    quantize(source, target, (inputs(folder, 1, length) for length in range(4, 64)))
    arrays = inputs(folder, 8, 24)
    exact, together = run(source, arrays), run(target, arrays)
    assert np.abs(together - exact).mean() < 0.1 * exact.std() + 0.02
    alone = [run(target, {name: array[row : row + 1] for name, array in arrays.items()}) for row in range(8)]
    np.testing.assert_array_equal(np.concatenate(alone), together)
    products = [node for node in onnx.load(target).graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert len(products) >= 8
    assert (tmp_path / "model.onnx.data").stat().st_size < 0.4 * source.with_name("model.onnx.data").stat().st_size


def test_the_last_layer_of_bert_multiplies_the_first_token_alone(tiny_base: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=5).save_pretrained(tmp_path / "model")
    graph = onnx.load(exported(tmp_path / "model")).graph
    assert {node.name for node in graph.input} == {"input_ids", "token_type_ids"}
    assert any(node.op_type == "Slice" and node.output[0] in _read_by_products(graph) for node in graph.node)


def _read_by_products(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node if node.op_type == "MatMul" for name in node.input}


def test_weights_have_a_scale_a_column_and_use_seven_bits(tmp_path: Path) -> None:
    weight = np.array([[1.0, 0.001, 0.0], [-2.0, 0.004, 0.0]], dtype=np.float32)
    bias = np.array([0.5, 0.25, -1.0], dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "one layer",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "float.onnx")
    x = np.array([[1.0, -3.0], [0.5, 2.0]], dtype=np.float32)
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", [{"x": x}])
    np.testing.assert_allclose(run(tmp_path / "int8.onnx", {"x": x}), x @ weight + bias, atol=0.06)
    stored = {it.name: numpy_helper.to_array(it) for it in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    (integers,) = (values for values in stored.values() if values.shape == weight.shape)
    np.testing.assert_array_equal(np.abs(integers).max(axis=0), [WEIGHT_LEVELS, WEIGHT_LEVELS, 0])
