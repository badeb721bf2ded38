"""The Hugging Face hub, through its real client, against a server on loopback that speaks the hub's HTTP API."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from listening_clf import CheckpointError, DeviceError, ListeningClassifier
from listening_clf.checkpoint import (
    CARD,
    CONFIG,
    FLOAT_ONNX,
    MANIFEST,
    NEEDED_TO_PREDICT,
    NEEDED_TO_TRAIN,
    ONNX,
    ONNX_DATA,
    WEIGHTS,
    Checkpoint,
    write_manifest,
)
from listening_clf.finetune import TrainConfig
from listening_clf.finetune.base import load_base
from listening_clf.finetune.start import Start
from listening_clf.hub import BUNDLED, fetch_whole, find
from listening_clf.hub.common import Access
from listening_clf.hub.facts import facts_of
from listening_clf.hub.remote import cached_models, published_models
from tests.conftest import ROOT
from tests.hub_server import HubServer

NAME = "team/calls"
CHUNK = 10 * 1024 * 1024
"""What the client writes at once, and resumes behind."""
WHOLE = tuple(Checkpoint.read(BUNDLED / "tiny").manifest.files)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub, an empty cache, and the token of somebody who may write."""
    with HubServer() as server:
        server.tokens["hf_write"] = ("team", "write")
        server.tokens["hf_other"] = ("other", "write")
        for name, value in (
            ("ENDPOINT", server.endpoint),
            ("HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_CACHE", str(tmp_path / "cache")),
            ("HF_TOKEN_PATH", str(tmp_path / "token")),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(constants, name, value)
        for name, value in server_environment(server, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield server


def server_environment(server: HubServer, tmp_path: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": server.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_write",
    }


@pytest.fixture(scope="module")
def tiny() -> ListeningClassifier:
    return ListeningClassifier.from_pretrained("tiny")


def publish(folder: Path, revision: str | None = None, message: str | None = None) -> str:
    """Publish a folder, and give the commit."""
    classifier = ListeningClassifier(Checkpoint.read(folder))
    return classifier.push_to_hub(NAME, revision=revision, commit_message=message).partition("@")[2]


def problem(name: str = NAME, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        ListeningClassifier.from_pretrained(name, **options)
    return str(caught.value)


# push and pull


def test_what_is_pushed_is_what_is_loaded(server: HubServer, tiny: ListeningClassifier) -> None:
    pinned = tiny.push_to_hub(NAME, commit_message="The first")
    loaded = ListeningClassifier.from_pretrained(NAME)
    assert loaded.predict("What happened?") == tiny.predict("What happened?")
    assert pinned == f"{NAME}@{server.repositories[NAME].at('main').id}"
    assert server.repositories[NAME].at("main").title == "The first"


def test_predicting_downloads_no_weights_for_training(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    ListeningClassifier.from_pretrained(NAME)
    assert server.downloaded(NAME) - {MANIFEST} == set(NEEDED_TO_PREDICT)


def test_training_downloads_no_onnx(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    start = Start.of(TrainConfig(base=NAME))
    assert start.labels == tiny.labels
    assert server.downloaded(NAME) - {MANIFEST, CARD} == set(NEEDED_TO_TRAIN)


def test_a_gpu_has_the_float_graph_and_its_weights(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    with pytest.raises(DeviceError, match="cannot run on a GPU: onnxruntime finds none"):
        ListeningClassifier.from_pretrained(NAME, device="cuda")
    assert {FLOAT_ONNX, WEIGHTS} < server.downloaded(NAME)


def test_a_revision_is_a_branch_a_tag_or_a_commit(server: HubServer, tiny: ListeningClassifier) -> None:
    first = publish(BUNDLED / "tiny")
    publish(BUNDLED / "small", "candidate")
    server.repositories[NAME].tags["v1"] = first
    publish(BUNDLED / "small")
    small = Checkpoint.read(BUNDLED / "small").manifest.thresholds
    for name, revision in ((NAME, "v1"), (NAME, first), (f"{NAME}@v1", None), (f"{NAME}@{first}", None)):
        assert ListeningClassifier.from_pretrained(name, revision=revision).thresholds == tiny.thresholds
    for name in (NAME, f"{NAME}@main", f"{NAME}@candidate"):
        assert ListeningClassifier.from_pretrained(name).thresholds == small


def test_a_new_version_leaves_nothing_of_the_old_but_what_is_somebodys_own(
    server: HubServer, tiny: ListeningClassifier, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(BUNDLED / "tiny", tmp_path / "old"))
    (folder / "vocab.txt").write_text("[UNK]\n")
    write_manifest(folder, Checkpoint.read(folder).manifest)
    publish(folder)
    server.commit(NAME, {"photo.png": b"a picture for the card"})
    tiny.push_to_hub(NAME)
    assert set(server.repositories[NAME].at("main").files) - {".gitattributes"} == {MANIFEST, *WHOLE, "photo.png"}


def test_a_private_repository_takes_a_token(server: HubServer, tiny: ListeningClassifier, tmp_path: Path) -> None:
    tiny.push_to_hub(NAME, private=True, token="hf_write")
    os.environ.pop("HF_TOKEN")
    said = problem(cache_dir=tmp_path / "empty")
    assert said.startswith(
        f"the model {NAME} is no local folder, and the hub shows none of that name: it may be private"
    )
    assert "HF_TOKEN" in said
    assert ListeningClassifier.from_pretrained(NAME, token="hf_write").labels == tiny.labels


def test_a_wrong_token_is_one_sentence(server: HubServer, tiny: ListeningClassifier) -> None:
    for token in ("hf_wrong", "hf_other"):
        with pytest.raises(CheckpointError, match=r"published to the hub: (Invalid|.*403|You don't have)"):
            tiny.push_to_hub(NAME, token=token)
    assert NAME not in server.repositories
    tiny.push_to_hub(NAME, private=True)
    expected = f"the model {NAME} cannot be had from the hub: Invalid username or password."
    assert problem(token="hf_wrong") == expected


def test_a_missing_revision_lists_what_there_is(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    tiny.push_to_hub(NAME, revision="v2")
    assert problem(revision="v9") == f"the model {NAME} has no revision 'v9': it has main, v2, and its commits"


def test_a_repository_of_another_library_is_no_checkpoint(server: HubServer) -> None:
    server.tokens["hf_write"] = ("org", "write")
    ListeningClassifier.from_pretrained("tiny").push_to_hub("org/other")
    server.commit("org/other", {MANIFEST: None})
    assert f"is no listening_clf checkpoint: it has no {MANIFEST}" in problem("org/other")


def test_a_card_that_the_hub_refuses_is_not_pushed(server: HubServer, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BUNDLED / "tiny", tmp_path / "mine"))
    (folder / CARD).write_text("---\nlicense: [\n---\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"front matter of .* cannot be read"):
        publish(folder)
    assert NAME not in server.repositories


def test_a_push_that_fails_leaves_no_branch(
    server: HubServer, tiny: ListeningClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.push_to_hub(NAME)

    def break_down(*_: object, **__: object) -> None:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", break_down)
    with pytest.raises(CheckpointError, match="team/calls@v2 cannot be published to the hub: the line is dead"):
        tiny.push_to_hub(NAME, revision="v2")
    assert set(server.repositories[NAME].branches) == {"main"}


def test_a_commit_or_a_tag_is_not_published_to(server: HubServer, tiny: ListeningClassifier) -> None:
    commit = tiny.push_to_hub(NAME).partition("@")[2]
    server.repositories[NAME].tags["v1"] = commit
    with pytest.raises(CheckpointError, match="is published to a branch, not to a commit"):
        tiny.push_to_hub(NAME, revision=commit)
    with pytest.raises(CheckpointError, match="'v1' is a tag of team/calls"):
        tiny.push_to_hub(NAME, revision="v1")


def test_a_public_repository_is_not_taken_for_a_private_one(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME, private=False)
    with pytest.raises(CheckpointError, match="the repository team/calls is public already"):
        tiny.push_to_hub(NAME, private=True)


def test_a_name_in_an_old_manifest_is_no_pattern(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    server.commit(NAME, {"LICENSE": b"ours", MANIFEST: b'{"files": {"*": "0", "onnx/[m]*": "0"}}'})
    tiny.push_to_hub(NAME)
    assert {"LICENSE", ONNX} < set(server.repositories[NAME].at("main").files)


def test_a_model_in_part_is_not_pushed(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    with pytest.raises(CheckpointError, match="so its copy would not be whole"):
        ListeningClassifier.from_pretrained(NAME).push_to_hub("team/copy")
    assert "team/copy" not in server.repositories


def test_a_card_that_was_edited_on_the_hub_does_not_stop_a_load(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    server.commit(NAME, {CARD: b"---\nlicense: mit\n---\nOurs."})
    folder = fetch_whole(find(NAME)).folder
    assert ListeningClassifier.from_pretrained(folder).labels == tiny.labels
    assert facts_of(find(NAME)).card.license == "mit"


# the cache


def test_what_was_downloaded_is_used_without_a_hub(
    server: HubServer, tiny: ListeningClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = tiny.push_to_hub(NAME).partition("@")[2]
    ListeningClassifier.from_pretrained(NAME)
    with server.unreachable():
        assert ListeningClassifier.from_pretrained(NAME).labels == tiny.labels
        assert ListeningClassifier.from_pretrained(NAME, revision=commit).labels == tiny.labels
    seen = len(server.requests)
    assert ListeningClassifier.from_pretrained(NAME, local_files_only=True).labels == tiny.labels
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert ListeningClassifier.from_pretrained(NAME).labels == tiny.labels
    assert len(server.requests) == seen


def test_a_pinned_commit_in_the_cache_asks_nobody(server: HubServer, tiny: ListeningClassifier) -> None:
    pinned = tiny.push_to_hub(NAME)
    ListeningClassifier.from_pretrained(pinned)
    seen = len(server.requests)
    ListeningClassifier.from_pretrained(pinned)
    assert len(server.requests) == seen


def test_what_is_not_in_the_cache_says_why_the_hub_was_not_asked(
    server: HubServer, tiny: ListeningClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.push_to_hub(NAME)
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
    missing = f"the model {NAME} is no local folder, and not in the cache as far as it is needed, and the hub "
    assert problem(local_files_only=True).startswith(f"{missing}is not asked (local_files_only)")
    with server.unreachable():
        assert problem().startswith(f"{missing}cannot be reached: ")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert problem() == f"{missing}is not asked while HF_HUB_OFFLINE is set"


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    find(NAME).fetch((CONFIG,))
    server.cut_downloads_after(CHUNK)
    folder = find(NAME).fetch((ONNX_DATA,))  # the client itself tries again
    Checkpoint.open(folder, (ONNX_DATA,))
    assert server.ranges == [f"bytes={CHUNK}-"]
    assert server.sent(NAME, ONNX_DATA) == (folder / ONNX_DATA).stat().st_size


def test_a_file_altered_in_the_cache_is_refused_and_pulled_anew_by_force(
    server: HubServer, tiny: ListeningClassifier
) -> None:
    tiny.push_to_hub(NAME)
    blob = (find(NAME).fetch(WHOLE) / ONNX_DATA).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert f"{ONNX_DATA} in " in (said := problem())
    assert "is not the file that was saved" in said
    find(NAME, access=Access(force_download=True)).fetch(WHOLE)
    assert ListeningClassifier.from_pretrained(NAME).labels == tiny.labels


def test_a_model_that_lacks_a_file_is_not_pulled(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    server.commit(NAME, {WEIGHTS: None, "notes.pkl": b"."})
    with pytest.raises(CheckpointError, match=f"has no {WEIGHTS}"):
        fetch_whole(find(NAME))
    assert "notes.pkl" not in server.downloaded(NAME)


def test_what_is_known_of_a_model_in_the_cache_needs_no_hub(server: HubServer, tiny: ListeningClassifier) -> None:
    commit = tiny.push_to_hub(NAME).partition("@")[2]
    facts_of(find(NAME))
    with server.unreachable():
        facts = facts_of(find(NAME))
    assert (facts.revision, facts.sizes, facts.history) == (commit, {}, ())
    assert facts.metrics


def test_models_are_found_by_tag_and_in_the_cache(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME)
    tiny.push_to_hub("team/chats")
    server.commit("team/chats", {CARD: b"---\ntags: [other]\n---\n"})
    find(NAME).fetch(NEEDED_TO_PREDICT)
    assert [it.id for it in published_models()] == [NAME]
    assert [it.repo_id for it in cached_models()] == [NAME]


def test_facts_come_without_the_weights(server: HubServer, tiny: ListeningClassifier) -> None:
    tiny.push_to_hub(NAME, commit_message="one")
    commit = publish(BUNDLED / "small", "v2", message="two")
    facts = facts_of(find(f"{NAME}@v2"))
    assert server.downloaded(NAME) == {MANIFEST, CONFIG, CARD}
    assert facts.revision == commit
    assert set(facts.revisions) == {"main", "v2"}
    assert facts.history[0].message == "two"
    assert facts.sizes[WEIGHTS] == (BUNDLED / "small" / WEIGHTS).stat().st_size
    assert facts.metrics


# nothing of a hub is run


def test_code_and_pickles_in_a_repository_are_neither_downloaded_nor_run(
    server: HubServer, tiny: ListeningClassifier, tmp_path: Path
) -> None:
    tiny.push_to_hub(NAME)
    trap = f"import pathlib; pathlib.Path({str(tmp_path / 'sprung')!r}).touch()".encode()
    config = json.loads((BUNDLED / "tiny" / CONFIG).read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling.Model", "AutoConfig": "modeling.Config"}
    server.commit(NAME, {"modeling.py": trap, "model.py": trap, "pytorch_model.bin": b"\x80\x04.", "weights.pkl": b"."})
    ListeningClassifier.from_pretrained(NAME)
    Start.of(TrainConfig(base=NAME))
    fetch_whole(find(NAME))
    assert not {"modeling.py", "model.py", "pytorch_model.bin", "weights.pkl"} & server.downloaded(NAME)

    server.commit(NAME, {MANIFEST: None, CONFIG: json.dumps(config).encode()})  # a plain encoder that brings its code
    start = Start.of(TrainConfig(base=NAME))
    model, tokenizer = load_base(start)
    assert model.num_labels == len(start.labels)
    assert not hasattr(model.config, "auto_map")
    assert "auto_map" not in tokenizer.init_kwargs
    assert not (tmp_path / "sprung").exists()
    assert "modeling.py" not in server.downloaded(NAME)


def test_transformers_loads_it_as_it_is(server: HubServer, tiny: ListeningClassifier) -> None:
    from transformers import pipeline

    tiny.push_to_hub(NAME)
    classify = pipeline("text-classification", NAME, top_k=None)
    (found,) = classify(["What happened when you restarted it?"])
    scores = {it["label"]: it["score"] for it in found}
    assert set(scores) == set(tiny.labels)
    assert max(scores, key=lambda label: scores[label]) == "open_question"


def test_the_card_passes_what_the_hub_asks_of_it(server: HubServer) -> None:
    for name in ("small", "tiny"):
        card = ModelCard.load(BUNDLED / name / CARD, ignore_metadata_errors=False)
        card.validate()
        data = card.data
        assert (data.library_name, data.pipeline_tag) == ("listening_clf", "text-classification")
        assert data.license
        assert data.language
        assert data.base_model
        assert "listening-clf" in data.tags
        assert data.eval_results[0].metric_name == "Macro F1"
        assert 0.5 < data.eval_results[0].metric_value < 1
        assert data.widget


# from outside


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "listening_clf", "hub", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_commands_publish_find_and_pull(server: HubServer, tmp_path: Path) -> None:
    assert run("push", "small", NAME).returncode == 0
    pushed = run("push", "tiny", f"{NAME}@v1", "-m", "October")
    assert pushed.returncode == 0, pushed.stderr
    pinned = pushed.stdout.strip()
    assert pinned == f"{NAME}@{server.repositories[NAME].at('v1').id}"
    assert NAME in run("list").stdout
    assert "October" in run("info", f"{NAME}@v1").stdout
    pulled = run("pull", pinned, "--output", str(tmp_path / "mine"))
    assert pulled.stdout.strip() == str(tmp_path / "mine")
    assert Checkpoint.open(tmp_path / "mine").manifest == Checkpoint.open(BUNDLED / "tiny").manifest
    assert run("verify", pinned).returncode == 0
    assert ONNX in run("verify", pinned, "--json").stdout
    missing = run("pull", f"{NAME}@v7")
    assert (missing.returncode, missing.stderr) == (
        2,
        f"Error: the model {NAME} has no revision 'v7': it has main, v1, and its commits\n",
    )
