"""The command line, with the bundled model: what it writes, where, and how it ends."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from listening_clf import Conversation, Label, ListeningClassifier, __version__
from listening_clf.cli import app
from listening_clf.transcripts import read

EXAMPLE = str(Path(__file__).parent.parent / "examples" / "call.vtt")
HELLO = '{"turns": [{"speaker": "agent", "text": "How can I help you today?"}]}\n'
RUN = [sys.executable, "-c", "from listening_clf.cli import app; app()"]


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, arguments, input=stdin)


@pytest.fixture
def ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ten conversations, of which the seventh is broken JSON."""
    monkeypatch.chdir(tmp_path)
    lines = [HELLO] * 10
    lines[6] = '{"turns": [}\n'
    Path("ten.jsonl").write_text("".join(lines), encoding="utf-8")
    return "ten.jsonl"


# predict


def test_the_table_has_time_speaker_text_and_labels_with_their_probability() -> None:
    result = run("predict", EXAMPLE)
    assert result.exit_code == 0
    assert re.search(r"^0:00\.4 +agent +Harrow Lane Appliances.* open_question \d+ % *$", result.stdout, re.MULTILINE)
    assert re.search(r"^0:05\.3 +customer +Hi\. I had a dishwasher", result.stdout, re.MULTILINE)


def test_the_example_shows_every_label() -> None:
    found = {
        label
        for row in json.loads(run("predict", EXAMPLE, "--format", "jsonl").stdout)["turns"]
        for label in row.get("labels", ())
    }
    assert found == set(Label)


def test_the_totals_count_agent_turns_and_labels() -> None:
    totals = " ".join(run("predict", EXAMPLE).stdout.split("\n\n")[-1].split())
    assert re.fullmatch(
        r"13 agent turns in 1 conversation, \d+ % with a label: "
        r"paraphrase \d+, reflection \d+, open_question \d+, summary \d+, interruption \d+",
        totals,
    )


def test_a_table_that_is_piped_fits_80_columns_and_has_no_escape_codes() -> None:
    output = run("predict", EXAMPLE).stdout
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output


def test_markup_and_control_codes_in_a_text_are_only_text() -> None:
    output = run("predict", stdin="text\n[bold]Hello[/bold] \x1b[31mthere\x07\n").stdout
    assert "[bold]Hello[/bold]" in output
    assert "\x1b" not in output
    assert "\x07" not in output


def test_jsonl_is_the_conversation_with_labels_and_scores_on_agent_turns() -> None:
    (conversation,) = read(EXAMPLE)
    result = run("predict", EXAMPLE, "--format", "jsonl")
    written = json.loads(result.stdout)
    assert [turn.text for turn in Conversation.from_dict(written).turns] == [turn.text for turn in conversation.turns]
    predictions = ListeningClassifier.from_pretrained().predict_conversation(conversation)
    tagged = [turn for turn in written["turns"] if "scores" in turn]
    assert [turn["speaker"] for turn in tagged] == ["agent"] * len(predictions)
    assert [turn["labels"] for turn in tagged] == [list(prediction.labels) for prediction in predictions]
    assert [list(turn["scores"]) for turn in tagged] == [list(Label)] * len(predictions)
    assert tagged[0]["scores"] == pytest.approx(predictions[0].scores, abs=1e-4)


def test_jsonl_keeps_what_else_a_conversation_says_and_replaces_the_labels_it_had() -> None:
    turn = {"speaker": "agent", "text": "Mm-hm.", "labels": ["summary"]}
    given = {"id": "é1", "channel": "phone", "turns": [turn], "unlabelled": ["reflection"]}
    written = json.loads(run("predict", "--format", "jsonl", stdin=json.dumps(given)).stdout)
    assert written["turns"][0].pop("scores").keys() == set(Label)
    assert written == {"id": "é1", "channel": "phone", "turns": [{**turn, "labels": []}]}


def test_csv_has_a_row_for_each_agent_turn_and_a_column_for_each_label() -> None:
    rows = list(csv.DictReader(io.StringIO(run("predict", EXAMPLE, "--format", "csv").stdout)))
    assert list(rows[0]) == ["conversation", "turn", "start", "end", "text", "labels", *Label]
    assert len(rows) == 13
    assert (rows[1]["conversation"], rows[1]["turn"], rows[1]["start"], rows[1]["end"]) == (
        EXAMPLE,
        "2",
        "12.0",
        "16.4",
    )
    for row in rows:
        assert all(re.fullmatch(r"[01]\.\d{4}", row[label]) for label in Label)
        assert set(filter(None, row["labels"].split("|"))) <= set(Label)


@pytest.mark.parametrize("arguments", [["predict"], ["predict", "-"]])
def test_without_a_file_standard_input_is_read(arguments: list[str]) -> None:
    result = run(*arguments, "--format", "jsonl", stdin=HELLO)
    assert json.loads(result.stdout)["turns"][0]["labels"] == ["open_question"]


def test_agent_says_who_the_agent_is() -> None:
    calls = "speaker,text\nKim,It leaks.\nDana,What happened?\n"
    assert run("predict", stdin=calls).exit_code == 2
    result = run("predict", "--agent", "dana", "--format", "csv", stdin=calls)
    assert [row["text"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["What happened?"]


# Bad input


def test_the_first_bad_conversation_ends_the_run_after_what_was_written(ten_lines: str) -> None:
    result = run("predict", ten_lines, "--format", "jsonl")
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 6
    assert result.stderr == "Error: ten.jsonl, line 7: broken JSON at column 12 (Expecting value)\n"


def test_skip_bad_names_what_it_skips_and_goes_on(ten_lines: str) -> None:
    result = run("predict", "nowhere.vtt", ten_lines, "--format", "jsonl", "--skip-bad")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 9
    assert result.stderr.splitlines() == [
        "Skipped: nowhere.vtt: cannot be read (No such file or directory)",
        "Skipped: ten.jsonl, line 7: broken JSON at column 12 (Expecting value)",
        "2 skipped, 9 read.",
    ]


def test_skip_bad_fails_where_nothing_could_be_read() -> None:
    result = run("predict", "--skip-bad", stdin="")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "Skipped: standard input: the file is empty\n1 skipped, 0 read.\n"


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = run("predict", EXAMPLE, "--model", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]*nowhere[^\n]*\n", result.stderr)


# The rest


def test_labels_prints_the_codebook() -> None:
    result = run("labels")
    assert result.exit_code == 0
    printed = " ".join(result.stdout.split())
    for label in Label:
        definition = label.definition
        assert all(line in printed for line in (label, definition.meaning, *definition.yes, *definition.no))


def test_version_is_the_library_s() -> None:
    assert run("--version").stdout == f"listening-clf {__version__}\n"


def test_help_teaches_by_examples() -> None:
    assert "listening-clf predict call.vtt --agent Dana" in run("predict", "--help").stdout


def test_help_waits_for_nothing_heavy() -> None:
    heavy = {"onnxruntime", "tokenizers", "huggingface_hub", "webvtt", "numpy", "torch", "transformers"}
    code = f"import sys, listening_clf.cli; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("output_format", ["table", "jsonl", "csv"])
def test_a_reader_that_goes_away_ends_the_run_quietly(output_format: str, tmp_path: Path) -> None:
    calls = tmp_path / "calls.jsonl"
    calls.write_text(HELLO * 500, encoding="utf-8")
    arguments = [*RUN, "predict", str(calls), "--format", output_format]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "one.jsonl").write_text(HELLO)
    with full.open("w") as stdout:
        command = [*RUN, "predict", str(tmp_path / "one.jsonl"), "--format", "csv"]
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr == "Error: the results cannot be written (No space left on device)\n"


def test_a_closed_standard_input_is_one_sentence() -> None:
    command = f"{sys.executable} -c 'from listening_clf.cli import app; app()' predict <&-"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert result.returncode == 2
    assert "standard input is closed" in result.stderr
    assert "Traceback" not in result.stderr
