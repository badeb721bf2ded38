"""A directory as a hub: versions that never change, refs that name them, publishers that do not disturb each other."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from listening_clf import CheckpointError, ListeningClassifier
from listening_clf.checkpoint import CARD, CONFIG, MANIFEST, ONNX_DATA, Checkpoint
from listening_clf.finetune.start import locate_base
from listening_clf.hub import BUNDLED, destination, find, locate
from listening_clf.hub.directory import DirectoryModel, models_in
from tests.conftest import ROOT


@pytest.fixture
def model(tmp_path: Path) -> DirectoryModel:
    """A model in a directory, of which nothing has been published yet."""
    return DirectoryModel(tmp_path / "models" / "team" / "calls")


@pytest.fixture(scope="module")
def small() -> Checkpoint:
    return Checkpoint.open(BUNDLED / "small")


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return Checkpoint.open(BUNDLED / "tiny")


def at(model: DirectoryModel, revision: str) -> DirectoryModel:
    return DirectoryModel(model.folder, revision)


def problem(name: str, revision: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        locate(name, revision=revision)
    return str(caught.value)


def test_a_model_is_loaded_by_url_or_path_at_main(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny)
    expected = ListeningClassifier(tiny).predict("What happened?")
    for name in (model.folder.as_uri(), str(model.folder), model.folder):
        assert ListeningClassifier.from_pretrained(name).predict("What happened?") == expected


def test_a_revision_pins_what_main_leaves_behind(model: DirectoryModel, small: Checkpoint, tiny: Checkpoint) -> None:
    first = model.publish(small)
    at(model, "v1").publish(small)
    model.publish(tiny)
    url, _, version = first.partition("@")
    for name, revision in ((url, "v1"), (url, version), (url, version[:7]), (first, None), (f"{url}@v1", None)):
        assert Checkpoint.open(locate(name, revision=revision)).manifest == small.manifest
    assert Checkpoint.open(locate(url)).manifest == tiny.manifest


def test_publishing_from_python_gives_the_name_that_pins_it(model: DirectoryModel, tiny: Checkpoint) -> None:
    pinned = ListeningClassifier(tiny).push_to_hub(model.folder.as_uri(), revision="v1", commit_message="the first")
    assert pinned == f"{model.folder.as_uri()}@{at(model, 'v1').resolve()}"
    assert ListeningClassifier.from_pretrained(pinned).thresholds == dict(tiny.manifest.thresholds)
    (published,) = at(model, "v1").history()
    assert published.message == "the first"


def test_to_roll_back_is_to_publish_an_older_version(
    model: DirectoryModel, small: Checkpoint, tiny: Checkpoint
) -> None:
    first = model.publish(small)
    model.publish(tiny)
    model.publish(Checkpoint.open(locate(first)), message="back")
    assert Checkpoint.open(locate(str(model.folder))).manifest == small.manifest
    assert len(model.versions()) == 2
    assert [it.message for it in model.history()] == ["back", None, None]


def test_the_same_files_are_the_same_version_wherever_they_are_published(tmp_path: Path, tiny: Checkpoint) -> None:
    one, other = (DirectoryModel(tmp_path / name).publish(tiny).rpartition("@")[2] for name in ("a", "b"))
    assert one == other


def test_a_card_may_be_edited_before_it_is_published(model: DirectoryModel, tmp_path: Path, tiny: Checkpoint) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "mine"))
    with (folder / CARD).open("a", encoding="utf-8") as card:
        card.write("\nAsk us before you use it.\n")
    model.publish(tiny)
    model.publish(Checkpoint.read(folder))
    published = Checkpoint.open(model.fetch(()))
    assert "Ask us" in (published.folder / CARD).read_text(encoding="utf-8")
    published.verify(CARD)
    assert len(model.versions()) == 2


def test_an_unknown_revision_lists_what_there_is(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny)
    at(model, "v2").publish(tiny)
    assert problem(str(model.folder), "v9") == f"{model.folder} has no revision 'v9': it has main, v2"


@pytest.mark.parametrize("revision", ["../main", "a/b", ".hidden", "abcdef0", "0" * 40])
def test_a_ref_has_a_name_that_stays_in_its_folder_and_is_no_id(
    model: DirectoryModel, tiny: Checkpoint, revision: str
) -> None:
    with pytest.raises(CheckpointError, match="a revision cannot be called"):
        at(model, revision).publish(tiny)
    assert not model.folder.exists()


def test_what_is_no_ref_is_none(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny)
    (model.folder / "refs" / "out").write_text("../../../secret\n")
    (model.folder / "refs" / "latin").write_bytes(b"\xe9")
    (model.folder / "refs" / "heads").mkdir()
    assert list(model.refs()) == ["main"]
    assert problem(str(model.folder), "out") == f"{model.folder} has no revision 'out': it has main"


def test_a_ref_cannot_stand_for_another_version_s_id(
    model: DirectoryModel, small: Checkpoint, tiny: Checkpoint
) -> None:
    pinned, other = model.publish(small), model.publish(tiny)
    id, of_other = (name.rpartition("@")[2] for name in (pinned, other))
    (model.folder / "refs" / id).write_text(of_other)
    assert Checkpoint.open(locate(pinned)).manifest == small.manifest


def test_an_altered_version_is_refused(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny)
    (model.fetch(()) / ONNX_DATA).write_bytes(b"other weights")
    with pytest.raises(CheckpointError, match=f"{ONNX_DATA} in .* is not the file that was saved"):
        ListeningClassifier.from_pretrained(model.folder)


def test_a_manifest_that_vouches_for_other_files_is_not_the_version(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny)
    manifest = model.fetch(()) / MANIFEST
    data = json.loads(manifest.read_text(encoding="utf-8"))
    data["thresholds"]["paraphrase"] = 0.0
    manifest.write_text(json.dumps(data), encoding="utf-8")
    assert "is not the one that was published" in problem(str(model.folder))


@pytest.mark.parametrize("path", [MANIFEST, ONNX_DATA, CARD])
def test_to_publish_a_damaged_version_anew_puts_it_right(model: DirectoryModel, tiny: Checkpoint, path: str) -> None:
    first = model.publish(tiny)
    version = model.fetch(())
    (version / path).write_text("{}")
    assert model.publish(tiny) == first
    Checkpoint.open(version).verify(*tiny.manifest.files)
    assert len(model.versions()) == 1


def test_a_link_that_leads_out_of_a_checkpoint_is_not_followed(
    model: DirectoryModel, tmp_path: Path, tiny: Checkpoint
) -> None:
    (tmp_path / "secret").write_text("a key")
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "mine"))
    (folder / CARD).unlink()
    (folder / CARD).symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="is a link that leads out of the checkpoint"):
        model.publish(Checkpoint.read(folder))
    assert not DirectoryModel.is_one(model.folder)


def test_a_file_that_is_altered_while_it_is_published_is_not(
    model: DirectoryModel, tmp_path: Path, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(shutil.copytree(tiny.folder, tmp_path / "mine"))
    (checkpoint.folder / MANIFEST).write_text("{}")  # what was verified is what counts
    model.publish(checkpoint)
    assert Checkpoint.open(model.fetch(())).manifest == tiny.manifest
    copy = shutil.copyfile

    def alter_meanwhile(source: Path, target: Path) -> None:
        copy(source, target)
        if target.name == Path(ONNX_DATA).name:
            target.write_bytes(b"other weights")

    monkeypatch.setattr(shutil, "copyfile", alter_meanwhile)
    with pytest.raises(CheckpointError, match="is not the file that was saved"):
        model.publish(checkpoint)


def test_a_folder_of_other_things_is_no_place_for_a_model(tmp_path: Path, tiny: Checkpoint) -> None:
    DirectoryModel(tmp_path / "models" / "calls").publish(tiny)
    with pytest.raises(CheckpointError, match=r"has other things in it \(calls\): name a folder for this model"):
        DirectoryModel(tmp_path / "models").publish(tiny)


def test_an_event_that_cannot_be_read_is_passed_over(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny, message="whole")
    for name, text in (
        ("1.json", '{"revision": "main"'),
        ("2.json", '{"revision": "main", "other": 1}'),
        ("3.json", ""),
    ):
        (model.folder / "log" / name).write_text(text)
    assert [it.message for it in model.history()] == ["whole"]


def test_what_is_not_whole_is_not_published(model: DirectoryModel, tmp_path: Path, tiny: Checkpoint) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "mine"))
    checkpoint = Checkpoint.read(folder)
    (folder / ONNX_DATA).write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="is not the file that was saved"):
        model.publish(checkpoint)
    assert not DirectoryModel.is_one(model.folder)
    assert list((model.folder / "versions").iterdir()) == []


def test_a_directory_that_cannot_be_written_to_is_one_sentence(tmp_path: Path, tiny: Checkpoint) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be published to: Not a directory"):
        DirectoryModel(tmp_path / "file" / "calls").publish(tiny)


def test_who_may_see_a_model_is_not_for_a_directory(model: DirectoryModel, tiny: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="private is for the Hugging Face hub"):
        ListeningClassifier(tiny).push_to_hub(str(model.folder), private=True)


def test_two_publishers_at_once_leave_whole_versions_and_one_of_them_main(
    model: DirectoryModel, small: Checkpoint, tiny: Checkpoint
) -> None:
    published: list[str] = []
    publishers = [
        threading.Thread(target=lambda it=it: published.append(model.publish(it))) for it in (small, tiny) * 4
    ]
    for publisher in publishers:
        publisher.start()
    while any(publisher.is_alive() for publisher in publishers):
        if DirectoryModel.is_one(model.folder) and model.refs():
            Checkpoint.open(model.fetch(()))  # never met half written
    assert len(published) == 8
    assert sorted(model.versions()) == sorted({name.rpartition("@")[2] for name in published})
    for version in model.versions():
        Checkpoint.open(at(model, version).fetch(()), tuple(small.manifest.files))
    assert len(model.history()) == 8
    assert not list(model.folder.rglob(".*"))
    assert len(list((model.folder / "log").iterdir())) == 8


def test_a_push_that_is_killed_is_invisible(model: DirectoryModel, small: Checkpoint, tiny: Checkpoint) -> None:
    model.publish(tiny)
    code = f"""
import shutil, sys, time
from pathlib import Path
from listening_clf.checkpoint import Checkpoint
from listening_clf.hub.directory import DirectoryModel
copy = shutil.copyfile
def slowly(source, target):
    copy(source, target)
    print("copied", flush=True)
    time.sleep(60)
shutil.copyfile = slowly
DirectoryModel(Path({str(model.folder)!r})).publish(Checkpoint.open({str(small.folder)!r}))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as push:
        assert push.stdout is not None
        push.stdout.readline()
        push.send_signal(signal.SIGKILL)
    assert len(model.versions()) == 1
    assert Checkpoint.open(model.fetch(())).manifest == tiny.manifest
    (abandoned,) = (model.folder / "versions").glob(".*")
    model.publish(small)
    assert abandoned.exists()  # it might still be under way
    os.utime(abandoned, (time.time() - 100_000,) * 2)
    model.publish(tiny)
    assert not abandoned.exists()


def test_the_models_of_a_directory_are_listed_with_their_refs(tmp_path: Path, tiny: Checkpoint) -> None:
    for name in ("team/calls", "team/chats", "alone"):
        DirectoryModel(tmp_path / name).publish(tiny)
    (tmp_path / "notes").mkdir()
    found = list(models_in(tmp_path))
    assert [it.folder.relative_to(tmp_path).as_posix() for it in found] == ["alone", "team/calls", "team/chats"]
    assert list(found[0].refs()) == ["main"]


# names


def test_a_bundled_model_and_a_folder_have_no_revisions(tmp_path: Path, bundled_folder: Path) -> None:
    assert problem("small", "v2") == "small is one folder and has no revisions, so there is no 'v2' of it"
    assert "has no revisions" in problem(f"{bundled_folder}@v2")


def test_a_name_with_two_revisions_is_refused() -> None:
    assert problem("org/name@v1", "v2") == "org/name@v1 names the revision 'v1', but revision is 'v2'"


def test_a_folder_whose_name_has_an_at_is_a_folder(tmp_path: Path, tiny: Checkpoint) -> None:
    tiny.copy_to(tmp_path / "model@home")
    assert locate(str(tmp_path / "model@home")) == tmp_path / "model@home"


@pytest.mark.parametrize("name", ["file:///no/such/folder", "file://elsewhere/models/calls"])
def test_a_url_of_no_folder_is_one_sentence(name: str) -> None:
    assert problem(name) == f"there is no model {name}: no such folder on this machine"


def test_an_at_in_a_path_is_part_of_it(tmp_path: Path, tiny: Checkpoint) -> None:
    model = DirectoryModel(tmp_path / "me@home" / "calls")
    assert destination(str(model.folder)) == model
    model.publish(tiny)
    assert find(f"{model.folder}@main") == DirectoryModel(model.folder, "main")


@pytest.mark.parametrize("name", ["", "file://", "a" * 5000])
def test_a_name_that_can_be_none_is_one_sentence(name: str) -> None:
    assert problem(name).startswith("there is no model ")


def test_a_name_says_where_it_comes_from(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny)
    assert find(f"{model.folder}@v1").name == f"{model.folder.as_uri()}@v1"
    assert find("org/name@v1").name == "org/name@v1"
    assert find().name == "small"


@pytest.mark.parametrize("name", ["calls", "docs", "a/b/c", "org/", ""])
def test_a_model_is_not_published_under_a_name_of_no_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where there is a folder docs
    with pytest.raises(CheckpointError, match="cannot be published as"):
        destination(name)


def test_a_model_is_not_published_into_a_checkpoint_folder(bundled_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is a checkpoint folder, which holds one version"):
        destination(str(bundled_folder))


def test_training_starts_from_a_version(model: DirectoryModel, tiny: Checkpoint) -> None:
    model.publish(tiny)
    assert (locate_base(f"{model.folder.as_uri()}@main") / CONFIG).is_file()
