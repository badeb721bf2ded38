"""`listening-clf train` as people run it: real processes, killed, starved of disk, in pairs."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from listening_clf import Conversation, ListeningClassifier
from listening_clf.checkpoint import WEIGHTS

TOLERANCE = 1e-5
"""What the losses of one process and of two may differ by: the order of sums, in float32."""

SETTINGS = """
base: {base}
encoding: {{context_tokens: 48, max_length: 128}}
epochs: {epochs}
learning_rate: 1.0e-3
batch_size: 16
checkpoint_steps: 4
mixed_precision: "no"
"""


@pytest.fixture(scope="module")
def data(conversations: list[Conversation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl and dev.jsonl."""
    folder = tmp_path_factory.mktemp("data")
    for name, part in (("train", conversations[:16]), ("dev", conversations[16:])):
        lines = [json.dumps(conversation.to_dict()) for conversation in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def still_base(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny base without dropout, whose masks every process would draw for itself."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("still")
    AutoModel.from_pretrained(tiny_base, hidden_dropout_prob=0.0).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(folder)
    return str(folder)


def start_training(
    data: Path,
    output: Path,
    base: str,
    *more: str,
    epochs: int = 6,
    teacher: str = "",
    launcher: Sequence[str] = ("-m",),
    **options: int,
) -> subprocess.Popen[str]:
    """Start the command in a process of its own; `file_size` limits the files that it can write, in bytes."""
    config = data / f"{Path(base).name}-{epochs}.yaml"
    taught = f"teacher: {teacher}\n" if teacher else ""
    config.write_text(SETTINGS.format(base=base, epochs=epochs) + taught, encoding="utf-8")
    files = [str(data / "train.jsonl"), "--dev", str(data / "dev.jsonl")]
    command = [sys.executable, *launcher, "listening_clf", "train", *files, "--config", str(config)]

    def as_in_a_terminal() -> None:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # what runs in the background ignores Ctrl-C, and so do its children
        if limit := options.get("file_size"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [*command, "--output", str(output), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=as_in_a_terminal,
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for the command's end, and give what it said."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def assert_same_weights(one: Path, other: Path, tolerance: float) -> None:
    weights, others = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, others[name], atol=tolerance, rtol=0, msg=name)


def logged(folder: str, figure: str) -> list[float]:
    """What TensorBoard's event files say of a figure, step by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder)
    events.Reload()
    return [event.value for event in events.Scalars(figure)]


@pytest.fixture(scope="module")
def unbroken(data: Path, tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken") / "model"
    finished(start_training(data, output, tiny_base))
    return output


def test_a_killed_run_goes_on_to_the_same_weights_even_after_a_full_disk(
    data: Path, tiny_base: str, unbroken: Path, tmp_path: Path
) -> None:
    output, run = tmp_path / "model", tmp_path / "model.run"
    process = start_training(data, output, tiny_base)
    while not list(run.glob("at-*[0-9]")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not output.exists()
    survived = sorted(path.name for path in run.glob("at-*[0-9]"))

    said = finished(start_training(data, output, tiny_base), code=2)
    assert "has an unfinished run: go on with --resume" in said

    said = finished(start_training(data, output, tiny_base, "--resume", file_size=4096), code=2)
    assert "nothing that was there is lost; when that is mended, go on with --resume" in said
    assert not output.exists()
    assert survived == sorted(path.name for path in run.glob("at-*[0-9]"))

    finished(start_training(data, output, tiny_base, "--resume"))
    assert_same_weights(output, unbroken, tolerance=0)
    assert not run.exists()


def test_ctrl_c_says_how_to_go_on(data: Path, tiny_base: str, tmp_path: Path) -> None:
    process = start_training(data, tmp_path / "model", tiny_base, epochs=500)
    while not list((tmp_path / "model.run").glob("at-*[0-9]")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "The same command with --resume goes on." in finished(process, code=130)
    assert not (tmp_path / "model").exists()


def test_two_processes_learn_what_one_learns_from_labels_and_a_teacher(
    data: Path, still_base: str, tmp_path: Path
) -> None:
    one, two = (("--log-dir", str(tmp_path / name)) for name in ("log of one", "log of two"))
    finished(start_training(data, tmp_path / "one", still_base, *one, epochs=2, teacher="tiny"))
    pair = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "-m")
    said = finished(start_training(data, tmp_path / "two", still_base, *two, epochs=2, teacher="tiny", launcher=pair))
    assert said.count("The model is in") == 1
    losses, losses_of_two = logged(one[1], "loss"), logged(two[1], "loss")
    assert len(losses) > 20
    np.testing.assert_allclose(losses_of_two, losses, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(logged(two[1], "macro F1 on dev"), logged(one[1], "macro F1 on dev"), atol=1e-3)
    # Both were rounded to float16, whose steps are of up to 1e-3.
    assert_same_weights(tmp_path / "one", tmp_path / "two", 1e-3)


def test_other_labels_come_from_the_settings_and_the_columns_of_a_csv(tiny_base: str, tmp_path: Path) -> None:
    rows = [
        f"{text} {i},{int(text == 'Hello')},{int(text == 'Goodbye')}"
        for i in range(20)
        for text in ("Hello", "Goodbye")
    ]
    (tmp_path / "calls.csv").write_text("\n".join(["text,greeting,farewell", *rows]))
    (tmp_path / "my.yaml").write_text(
        SETTINGS.format(base=tiny_base, epochs=30) + "labels: [greeting, farewell]\ncontext_dropout: 0\n"
    )
    command = [sys.executable, "-m", "listening_clf", "train", str(tmp_path / "calls.csv"), "--output"]
    subprocess.run(
        [*command, str(tmp_path / "model"), "--config", str(tmp_path / "my.yaml"), "--log-dir", str(tmp_path / "log")],
        check=True,
        capture_output=True,
    )
    classifier = ListeningClassifier.from_pretrained(tmp_path / "model")
    assert classifier.predict(["Hello 3", "Goodbye 7"])[1].labels == ("farewell",)
    assert list((tmp_path / "log").glob("events.out.tfevents.*"))


def test_data_that_cannot_be_trained_on_stop_the_command_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text("conversation,text,summary\n1,So it leaks.,1\n2,Since when?,maybe\n")
    for command in (("data", "check"), ("train", "--output", str(tmp_path / "model"))):
        result = listening_clf(*command, str(tmp_path / "calls.csv"))
        assert result.returncode == 2
        assert "line 3: 'summary' must be 1 or 0" in result.stdout + result.stderr
    assert not (tmp_path / "model").exists()


def test_data_check_prints_the_balance(data: Path) -> None:
    result = listening_clf("data", "check", str(data / "train.jsonl"), "--dev", str(data / "dev.jsonl"))
    assert result.returncode == 0
    assert "paraphrase" in result.stdout
    assert "turns without context" in result.stdout


def test_evaluate_compares_and_reports(data: Path, unbroken: Path, tmp_path: Path) -> None:
    files = str(data / "dev.jsonl"), "--report", str(tmp_path / "report.html")
    result = listening_clf("evaluate", "small", *files, "--against", str(unbroken), "--json")
    figures = json.loads(result.stdout)
    assert figures["evaluation"]["macro"]["f1"]["value"] > 0.6
    assert figures["comparison"]["macro_f1"]["difference"]["value"] > 0
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")

    table = listening_clf("evaluate", "small", str(data / "dev.jsonl")).stdout
    assert "paraphrase" in table
    assert "macro" in table


def test_evaluate_refuses_a_report_that_could_not_be_written_before_it_begins(data: Path, tmp_path: Path) -> None:
    report = tmp_path / "nowhere" / "report.html"
    result = listening_clf("evaluate", "small", str(data / "dev.jsonl"), "--report", str(report))
    assert result.returncode == 2
    assert "there is no folder" in result.stderr


def listening_clf(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "listening_clf", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
