"""What the service answers, asked as its users ask it: over HTTP, with other projects' own clients."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from listening_clf import ListeningClassifier, Turn, transcripts
from listening_clf.cli import app
from tests.conftest import ROOT
from tests.serving import Service, running_service

KEY, ADMIN = "an-api-key-of-enough-length", "an-admin-key-of-enough-length"
SAID, CONTEXT = "So you were charged twice for the same order.", "There are two charges on my card."
CALL = [
    {"speaker": "customer", "text": "It leaks, and I -", "start": 3.1, "end": 7.9},
    {"speaker": "agent", "text": "What is your order number?", "start": 6.8, "end": 8.0},
    {"speaker": "customer", "text": "4471."},
    {"speaker": "agent", "text": "What happened when you called?"},
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx2.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks for keys."""
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(f"# of the tests\n{KEY}\n")
    file.chmod(0o600)
    with running_service("--api-key-file", str(file), environment={"LISTENING_CLF_ADMIN_KEYS": ADMIN}) as running:
        yield running


def close_to(expected: dict[str, float]) -> Any:
    """Scores as JSON has them."""
    return pytest.approx(expected, abs=1e-6)


def test_it_judges_a_turn_as_the_library_does(http: httpx2.Client, bundled: ListeningClassifier) -> None:
    expected = bundled.predict(SAID, context=CONTEXT)
    answer = http.post("/v1/predict", json={"text": SAID, "context": CONTEXT})
    assert answer.status_code == 200
    found = answer.json()
    assert found["model"] == "small"
    assert found["labels"] == list(expected.labels) == ["paraphrase"]
    assert found["scores"] == close_to(dict(expected.scores))


def test_it_judges_many_turns_each_with_its_own_context(http: httpx2.Client, bundled: ListeningClassifier) -> None:
    turns = [
        {"text": SAID, "context": CONTEXT},
        {"text": CALL[1]["text"], "start": 6.8, "context": CALL[:1]},
        {"text": "I see."},
    ]
    found = http.post("/v1/predict", json={"turns": turns}).json()
    interrupts = bundled.predict(Turn("agent", CALL[1]["text"], 6.8), context=CALL[:1])
    assert [it["labels"] for it in found["predictions"]] == [["paraphrase"], list(interrupts.labels), []]
    assert "interruption" in interrupts.labels


def test_it_judges_whole_conversations(http: httpx2.Client, bundled: ListeningClassifier) -> None:
    sent = {"conversations": [{"id": "7", "turns": CALL, "channel": "phone"}, {"turns": CALL[2:]}]}
    found = http.post("/v1/conversations", json=sent).json()["conversations"]
    expected = bundled.predict_conversation(CALL)
    assert [it["id"] for it in found] == ["7", None]
    assert [it["index"] for it in found[0]["turns"]] == [1, 3]
    assert [it["labels"] for it in found[0]["turns"]] == [list(it.labels) for it in expected]
    assert found[0]["totals"]["agent_turns"] == 2
    assert found[0]["totals"]["labels"]["open_question"] == 1


@pytest.mark.parametrize("name", ["call.vtt", ""], ids=["by its suffix", "by its first line"])
def test_it_judges_a_file(http: httpx2.Client, bundled: ListeningClassifier, name: str) -> None:
    file = ROOT / "examples" / "call.vtt"
    (read,) = transcripts.read(file)
    expected = bundled.predict_conversation(read)
    (found,) = http.post("/v1/transcripts", params={"name": name}, content=file.read_bytes()).json()["conversations"]
    assert [it["text"] for it in found["turns"]] == [turn.text for turn in read.turns]
    assert [it["labels"] for it in found["turns"] if it["speaker"] == "agent"] == [list(it.labels) for it in expected]
    assert all(it["labels"] is None for it in found["turns"] if it["speaker"] == "customer")


def test_where_it_cannot_tell_who_is_the_agent_it_says_who_speaks(http: httpx2.Client) -> None:
    file = b"speaker,text\nDana,What happened?\nLee,It broke.\n"
    answer = http.post("/v1/transcripts", content=file)
    assert answer.status_code == 422
    assert answer.json()["speakers"] == ["Dana", "Lee"]
    assert "say which one is the agent with the parameter 'agent'" in answer.json()["detail"]
    (found,) = http.post("/v1/transcripts", params={"agent": "dana"}, content=file).json()["conversations"]
    assert [it["speaker"] for it in found["turns"]] == ["agent", "customer"]


def test_it_says_what_its_model_is(http: httpx2.Client, bundled: ListeningClassifier) -> None:
    found = http.get("/v1/model").json()
    assert found["labels"] == list(bundled.labels)
    assert found["thresholds"] == bundled.thresholds
    assert found["versions"]["codebook"] == "1.1"


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "#/text", "Field required"),
        ({"text": 7}, "#/text", "valid string"),
        ({"text": " "}, "#/text", "pattern"),
        ({"text": "x" * 20_001}, "#/text", "at most 20000"),
        ({"text": "x", "contxt": "y"}, "#/contxt", "not permitted"),
        ({"text": "x", "context": [{"speaker": "bot", "text": "y"}]}, "#/context/0/speaker", "'agent' or 'customer'"),
        ({"text": "x", "start": 3, "end": 2}, "#", "ends at 2"),
        ({"turns": []}, "#/turns", "at least 1"),
        ({"turns": [{"text": "x"}, {"text": "x", "start": -1}]}, "#/turns/1/start", "greater than or equal to 0"),
        ({"turns": [{"text": "x"}] * 4097}, "#/turns", "at most 4096"),
        ([], "#", ""),
    ],
    ids=lambda it: it if isinstance(it, str) else None,
)  # fmt: skip
def test_it_says_what_is_wrong_and_where(http: httpx2.Client, body: Any, pointer: str, detail: str) -> None:
    answer = http.post("/v1/predict", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert (answer.status_code, found["status"]) == (422, 422)
    assert found["errors"][0]["pointer"] == pointer
    assert detail in found["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("DELETE", "/v1/predict", 405), ("GET", "/v2/models/x", 404)],
)
def test_every_error_has_the_one_shape(http: httpx2.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() >= {"type", "title", "status", "detail"}
    assert answer.status_code == answer.json()["status"] == status


def test_a_model_that_is_not_loaded_is_a_404_that_names_those_that_are(http: httpx2.Client) -> None:
    answer = http.post("/v1/predict", json={"text": SAID, "model": "large"})
    assert answer.status_code == 404
    assert answer.json()["detail"] == "no model is called 'large': there is small"


def test_hugging_faces_client_works_unchanged(service: Service, bundled: ListeningClassifier) -> None:
    found = InferenceClient(base_url=service.url).text_classification("What happened then?")
    expected = bundled.predict("What happened then?").scores
    assert {it.label: it.score for it in found} == close_to(dict(expected))
    assert [it.label for it in found] == sorted(expected, key=lambda label: -expected[label])
    assert len(InferenceClient(model=service.url).text_classification("Hello.", top_k=2)) == 2


def test_the_pipelines_other_inputs_work_too(http: httpx2.Client) -> None:
    pair = {"text": SAID, "text_pair": CONTEXT}
    first, second = http.post("/", json={"inputs": [pair, SAID]}).json()
    assert first[0]["label"] == "paraphrase"
    assert first != second
    assert http.post("/", json={"inputs": pair}).json() == [first]
    refused = http.post("/", json={"inputs": SAID, "parameters": {"function_to_apply": "softmax"}})
    assert refused.status_code == 422


@pytest.mark.parametrize("binary", [True, False], ids=["binary tensors", "tensors in JSON"])
def test_tritons_client_works_unchanged(service: Service, bundled: ListeningClassifier, binary: bool) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{service.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    labels = client.get_model_metadata("small")["parameters"]["labels"]
    tensors = []
    for name, values in (("text", [SAID, "Où ça ?"]), ("context", [CONTEXT, ""])):
        tensors.append(triton.InferInput(name, [2], "BYTES"))
        tensors[-1].set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("given", "scores")]
    expected = bundled.predict([SAID, "Où ça ?"], context=[CONTEXT, None])
    for asked in (outputs, None):
        found = client.infer("small", tensors, outputs=asked, request_id="7")
        assert found.get_response()["id"] == "7"
        assert found.as_numpy("given").tolist() == [[label in it.labels for label in labels] for it in expected]
        np.testing.assert_allclose(found.as_numpy("scores"), [[it.scores[x] for x in labels] for it in expected], 1e-5)


def test_tritons_client_tells_what_is_wrong(service: Service) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{service.port}")
    text = triton.InferInput("words", [1], "BYTES")
    text.set_data_from_numpy(np.array([SAID], dtype=object))
    with pytest.raises(InferenceServerException, match="expected the inputs 'text'"):
        client.infer("small", [text])
    with pytest.raises(InferenceServerException, match="no model is called 'large'"):
        client.infer("large", [text])


def test_its_figures_count_turns_and_labels_but_hold_no_words(http: httpx2.Client) -> None:
    def figure(name: str, **labels: str) -> float:
        families = text_string_to_metric_families(http.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(it.value for it in samples if it.name == name and labels.items() <= it.labels.items())

    turns, paraphrases = figure("listening_turns_total"), figure("listening_labels_total", label="paraphrase")
    requests = figure("listening_requests_total", route="/v1/predict", status="200")
    http.post("/v1/predict", json={"turns": [{"text": SAID, "context": CONTEXT}, {"text": "Zanzibar."}]})
    assert figure("listening_turns_total") == turns + 2
    assert figure("listening_labels_total", label="paraphrase") == paraphrases + 1
    assert figure("listening_requests_total", route="/v1/predict", status="200") == requests + 1
    assert "Zanzibar" not in http.get("/metrics").text


def test_its_documentation_comes_from_nowhere_else(http: httpx2.Client) -> None:
    page = http.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert addresses
    for address in addresses:
        assert http.get(address).status_code == 200, address


def test_its_documentation_has_examples_that_work(http: httpx2.Client) -> None:
    tried = 0
    for path, operations in http.get("/openapi.json").json()["paths"].items():
        for media, content in operations.get("post", {}).get("requestBody", {}).get("content", {}).items():
            for example in content.get("examples", {}).values():
                assert media == "application/json"
                assert http.post(path, json=example["value"]).status_code == 200
                tried += 1
    assert tried >= 4


@pytest.mark.parametrize("key", [None, "a-wrong-key-of-enough-length", f"{KEY}x", KEY[:-1]])
def test_without_a_key_nobody_predicts(guarded: Service, key: str | None) -> None:
    with guarded.client(key) as http:
        for path, body in (("/v1/predict", {"text": SAID}), ("/", {"inputs": SAID}), ("/v2/models/small/infer", {})):
            answer = http.post(path, json=body)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
        for path in ("/healthz", "/readyz", "/metrics", "/docs", "/", "/v2/health/ready"):
            assert http.get(path).status_code == 200


@pytest.mark.parametrize("key", [KEY, ADMIN])
def test_with_a_key_one_does(guarded: Service, key: str) -> None:
    with guarded.client(key) as http:
        assert http.post("/v1/predict", json={"text": SAID}).status_code == 200
    assert InferenceClient(base_url=guarded.url, token=key).text_classification(SAID)


def test_only_an_admin_loads_models(guarded: Service) -> None:
    for key, status in ((None, 401), (KEY, 403)):
        with guarded.client(key) as http:
            assert http.post("/v1/models/tiny/load").status_code == status
    with guarded.client(ADMIN) as http:
        assert http.post("/v1/models/tiny/load", json={"make_default": False}).json()["name"] == "tiny"
        assert http.post("/v1/predict", json={"text": SAID}).json()["model"] == "small"
        assert http.post("/v1/predict", json={"text": SAID, "model": "tiny"}).json()["model"] == "tiny"


def test_a_model_that_cannot_be_loaded_leaves_all_as_it_was(guarded: Service, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(ROOT / "listening_clf" / "models" / "tiny", broken)
    (broken / "onnx" / "model.onnx").write_bytes(b"altered")
    with guarded.client(ADMIN) as http:
        for source, problem in ((str(broken), "not the file that was saved"), ("no-such-model", "no-such-model")):
            answer = http.post("/v1/models/other/load", json={"source": source})
            assert answer.status_code == 422
            assert problem in answer.json()["detail"]
        assert http.post("/v1/models/.hidden/load", json={"source": "tiny"}).status_code == 422
        assert http.post("/v1/predict", json={"text": SAID}).json()["model"] == "small"


def test_keys_that_are_no_secret_are_refused(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    keys = tmp_path / "keys.txt"
    for content, mode, problem in (
        (KEY, 0o644, "everybody on this machine may read"),
        ("short", 0o600, "at least 16"),
        ("# nothing", 0o600, "there is no key"),
    ):
        keys.write_text(content)
        keys.chmod(mode)
        result = CliRunner().invoke(app, ["serve", "--api-key-file", str(keys)])
        assert result.exit_code == 2
        assert problem in result.output
        assert KEY not in result.output


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--model", "tiny", "--model", "tiny"], "two of the models would be called 'tiny'"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),
    ],
)
def test_what_it_cannot_be_started_with_is_said_in_a_sentence(options: list[str], problem: str) -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["serve", "--port", "0", *options])
    assert result.exit_code == 2
    assert problem in result.output


def test_a_port_that_is_taken_is_said_in_a_sentence(service: Service) -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["serve", "--port", str(service.port)])
    assert result.exit_code == 2
    assert f"port {service.port}: Address already in use" in result.output


def test_no_word_of_a_call_and_no_key_is_ever_logged(guarded: Service) -> None:
    with guarded.client(KEY) as http:
        http.post("/v1/predict", json={"text": "Zanzibar", "start": "Zanzibar"})
        http.post("/v1/transcripts", params={"agent": "Zanzibar"}, content=b"Zanzibar")
        http.post("/v1/conversations", content=b'{"Zanzibar', headers={"Content-Type": "application/json"})
    assert "Zanzibar" not in guarded.log
    assert KEY not in guarded.log
    assert json.dumps(KEY) not in guarded.log
