"""`listening-clf hub` with bundled models and a directory: what it writes, and how it ends. No network."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from listening_clf.checkpoint import CARD, ONNX_DATA, TOKENIZER, WEIGHTS
from listening_clf.cli import app
from tests.conftest import ROOT

EXAMPLE = str(ROOT / "examples" / "call.vtt")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mine(tmp_path: Path, bundled_folder: Path) -> Path:
    """A copy of the bundled model, to be spoilt."""
    return Path(shutil.copytree(bundled_folder, tmp_path / "mine"))


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, ["hub", *map(str, arguments)])


def test_the_list_has_bundled_models_and_says_that_the_hub_was_not_reached() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert "small" in result.stdout
    assert "tiny" in result.stdout
    assert "Not listed: the hub cannot be asked for its models: " in result.stdout


def test_the_list_of_a_directory_has_its_models_refs_and_versions(tmp_path: Path) -> None:
    run("push", "tiny", tmp_path / "models/team/calls")
    run("push", "tiny", f"{tmp_path}/models/team/calls@v1")
    listing = json.loads(run("list", "--hub", (tmp_path / "models").as_uri(), "--json").stdout)
    (entry,) = listing["directory"]
    assert entry["name"] == (tmp_path / "models/team/calls").as_uri()
    assert entry["revisions"] == ["main", "v1"]
    assert entry["note"] == "1 version"
    assert listing["hub"] is None


def test_a_directory_that_is_not_there_is_one_sentence() -> None:
    result = run("list", "--hub", "/no/such")
    assert (result.exit_code, result.stderr) == (2, "Error: there is no directory /no/such\n")


def test_info_says_labels_codebook_data_licence_metrics_and_size() -> None:
    shown = run("info", "small").stdout
    for part in ("paraphrase, reflection", "version 1.1", "AnnoMI", "apache-2.0", "Macro F1", "MB to predict"):
        assert part in shown
    facts = json.loads(run("info", "tiny", "--json").stdout)
    assert facts["size"] == sum(facts["sizes"].values())
    assert facts["size_to_predict"] < facts["size"]
    assert facts["license"] == "apache-2.0"


def test_push_prints_the_name_that_pins_and_notes_what_the_card_lacks(mine: Path, tmp_path: Path) -> None:
    (mine / CARD).write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    result = run("push", mine, tmp_path / "calls", "-m", "first")
    assert result.stdout.startswith(f"{(tmp_path / 'calls').as_uri()}@")
    assert "Note: README.md does not state `language`" in result.stderr
    assert "license" not in result.stderr
    shown = run("info", tmp_path / "calls").stdout
    assert "first" in shown
    assert shown.count(result.stdout.strip().rpartition("@")[2]) == 2  # the version, and when it was published
    assert run("verify", result.stdout.strip()).exit_code == 0


def test_a_card_that_cannot_be_read_is_not_published(mine: Path, tmp_path: Path) -> None:
    (mine / CARD).write_text("---\nlicense: [\n---\n", encoding="utf-8")
    result = run("push", mine, tmp_path / "calls")
    assert result.exit_code == 2
    assert f"Error: the front matter of {mine / CARD} cannot be read" in result.stderr
    assert not (tmp_path / "calls").exists()


def test_pull_writes_a_folder(tmp_path: Path) -> None:
    run("push", "tiny", tmp_path / "calls")
    result = run("pull", f"{tmp_path / 'calls'}@main", "--output", tmp_path / "copy")
    assert result.stdout.strip() == str(tmp_path / "copy")
    assert run("verify", tmp_path / "copy").exit_code == 0
    assert run("pull", tmp_path / "calls", "--output", tmp_path / "copy").exit_code == 0
    other = run("pull", "small", "--output", tmp_path / "copy")
    assert (other.exit_code, other.stderr.strip()) == (
        2,
        f"Error: {tmp_path / 'copy'} has another model: name another folder, or delete that one first",
    )


def test_verify_explains_what_differs(mine: Path) -> None:
    assert run("verify", mine).exit_code == 0
    (mine / ONNX_DATA).write_bytes(b"other")
    (mine / TOKENIZER).unlink()
    (mine / CARD).write_text("ours", encoding="utf-8")
    (mine / "notes.txt").write_text("ours", encoding="utf-8")
    result = run("verify", mine, "--json")
    states = {file["path"]: file["state"] for file in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert states[ONNX_DATA] == "altered"
    assert states[TOKENIZER] == "missing"
    assert states[CARD] == "edited"
    assert states["notes.txt"] == "not listed"
    assert states[WEIGHTS] == "as published"
    assert "2 files of 9 not as published: the model is refused" in " ".join(run("verify", mine).stdout.split())


@pytest.mark.parametrize(
    "front_matter",
    [
        "license: 5\nlanguage: [en, no]\nbase_model: {a: 1}\ntags: x",
        "model-index:\n- name: x\n  results:\n  - task: {type: t}\n    dataset: {type: d, name: d}\n"
        "    metrics: [{type: f1, value: '0.8'}, {type: f1, value: {a: 1}}]",
        "license: [",
    ],
)
def test_a_strange_card_hides_nothing_else(mine: Path, front_matter: str) -> None:
    (mine / CARD).write_text(f"---\n{front_matter}\n---\n", encoding="utf-8")
    for arguments in (("info", mine), ("info", mine, "--json"), ("diff", "small", mine)):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    assert "version 1.1" in run("info", mine).stdout


def test_an_edited_card_is_as_it_may_be(mine: Path) -> None:
    (mine / CARD).write_text("ours", encoding="utf-8")
    assert run("verify", mine).exit_code == 0


def test_diff_shows_thresholds_metrics_and_where_two_models_answer_differently(tmp_path: Path) -> None:
    lines = [
        {"turns": [{"speaker": "customer", "text": said}, {"speaker": "agent", "text": answered}]}
        for said, answered in (("It broke.", "It broke."), ("My dog is ill.", "How so?"), ("Hm.", "What a week."))
    ]
    calls = tmp_path / "calls.jsonl"
    calls.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = json.loads(run("diff", "small", "tiny", "--data", calls, "--data", EXAMPLE, "--json").stdout)
    rows = {row["what"]: (row["first"], row["second"]) for row in found["facts"]}
    assert "threshold of paraphrase" in rows
    assert "card: Macro F1" in rows
    assert "labels" not in rows
    predictions = found["predictions"]
    assert predictions["turns"] == 16
    for counts in predictions["labels"].values():
        assert sum(counts[key] for key in ("both", "only_first", "only_second", "neither")) == 16
    assert predictions["same"] == 16 - len(predictions["most_different"])
    assert "only tiny" in " ".join(run("diff", "small", "tiny", "--data", EXAMPLE).stdout.split())


def test_a_model_does_not_differ_from_itself() -> None:
    result = run("diff", "tiny", "tiny", "--data", EXAMPLE)
    assert "The same files, labels, thresholds and card." in result.stdout
    assert "13 agent turns, 13 with the same labels by both." in result.stdout
