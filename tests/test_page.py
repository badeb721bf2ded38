"""The page at `/`, as people use it: in a browser, with the service behind it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from listening_clf import Conversation, Label, ListeningClassifier, transcripts
from tests.conftest import ROOT

pytest.importorskip("fastapi")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium", allow_module_level=True)

from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect, sync_playwright  # noqa: E402

from tests.page_contrast import MEASURE  # noqa: E402
from tests.serving import Service, running_service  # noqa: E402

EXAMPLE = ROOT / "examples" / "call.vtt"
KEY = "an-api-key-of-enough-length"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHORT = [
    ("agent", "Hello, how can I help you today?", 0.5, 2.5),
    ("customer", "There are two charges on my card, and when I rang they just said that -", 3.0, 7.0),
    ("agent", "What is your order number?", 6.2, 7.5),
    ("customer", "It is 7 3 0 9.", 8.0, 9.0),
    ("agent", "So you were charged twice for the same order.", 9.4, 12.0),
]


def jsonl(turns: list[tuple[str, str, float, float]] = SHORT, name: str = "short") -> str:
    told = [{"speaker": who, "text": text, "start": start, "end": end} for who, text, start, end in turns]
    return json.dumps({"id": name, "turns": told}) + "\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[Service]:
    """A service of two models that wants a key."""
    with running_service("--model", "tiny", "--model", "small", environment={"LISTENING_CLF_API_KEYS": KEY}) as running:
        yield running


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page of a service. Nothing on it may fail, break the policy, or ask another host."""
    contexts, wrong = [], []

    def opened(service: Service, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("request", lambda it: it.url.startswith((service.url, "blob:", "data:")) or wrong.append(it.url))
        page.on("websocket", lambda it: it.url.startswith(service.live_url) or wrong.append(it.url))
        page.goto(service.url)
        page.locator("#meanings:visible, #problem p").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    # That an answer was an error, the browser itself writes down: the page cannot keep it from that.
    assert [it for it in wrong if not it.startswith(("Failed to load resource", "WebSocket "))] == []


@pytest.fixture
def page(open_page: Callable[..., Page], service: Service) -> Page:
    return open_page(service)


def paste(page: Page, text: str) -> None:
    page.get_by_label("Paste it here").fill(text)
    page.get_by_role("button", name="Show the labels").click()


def labels_by_turn(page: Page) -> list[list[str]]:
    """The labels on the agent turns, as they are read."""
    return [
        [label.replace(" ", "_") for label in tags.locator(".chip").all_inner_texts() if label != "no label"]
        for tags in page.locator(".tags").all()
    ]


def counts(page: Page) -> dict[str, int]:
    """What the summary bar says of each label."""
    tiles = page.locator(".tile").all()
    return {it.locator(".name").inner_text(): int(it.locator("b").inner_text()) for it in tiles}


def tile(page: Page, label: str) -> Locator:
    return page.get_by_role("button", name=re.compile(f"^{label} ?\\d"))


def is_live(page: Page, state: str) -> None:
    expect(page.locator("#live-state")).to_have_attribute("data-state", state, timeout=30_000)


@pytest.fixture(scope="module")
def call() -> Conversation:
    (read,) = transcripts.read(EXAMPLE)
    return read


# What goes in


def test_a_pasted_call_is_shown_turn_by_turn_with_the_labels_that_the_library_gives(
    page: Page, bundled: ListeningClassifier, call: Conversation
) -> None:
    paste(page, EXAMPLE.read_text())
    expect(page.locator(".turn")).to_have_count(len(call.turns))
    predictions = bundled.predict_conversation(call)
    assert labels_by_turn(page) == [list(prediction.labels) for prediction in predictions]
    turn = page.locator(".turn").nth(1)
    expect(turn).to_contain_text("Customer")
    expect(turn).to_contain_text("0:05")
    expect(turn).to_contain_text(call.turns[1].text)


def test_the_example_shows_every_label(page: Page) -> None:
    page.get_by_role("button", name="Try the example").click()
    expect(page.locator(".turn")).not_to_have_count(0)
    assert {label for labels in labels_by_turn(page) for label in labels} == set(Label)


def test_a_chosen_file_is_read_at_once(page: Page) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(EXAMPLE)
    expect(page.get_by_role("heading", name="call.vtt")).to_be_visible()


def test_a_file_may_be_dropped_anywhere_and_the_page_shows_that_it_can_be(page: Page) -> None:
    carried = page.evaluate_handle(
        "(text) => { const it = new DataTransfer(); it.items.add(new File([text], 'dropped.jsonl')); return it; }",
        jsonl(),
    )
    page.dispatch_event("footer", "dragover", {"dataTransfer": carried})
    expect(page.get_by_text("Drop the call to see its labels")).to_be_visible()
    page.dispatch_event("footer", "dragleave", {"dataTransfer": carried})
    expect(page.get_by_text("Drop the call to see its labels")).to_be_hidden()
    page.dispatch_event("footer", "dragover", {"dataTransfer": carried})
    page.dispatch_event("footer", "drop", {"dataTransfer": carried})
    expect(page.get_by_role("heading", name="dropped.jsonl")).to_be_visible()
    expect(page.get_by_text("Drop the call to see its labels")).to_be_hidden()


def test_a_file_is_sent_as_its_bytes_are(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "latin.csv"
    file.write_bytes("speaker,text\nagent,Schöne Grüße\n".encode("latin-1"))
    page.locator("#file").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text("UTF-8")


def test_it_asks_who_the_agent_is_where_the_call_does_not_say(page: Page) -> None:
    named = EXAMPLE.read_text().replace("<v Agent>", "<v Nadia>").replace("<v Customer>", "<v Ms Webb>")
    paste(page, named)
    expect(page.get_by_role("alert")).to_contain_text("Who is the agent?")
    page.get_by_role("group", name="Who is the agent?").get_by_role("button", name="Nadia").click()
    expect(page.locator(".turn").first).to_contain_text("Agent")
    expect(page.locator("#facts")).to_contain_text("the agent is Nadia")
    page.get_by_role("button", name="Change who is the agent").click()
    page.get_by_role("button", name="Ms Webb").click()
    expect(page.locator(".turn").first).to_contain_text("Customer")


def test_an_error_is_told_beside_the_input_and_nothing_is_lost(page: Page) -> None:
    broken = "speaker,text\nagent,Hello.\nagent\n"
    paste(page, broken)
    field = page.get_by_label("Paste it here")
    expect(page.get_by_role("alert")).to_contain_text("line 3")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value(broken)
    page.get_by_role("button", name="Go to line 3").click()
    assert page.evaluate("() => getSelection().toString()") == "agent"
    paste(page, "speaker,text\nagent,Hello.\n")
    expect(page.locator(".turn")).to_have_count(1)


def test_it_says_when_nothing_was_put_in_or_the_service_is_gone(page: Page) -> None:
    page.get_by_role("button", name="Show the labels").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing to read yet")
    page.context.set_offline(True)
    paste(page, jsonl())
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.get_by_label("Paste it here")).to_have_value(jsonl())


def test_a_service_that_is_busy_is_asked_again(page: Page) -> None:
    answers = iter([503, 200])

    def answer(route: Any) -> None:
        if next(answers) == 200:
            route.continue_()
            return
        problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "turns wait"}
        route.fulfill(status=503, headers={"Retry-After": "1"}, json=problem)

    page.route("**/v1/transcripts?*", answer)
    paste(page, jsonl())
    expect(page.locator("#reading")).to_contain_text("busy")
    expect(page.locator(".turn")).to_have_count(len(SHORT))


def test_several_conversations_are_shown_together_and_one_by_one(page: Page) -> None:
    paste(page, jsonl(name="first") + jsonl(SHORT[:2], name="second"))
    expect(page.locator(".turn")).to_have_count(7)
    together = counts(page)
    page.get_by_label("Conversation").select_option(label="second (2 turns)")
    expect(page.locator(".turn")).to_have_count(2)
    second = counts(page)
    page.get_by_label("Conversation").select_option(label="first (5 turns)")
    expect(page.locator(".turn")).to_have_count(5)
    assert together == {label: count + second[label] for label, count in counts(page).items()}


# What comes out


def test_the_summary_counts_labels_and_says_their_rate(page: Page, call: Conversation) -> None:
    paste(page, EXAMPLE.read_text())
    agents = len(call.agent_turns)
    expect(page.locator("#sides")).to_contain_text(f"{agents} agent turns, {len(call.turns) - agents} customer turns")
    given = labels_by_turn(page)
    for label in Label:
        count = sum(label in labels for labels in given)
        rate = f"{count} · {100 * count / agents:.0f} %"
        expect(tile(page, label.replace("_", " "))).to_contain_text(rate)
    assert counts(page)["no label"] == sum(not labels for labels in given)


def test_filters_pick_out_the_turns_with_any_of_the_labels(page: Page) -> None:
    paste(page, EXAMPLE.read_text())
    expect(page.locator(".turn")).not_to_have_count(0)
    given = labels_by_turn(page)
    picked_out = page.locator(".turn.agent:not(.other)")
    tile(page, "interruption").click()
    expect(tile(page, "interruption")).to_have_attribute("aria-pressed", "true")
    expect(picked_out).to_have_count(sum("interruption" in labels for labels in given))
    tile(page, "no label").click()
    expect(picked_out).to_have_count(sum("interruption" in labels or not labels for labels in given))
    tile(page, "interruption").click()
    page.get_by_label("Hide the others").check()
    seen = page.locator(".turn.agent:visible")
    assert sum("no label" in text for text in seen.all_inner_texts()) == sum(not labels for labels in given)
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".turn:visible")).to_have_count(page.locator(".turn").count())


def test_probabilities_are_shown_on_hover_and_on_focus_and_told_to_screen_readers(page: Page) -> None:
    paste(page, jsonl())
    tags, scores = page.locator(".tags").last, page.locator("#scores")
    expect(scores).to_be_hidden()
    tags.hover()
    expect(scores).to_be_visible()
    assert re.search(r"paraphrase\s+\d+ %\s+reflection\s+\d+ %\s+open question\s+\d+ %", scores.inner_text())
    page.mouse.move(0, 0)
    expect(scores).to_be_hidden()
    tags.focus()
    expect(scores).to_be_visible()
    page.keyboard.press("Escape")
    expect(scores).to_be_hidden()
    told = page.locator(f"#{tags.get_attribute('aria-describedby')}").text_content()
    assert told
    assert re.fullmatch(r"(paraphrase|.*, paraphrase) \d+ %.*interruption \d+ %", told)


def test_words_of_a_call_are_never_run(page: Page) -> None:
    attack = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    turns = [("agent", attack, 0.0, 1.0), ("customer", attack, 1.0, 2.0)]
    paste(page, jsonl(turns, name=attack) + jsonl(turns, name=attack))
    expect(page.locator(".turn").first).to_contain_text(attack)
    assert page.locator("#result img, #result script").count() == 0
    assert page.title() != "run"


def test_two_thousand_turns_stay_quick(page: Page) -> None:
    turns = [("customer" if i % 20 else "agent", f"{SHORT[4][1]} {i}", i, i + 1) for i in range(2000)]
    with page.expect_response("**/v1/transcripts?*", timeout=60_000) as answer:
        paste(page, jsonl(turns))
    answer.value.finished()
    begun = time.perf_counter()
    expect(page.locator(".turn")).to_have_count(2000)
    tile(page, "paraphrase").click()
    expect(page.locator("#filter-note")).to_contain_text("of 100 agent turns")
    assert time.perf_counter() - begun < 5


# Live


def test_a_live_call_ends_with_the_same_labels_and_totals_as_at_once(page: Page) -> None:
    paste(page, jsonl())
    expect(page.locator(".turn")).to_have_count(5)
    at_once = labels_by_turn(page), counts(page)
    page.get_by_role("button", name="Play it live").click()
    page.get_by_role("radio", name="8×").check()
    is_live(page, "ended")
    assert (labels_by_turn(page), counts(page)) == at_once
    expect(page.get_by_role("status").last).to_contain_text("The call is over. 3 agent turns")


def test_a_live_call_can_be_paused_stepped_and_stopped(page: Page) -> None:
    page.get_by_role("button", name="Try the example").click()
    page.get_by_role("button", name="Play it live").click()
    page.get_by_role("button", name="Pause").click()
    is_live(page, "paused")
    clock = page.locator("#clock").inner_text()
    page.get_by_role("button", name="Next turn").click()
    expect(page.locator(".turn:not(.partial)")).to_have_count(1)
    expect(page.locator(".tags .chip").first).to_have_text("open question")
    expect(page.locator("#sides")).to_contain_text("1 agent turn, 0 customer turns")
    assert page.locator("#clock").inner_text() != clock
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#player")).to_be_hidden()
    expect(page.locator(".turn")).to_have_count(17)


def test_turns_grow_word_by_word(page: Page) -> None:
    paste(page, jsonl())
    page.get_by_role("button", name="Play it live").click()
    expect(page.locator(".turn.partial").first).to_be_visible()
    said = page.locator(".turn .bubble").first.locator("p").last.inner_text()
    assert SHORT[0][1].startswith(said)
    expect(page.locator(".turn").first).to_contain_text(SHORT[0][1])


def test_a_lost_connection_is_told_and_taken_up_again_with_nothing_lost_or_doubled(
    open_page: Callable[..., Page], service: Service
) -> None:
    page = open_page(service)
    connections: list[WebSocketRoute] = []

    def relay(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        connections.append(route)
        passed = 0

        def to_server(message: str | bytes) -> None:
            nonlocal passed
            passed += 1
            if len(connections) < 3 and passed == 5:
                server.close()
                route.close(code=1012)
            elif len(connections) >= 3 or passed < 5:
                server.send(message)

        route.on_message(to_server)

    page.route_web_socket("**/v1/live", relay)
    paste(page, jsonl())
    expect(page.locator(".turn")).to_have_count(5)
    at_once = labels_by_turn(page), counts(page)
    page.get_by_role("button", name="Play it live").click()
    page.get_by_role("radio", name="8×").check()
    is_live(page, "reconnecting")
    is_live(page, "ended")
    assert len(connections) == 3
    assert (labels_by_turn(page), counts(page)) == at_once


# Keys and models


def test_a_key_is_asked_for_and_kept_in_memory_only(open_page: Callable[..., Page], locked: Service) -> None:
    page = open_page(locked)
    expect(page.get_by_role("alert")).to_contain_text("wants an API key")
    field = page.get_by_label("API key")
    assert field.get_attribute("type") == "password"
    field.fill("a wrong key of some length")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("alert")).to_be_empty()
    assert KEY not in page.evaluate(
        "() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])"
    )

    paste(page, jsonl())
    expect(page.locator(".turn")).to_have_count(5)
    expect(page.locator("#facts")).to_contain_text("model tiny")
    page.get_by_role("button", name="Change the call").click()
    page.get_by_label("Model").select_option("small")
    expect(page.locator("#facts")).to_contain_text("model small")
    page.get_by_role("button", name="Play it live").click()
    page.get_by_role("radio", name="8×").check()
    is_live(page, "ended")


def test_there_is_no_choice_where_there_is_one_model_and_the_page_says_which(page: Page) -> None:
    expect(page.get_by_label("Model")).to_be_hidden()
    expect(page.locator("#model-line")).to_contain_text(
        re.compile(r"Model small · listening_clf \d.* sha256 [0-9a-f]{12}")
    )
    expect(page.get_by_text("stays on this machine")).to_be_visible()
    assert page.get_by_role("link", name="API documentation").get_attribute("href") == "docs"


def test_a_model_with_other_labels_has_those_and_no_others(page: Page, service: Service) -> None:
    with service.client() as client:
        (model,) = client.get("/v1/models").json()["models"]
    own = {"greeting": 0.9, "paraphrase": 0.1, "small_talk": 0.2}
    model |= {"labels": list(own), "thresholds": dict.fromkeys(own, 0.5)}
    turn = {"speaker": "agent", "text": "Hi.", "start": None, "end": None, "labels": ["greeting"], "scores": own}
    totals = {"agent_turns": 1, "customer_turns": 0, "labels": {"greeting": 1, "paraphrase": 0, "small_talk": 0}}
    answer = {"conversations": [{"id": None, "turns": [turn], "totals": totals}], "model": "small"}
    page.route("**/v1/models", lambda route: route.fulfill(json={"models": [model]}))
    page.route("**/v1/transcripts?*", lambda route: route.fulfill(json=answer))
    paste(page, jsonl())
    expect(page.locator(".turn .chip")).to_have_text("greeting")
    assert counts(page) == {"greeting": 1, "paraphrase": 0, "small talk": 0, "no label": 0}
    colours = {it.get_attribute("data-hue") for it in page.locator(".tile").all()}
    assert len(colours) == 4


# For everybody


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the call")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Paste it here")).to_be_focused()
    page.keyboard.insert_text(EXAMPLE.read_text())
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("heading", name="pasted call")).to_be_focused()
    for button in ("#play-live", "#change", ".tile >> nth=0", ".tile >> nth=1"):
        page.keyboard.press("Tab")
        expect(page.locator(button)).to_be_focused()
    page.keyboard.press("Space")
    expect(tile(page, "reflection")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("Tab")
    tags = page.locator(".tags")
    expect(page.locator(".tags:focus")).to_have_count(1)
    page.keyboard.press("Home")
    expect(tags.first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    expect(tags.nth(2)).to_be_focused()
    page.keyboard.press("k")
    expect(tags.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(tags.last).to_be_focused()
    expect(page.locator("#scores")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(open_page: Callable[..., Page], service: Service, scheme: str) -> None:
    page = open_page(service, color_scheme=scheme)
    measured = page.evaluate(MEASURE)
    paste(page, "speaker,text\nagent\n")
    expect(page.get_by_role("alert")).not_to_be_empty()
    measured += page.evaluate(MEASURE)
    paste(page, EXAMPLE.read_text())
    expect(page.locator(".turn")).not_to_have_count(0)
    page.locator(".tags").first.hover()
    measured += page.evaluate(MEASURE)
    for label in ("paraphrase", "reflection", "open question", "summary", "interruption", "no label"):
        tile(page, label).click()
        measured += page.evaluate(MEASURE)
        tile(page, label).click()
    page.get_by_role("button", name="Play it live").click()
    expect(page.locator(".turn")).not_to_have_count(0)
    measured += page.evaluate(MEASURE)
    for hue in range(9):
        page.evaluate("(hue) => document.querySelectorAll('.chip').forEach((it) => { it.dataset.hue = hue; })", hue)
        measured += page.evaluate(MEASURE)
    assert len(measured) > 300
    assert [it for it in measured if it[0] < 4.5] == []


def test_a_chosen_theme_is_remembered(open_page: Callable[..., Page], service: Service) -> None:
    page = open_page(service, color_scheme="light")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("radio", name="Dark").check()
    dark = page.evaluate(background)
    page.reload()
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()
    assert light != dark == page.evaluate(background)


def test_it_fits_a_narrow_screen(open_page: Callable[..., Page], service: Service) -> None:
    page = open_page(service, viewport={"width": 320, "height": 640})
    width = "() => document.documentElement.scrollWidth"
    assert page.evaluate(width) == 320
    paste(page, EXAMPLE.read_text() + "\n\n02:20.000 --> 02:30.000\n<v Agent>" + "w" * 200 + "\n")
    expect(page.locator(".turn")).not_to_have_count(0)
    assert page.evaluate(width) == 320
    page.get_by_role("button", name="Play it live").click()
    page.get_by_role("button", name="Next turn").click()
    assert page.evaluate(width) == 320


def test_headings_are_in_order_and_everything_has_a_name(page: Page) -> None:
    paste(page, jsonl(name="first") + jsonl(name="second"))
    expect(page.locator(".turn")).not_to_have_count(0)
    levels = [
        int(tag[1])
        for tag in page.evaluate(
            "() => [...document.querySelectorAll('h1,h2,h3,h4')].filter((it) => "
            "it.checkVisibility()).map((it) => it.tagName)"
        )
    ]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    nameless = re.findall(
        r"^\s*- (?:button|textbox|combobox|checkbox|radio|link|progressbar)(?::|$)",
        page.locator("body").aria_snapshot(),
        re.MULTILINE,
    )
    assert nameless == []
