"""The bundled model is what its folder promises: small, readable by transformers, quantized at no great cost."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification, pipeline

from listening_clf import Conversation, Label, ListeningClassifier
from listening_clf.checkpoint import CARD, ONNX, TOKENIZER, Checkpoint
from listening_clf.encoding import Encoded, as_text_pair, pad
from listening_clf.finetune.graph import export_onnx
from tests.conftest import ROOT

BATCH = 16


def run(onnx: Path, encoded: list[Encoded]) -> np.ndarray:
    """The logits of turns that run alone: the graph takes no padding."""
    session = ort.InferenceSession(onnx)
    names = [node.name for node in session.get_inputs()]
    inputs = (pad([one], 0) for one in encoded)
    return np.concatenate([session.run(None, {name: arrays[name] for name in names})[0] for arrays in inputs])


@pytest.fixture(scope="module")
def encoded(bundled: ListeningClassifier, conversations: list[Conversation]) -> list[Encoded]:
    items = [(it.turns, index) for it in conversations[:8] for index in it.agent_turns]
    return bundled._runtime.encoder.encode_many(items)


@pytest.fixture(scope="module")
def float32(bundled_folder: Path, encoded: list[Encoded], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The logits of the same weights as ONNX without quantization."""
    path = tmp_path_factory.mktemp("float32") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_onnx(bundled_folder, path)
    return run(path, encoded)


def test_transformers_computes_the_logits_of_the_float32_onnx(
    bundled_folder: Path, encoded: list[Encoded], float32: np.ndarray
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(bundled_folder, dtype=torch.float32).eval()
    assert type(model) is BertForSequenceClassification
    assert model.config.problem_type == "multi_label_classification"
    assert [model.config.id2label[i] for i in range(5)] == list(Label)
    with torch.no_grad():
        for start in range(0, len(encoded), BATCH):
            arrays = pad(encoded[start : start + BATCH], 0)
            logits = model(**{name: torch.from_numpy(array) for name, array in arrays.items()}).logits
            np.testing.assert_allclose(logits.numpy(), float32[start : start + BATCH], atol=1e-2)


def test_the_quantized_onnx_stays_near_the_float32_one(
    bundled_folder: Path, encoded: list[Encoded], float32: np.ndarray
) -> None:
    difference = np.abs(run(bundled_folder / ONNX, encoded) - float32)
    assert difference.mean() < 0.15, f"mean {difference.mean():.3f}, largest {difference.max():.3f}"
    assert float32.std() > 1, "the logits hardly differ from turn to turn: this is no trained model"


def test_the_text_classification_pipeline_loads_the_folder(bundled_folder: Path, bundled: ListeningClassifier) -> None:
    classify = pipeline("text-classification", model=str(bundled_folder), top_k=None, dtype=torch.float32)
    (scores,) = classify(["What happened when you restarted it?"])
    best = max(scores, key=lambda score: score["score"])
    assert best["label"] == "open_question"


def test_the_tokenizer_of_the_folder_reads_text_pairs(bundled_folder: Path, conversations: list[Conversation]) -> None:
    turns = conversations[0].turns[:3]
    encoding = AutoTokenizer.from_pretrained(bundled_folder)(*as_text_pair(turns, 2))
    assert max(encoding["token_type_ids"]) == 1


def test_the_tokenizer_file_neither_cuts_nor_pads(bundled_folder: Path) -> None:
    tokenizer = json.loads((bundled_folder / TOKENIZER).read_text("utf-8"))
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)


def test_the_folder_is_no_larger_than_75_mb(bundled_folder: Path) -> None:
    assert sum(path.stat().st_size for path in bundled_folder.rglob("*") if path.is_file()) <= 75_000_000


def test_every_file_of_the_folder_is_in_its_manifest(bundled_folder: Path) -> None:
    files = {path.relative_to(bundled_folder).as_posix() for path in bundled_folder.rglob("*") if path.is_file()}
    assert files == {*Checkpoint.open(bundled_folder).manifest.files, "listening_clf.json"}


def test_the_model_card_is_the_one_at_the_top_of_the_project(bundled_folder: Path) -> None:
    assert (bundled_folder / CARD).read_text("utf-8") == (ROOT / "model_card.md").read_text("utf-8")
