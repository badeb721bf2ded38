"""Where a model runs. No GPU is at hand here: the CPU stands in for one, and runs the graph that a GPU would."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from listening_clf import CheckpointError, Conversation, DeviceError, ListeningClassifier, runtime
from listening_clf.checkpoint import FLOAT_ONNX, MANIFEST, WEIGHTS, Checkpoint
from listening_clf.runtime import Runtime


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "GPU_PROVIDER", "CPUExecutionProvider")


@pytest.mark.usefixtures("gpu")
def test_a_gpu_runs_the_float_graph_by_the_weights_that_training_reads(
    bundled_folder: Path, conversations: list[Conversation]
) -> None:
    checkpoint = Checkpoint.open(bundled_folder)
    on_gpu, on_cpu = Runtime(checkpoint, "auto"), Runtime(checkpoint)
    assert (on_gpu.device, on_cpu.device) == ("cuda", "cpu")
    items = [(it.turns, index) for it in conversations[:4] for index in it.agent_turns]
    encoded = on_gpu.encoder.encode_many(items)
    difference = np.abs(on_gpu.logits(encoded) - on_cpu.logits(encoded))
    assert 0 < difference.mean() < 0.15
    assert (bundled_folder / FLOAT_ONNX).stat().st_size < 300_000


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "GPU_PROVIDER", "NoSuchExecutionProvider")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu() -> None:
    assert ListeningClassifier.from_pretrained().device == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_there_is_not_is_an_error_that_says_what_is_missing() -> None:
    with pytest.raises(DeviceError, match="onnxruntime finds none: it takes onnxruntime-gpu"):
        ListeningClassifier.from_pretrained(device="cuda")


@pytest.mark.usefixtures("gpu")
def test_a_checkpoint_without_a_float_graph_runs_on_the_cpu(bundled_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundled_folder, tmp_path / "old")
    (tmp_path / "old" / FLOAT_ONNX).unlink()
    assert ListeningClassifier.from_pretrained(tmp_path / "old").device == "cpu"
    with pytest.raises(DeviceError, match=r"the checkpoint has no model_float\.onnx"):
        ListeningClassifier.from_pretrained(tmp_path / "old", device="cuda")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("altered", [FLOAT_ONNX, WEIGHTS])
def test_what_a_gpu_runs_is_verified_first(altered: str, bundled_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundled_folder, tmp_path / "altered")
    with (tmp_path / "altered" / altered).open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match=f"{altered} in .* is not the file that was saved"):
        Runtime(Checkpoint.open(tmp_path / "altered"), "auto")


@pytest.mark.usefixtures("gpu")
def test_what_the_manifest_does_not_vouch_for_is_not_run(bundled_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundled_folder, tmp_path / "foreign")
    manifest = json.loads((tmp_path / "foreign" / MANIFEST).read_text("utf-8"))
    del manifest["files"][FLOAT_ONNX]
    (tmp_path / "foreign" / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    assert ListeningClassifier.from_pretrained(tmp_path / "foreign").device == "cpu"


def test_a_device_that_has_no_such_name_is_refused() -> None:
    with pytest.raises(DeviceError, match="device must be one of auto, cpu, cuda, not 'gpu'"):
        ListeningClassifier.from_pretrained(device="gpu")  # type: ignore[arg-type]
