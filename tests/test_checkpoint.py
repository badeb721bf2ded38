"""The checkpoint folder: verified when it is read, whole when it is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from listening_clf import CheckpointError, ListeningClassifier
from listening_clf.checkpoint import (
    CARD,
    MANIFEST,
    ONNX,
    ONNX_DATA,
    WEIGHTS,
    Checkpoint,
    new_folder,
    sha256,
    write_manifest,
)
from listening_clf.hub import locate


@pytest.fixture
def folder(tmp_path: Path, bundled_folder: Path) -> Path:
    """A copy of the bundled model, to be spoilt."""
    return Path(shutil.copytree(bundled_folder, tmp_path / "model"))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def problem(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        ListeningClassifier.from_pretrained(folder)
    return str(caught.value)


def test_an_altered_weight_file_is_found_even_though_predicting_does_not_need_it(folder: Path) -> None:
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    assert f"{WEIGHTS} in {folder} is not the file that was saved" in problem(folder)


@pytest.mark.parametrize("path", [ONNX, ONNX_DATA])
def test_a_truncated_onnx_file_is_found(folder: Path, path: str) -> None:
    (folder / path).write_bytes((folder / path).read_bytes()[:-1000])
    assert f"{path} in {folder} is not the file that was saved" in problem(folder)


@pytest.mark.parametrize("path", [ONNX, ONNX_DATA])
def test_a_truncated_onnx_file_with_a_matching_sha256_cannot_be_loaded(folder: Path, path: str) -> None:
    (folder / path).write_bytes((folder / path).read_bytes()[:-1000])
    change_manifest(folder, lambda manifest: manifest["files"].update({path: sha256(folder / path)}))
    assert "cannot be loaded" in problem(folder)


def test_a_missing_onnx_file_is_named(folder: Path) -> None:
    (folder / ONNX).unlink()
    assert problem(folder) == f"the checkpoint {folder} has no {ONNX}"


def test_the_weights_for_training_are_not_needed_to_predict(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert ListeningClassifier.from_pretrained(folder).predict("What happened?").scores


def test_a_file_without_a_sha256_is_not_loaded(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest["files"].pop(ONNX))
    assert f"has no sha256 of {ONNX}" in problem(folder)


def test_a_newer_format_says_to_upgrade(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest.update(format_version=2))
    assert problem(folder).startswith("the checkpoint has format version 2, this listening_clf reads up to 1: upgrade")


def test_another_encoding_version_is_refused(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest["encoding"].update(version=2))
    assert "trained with encoding version 2" in problem(folder)


def test_labels_that_disagree_with_the_config_are_refused(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest["labels"].reverse())
    assert "do not name the same labels in the same order" in problem(folder)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "..\\b", "C:/b"])
def test_a_file_name_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    change_manifest(folder, lambda manifest: manifest["files"].update({path: "0" * 64}))
    assert f"names the file {path!r}, which lies outside the checkpoint" in problem(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"format_version": "1"}', '{"format_version": 1}'])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    assert MANIFEST in problem(folder)


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    assert problem(tmp_path) == f"{tmp_path} is no listening_clf checkpoint: it has no {MANIFEST}"


def test_a_name_that_is_nothing_lists_what_there_is() -> None:
    with pytest.raises(CheckpointError, match=r"no model 'smal': expected a bundled model \(small, tiny\), a"):
        locate("smal")


def test_a_file_that_a_graph_could_read_is_listed_or_refused(folder: Path) -> None:
    (folder / "onnx" / "hidden.bin").write_bytes(b"other weights")
    assert "does not list onnx/hidden.bin" in problem(folder)


def test_a_card_may_be_edited_and_is_saved_as_it_is(folder: Path, tmp_path: Path) -> None:
    (folder / CARD).write_text("Ours.", encoding="utf-8")
    ListeningClassifier.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    Checkpoint.open(tmp_path / "copy").verify(CARD)
    assert (tmp_path / "copy" / CARD).read_text(encoding="utf-8") == "Ours."


def test_an_altered_file_is_not_saved(folder: Path, tmp_path: Path) -> None:
    classifier = ListeningClassifier.from_pretrained(folder)
    (folder / WEIGHTS).write_bytes(b"other weights")
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} in .* is not the file that was saved"):
        classifier.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_saved_model_is_the_same_model(tmp_path: Path, bundled: ListeningClassifier, bundled_folder: Path) -> None:
    bundled.save_pretrained(tmp_path / "copy")
    assert Checkpoint.open(tmp_path / "copy").manifest == Checkpoint.open(bundled_folder).manifest
    saved = ListeningClassifier.from_pretrained(tmp_path / "copy")
    assert saved.predict("What happened?") == bundled.predict("What happened?")


def test_saving_replaces_a_checkpoint_but_nothing_else(tmp_path: Path, bundled: ListeningClassifier) -> None:
    bundled.save_pretrained(tmp_path / "copy")
    bundled.save_pretrained(tmp_path / "copy")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    with pytest.raises(CheckpointError, match="is there already and is no checkpoint"):
        bundled.save_pretrained(tmp_path / "notes")
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep me"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "notes"]


def test_a_file_of_ones_own_in_a_checkpoint_is_not_lost(tmp_path: Path, bundled: ListeningClassifier) -> None:
    bundled.save_pretrained(tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_text("keep me")
    with pytest.raises(CheckpointError, match=r"has notes.txt, which is none of its checkpoint's files"):
        bundled.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "notes.txt").read_text() == "keep me"


def test_a_checkpoint_that_is_not_whole_is_not_copied(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"has no {WEIGHTS}, so its copy would not be whole"):
        ListeningClassifier.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("encoding", [{"context_tokens": -5}, {"max_length": 0}, {"max_length": 5000}, {"budget": 3}])
def test_encoding_settings_that_cannot_be_are_refused(folder: Path, encoding: dict[str, int]) -> None:
    change_manifest(folder, lambda manifest: manifest["encoding"].update(encoding))
    assert "the checkpoint's" in problem(folder)


@pytest.mark.parametrize("threshold", [float("nan"), 5, "high"])
def test_a_threshold_that_is_no_probability_is_refused(folder: Path, threshold: object) -> None:
    change_manifest(folder, lambda manifest: manifest["thresholds"].update(summary=threshold))
    assert f"{MANIFEST} is malformed" in problem(folder)


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path, bundled_folder: Path) -> None:
    with new_folder(tmp_path / "model") as staging:
        (staging / "model").write_text("old")
        write_manifest(staging, Checkpoint.open(bundled_folder).manifest)

    def fail() -> None:
        with new_folder(tmp_path / "model") as staging:
            (staging / "model").write_text("new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (tmp_path / "model" / "model").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
