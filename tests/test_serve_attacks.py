"""Whoever means the service ill is refused, or cut off; all others do not notice, and no word of it is kept."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from uvicorn import Config, Server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from listening_clf.serve import protocol
from listening_clf.serve.http import Guarded, Json, StrictRoute
from listening_clf.serve.keys import Keys
from listening_clf.serve.metrics import Metrics
from listening_clf.serve.problems import add_problem_handlers
from listening_clf.serve.settings import BODY_BYTES, LIVE_MESSAGE_BYTES
from tests.serving import HOST, Service, running_service

SAID = "sesame"
"""A word that stands in every attack, and must stand nowhere afterwards."""

QUESTION = "What happened when you restarted it?"
KEY, ADMIN = "an-api-key-of-enough-length", "an-admin-key-of-enough-length"


@dataclass(frozen=True)
class Answer:
    """What came back until the service hung up; no status where it said nothing."""

    raw: bytes

    @property
    def status(self) -> int | None:
        return int(self.raw.split(b" ", 2)[1]) if self.raw else None

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0].lower()

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def count(self) -> int:
        """How many answers there are."""
        return self.raw.count(b"HTTP/1.1 ")

    def is_problem(self, *statuses: int) -> bool:
        """Whether it is a problem, of one of these statuses."""
        said = json.loads(self.body)
        return self.status in statuses and said["status"] == self.status and b"application/problem+json" in self.head

    @property
    def says_it_is_no_http(self) -> bool:
        """Whether it is the one sentence that is said to what is no HTTP."""
        return self.status == 400 and self.body == b"Invalid HTTP request received."


def ask(service: Service, parts: bytes | Iterable[bytes], *, half_close: bool = False, seconds: float = 15) -> Answer:
    """Send bytes as they are, and wait until the service hangs up.

    Raises:
        TimeoutError: it does not.
    """
    got = b""
    with socket.create_connection((HOST, service.port), timeout=seconds) as connection:
        with suppress(ConnectionError):
            for part in [parts] if isinstance(parts, bytes) else parts:
                connection.sendall(part)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while piece := connection.recv(2**16):
                got += piece
    return Answer(got)


def request(
    path: str = "/v1/predict",
    body: bytes | str = b"",
    *headers: str,
    method: str = "POST",
    host: str = HOST,
    length: bool = True,
    kind: str = "application/json",
) -> bytes:
    """A request, after which the connection is closed."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Type: {kind}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(path: str, *headers: str, **more: Any) -> bytes:
    return request(path, b"", *headers, method="GET", **more)


def chunked(size: int) -> Iterator[bytes]:
    """A body of so many bytes whose length nobody tells."""
    yield request("/v1/predict", b"", "Transfer-Encoding: chunked", length=False)
    for _ in range(size // 2**16):
        yield b"10000\r\n" + b"1" * 2**16 + b"\r\n"
    yield b"0\r\n\r\n"


def resident(service: Service) -> int:
    """The MiB that the service's process takes."""
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
    return pages * 4096 // 2**20


@contextmanager
def unharmed(service: Service, *headers: str) -> Iterator[None]:
    """Whatever is done within, the service then answers as ever, and neither its log nor its figures tell of it."""
    before = len(service.log)
    yield
    answer = ask(service, request("/v1/predict", json.dumps({"text": QUESTION}), *headers), seconds=5)
    assert json.loads(answer.body)["labels"] == ["open_question"]
    assert SAID.encode() not in ask(service, get("/metrics")).body
    for kept in (SAID, KEY, ADMIN, 'File "'):  # nor does it say that something went wrong in the service
        assert kept not in service.log[before:]


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with running_service("--model", "tiny") as service:
        yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    with unharmed(running):
        yield running


# Bodies

NO_JSON = {
    "cut short": f'{{"text": "{SAID}"',
    "nothing after a colon": '{"text":',
    "NaN": f'{{"text": "{SAID}", "start": NaN}}',
    "Infinity": '{"text": "x", "start": Infinity}',
    "minus Infinity": '{"text": "x", "end": -Infinity}',
    "an escaped lone surrogate": f'{{"text": "{SAID} \\ud800"}}',
    "a lone surrogate as bytes": f'{{"text": "{SAID} '.encode() + b'\xed\xa0\x80"}',
    "no UTF-8": f'{{"text": "{SAID} '.encode() + b'\xff\xfe"}',
    "overlong UTF-8": b'{"text": "\xc0\xaf"}',
    "UTF-16": f'{{"text": "{SAID}"}}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + f'{{"text": "{SAID}"}}'.encode(),
    "100,000 brackets": "[" * 100_000,
    "100,000 braces": '{"a":' * 100_000,
    "a context nested deep": '{"text": "x", "context": ' + "[" * 5000 + "]" * 5000 + "}",
    "a number of 10^5 digits": '{"text": "x", "start": ' + "1" * 10**5 + "}",
    "two of them": f'{{"text": "{SAID}"}} {{"text": "{SAID}"}}',
    "a trailing comma": f'{{"text": "{SAID}",}}',
    "a comment": f'{{"text": "{SAID}"}} // {SAID}',
    "single quotes": f"{{'text': '{SAID}'}}",
    "NUL": b"\0" * 1000,
}
WRONG = {
    "nothing": "",
    "null": "null",
    "a list": f'["{SAID}"]',
    "a string": f'"{SAID}"',
    "a number": "1e5",
    "no text": "{}",
    "a text of the wrong type": f'{{"text": ["{SAID}"]}}',
    "a text of white space": '{"text": " \\n\\u2003"}',
    "a time that is infinite": '{"text": "x", "start": 1e999}',
    "a time that is huge": '{"text": "x", "start": 1e300}',
    "a time of 4,000 digits": '{"text": "x", "start": ' + "1" * 4000 + "}",
    "a time as a string": '{"text": "x", "start": "1"}',
    "a time that is true": '{"text": "x", "end": true}',
    "times that run backwards": f'{{"text": "{SAID}", "start": 2, "end": 1}}',
    "a key that is none": f'{{"text": "x", "{SAID}": 1}}',
    "a key that a class has": '{"text": "x", "__class__": 1, "turns_": []}',
    "both one turn and many": f'{{"text": "{SAID}", "turns": []}}',
    "a turn of 7 MB": f'{{"text": "{SAID * (7 * 10**6 // len(SAID))}"}}',
    "the last of two texts": '{"text": "What happened then?", "text": 7}',
}


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/conversations", "/", "/v2/models/tiny/infer"])
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_refused(service: Service, path: str, body: bytes | str) -> None:
    assert ask(service, request(path, body)).is_problem(400)


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_json_is_refused(service: Service, body: str) -> None:
    assert ask(service, request(body=body)).is_problem(422)


@pytest.mark.parametrize(
    "body", [*WRONG.values(), *NO_JSON.values(), f'{{"text": "{SAID}"}}', f'{{"turns": [{{"text": "{SAID}"}}]}}']
)
def test_fastapi_would_answer_as_the_fast_path_does(service: Service, body: bytes | str) -> None:
    fast, usual = (ask(service, request(body=body, kind=kind)) for kind in ("application/json", "application/x+json"))
    assert fast.status == usual.status
    if body:  # of nothing at all, FastAPI says that it is required
        assert json.loads(fast.body) == json.loads(usual.body)


@pytest.mark.parametrize("path", ["/", "/v1/conversations", "/v2/models/tiny/infer"])
@pytest.mark.parametrize("body", ["null", "[]", '"x"', "7", "{}", f'{{"{SAID}": "{SAID}"}}'])
def test_json_of_the_wrong_kind_is_refused(service: Service, path: str, body: str) -> None:
    assert ask(service, request(path, body)).is_problem(422)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ";;", "a\x80b", ""]
)
def test_what_does_not_say_that_it_is_json_is_not_read_as_such(service: Service, kind: str) -> None:
    """A page of another site may send these without being asked whether it may."""
    assert ask(service, request(body=f'{{"text": "{SAID}"}}', kind=kind)).is_problem(422)


@pytest.mark.parametrize(
    "sent",
    [request(body="1" * (BODY_BYTES + 1)), request(body=f'{{"text": "{SAID * 1_700_000}"}}'), chunked(9 * 2**20)],
    ids=["with its length", "a turn of 10 MB", "chunked"],
)
def test_a_body_that_is_too_large_is_cut_off(service: Service, sent: bytes | Iterator[bytes]) -> None:
    answer = ask(service, sent)
    assert answer.status is None or answer.is_problem(413)


MANY = 400_000
MANY_FLAWS = {
    "unknown keys": ("/v1/predict", {"text": "x", **{f"{i:x}": 1 for i in range(MANY)}}),
    "turns": ("/v1/conversations", {"conversations": [{"turns": [1] * 4000}] * (MANY // 4000)}),
    "turns of contexts": ("/v1/predict", {"turns": [{"text": "x", "context": [1] * 4000}] * (MANY // 4000)}),
    "a tensor's shape": ("/v2/models/tiny/infer", {"inputs": [{"name": "text", "shape": [-1] * MANY}]}),
    "keys of pairs": ("/", {"inputs": [{"text": "x", **{f"{i:x}": 1 for i in range(MANY // 4000)}}] * 4000}),
}


@pytest.mark.parametrize(("path", "body"), MANY_FLAWS.values(), ids=MANY_FLAWS)
def test_of_400_000_flaws_not_all_are_looked_for(service: Service, path: str, body: Any) -> None:
    """Each would cost a kilobyte and some 20 microseconds, in which nobody else is answered."""
    sent, begun = request(path, json.dumps(body, separators=(",", ":"))), time.perf_counter()
    answer = ask(service, sent)
    assert answer.is_problem(413, 422)
    assert time.perf_counter() - begun < 2
    assert len(answer.body) < 2**20


def test_a_header_of_a_tensor_with_5000_digits_is_refused(service: Service) -> None:
    sent = request("/v2/models/tiny/infer", "{}", f"Inference-Header-Content-Length: {'9' * 5000}")
    assert ask(service, sent).is_problem(400)


FILES = {
    "an id with a lone surrogate": '{"id": "\\ud800", "turns": [{"speaker": "agent", "text": "x"}]}',
    "a speaker with a lone surrogate": '{"turns": [{"speaker": "\\ud800", "text": "x"}]}',
    "a text with a lone surrogate": f'{{"text": "{SAID} \\udfff"}}',
    "the name of a call with a lone surrogate": '{"text": "x", "conversation": "\\ud800"}',
    "NaN": '{"turns": [{"speaker": "agent", "text": "x", "start": NaN}]}',
    "a number of 10^4 digits": '{"turns": [{"speaker": "agent", "text": "x", "start": ' + "1" * 10**4 + "}]}",
    "100,000 brackets": "[" * 100_000,
    "no end of a quote": f'speaker,text\nagent,"{SAID}',
    "no UTF-8": b"text\n\xff",
    "UTF-16": f"text\n{SAID}".encode("utf-16"),
    "nothing": "",
    "only a header": "WEBVTT",
}


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_a_file_that_is_none_is_refused(service: Service, file: bytes | str) -> None:
    assert ask(service, request("/v1/transcripts", file, kind="text/plain")).is_problem(422)


def test_a_file_nested_as_deep_as_can_be_is_refused(service: Service) -> None:
    for depth in range(900, 1000):
        file = '{"turns": [{"speaker": "agent", "text": ' + "[" * depth + "]" * depth + "}]}"
        assert ask(service, request("/v1/transcripts", file)).is_problem(422)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../app.py", "-", "%00", "a%00.vtt", "%ed%a0%80.csv", "~"])
def test_the_name_of_a_file_opens_none(service: Service, name: str) -> None:
    answer = ask(service, request(f"/v1/transcripts?name={name}", "root:x"))
    assert answer.is_problem(422)
    assert b"needs a column 'text'" in answer.body or b"WEBVTT" in answer.body


def test_a_cue_of_voices_that_never_close_takes_no_time(service: Service) -> None:
    file = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Dana>" + "<v " * 20_000
    begun = time.perf_counter()
    assert ask(service, request("/v1/transcripts", file)).is_problem(422)
    assert time.perf_counter() - begun < 1


# Heads


@pytest.mark.parametrize(
    "sent",
    [
        get("/healthz", f"X: {SAID * 17_000}"),
        get("/healthz", *(f"X{i}: {SAID}" for i in range(9_000))),
        get(f"/{SAID * 17_000}"),
        get(f"/healthz?{SAID * 17_000}"),
        request("/v1/predict", b"", "Transfer-Encoding: chunked", length=False)
        + b"0\r\n"
        + f"X: {SAID * 17_000}\r\n\r\n".encode(),
    ],
    ids=["a header", "headers", "an address", "a query", "a trailer"],
)
def test_a_head_of_100_kb_is_cut_off(service: Service, sent: bytes) -> None:
    assert ask(service, sent).status is None


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\n" + b"X" * 100])
def test_a_head_without_end_is_cut_off(service: Service, begun: bytes) -> None:
    """None of it is kept, whichever part of it has no end."""
    sent = 0

    def without_end() -> Iterator[bytes]:
        nonlocal sent
        yield begun
        while sent < 50 * 2**20:
            yield b"a" * 2**16
            sent += 2**16

    before = resident(service)
    answer = ask(service, without_end())
    assert answer.status is None or answer.says_it_is_no_http
    assert sent < 20 * 2**20  # what fits between the two, and no more
    assert resident(service) - before < 20


NO_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SAID.encode(),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "words": f"{SAID}\r\n\r\n".encode(),
    "a byte that is no ASCII": get("/\xff"),
    "NUL in a header": get("/healthz", f"X: {SAID}\0"),
    "a header that is folded": get("/healthz", f"X: {SAID}\r\n more"),
    "a space before the colon": get("/healthz", "X : y"),
    "no colon": get("/healthz", SAID),
    "bare line feeds": f"GET /{SAID} HTTP/1.1\nHost: {HOST}\n\n".encode(),
    "CONNECT": get("example.org:443").replace(b"GET", b"CONNECT"),
    "no path": get("http://example.org"),
    "an unknown method": get("/").replace(b"GET", SAID.upper().encode()),
    "a method in small letters": get("/").replace(b"GET", b"get"),
}
SMUGGLED = f"GET /healthz?{SAID} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
SMUGGLING = {
    "a length and chunks": ("Content-Length: 6", "Transfer-Encoding: chunked"),
    "chunks and a length": ("Transfer-Encoding: chunked", "Content-Length: 6"),
    "two lengths": ("Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"),
    "a list of lengths": (f"Content-Length: 0, {len(SMUGGLED)}",),
    "a negative length": ("Content-Length: -1",),
    "a length with a sign": ("Content-Length: +0",),
    "a length in hex": ("Content-Length: 0x0",),
    "a huge length": ("Content-Length: 99999999999999999999999999",),
    "nearly chunked": ("Transfer-Encoding: xchunked",),
    "chunked, then not": ("Transfer-Encoding: chunked, identity",),
    "chunked twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: cow"),
    "chunked behind a space": ("Transfer-Encoding : chunked",),
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused(service: Service, sent: bytes) -> None:
    assert ask(service, sent).says_it_is_no_http


@pytest.mark.parametrize("headers", SMUGGLING.values(), ids=SMUGGLING)
def test_no_request_is_smuggled_in_the_body_of_another(service: Service, headers: tuple[str, ...]) -> None:
    sent = f"POST /v1/predict HTTP/1.1\r\nHost: {HOST}\r\n".encode() + "\r\n".join(headers).encode()
    answer = ask(service, sent + b"\r\n\r\n0\r\n\r\n" + SMUGGLED)
    assert answer.says_it_is_no_http
    assert answer.count == 1


@pytest.mark.parametrize("size", [b"fffffffffffffffff", b"-1", b"zz", b"", b"0x4"])
def test_chunks_of_no_size_are_refused(service: Service, size: bytes) -> None:
    sent = request("/v1/predict", b"", "Transfer-Encoding: chunked", length=False)
    assert ask(service, sent + size + b"\r\n" + SMUGGLED).says_it_is_no_http


def test_requests_in_a_row_are_answered_in_order(service: Service) -> None:
    one = get("/healthz").replace(b"Connection: close\r\n", b"")
    question = request("/v1/predict", json.dumps({"text": QUESTION})).replace(b"Connection: close\r\n", b"")
    answer = ask(service, one * 50 + question + one * 50 + get(f"/{SAID}"))
    assert answer.count == 102
    assert [piece[:3] for piece in answer.raw.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 101 + [b"404"]
    assert b'"labels":["open_question"]' in answer.raw.split(b"HTTP/1.1 ")[51]


@pytest.mark.parametrize(
    "sent", [get("/healthz")[:-10], request(body=f'{{"text": "{SAID}"}}')[:-3], request(body='{"text": "x"}')]
)
def test_who_hangs_up_half_way_is_let_go(service: Service, sent: bytes) -> None:
    assert ask(service, sent, half_close=True).status in (None, 200)


# Addresses, methods, hosts


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/..%5capp.py",
        "/page/%252e%252e/app.py",
        "/page/....//app.py",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page/",
        "/page/.",
        "/page/%00",
        "/page/api.js%00",
        "/page/api.js%20",
        "/page/%ff",
        "/page/" + "a/" * 5_000,
        "/page/" + "a" * 5_000,
        "/docs-files/../__init__.py",
        "/docs-files/%2e%2e/__init__.py",
        "/docs-files/",
        "//page/api.js",
        "//example.org/%2e%2e",
        "/./healthz",
        "/v1//predict",
        "/%2e%2e/",
        "/%",
        f"/{SAID}",
        "/v2/models/%00",
        "/v2/models/..%2f..%2fetc",
        "/v2/models/tiny/versions/%00",
        "/.env",
        "/.git/config",
    ],
)
def test_there_is_no_way_out_of_its_own_files(service: Service, path: str) -> None:
    assert ask(service, get(path)).is_problem(404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL"])
def test_other_methods_are_refused(service: Service, method: str) -> None:
    answer = ask(service, request("/v1/predict", SAID, "X-HTTP-Method-Override: POST", method=method))
    assert answer.is_problem(405)
    assert SAID.encode() not in answer.raw


@pytest.mark.parametrize(
    "host", ["example.org", f"{HOST}.example.org", f"example.org:{80}", "localhost@example.org", "", "[::2]", "0.0.0.0"]
)
@pytest.mark.parametrize("path", ["/", "/v1/model", "/v1/predict", "/healthz", "/page/api.js", "/metrics"])
def test_a_page_of_another_site_gets_nowhere_by_a_name_of_its_own(service: Service, host: str, path: str) -> None:
    """Where it makes its own name lead to this machine (DNS rebinding)."""
    assert ask(service, get(path, host=host)).is_problem(421)


@pytest.mark.parametrize("origin", ["http://example.org", "null", "", "https://localhost.example.org", "http://"])
def test_a_page_of_another_site_opens_no_live_call(service: Service, origin: str) -> None:
    with pytest.raises(InvalidStatus, match="403"), connect(service.live_url, additional_headers={"Origin": origin}):
        pass


def test_a_page_of_another_site_opens_no_live_call_by_a_name_of_its_own(service: Service) -> None:
    assert ask(service, handshake("Origin: http://example.org", host="example.org")).status == 403


# WebSockets

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
START = json.dumps({"type": "start", "call": SAID}).encode()


def handshake(*headers: str, host: str = HOST, path: str = "/v1/live", method: str = "GET") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(opcode: int, data: bytes, *, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    size, mask = len(data), 0x80 if masked else 0
    if size < 126:
        length = bytes([mask | size])
    elif size < 2**16:
        length = bytes([mask | 126]) + struct.pack(">H", size)
    else:
        length = bytes([mask | 127]) + struct.pack(">Q", size)
    return bytes([(0x80 if final else 0) | reserved | opcode]) + length + (b"\0\0\0\0" if masked else b"") + data


def last_code(service: Service, frames: Iterable[bytes]) -> int:
    """With what code a live call is closed that such frames are sent to."""
    with socket.create_connection((HOST, service.port), timeout=10) as connection:
        connection.sendall(handshake())
        while b"\r\n\r\n" not in connection.recv(2**16):
            pass
        got = b""
        with suppress(ConnectionError):
            connection.sendall(frame(TEXT, START))
            for piece in frames:
                connection.sendall(piece)
        with suppress(ConnectionError):
            while piece := connection.recv(2**16):
                got += piece
                if (at := got.find(b"\x88")) >= 0 and len(got) >= at + 4:
                    connection.sendall(frame(CLOSE, got[at + 2 : at + 4]))
    at = got.rindex(b"\x88")
    return int.from_bytes(got[at + 2 : at + 4], "big")


FRAMES = {
    "not masked": (1002, [frame(TEXT, b"{}", masked=False)]),
    "reserved bits": (1002, [frame(TEXT, b"{}", reserved=0x40)]),
    "an unknown kind": (1002, [frame(3, b"{}")]),
    "the rest of nothing": (1002, [frame(0, b"{}")]),
    "a long ping": (1002, [frame(PING, b"x" * 126)]),
    "a ping in pieces": (1002, [frame(PING, b"x", final=False)]),
    "two beginnings": (1002, [frame(TEXT, b"{", final=False), frame(TEXT, b"{", final=False)]),
    "a short farewell": (1002, [frame(CLOSE, b"x")]),
    "a farewell that is reserved": (1002, [frame(CLOSE, struct.pack(">H", 1005))]),
    "HTTP": (1002, [SMUGGLED]),
    "no UTF-8": (1007, [frame(TEXT, SAID.encode() + b"\xff")]),
    "a lone surrogate": (1007, [frame(TEXT, b'"\xed\xa0\x80"')]),
    "a large frame": (1009, [frame(TEXT, SAID.encode() * LIVE_MESSAGE_BYTES)]),
    "a huge frame": (1009, [b"\x81\xff" + b"\xff" * 8]),
    "a message of many frames": (1009, [frame(TEXT, b"{", final=False), *[frame(0, b" " * 1000, final=False)] * 300]),
    "a large message that is no text": (1009, [frame(BINARY, b"\0" * (LIVE_MESSAGE_BYTES + 1))]),
    "messages that are none, then an end": (
        1000,
        [*[frame(TEXT, b"[" * 1000), frame(BINARY, b"\xff"), frame(TEXT, b"")] * 100, frame(TEXT, b'{"type": "end"}')],
    ),
    "a thousand pings, then an end": (1000, [*[frame(PING, b"x")] * 1000, frame(TEXT, b'{"type": "end"}')]),
    "empty pieces, then an end": (
        1000,
        [frame(TEXT, b'{"type"', final=False), *[frame(0, b"", final=False)] * 1000, frame(0, b': "end"}')],
    ),
}


@pytest.mark.parametrize(("code", "frames"), FRAMES.values(), ids=FRAMES)
def test_what_is_no_message_closes_the_live_call(service: Service, code: int, frames: list[bytes]) -> None:
    assert last_code(service, frames) == code


@pytest.mark.parametrize(
    "sent",
    [
        handshake(path=f"/{SAID}"),
        handshake(path="/v1/predict"),
        handshake(path="/v1/live/"),
        handshake(path="/v1/live%00"),
        handshake(host="example.org"),
        handshake(method="POST"),
        handshake(f"Sec-WebSocket-Key: {SAID}"),
        handshake("Sec-WebSocket-Version: 7"),
        handshake(f"X: {SAID * 1_500}"),
        handshake(*(f"X{i}: {SAID}" for i in range(200))),
        handshake("Content-Length: 5") + b"12345",
        handshake("Transfer-Encoding: chunked") + b"0\r\n\r\n",
        handshake(f"X: {SAID * 17_000}"),
    ],
    ids=range(13),
)
def test_a_handshake_that_is_none_opens_nothing(service: Service, sent: bytes) -> None:
    assert ask(service, sent, seconds=5).status in (None, 400, 403, 405)


def test_clients_that_vanish_in_a_live_call_leave_nothing(service: Service) -> None:
    turn = {"type": "turn", "speaker": "agent", "text": f"What is {SAID}?"}
    for number in range(30):
        with suppress(ConnectionClosed), connect(service.live_url) as live:
            live.send(json.dumps({"type": "start", "call": f"vanishes {number}"}))
            for seq in range(number % 5):
                live.send(json.dumps({**turn, "seq": seq}))
            if number % 2:
                live.send('{"type": "end"}')
            live.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            live.socket.close()
    with service.client() as client:
        until = time.monotonic() + 5
        while "listening_live_connections 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < until


def test_who_has_lost_a_live_call_to_another_connection_cannot_end_it(service: Service) -> None:
    with connect(service.live_url) as old, connect(service.live_url) as new:
        for live in (old, new):
            live.send('{"type": "start", "call": "taken over"}')
            live.recv(timeout=5)
        old.send('{"type": "end"}')
        with pytest.raises(ConnectionClosed, match="4409"):
            old.recv(timeout=5)
        new.send('{"type": "turn", "seq": 0, "speaker": "customer", "text": "Hello."}')
        assert json.loads(new.recv(timeout=5))["totals"]["customer_turns"] == 1


def test_an_agents_turn_that_turns_out_to_be_the_customers_is_not_waited_for(service: Service) -> None:
    with connect(service.live_url) as live:
        live.send('{"type": "start", "call": "whose"}')
        for speaker in ("agent", "customer"):
            live.send(json.dumps({"type": "turn", "seq": 0, "speaker": speaker, "text": SAID}))
        live.send('{"type": "end"}')
        answers = [json.loads(live.recv(timeout=5))]
        while answers[-1]["type"] != "ended":
            answers.append(json.loads(live.recv(timeout=5)))
    assert answers[-1]["totals"] == {"agent_turns": 0, "customer_turns": 1, "labels": {}}


# Slowness: with limits of a moment, where the service has some of 20 seconds


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that waits for nobody longer than half a second."""
    app = FastAPI()
    add_problem_handlers(app)
    app.router.route_class = StrictRoute

    @app.post("/")
    async def echo(body: dict[str, Any]) -> Json:
        return Json(body)

    seconds = 0.5
    monkeypatch.setattr(protocol, "BODY_SECONDS", seconds)
    guarded = Guarded(app, Metrics(), Keys(), body_seconds=seconds)
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        config = Config(
            guarded, http=protocol.LimitedProtocol, log_level="warning", timeout_keep_alive=1, lifespan="off"
        )
        running = Server(config)
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        running.should_exit = True
        thread.join()


def drip(port: int, first: bytes, rest: bytes, pause: float = 0.2) -> tuple[Answer, float]:
    """Send bytes slowly, one after the other, and say what came back and after how many seconds."""
    begun, got = time.monotonic(), b""
    with socket.create_connection((HOST, port), timeout=pause) as connection, suppress(ConnectionError):
        connection.sendall(first)
        for byte in rest:
            with suppress(TimeoutError):
                while piece := connection.recv(2**16):
                    got += piece
                break
            connection.sendall(bytes([byte]))
    return Answer(got), time.monotonic() - begun


HEAD = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n".encode()


@pytest.mark.parametrize("first", [b"", b"P", HEAD, HEAD + b"X: "], ids=["nothing", "a letter", "a line", "a header"])
def test_a_slow_head_is_cut_off(hasty: int, first: bytes) -> None:
    answer, seconds = drip(hasty, first, b"POST / HTTP/1.1" + b"x" * 50)
    assert answer.status is None or answer.says_it_is_no_http
    assert seconds < 3


def test_a_slow_body_is_told_so_and_cut_off(hasty: int) -> None:
    answer, seconds = drip(hasty, HEAD + b"Content-Length: 100\r\n\r\n", b'{"text": "sesame sesame sesame sesame"}')
    assert answer.is_problem(408)
    assert seconds < 3


def test_a_slow_body_that_nobody_waits_for_is_cut_off(hasty: int) -> None:
    """Its request has been answered at once, as there is no such address."""
    first = HEAD.replace(b"POST /", b"POST /nothing") + b"Content-Length: 1000\r\n\r\n"
    answer, seconds = drip(hasty, first, b"x" * 60)
    assert answer.is_problem(404)
    assert seconds < 5


def test_a_connection_without_a_request_is_cut_off(hasty: int) -> None:
    answer, seconds = drip(hasty, HEAD + b"Content-Length: 2\r\n\r\n{}", b"\r\n" * 20, pause=0.3)
    assert answer.status == 200
    assert seconds < 5


# Keys

OPEN = {
    ("GET", path)
    for path in (
        "/",
        "/docs",
        "/docs-files/swagger-ui.css",
        "/healthz",
        "/metrics",
        "/openapi.json",
        "/page/index.html",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
    )
}
UNDOCUMENTED = {
    *OPEN,
    ("GET", "/v2/models/tiny/versions/1"),
    ("GET", "/v2/models/tiny/versions/1/ready"),
    ("POST", "/v2/models/tiny/versions/1/infer"),
}


@pytest.fixture(scope="module")
def running_guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    environment = {"LISTENING_CLF_ADMIN_KEYS": f"{ADMIN} another-{ADMIN}"}
    with running_service("--model", "tiny", "--api-key-file", str(file), environment=environment) as service:
        yield service


@pytest.fixture
def guarded(running_guarded: Service) -> Iterator[Service]:
    with unharmed(running_guarded, f"Authorization: Bearer {KEY}"):
        yield running_guarded


def test_every_address_needs_a_key_but_those_that_tell_nothing(guarded: Service) -> None:
    with guarded.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    documented = {
        (method.upper(), path.replace("{name}", "tiny")) for path, methods in paths.items() for method in methods
    }
    for method, path in documented | UNDOCUMENTED:
        answer = ask(guarded, request(path, "{}", method=method))
        if (method, path) in OPEN:
            assert answer.status == 200, (method, path)
        else:
            assert answer.is_problem(401), (method, path)
            assert b"www-authenticate: bearer" in answer.head


NO_KEYS = [
    "Authorization: Bearer",
    "Authorization: Bearer ",
    f"Authorization: Bearer {KEY[:-1]}",
    f"Authorization: Bearer {KEY}x",
    f"Authorization: Bearer {KEY.upper()}",
    f"Authorization: Bearer {KEY} {KEY}",
    f"Authorization: Bearer {KEY},{KEY}",
    f"Authorization: Basic {KEY}",
    f"Authorization: {KEY}",
    f"Authorization: Bearer \xff\xfe{KEY}",
    "Authorization: Bearer " + "\xc3\xa4" * 30,
    "Authorization: Bearer " + "x" * 20_000,
    "Authorization: Bearer " + KEY.replace("a", "\u0430").encode().decode("latin-1"),
    f"X-API-Key: {KEY}",
    f"Cookie: key={KEY}",
]


@pytest.mark.parametrize("header", NO_KEYS, ids=range(len(NO_KEYS)))
def test_what_is_no_key_is_refused(guarded: Service, header: str) -> None:
    assert ask(guarded, request("/v1/predict", '{"text": "x"}', header)).is_problem(401)
    assert ask(guarded, request("/v1/models/x/load", '{"source": "tiny"}', header)).is_problem(401, 403)


def test_a_key_in_the_address_is_none(guarded: Service) -> None:
    assert ask(guarded, get(f"/v1/model?key={KEY}&api_key={KEY}&access_token={KEY}")).is_problem(401)


def test_of_two_keys_a_wrong_one_first_lets_nobody_in(guarded: Service) -> None:
    headers = (f"Authorization: Bearer {SAID}{KEY}", f"Authorization: Bearer {KEY}")
    assert ask(guarded, get("/v1/model", *headers)).is_problem(401)


def test_an_api_key_is_no_admin_key(guarded: Service) -> None:
    sent = request("/v1/models/x/load", '{"source": "tiny"}', f"Authorization: Bearer {KEY}")
    assert ask(guarded, sent).is_problem(403)


@pytest.mark.parametrize("key", ["", SAID, KEY[:-1], f"{KEY}x", f"{KEY}\0", "\u00e9" * 30, "x" * 200_000])
def test_a_live_call_with_a_wrong_key_is_refused(guarded: Service, key: str) -> None:
    with connect(guarded.live_url) as live:
        live.send(json.dumps({"type": "start", "call": "x", "key": key}))
        assert json.loads(live.recv(timeout=5))["status"] == 401
        with pytest.raises(ConnectionClosed, match="1008"):
            live.recv(timeout=5)


def test_a_live_call_is_its_key_s_own(guarded: Service) -> None:
    """Who has another key begins another call, even by the same name."""
    for key, known in ((KEY, 0), (ADMIN, 0), (KEY, 1)):
        with connect(guarded.live_url) as live:
            live.send(json.dumps({"type": "start", "call": "ours", "key": key}))
            assert json.loads(live.recv(timeout=5))["next"] == known
            if key == KEY:
                live.send(json.dumps({"type": "turn", "seq": known, "speaker": "customer", "text": SAID}))
                live.recv(timeout=5)


SOURCES = [
    "\0",
    "/etc",
    "/etc/passwd",
    "/proc/self/environ",
    "~",
    "../..",
    "file:///etc",
    "file://[/x",
    "file://%00",
    "file://example.org/x",
    "http://127.0.0.1/x",
    "tiny@x",
    "a@b@c",
    "x" * 1000,
    "/" + "x" * 900,
    "\u202e",
]


@pytest.mark.parametrize("source", SOURCES, ids=range(len(SOURCES)))
def test_what_is_no_model_is_not_loaded(guarded: Service, source: str) -> None:
    body = json.dumps({"source": source})
    assert ask(guarded, request("/v1/models/x/load", body, f"Authorization: Bearer {ADMIN}")).is_problem(422)


@pytest.mark.parametrize("name", ["%00", "a%00", "a%0ab", "a%20b", "-a", "..", "%ff", "a" * 65, "a%3bb"])
def test_what_cannot_be_a_models_name_is_none(guarded: Service, name: str) -> None:
    body = json.dumps({"source": "tiny"})
    assert ask(guarded, request(f"/v1/models/{name}/load", body, f"Authorization: Bearer {ADMIN}")).is_problem(422)


# Memory


def test_two_hundred_bodies_of_8_mb_leave_nothing_behind(service: Service) -> None:
    at_the_limit = request(body=f'{{"text": "{"x" * (BODY_BYTES - 100)}"}}')
    beyond = request(body="1" * (BODY_BYTES + 1))
    strings = request(body='{"turns": ["' + '", "'.join(["x" * 1000] * 8000) + '"]}')
    for sent in (at_the_limit, beyond, strings):
        ask(service, sent)
    before = resident(service)
    for _ in range(66):
        assert ask(service, at_the_limit).is_problem(422)
        assert ask(service, beyond).status in (None, 413)
        assert ask(service, strings).is_problem(422)
    assert resident(service) - before < 60
