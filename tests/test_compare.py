"""The table of systems: its figures, its rows that are kept, and the typos that a model is tried with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

pytest.importorskip("pooch")

from listening_clf import Conversation, TrainingError, Turn
from listening_clf.checkpoint import Calibration, Checkpoint
from listening_clf.finetune.data import LabelledTurn, labelled_turns
from listening_clf.hub import BUNDLED
from listening_clf.labels import Label
from training import compare, setfit
from training.compare import COLUMNS, EXPERT_LABELS, LABELS, OF, SIZE, SPEED, keep, measure, table
from training.systems import Decider, System, as_shipped, unquantized
from training.typos import with_typos

HALVES = Decider(dict.fromkeys(LABELS, Calibration()), dict.fromkeys(LABELS, 0.5))


def agent(*turns: tuple[str, Sequence[str]], unlabelled: Sequence[str] = ()) -> Conversation:
    """What an agent says, each turn after one of the customer, with its labels."""
    said = (turn for text, labels in turns for turn in (Turn("customer", "Well."), Turn("agent", text, labels=labels)))
    return Conversation(tuple(said), unlabelled=tuple(unlabelled))


def all_but(*known: str) -> list[str]:
    return [label for label in LABELS if label not in known]


def reads_the_words(turns: Sequence[LabelledTurn]) -> Any:
    """The logits of a system that gives the labels that the turn's text names."""
    return np.array([[3.0 if label in said[at].text else -3.0 for label in LABELS] for (said, at), _ in turns])


DEV = agent(
    ("paraphrase", ["paraphrase"]),
    ("reflection", ["reflection"]),
    ("open_question", ["open_question"]),
    ("summary", ["summary"]),
    ("interruption", ["interruption"]),
    ("nothing", ["paraphrase"]),
)
MEETINGS = agent(
    ("interruption paraphrase", ["interruption"]),
    ("interruption", []),
    ("nothing", []),
    unlabelled=all_but("interruption"),
)
INTERVIEWS = agent(
    ("summary", ["reflects"]),
    ("paraphrase and reflection", ["reflects"]),
    ("nothing", ["reflects"]),
    ("interruption", []),
    ("open_question", ["open_question"]),
    ("open_question", []),
)
CHATS = agent(
    ("paraphrase", ["paraphrase"]), ("reflection", []), ("open_question", ["open_question"]), ("no", ["reflection"])
)
CALLS = Conversation(
    (
        Turn("agent", "open_question", labels=(), unlabelled=("open_question",)),
        Turn("agent", "open_question", labels=("open_question",)),
        Turn("agent", "paraphrase", labels=("paraphrase",)),
        Turn("agent", "summary", labels=("paraphrase",)),
    ),
    unlabelled=tuple(all_but("open_question", "paraphrase")),
)
TEST = {
    "MRDA": labelled_turns([MEETINGS], LABELS),
    "AnnoMI": labelled_turns([INTERVIEWS], EXPERT_LABELS),
    "ESConv": labelled_turns([CHATS], LABELS),
    "Switchboard": labelled_turns([CALLS], LABELS),
}


def test_each_figure_is_of_its_own_data_and_of_what_is_known_there() -> None:
    system = System(reads_the_words, size=23_000_000, decider=HALVES, turns_per_second=450.0)
    row = measure(system, {"dev": labelled_turns([DEV], LABELS), **TEST})
    assert row == pytest.approx(
        {
            "dev: macro F1": (2 / 3 + 4) / 5,
            "dev: paraphrase": 2 / 3,
            **{f"dev: {label}": 1.0 for label in all_but("paraphrase")},
            "MRDA: interruption": 2 / 3,
            "MRDA: average precision": 1 / 2,
            "AnnoMI: reflects": 4 / 5,
            "AnnoMI: open_question": 2 / 3,
            "ESConv: macro F1": 2 / 3,
            "ESConv: paraphrase": 1.0,
            "ESConv: reflection": 0.0,
            "ESConv: open_question": 1.0,
            "Switchboard: paraphrase": 2 / 3,
            "Switchboard: open_question": 1.0,
            SIZE: 23.0,
            SPEED: 450.0,
        }
    )
    assert [*row] == [*COLUMNS, SIZE, SPEED]


def test_a_turn_reflects_where_any_of_the_three_labels_passes_its_own_threshold() -> None:
    thresholds = {**HALVES.thresholds, Label.PARAPHRASE: 0.99, Label.SUMMARY: 0.01}
    system = System(reads_the_words, size=0, decider=Decider(HALVES.calibration, thresholds), turns_per_second=1.0)
    turns = labelled_turns([agent(("paraphrase", ["reflects"]), ("reflection", ["reflects"]))], EXPERT_LABELS)
    everything_sums_up = measure(system, {"dev": labelled_turns([DEV], LABELS), "AnnoMI": turns})
    assert everything_sums_up["AnnoMI: reflects"] == 1
    thresholds[Label.SUMMARY] = 0.5
    row = measure(system, {"dev": labelled_turns([DEV], LABELS), "AnnoMI": turns})
    assert row["AnnoMI: reflects"] == pytest.approx(2 / 3)


def test_what_has_no_thresholds_of_its_own_gets_some_on_dev() -> None:
    shifted = System(lambda turns: reads_the_words(turns) - 7, size=0, turns_per_second=1.0)
    row = measure(shifted, {"dev": labelled_turns([DEV], LABELS), "ESConv": TEST["ESConv"]})
    assert row["dev: macro F1"] > 0.9
    assert row["ESConv: open_question"] == 1


def test_the_speed_of_a_system_is_measured_unless_it_is_known() -> None:
    calls = []

    def logits(turns: Sequence[LabelledTurn]) -> Any:
        calls.append(len(turns))
        return reads_the_words(turns)

    row = measure(System(logits, size=0, decider=HALVES), {"dev": labelled_turns([DEV] * 200, LABELS)})
    assert calls == [1200, 500, 500, 500]
    assert row[SPEED] > 0


def test_a_row_is_added_to_as_long_as_the_weights_are_the_same(tmp_path: Path) -> None:
    output = tmp_path / "compare.json"
    keep("small", {"dev: summary": 0.8, "MRDA: interruption": 0.2, OF: "one"}, output)
    assert keep("small", {"dev: summary": 0.9, OF: "one"}, output)["small"] == {
        "dev: summary": 0.9,
        "MRDA: interruption": 0.2,
        OF: "one",
    }
    assert keep("small", {"dev: summary": 0.7, OF: "other"}, output)["small"] == {"dev: summary": 0.7, OF: "other"}


def test_rows_are_kept_replaced_and_shown_in_one_order(tmp_path: Path) -> None:
    output = tmp_path / "compare.json"
    keep("runs/teacher", {"dev: paraphrase": 0.8, SIZE: 438.2, SPEED: 61.4}, output)
    keep("small --float32", {SIZE: 91.0, SPEED: 150.0}, output)
    keep("my/model", {SIZE: 5.0, SPEED: 1234.5}, output)
    keep("small", {"dev: paraphrase": 0.1, SIZE: 1.0, SPEED: 1.0}, output)
    keep("setfit", {SIZE: 91.8, SPEED: 200.0}, output)
    rows = keep("small", {"dev: paraphrase": 0.75, "dev: macro F1": 0.8, SIZE: 23.4, SPEED: 450.0}, output)
    assert rows == json.loads(output.read_text("utf-8"))
    assert [path.name for path in tmp_path.iterdir()] == ["compare.json"]
    head, _, *lines = (line.strip("| ").split(" | ") for line in table(rows).splitlines())
    assert head == ["system", *COLUMNS, SIZE, SPEED]
    assert [line[0] for line in lines] == ["SetFit", "small", "small, float32", "runs/teacher", "my/model"]
    assert lines[1] == ["small", "0.800", "0.750", *["–"] * (len(COLUMNS) - 2), "23", "450"]
    assert lines[4][-1] == "1,234"


@pytest.fixture
def corpora(monkeypatch: pytest.MonkeyPatch, conversations: list[Conversation]) -> None:
    """Authored conversations for the corpora's, and made-up ones for the test splits."""
    monkeypatch.setattr(compare, "load_split", lambda split: conversations)
    monkeypatch.setattr(compare, "load_mrda", {"test": [MEETINGS]}.__getitem__)
    monkeypatch.setattr(compare, "load_annomi_experts", lambda: [INTERVIEWS])
    monkeypatch.setattr(compare, "load_esconv", lambda: [CHATS])
    monkeypatch.setattr(compare, "load_switchboard", lambda: [CALLS])


@pytest.mark.usefixtures("corpora")
def test_a_call_adds_its_row_to_those_of_earlier_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "runs" / "compare.json"
    compare.main("tiny", test=True, output=output)
    for unused in ("load_mrda", "load_annomi_experts", "load_esconv", "load_switchboard"):
        monkeypatch.delattr(compare, unused)  # test data are not even read without --test
    compare.main("tfidf", output=output)
    rows = json.loads(output.read_text("utf-8"))
    assert [*rows] == ["tiny", "tfidf"]
    assert [*rows["tiny"]] == [*COLUMNS, SIZE, SPEED, OF]
    assert [*rows["tfidf"]] == [name for name, column in COLUMNS.items() if column.data == "dev"] + [SIZE, SPEED, OF]
    assert capsys.readouterr().out.endswith(table(rows) + "\n")


def test_a_baseline_has_no_other_precision(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="are for models, one at a time"):
        compare.main("tfidf", float32=True, torch=False, output=tmp_path / "compare.json")


@pytest.mark.filterwarnings("ignore")
def test_a_model_without_quantization_is_larger_and_answers_much_the_same(conversations: list[Conversation]) -> None:
    checkpoint = Checkpoint.open(BUNDLED / "tiny")
    turns = labelled_turns(conversations[:4], LABELS)
    shipped = as_shipped(checkpoint)
    with unquantized(checkpoint) as exact:
        assert exact.decider is None
        assert exact.size > 2 * shipped.size
        assert np.abs(exact.logits(turns) - shipped.logits(turns)).mean() < 0.3


@pytest.fixture
def setfit_runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many turns each run of SetFit learned from and predicted. It finds every label as likely as its place."""
    runs = []

    def run(python: Path, train: list[Any], test: list[Any], *options: str) -> dict[str, Any]:
        runs.append((len(train), len(test)))
        assert options == ("--timed", "2")
        probabilities = [[0.0, 0.25, 0.5, 0.75, 1.0] for _ in test]
        return {"probabilities": probabilities, "bytes": 92_000_000, "turns_per_second": 180.0, "seconds": 600.0}

    monkeypatch.setattr(setfit, "run", run)
    return runs


def test_setfit_is_trained_once_for_the_same_turns(setfit_runs: list[tuple[int, int]], tmp_path: Path) -> None:
    cache, python = tmp_path / "setfit.json", Path("python")
    dev = labelled_turns([DEV], LABELS)
    train = [*dev, *TEST["MRDA"]]
    with pytest.raises(TrainingError, match="--setfit-python"):
        setfit.setfit(None, train, dev, dev[:2], cache)
    setfit.setfit(python, train, dev, dev[:2], cache)
    system = setfit.setfit(None, train, dev[:3], dev[:2], cache)
    assert setfit_runs == [(6, 8)], "MRDA's turns, of which SetFit cannot leave labels open, are left out"
    assert (system.size, system.turns_per_second) == (92_000_000, 180.0)
    logits = system.logits(dev)
    assert logits.shape == (6, 5)
    assert logits[0, 1:4] == pytest.approx([-np.log(3), 0, np.log(3)])
    assert np.isfinite(logits).all()

    setfit.setfit(python, train, [*dev, *TEST["ESConv"]], dev[:2], cache)
    setfit.setfit(python, dev[:4], dev, dev[:2], cache)
    assert setfit_runs[1:] == [(6, 12), (4, 8)]
    kept = json.loads(cache.read_text("utf-8"))
    assert "open_question" not in "".join(kept["probabilities"]), "no words of the turns are kept"


def test_about_every_tenth_word_gets_a_typo_always_the_same(conversations: list[Conversation]) -> None:
    mistyped = list(with_typos(conversations, np.random.default_rng(0)))
    assert mistyped == list(with_typos(conversations, np.random.default_rng(0)))
    assert mistyped != list(with_typos(conversations, np.random.default_rng(1)))
    turns = [
        (old, new)
        for was, is_ in zip(conversations, mistyped, strict=True)
        for old, new in zip(was.turns, is_.turns, strict=True)
    ]
    assert all((old.speaker, old.labels) == (new.speaker, new.labels) for old, new in turns)
    words = [(a, b) for old, new in turns for a, b in zip(old.text.split(), new.text.split(), strict=True)]
    changed = [(a, b) for a, b in words if a != b]
    assert 0.08 < len(changed) / len(words) < 0.11
    assert all(abs(len(a) - len(b)) <= 1 for a, b in changed)
    assert {len(b) - len(a) for a, b in changed} == {-1, 0, 1}
    for speaker in ("agent", "customer"):
        assert any(old.text != new.text for old, new in turns if old.speaker == speaker)


def test_a_typo_leaves_something_of_the_shortest_words() -> None:
    short = Conversation((Turn("customer", "Ok"), Turn("agent", "I"), Turn("agent", "–"), Turn("agent", "42 ms")))
    for seed in range(200):
        (mistyped,) = with_typos([short], np.random.default_rng(seed))
        assert [turn.text for turn in mistyped.turns[1:3]] == ["I", "–"]
        assert mistyped.turns[3].text.startswith("42 ")
        assert 1 <= len(mistyped.turns[0].text) <= 3
