"""The bundled models are what their folders promise: readable by transformers, quantized at no great cost."""

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
from listening_clf.hub import BUNDLED
from tests.conftest import ROOT

BATCH = 16


def run(onnx: Path, encoded: list[Encoded]) -> np.ndarray:
    """The logits of turns that run alone: the graph takes no padding."""
    session = ort.InferenceSession(onnx)
    names = [node.name for node in session.get_inputs()]
    inputs = (pad([one], 0) for one in encoded)
    return np.concatenate([session.run(None, {name: arrays[name] for name in names})[0] for arrays in inputs])


@pytest.fixture(scope="module", params=["small", "tiny"])
def folder(request: pytest.FixtureRequest) -> Path:
    return BUNDLED / request.param


@pytest.fixture(scope="module")
def encoded(bundled: ListeningClassifier, conversations: list[Conversation]) -> list[Encoded]:
    items = [(it.turns, index) for it in conversations[:8] for index in it.agent_turns]
    return bundled._runtime.encoder.encode_many(items)


@pytest.fixture(scope="module")
def float32(folder: Path, encoded: list[Encoded], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The logits of the same weights as ONNX without quantization."""
    path = tmp_path_factory.mktemp("float32") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_onnx(folder, path)
    return run(path, encoded)


def test_transformers_computes_the_logits_of_the_float32_onnx(
    folder: Path, encoded: list[Encoded], float32: np.ndarray
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    assert type(model) is BertForSequenceClassification
    assert model.config.problem_type == "multi_label_classification"
    assert [model.config.id2label[i] for i in range(5)] == list(Label)
    with torch.no_grad():
        for start in range(0, len(encoded), BATCH):
            arrays = pad(encoded[start : start + BATCH], 0)
            logits = model(**{name: torch.from_numpy(array) for name, array in arrays.items()}).logits
            np.testing.assert_allclose(logits.numpy(), float32[start : start + BATCH], atol=1e-2)


def test_the_quantized_onnx_stays_near_the_float32_one(
    folder: Path, encoded: list[Encoded], float32: np.ndarray
) -> None:
    difference = np.abs(run(folder / ONNX, encoded) - float32)
    assert difference.mean() < 0.15, f"mean {difference.mean():.3f}, largest {difference.max():.3f}"
    assert float32.std() > 1, "the logits hardly differ from turn to turn: this is no trained model"


def test_the_text_classification_pipeline_loads_the_folder(folder: Path) -> None:
    classify = pipeline("text-classification", model=str(folder), top_k=None, dtype=torch.float32)
    (scores,) = classify(["What happened when you restarted it?"])
    best = max(scores, key=lambda score: score["score"])
    assert best["label"] == "open_question"


def test_the_tokenizer_of_the_folder_reads_text_pairs(folder: Path, conversations: list[Conversation]) -> None:
    turns = conversations[0].turns[:3]
    encoding = AutoTokenizer.from_pretrained(folder)(*as_text_pair(turns, 2))
    assert max(encoding["token_type_ids"]) == 1


def test_the_tokenizer_file_neither_cuts_nor_pads(folder: Path) -> None:
    tokenizer = json.loads((folder / TOKENIZER).read_text("utf-8"))
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)


def test_the_folder_is_no_larger_than_75_mb(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 75_000_000


def test_every_file_of_the_folder_is_in_its_manifest(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {*Checkpoint.open(folder).manifest.files, "listening_clf.json"}


def test_the_model_card_of_small_is_the_one_at_the_top_of_the_project(bundled_folder: Path) -> None:
    assert (bundled_folder / CARD).read_text("utf-8") == (ROOT / "model_card.md").read_text("utf-8")


def test_tiny_says_mostly_what_small_says(bundled: ListeningClassifier, conversations: list[Conversation]) -> None:
    tiny = ListeningClassifier.from_pretrained("tiny")
    both = zip(bundled.predict_conversations(conversations), tiny.predict_conversations(conversations), strict=True)
    pairs = [pair for (_, small), (_, other) in both for pair in zip(small, other, strict=True)]
    same = sum(one.labels == other.labels for one, other in pairs)
    assert 0.85 * len(pairs) < same < len(pairs)
