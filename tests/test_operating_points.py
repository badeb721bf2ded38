"""Other thresholds than those with the best F1: what dev says of them, where it is kept, and how one is chosen."""

import json
import math
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from listening_clf import CheckpointError, ListeningClassifier, ThresholdError
from listening_clf.checkpoint import MANIFEST, Manifest, read_manifest, write_manifest
from listening_clf.cli import app
from listening_clf.finetune.calibrate import operating_points
from listening_clf.hub import BUNDLED
from listening_clf.operating_points import OperatingPoint, best_point
from tests.conftest import ROOT

LABELS = ("paraphrase", "reflection", "open_question", "summary", "interruption")
EXAMPLE = str(ROOT / "examples" / "call.vtt")

POINTS = (OperatingPoint(0.1, 0.6, 0.95), OperatingPoint(0.4, 0.85, 0.7), OperatingPoint(0.9, 0.9523, 0.2))
"""Of every label of the model below but the summary, which no turn of its dev data has."""

AS_JSON = [point._asdict() for point in POINTS]


def of_every_label(value: object) -> dict[str, Any]:
    return dict.fromkeys(LABELS, value)


# what dev says


def column(values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def confusion(scores: np.ndarray, targets: np.ndarray, threshold: float) -> tuple[Fraction, Fraction]:
    """Precision and recall of `scores >= threshold`, exactly."""
    known = ~np.isnan(targets)
    flagged = known & (scores >= threshold)
    right = int((flagged & (targets == 1)).sum())
    return Fraction(right, int(flagged.sum())), Fraction(right, int((targets == 1).sum()))


@pytest.mark.parametrize("seed", range(40))
def test_of_all_thresholds_the_best_one_is_chosen_for_every_whole_percent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = int(rng.integers(3, 300))
    targets = (rng.random(turns) < rng.choice([0.05, 0.3, 0.7])).astype(np.float32)
    targets[0] = 1
    scores = 1 / (1 + np.exp(-rng.normal(rng.choice([0, 1, 6]) * targets, 2))).astype(np.float32)
    scores = scores.round(int(rng.choice([1, 2, 7])))  # many ties, some, or none
    targets[1:][rng.random(turns - 1) < 0.2] = math.nan

    points = operating_points(column(scores), column(targets), ["summary"])["summary"]
    every = [confusion(scores, targets, cut) for cut in np.unique(scores[~np.isnan(targets)])]
    for percent in range(1, 101):
        reached = [recall for precision, recall in every if precision >= Fraction(percent, 100)]
        found = best_point(points, percent / 100)
        if not reached:
            assert found is None
            continue
        assert found is not None
        precision, recall = confusion(scores, targets, found.threshold)
        assert precision >= Fraction(percent, 100)
        assert recall == max(reached)

    for point in points:
        precision, recall = confusion(scores, targets, point.threshold)
        assert point.precision == math.floor(10_000 * precision) / 10_000
        assert point.recall == pytest.approx(float(recall), abs=1e-4)
        assert not any(p >= precision and r >= recall and (p, r) != (precision, recall) for p, r in every)
    highest = max(precision for precision, _ in every)
    assert confusion(scores, targets, points[-1].threshold)[0] == highest
    assert len(points) <= 101


def test_the_points_of_a_few_turns_are_those_worked_out_by_hand() -> None:
    scores = [0.9, 0.8, 0.7, 0.7, 0.4, 0.4, 0.2, 0.95]
    targets = [1, 1, 0, 1, 0, 1, 0, math.nan]
    assert operating_points(column(scores), column(targets), ["summary"])["summary"] == (
        OperatingPoint(0.3, 0.6666, 1.0),
        OperatingPoint(0.55, 0.75, 0.75),
        OperatingPoint(0.75, 1.0, 0.5),
    )


def test_two_scores_that_float32_has_nothing_between_are_told_apart() -> None:
    for low in np.arange(0.3, 0.3 + 1e-5, 1e-7, dtype=np.float32):
        scores = np.array([[low], [np.nextafter(low, np.float32(1))], [0.9]], dtype=np.float32)
        point = operating_points(scores, np.array([[0.0], [1.0], [1.0]]), ["summary"])["summary"][0]
        assert (scores[:, 0] >= point.threshold).tolist() == [False, True, True]
        assert (point.precision, point.recall) == (1.0, 1.0)


def test_a_threshold_has_as_many_digits_as_it_takes_to_part_two_turns() -> None:
    scores = np.array([[0.9999901], [0.9999909], [0.999]])
    (point,) = operating_points(scores, np.array([[0.0], [1.0], [0.0]]), ["summary"])["summary"]
    assert point == OperatingPoint(0.9999905, 1.0, 1.0)


def test_a_label_that_no_known_turn_has_has_no_points() -> None:
    targets = np.array([[0.0, math.nan, 1.0], [math.nan, math.nan, 0.0]])
    points = operating_points(np.full((2, 3), 0.5), targets, ["a", "b", "c"])
    assert (points["a"], points["b"], len(points["c"])) == ((), (), 1)


# the manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled `tiny` with operating points."""
    return tiny(tmp_path_factory.mktemp("folder"), operating_points=of_every_label(AS_JSON) | {"summary": []})


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with operating points of the summary, too."""
    return tiny(tmp_path_factory.mktemp("complete"), operating_points=of_every_label(AS_JSON))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an older version of this library wrote it."""
    return tiny(tmp_path_factory.mktemp("older"))


def tiny(parent: Path, **entries: Any) -> Path:
    """A copy of the bundled `tiny` with other operating points, or none."""
    folder = Path(shutil.copytree(BUNDLED / "tiny", parent / "model"))
    text = json.dumps(manifest_with(**entries), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder


def manifest_with(**entries: Any) -> dict[str, Any]:
    """The manifest of `tiny` with other entries; with operating points only where they are given."""
    manifest = json.loads((BUNDLED / "tiny" / MANIFEST).read_text(encoding="utf-8"))
    manifest.pop("operating_points", None)
    return manifest | entries


def test_a_saved_model_has_the_same_operating_points_a_line_each(folder: Path, tmp_path: Path) -> None:
    ListeningClassifier.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    manifest = read_manifest(tmp_path / "copy")
    assert manifest == read_manifest(folder)
    assert manifest.operating_points == {label: () if label == "summary" else POINTS for label in LABELS}
    lines = (tmp_path / "copy" / MANIFEST).read_text(encoding="utf-8").splitlines()
    assert lines.count('      {"threshold": 0.4, "precision": 0.85, "recall": 0.7},') == 4


def test_a_line_for_each_point_changes_no_name(tmp_path: Path) -> None:
    names = ("threshold", "precision", "recall", 'a  {\n"threshold": 1,')
    data = manifest_with(
        labels=list(names),
        thresholds=dict.fromkeys(names, 0.5),
        calibration={name: {"scale": 1.0, "bias": 0.0} for name in names},
        operating_points={name: [{"threshold": 1e-07, "precision": 1.0, "recall": 1.0}] for name in names},
        files={},
    )
    write_manifest(tmp_path, Manifest.from_dict(data))
    assert read_manifest(tmp_path).to_dict() == data


def test_an_older_checkpoint_is_loaded_and_written_as_it_was(older: Path, tmp_path: Path) -> None:
    classifier = ListeningClassifier.from_pretrained(older)
    classifier.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / MANIFEST).read_bytes() == (older / MANIFEST).read_bytes()


@pytest.mark.parametrize(
    "points",
    [
        [],
        {},
        {"summary": []},
        of_every_label(0.5),
        of_every_label([0.5]),
        of_every_label([{"threshold": 0.5, "precision": 0.5}]),
        of_every_label([{"threshold": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5}]),
        of_every_label([{"threshold": 0.5, "precision": 1.5, "recall": 0.5}]),
        of_every_label([{"threshold": 0.5, "precision": math.nan, "recall": 0.5}]),
        of_every_label([{"threshold": "0.5", "precision": 0.5, "recall": 0.5}]),
    ],
)
def test_operating_points_that_are_none_are_refused(points: object) -> None:
    with pytest.raises(CheckpointError, match=f"{MANIFEST} is malformed"):
        Manifest.from_dict(manifest_with(operating_points=points))


# the classifier

WITHOUT_SUMMARY = tuple(label for label in LABELS if label != "summary")


@pytest.mark.parametrize(
    ("min_precision", "chosen"),
    [
        (dict.fromkeys(WITHOUT_SUMMARY, 0.8), dict.fromkeys(WITHOUT_SUMMARY, 0.4)),
        ({"paraphrase": 0.85, "reflection": 0.8501}, {"paraphrase": 0.4, "reflection": 0.9}),
        ({"interruption": 0.3}, {"interruption": 0.1}),  # far less than it has by its own threshold
        ({"interruption": 0.9523}, {"interruption": 0.9}),
        ({}, {}),
        (None, {}),
    ],
)
def test_the_threshold_is_the_one_with_the_most_recall_at_that_precision(
    folder: Path, min_precision: Any, chosen: Mapping[str, float]
) -> None:
    own = read_manifest(folder).thresholds
    classifier = ListeningClassifier.from_pretrained(folder, min_precision=min_precision)
    assert classifier.thresholds == {**own, **chosen}


def test_one_number_counts_for_all_labels_and_predictions_follow(complete: Path, tmp_path: Path) -> None:
    texts = ["What happened?", "That must be upsetting.", "Okay.", "So you were charged twice."]
    for precision, threshold in ((0.5, 0.1), (0.95, 0.9), (1e-9, 0.1)):
        classifier = ListeningClassifier.from_pretrained(complete, min_precision=precision)
        assert classifier.thresholds == dict.fromkeys(LABELS, threshold)
        predictions = classifier.predict(texts)
        for prediction in predictions:
            assert prediction.labels == tuple(label for label in LABELS if prediction.scores[label] >= threshold)
        classifier.save_pretrained(tmp_path / "copy")
        saved = ListeningClassifier.from_pretrained(tmp_path / "copy")
        assert saved.predict(texts) == predictions
        assert read_manifest(tmp_path / "copy").operating_points == read_manifest(complete).operating_points


def problem(folder: Path, min_precision: Any) -> str:
    with pytest.raises(ThresholdError) as caught:
        ListeningClassifier.from_pretrained(folder, min_precision=min_precision)
    return str(caught.value).removeprefix(f"{folder}: ")


@pytest.mark.parametrize("value", [0, -0.1, 1.01, 90, math.nan, "0.9", None])
def test_what_is_no_precision_is_refused(folder: Path, value: object) -> None:
    expected = f"min_precision must be a number above 0 and at most 1, such as 0.9 for 90 %, not {value!r}"
    assert problem(folder, {"paraphrase": value}) == expected
    if value is not None:
        assert problem(folder, value) == expected


def test_an_unknown_label_is_named_with_those_there_are(folder: Path) -> None:
    assert problem(folder, {"paraphrase": 0.8, "sumary": 0.9}) == (
        "min_precision names the unknown label 'sumary': expected of " + ", ".join(LABELS)
    )


def test_a_precision_that_was_not_reached_is_named_with_the_highest(folder: Path) -> None:
    assert problem(folder, {"reflection": 0.96}) == (
        "no threshold of 'reflection' has a precision of 0.96 on dev, where the highest is 0.9523: ask for at most "
        "that, or give min_precision for other labels only"
    )
    assert problem(folder, 0.8) == (
        "no precision of 'summary' is known, since no turn of dev has it: give min_precision for other labels only"
    )


def test_a_model_without_operating_points_says_what_to_do(older: Path) -> None:
    assert problem(older, 0.9) == (
        "the model has no operating points, since it was made by an older listening_clf: train it anew, or compare "
        "Prediction.scores with thresholds of your own"
    )
    assert ListeningClassifier.from_pretrained(older, min_precision={}).thresholds


# the command line


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def tagged(*arguments: str) -> list[dict[str, Any]]:
    result = run("predict", EXAMPLE, "--format", "jsonl", *arguments)
    assert result.exit_code == 0, result.stderr
    return [turn for turn in json.loads(result.stdout)["turns"] if "scores" in turn]


def test_predict_takes_the_thresholds_of_the_labels_that_are_named(folder: Path) -> None:
    arguments = ("--model", str(folder), "--min-precision", "paraphrase=0.9", "--min-precision", "reflection=0.5")
    thresholds = dict(read_manifest(folder).thresholds) | {"paraphrase": 0.9, "reflection": 0.1}
    turns = tagged(*arguments)
    assert [turn["labels"] for turn in turns] != [turn["labels"] for turn in tagged("--model", str(folder))]
    for turn in turns:
        assert turn["labels"] == [label for label in LABELS if turn["scores"][label] >= thresholds[label]]


def test_evaluate_measures_at_these_thresholds(complete: Path, tmp_path: Path) -> None:
    turns = [
        {"speaker": "agent", "text": text, "labels": labels}
        for text, labels in (("What happened then?", ["open_question"]), ("Okay.", []), ("Why is that?", []))
    ]
    data = tmp_path / "calls.jsonl"
    data.write_text(json.dumps({"turns": turns}) + "\n", encoding="utf-8")
    recalls = []
    for number, threshold in (("0.9", 0.9), ("0.5", 0.1)):
        models = (str(complete), "--against", str(complete))
        result = run("evaluate", *models, str(data), "--json", "--min-precision", number)
        figures = json.loads(result.stdout)
        assert [it["threshold"] for it in figures["evaluation"]["labels"].values()] == [threshold] * 5
        assert figures["comparison"]["macro_f1"]["difference"]["value"] == 0  # both by the same thresholds
        recalls.append(figures["evaluation"]["micro"]["recall"]["value"])
    assert recalls == sorted(recalls)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["high"], "expected a number such as 0.9, or LABEL=0.9, not 'high'"),
        (["paraphrase=high"], "expected a number such as 0.9, or LABEL=0.9, not 'high'"),
        (["0.9", "0.8"], "give one number for all labels, or LABEL=NUMBER once for each of some"),
        (["0.9", "paraphrase=0.8"], "give one number for all labels, or LABEL=NUMBER once for each of some"),
        (["paraphrase=0.8", "paraphrase=0.9"], "give one number for all labels, or LABEL=NUMBER once for each of some"),
        (["90"], "Error: tiny: min_precision must be a number above 0 and at most 1, such as 0.9 for 90 %, not 90.0"),
        (["sumary=0.9"], "Error: tiny: min_precision names the unknown label 'sumary'"),
    ],
)
def test_a_min_precision_that_is_none_is_one_sentence(values: list[str], problem: str) -> None:
    options = [part for value in values for part in ("--min-precision", value)]
    result = run("predict", EXAMPLE, "--model", "tiny", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert problem in result.stderr
