"""What whoever runs the service sees of it: it starts at once, stops in order, sheds load, and survives its workers."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from listening_clf import ListeningClassifier
from tests.serving import Service, running_service

ADMIN = "an-admin-key-of-enough-length"
TURN = {"text": "So you were charged twice for the same order.", "context": "There are two charges on my card."}


def children(service: Service) -> set[int]:
    """The processes of the workers."""
    pid = service.process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {child for child in map(int, listed) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def shared_folders() -> set[Path]:
    return set(Path("/dev/shm").glob("listening-clf-*"))


@contextmanager
def asking(service: Service, clients: int = 4) -> Iterator[list[httpx2.Response]]:
    """Clients that ask again and again; what they are answered, once they have stopped."""
    stop = threading.Event()
    answers: list[httpx2.Response] = []

    def ask() -> None:
        with service.client(ADMIN) as http:
            while not stop.is_set():
                answers.append(http.post("/v1/predict", json=TURN))

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(ask) for _ in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
        for it in running:
            it.result()


def test_models_are_switched_without_a_request_dropped() -> None:
    with (
        running_service("--workers", "2", environment={"LISTENING_CLF_ADMIN_KEYS": ADMIN}) as service,
        service.client(ADMIN) as http,
    ):
        with asking(service) as answers:
            for name in ("tiny", "small", "tiny"):
                time.sleep(0.3)
                loaded = http.post(f"/v1/models/{name}/load")
                assert (loaded.status_code, loaded.json()["is_default"]) == (200, True)
                wait_for(lambda name=name: answers[-1].json()["model"] == name)  # type: ignore[misc]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["model"] for answer in answers} == {"small", "tiny"}
        for _ in range(20):  # of whichever worker
            assert service.client(ADMIN).post("/v1/predict", json=TURN).json()["model"] == "tiny"
        assert [it["name"] for it in http.get("/v1/models").json()["models"]] == ["small", "tiny"]


def test_of_many_models_the_oldest_are_let_go() -> None:
    with (
        running_service("--model", "tiny", environment={"LISTENING_CLF_ADMIN_KEYS": ADMIN}) as service,
        service.client(ADMIN) as http,
    ):
        for name in ("b", "c", "d", "e"):
            http.post(f"/v1/models/{name}/load", json={"source": "tiny", "make_default": False})
        listed = http.get("/v1/models").json()["models"]
        assert [(it["name"], it["is_default"]) for it in listed] == [
            ("tiny", True), ("c", False), ("d", False), ("e", False),
        ]  # fmt: skip
        assert http.post("/v1/predict", json={**TURN, "model": "b"}).status_code == 404


def test_a_worker_that_dies_is_replaced_and_knows_what_it_knew(bundled: ListeningClassifier) -> None:
    environment = {"LISTENING_CLF_ADMIN_KEYS": ADMIN}
    with running_service("--workers", "2", environment=environment) as service, service.client(ADMIN) as http:
        assert http.post("/v1/models/tiny/load").status_code == 200
        with connect(service.live_url) as socket:
            socket.send(json.dumps({"type": "start", "call": "7", "key": ADMIN}))
            socket.recv()
            socket.send(json.dumps({"type": "turn", "seq": 0, "speaker": "agent", "text": "What happened?"}))
            labels = json.loads(socket.recv())["labels"]
        before = wait_for(lambda: len(children(service)) == 2 and children(service))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(children(service) - before) == 2)

        def answer() -> httpx2.Response | None:
            with suppress(httpx2.TransportError):
                return service.client(ADMIN).post("/v1/predict", json=TURN)
            return None

        assert wait_for(answer).json()["model"] == "tiny"
        with connect(service.live_url) as socket:
            socket.send(json.dumps({"type": "start", "call": "7", "key": ADMIN}))
            assert json.loads(socket.recv())["turns"][0]["labels"] == labels
        assert b"listening_live_connections" in service.client().get("/metrics").content


def test_what_is_more_than_it_can_take_is_turned_away_at_once_and_then_all_is_well() -> None:
    turns = {"turns": [{"text": f"What happened to the {n}th?", "context": "It broke."} for n in range(200)]}
    with running_service("--model", "tiny") as service:

        def ask(_: int) -> tuple[httpx2.Response, float]:
            with service.client() as http:
                begun = time.perf_counter()
                return http.post("/v1/predict", json=turns), time.perf_counter() - begun

        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(ask, range(32)))
        served = [seconds for answer, seconds in answers if answer.status_code == 200]
        refused = [(answer, seconds) for answer, seconds in answers if answer.status_code == 503]
        assert len(served) + len(refused) == 32
        assert len(served) >= 5
        assert refused
        assert all(int(answer.headers["retry-after"]) >= 1 for answer, _ in refused)
        assert all("turns wait already" in answer.json()["detail"] for answer, _ in refused)
        with service.client() as http:
            assert http.post("/v1/predict", json=TURN).status_code == 200


MANY = [f"Is it the {n}th?" for n in range(3000)]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/predict", {"turns": [{"text": text} for text in MANY]}),
        ("/v1/conversations", {"conversations": [{"turns": [{"speaker": "agent", "text": text} for text in MANY]}]}),
        ("/", {"inputs": MANY}),
        (
            "/v2/models/{name}/infer",
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(MANY)], "data": MANY}]},
        ),
    ],
)
def test_what_nobody_waits_for_any_more_is_not_judged(route: str, body: dict[str, Any]) -> None:
    with running_service() as service, service.client() as http:
        with suppress(httpx2.ReadTimeout):
            http.post(route.format(name="small"), json=body, timeout=0.5)

        def is_counted() -> bool:
            figures = http.get("/metrics").text
            return f'route="{route}",status="499"' in figures and "listening_waiting_turns 0.0" in figures

        wait_for(is_counted, seconds=2)
        assert "listening_turns_total{" not in http.get("/metrics").text
        assert service.log.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_stops_in_order_and_leaves_nothing(workers: str) -> None:
    turns = {"turns": [{"text": f"What happened to the {n}th order?", "context": "It broke."} for n in range(600)]}
    with running_service("--workers", workers) as service:
        there = shared_folders()
        assert all(folder.stat().st_mode & 0o077 == 0 for folder in there)
        with ThreadPoolExecutor(1) as pool, service.client() as http:
            in_flight = pool.submit(http.post, "/v1/predict", json=turns)
            time.sleep(0.3)
            assert not in_flight.done()
            assert service.stop() == 0
            answer = in_flight.result()
        assert answer.status_code == 200
        assert len(answer.json()["predictions"]) == 600
        assert service.log.count("\n") == 1  # its address, and no traceback
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{service.url}/healthz")
    assert there - shared_folders()


def test_a_live_call_is_told_that_the_service_stops() -> None:
    with running_service("--model", "tiny") as service, connect(service.live_url) as socket:
        socket.send(json.dumps({"type": "start", "call": "7"}))
        socket.recv()
        service.process.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match="1012"):
            socket.recv(timeout=20)
        assert service.process.wait(timeout=20) == 0
