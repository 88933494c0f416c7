"""The hook that looks at every answer of the whole suite finds what is wrong with one."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lmx.http.errors import ApiError
from tests.http.conftest import Served
from tests.support.server import Server
from tests.support.witness import hook
from tests.support.witness.rules import Judge
from tests.support.witness.wire import Answers

CHAT = "/v1/chat/completions"
CHUNK: dict[str, Any] = {
    "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None, "logprobs": None}],
}  # fmt: skip
ERROR = {"error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}}
ID = {"x-request-id": "a"}
JSON, SSE = ID | {"Content-Type": "application/json"}, ID | {"Content-Type": "text/event-stream"}


def answer(body: bytes, headers: dict[str, str], status: int = 200) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Any\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def as_json(value: Any, status: int = 200) -> bytes:
    return answer(json.dumps(value).encode(), JSON, status)


def as_chunks(*events: str) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in SSE.items())
    body = "".join(f"{len(event.encode()):x}\r\n{event}\r\n" for event in events)
    return f"HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n".encode()


def seen(written: bytes, method: str = "POST", path: str = CHAT, count: int = 1) -> list[str]:
    """What is said of these bytes, which come one by one as well as all at once."""
    told: list[list[str]] = []
    for size in (1, len(written)):
        faults: list[str] = []
        answers = Answers(lambda asked, head, faults=faults: Judge(asked, head, faults.append))  # type: ignore[misc]
        for _ in range(count):
            answers.asked(method, path)
        for at in range(0, len(written), size):
            answers.feed(written[at : at + size])
        answers.closed()
        told.append(faults)
    assert told[0] == told[1]
    return told[0]


def event(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


DONE = "data: [DONE]\n\n"
GOOD = [
    (as_json(ERROR, 400), "POST", CHAT),
    (as_chunks(": ping\n\n", event(CHUNK), event(CHUNK) + DONE), "POST", CHAT),
    (as_chunks(event(CHUNK), event(ERROR) + DONE), "POST", CHAT),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + as_json(ERROR, 404), "GET", "/nope"),
    (answer(b"", JSON, 404).replace(b"Length: 0", b"Length: 99"), "HEAD", "/nope"),
    (as_json({"ready": False}, 503), "GET", "/readyz"),
    (answer(gzip.compress(json.dumps({"object": "list", "data": []}).encode()), JSON | {"Content-Encoding": "gzip"}),
     "GET", "/v1/models"),
    (as_json({"type": "error", "error": {"type": "not_found_error", "message": "No."}}, 404), "POST", "/v1/messages"),
    (answer(b"<html>", ID | {"Content-Type": "text/html"}), "GET", "/"),
]  # fmt: skip
WRONG = [
    (as_json({"id": "x"}), "POST", CHAT, "not a CreateChatCompletionResponse"),
    (as_json({"error": {"message": "No."}}, 400), "POST", CHAT, "not a ErrorResponse"),
    (as_json(ERROR | {"more": 1}, 400), "POST", CHAT, "more or less than the error's envelope"),
    (as_json({"error": ERROR["error"] | {"message": "x" * 4096}}, 400), "POST", CHAT, "an error of "),
    (answer(json.dumps(ERROR).encode(), {"Content-Type": "application/json"}, 400), "GET", "/x", "no x-request-id"),
    (answer(b"Not Found", ID | {"Content-Type": "text/plain"}, 404), "GET", "/x", "JSON is expected"),
    (as_json({"ready": False}, 404), "GET", "/readyz", "not a ErrorResponse"),
    (as_json(ERROR, 404), "POST", "/v1/messages", "not Anthropic's error"),
    (as_chunks(event(CHUNK)), "POST", CHAT, "a stream that ends with"),
    (as_chunks(event(CHUNK | {"choices": [{"index": 0}]}) + DONE), "POST", CHAT, "CreateChatCompletionStreamResponse"),
    (as_chunks("id: 1\n" + event(CHUNK) + DONE), "POST", CHAT, "not an event"),
    (as_chunks("data: \n\n" + DONE), "POST", CHAT, "not an event"),
    (as_chunks(event({"error": "flat"}) + DONE), "POST", CHAT, "not a ErrorResponse"),
    (as_chunks(event({"type": "response.created"})), "POST", "/v1/responses", "not a ResponseCreatedEvent"),
    (as_chunks('event: ping\ndata: {"type": "message_stop"}\n\n'), "POST", "/v1/messages", "event ['ping'] tells"),
]


@pytest.mark.parametrize(("written", "method", "path"), GOOD, ids=range(len(GOOD)))
def test_what_is_right_is_passed(written: bytes, method: str, path: str) -> None:
    """No cry without a wolf, also for two answers in a row."""
    assert seen(written, method, path) == []
    assert seen(written + written, method, path, count=2) == []


@pytest.mark.parametrize(("written", "method", "path", "fault"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named(written: bytes, method: str, path: str, fault: str) -> None:
    """Each kind of violation, planted, is found."""
    assert any(fault in found for found in seen(written, method, path)), seen(written, method, path)


def test_half_an_answer_is_not_judged() -> None:
    """A connection that breaks says so itself; only a clean end can be a lie."""
    whole = as_chunks(event(CHUNK))
    assert seen(whole.removesuffix(b"0\r\n\r\n")) == []
    assert seen(as_json({"id": "x"})[:-3]) == []


def test_what_is_not_http_is_told() -> None:
    with pytest.raises(ValueError, match="HTTP/2"):
        seen(b"HTTP/2.0 200 OK\r\n\r\n")


async def test_a_violation_in_this_process_is_found(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a server under test writes to whomever is looked at; told once, it is not told again."""
    monkeypatch.setattr(ApiError, "body", lambda _: b'{"error": "flat"}')
    await served.get("/nope")
    fault, *_ = hook.taken()
    assert fault.startswith("GET /nope 404: not a ErrorResponse")
    assert hook.taken() == []


LIAR = """
import sys
from lmx.cli import main
from lmx.http.errors import ApiError
from tests.support.witness.hook import install_in_server
ApiError.body = lambda _: b'{"error": "flat"}'
install_in_server()
main()
"""


def test_a_violation_in_a_servers_process_is_found(tmp_path: Path) -> None:
    """So is what a real `lmx serve` writes, also when it is killed right after."""
    server = Server(tmp_path, "guide = false", program=(sys.executable, "-c", LIAR)).listen()
    server.get("/nope")
    server.process.kill()
    with pytest.raises(AssertionError, match="GET /nope 404: not a ErrorResponse"):
        server.end()
