"""The wheel, as a stranger gets it: installed into an empty environment, run without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

OFFLINE = """
import json, socket, sys
def refuse(*arguments, **options): raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
import listening_clf as lc
paraphrase = lc.predict("So you were charged twice for the same order.", context="There are two charges on my card.")
conversation = [lc.Turn("customer", "It broke."), lc.Turn("agent", "What happened when it broke?")]
(open_question,) = lc.ListeningClassifier.from_pretrained().predict_conversation(conversation)
heavy = sorted({"torch", "transformers"} & set(sys.modules))
print(json.dumps([paraphrase.labels, open_question.labels, lc.__file__, heavy]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that has the wheel, what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    install = ["-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([python, *install, "--constraint", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    return folder / "venv"


def test_it_predicts_offline(environment: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [environment / "bin" / "python", "-I", "-c", OFFLINE],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    paraphrase, open_question, file, heavy = json.loads(result.stdout)
    assert paraphrase == ["paraphrase"]
    assert open_question == ["open_question"]
    assert Path(file).is_relative_to(environment)
    assert heavy == []


def test_its_command_tags_the_example(environment: Path, tmp_path: Path) -> None:
    command = [environment / "bin" / "listening-clf", "predict", ROOT / "examples" / "call.vtt", "--format", "csv"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(result.stdout.splitlines()) == 14


def test_it_brings_neither_torch_nor_transformers(environment: Path) -> None:
    listed = subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "list", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert not {"torch", "transformers", "datasets", "scikit-learn"} & installed
    assert "listening-clf" in installed


def test_it_brings_what_fine_tuning_rehearses(environment: Path) -> None:
    (installed,) = environment.glob("lib/python3*/site-packages/listening_clf/finetune")
    assert len(list(installed.glob("authored/*.jsonl"))) == len(list((ROOT / "training" / "authored").glob("*.jsonl")))
    assert {path.name for path in installed.glob("*.j2")} == {"card.md.j2", "report.html.j2"}


def test_it_brings_the_page_of_the_service(environment: Path) -> None:
    (installed,) = environment.glob("lib/python3*/site-packages/listening_clf/serve/page")
    page = {path.name for path in (ROOT / "listening_clf" / "serve" / "page").iterdir()}
    assert {path.name for path in installed.iterdir()} == page


def test_without_the_serve_extra_its_command_says_how_to_get_it(environment: Path) -> None:
    command = [environment / "bin" / "listening-clf", "serve"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'is missing: pip install "listening-clf[serve]"' in result.stderr


@pytest.mark.parametrize(
    "command", [("train", "--output", "model"), ("evaluate", "small"), ("data", "check")], ids=lambda it: it[0]
)
def test_without_the_train_extra_its_commands_say_how_to_get_it(
    environment: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "calls.csv").write_text("text,summary\nSo it leaks.,1\n")
    result = subprocess.run(
        [environment / "bin" / "listening-clf", *command, "calls.csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert 'is missing: pip install "listening-clf[train]"' in result.stderr
