"""The HTML report of an evaluation: complete, self-contained, and safe with whatever was said in a call."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from listening_clf import Conversation, ListeningClassifier, TrainingError, Turn
from listening_clf.finetune.comparison import compare
from listening_clf.finetune.evaluation import Evaluation, evaluate
from listening_clf.finetune.report import report_html, write_report

HOSTILE = '<script>alert("1")</script> & \x00\x1b ]]>'


@pytest.fixture(scope="module")
def evaluation(bundled: ListeningClassifier, conversations: list[Conversation]) -> Evaluation:
    hostile = Conversation(
        (
            Turn("customer", f"customer says {HOSTILE}", start=61.0, end=62.5),
            Turn("agent", f"agent says {HOSTILE}", start=63.0, labels=("summary",)),
        ),
        id=f"id {HOSTILE}",
        meta={"channel": f"channel {HOSTILE}"},
    )
    return evaluate(bundled, [*conversations, hostile], model=f"model {HOSTILE}", data="authored", resamples=100)


@pytest.fixture(scope="module")
def html(evaluation: Evaluation) -> str:
    return report_html(evaluation, compare(evaluation, evaluation, resamples=100))


class _Page(HTMLParser):
    """What a browser would find: tags with their attributes, and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_file_needs_nothing_beside_itself(html: str) -> None:
    assert not re.search(r"https?:|//\w|@import|@font-face", html)
    page = _Page(html)
    assert page.open == []
    for name in ("script", "link", "img", "iframe", "object", "base", "form"):
        assert page.named(name) == []
    references = [value for _, it in page.tags for key, value in it.items() if key in ("href", "src", "xlink:href")]
    assert references
    assert all(str(reference).startswith("#") for reference in references)
    (policy,) = (it["content"] for it in page.named("meta") if it.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_what_was_said_is_text_and_never_markup(html: str) -> None:
    assert "<script" not in html
    for said in ("customer says", "agent says", "id", "channel", "model"):
        assert f"{said} &lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in html
    assert "\x00" not in html
    assert "\x1b" not in html


def test_ids_are_unique_and_what_they_are_referred_to_by_exists(html: str) -> None:
    page = _Page(html)
    ids = [it["id"] for _, it in page.tags if "id" in it]
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', html))
    assert referred <= set(ids)


def test_figures_and_tables_can_be_read_without_seeing_them(html: str, evaluation: Evaluation) -> None:
    page = _Page(html)
    figures = page.named("svg")
    assert len(figures) == 2 * len(evaluation.labels)
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)
    summary = evaluation.labels["summary"]
    described = [str(figure["aria-label"]) for figure in figures if "of summary:" in str(figure["aria-label"])]
    assert f"average precision {summary.average_precision.value:.3f}" in described[0]
    assert f"expected calibration error {summary.calibration_error:.3f}" in described[1]
    assert all(it.get("scope") in ("col", "row", "rowgroup") for it in page.named("th"))


def test_figures_take_the_colours_of_the_page(html: str) -> None:
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--accent)" in figures
    assert set(re.findall(r"#[0-9a-f]{6}", figures)) <= {"#000000"}  # black is matplotlib's word for "nothing set"


def test_the_worst_mistakes_stand_first_with_the_turns_before(html: str, evaluation: Evaluation) -> None:
    column = evaluation.scored.labels.index("summary")
    missed = html[html.index("<summary>summary") :]
    missed = missed[missed.index("Missed") : missed.index("</details>")]
    probabilities = [float(it) for it in re.findall(r"probability of summary: <b>([\d.]+)</b>", missed)]
    assert probabilities == sorted(probabilities)
    assert probabilities[0] == pytest.approx(
        min(evaluation.scored.probabilities[evaluation.scored.targets[:, column] == 1, column]), abs=0.005
    )
    assert missed.index("customer says") < missed.index("agent says")
    assert "1:01.0–1:02.5" in missed
    assert "annotators: summary" in missed


def test_long_texts_lose_their_middle(bundled: ListeningClassifier) -> None:
    turn = Turn("agent", "first " + "word " * 1000 + "last", labels=("interruption",))
    html = report_html(evaluate(bundled, [Conversation((turn,))], resamples=1))
    assert "[…]" in html
    assert "first word" in html
    assert "word last" in html
    assert "word " * 200 not in html


def test_data_that_leaves_figures_open_still_has_a_report(bundled: ListeningClassifier) -> None:
    turns = (Turn("agent", "Okay.", labels=()), Turn("agent", "I see.", labels=()))
    html = report_html(evaluate(bundled, [Conversation(turns, unlabelled=("summary",))], resamples=1))
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower()
    assert "No turn of the data has: paraphrase, reflection, open_question, interruption." in html
    assert "Nobody looked in the data for: summary." in html


def test_the_same_evaluation_writes_the_same_file(evaluation: Evaluation, tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, evaluation)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert "against" not in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_a_report_takes_the_place_of_an_older_one_whole(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("older")

    def full(*arguments: object, **settings: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(TrainingError, match=r"report\.html: No space left on device"):
            write_report(path, evaluation)
    assert path.read_text() == "older"
    write_report(path, evaluation)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"there is no folder .*nowhere"):
        write_report(tmp_path / "nowhere" / "report.html", evaluation)
    with pytest.raises(TrainingError, match="the report cannot be written to"):
        write_report(tmp_path, evaluation)


def test_labels_not_measured_are_said(evaluation: Evaluation) -> None:
    assert "does not know them: greeting." in report_html(replace(evaluation, not_measured=("greeting",)))
