"""Every bad input gets the answer that OpenAI would give, in its envelope, and none reaches an actor.

The rows are in tests/data/bad_inputs.py; that every answer keeps to OpenAI's schema, is short and has an id is seen by
tests/support/witness for all of them.
"""

import gzip
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import structlog
import yarl

from lmx.http.browser import Neighbours
from lmx.http.keys import KeyRing
from tests.data import bad_inputs
from tests.data.bad_inputs import CHAT, COMPLETIONS, EMBEDDINGS, GOOD, JSON, Request
from tests.http.conftest import Serve, Served

ROOT = Path(__file__).parents[2]
FIELDS = [(path, *row) for path, rows in (
    (CHAT, bad_inputs.CHATS), (COMPLETIONS, bad_inputs.TEXTS), (EMBEDDINGS, bad_inputs.VECTORS)
) for row in rows]  # fmt: skip
LONG_ECHO = re.compile(r"(.)\1{100}")
"""More than is echoed: what is long in the rows says the same all the time."""


def assert_error(error: Any, code: str | None, param: str | None, text: str = "") -> None:
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert text in error["message"]
    assert not LONG_ECHO.search(str(error))


@pytest.mark.parametrize(
    ("path", "sent", "code", "param", "text"),
    [pytest.param(path, *row, id=f"{name}-{row[2]}-{at}"[:80]) for at, (path, name, *row) in enumerate(FIELDS)],
)
async def test_a_bad_field_is_named(
    served: Served, path: str, sent: Any, code: str | None, param: str | None, text: str
) -> None:
    """A 400 says which field is wrong and how, in OpenAI's words."""
    status, headers, body = await served.post(path, sent)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert headers["x-request-id"]
    assert_error(body["error"], code, param, text)
    assert served.admission.messages == []


async def begin(serve: Serve, request: Request) -> Served:
    more: dict[str, Any] = {"max_body_bytes": request.limit} if request.limit else {}
    keys = KeyRing((bad_inputs.KEY,), bad_inputs.ADMIN_KEY) if request.locked else KeyRing()
    return await serve(keys=keys, neighbours=Neighbours(address="127.0.0.1"), **more)


@pytest.mark.parametrize(
    "request_", [pytest.param(one, id=f"{one.name}-{at}") for at, one in enumerate(bad_inputs.REQUESTS)]
)
async def test_a_bad_request_is_answered(serve: Serve, request_: Request) -> None:
    """Whatever comes, in whatever order it is wrong, the answer is a 4xx in the envelope, never a 500."""
    served = await begin(serve, request_)
    url = yarl.URL(f"http://127.0.0.1:{served.port}{request_.path}", encoded=True)
    options: Any = {"data": request_.sent, "headers": request_.headers, "skip_auto_headers": ["Content-Type"]}
    async with served.http.request(request_.method, url, **options) as reply:
        body = await reply.read()
    assert reply.status == request_.status, body
    assert len(body) <= 4096
    assert reply.headers["x-request-id"]
    assert ("WWW-Authenticate" in reply.headers) == (reply.status == 401)
    assert {name: reply.headers.get(name) for name in request_.told} == request_.told
    error = json.loads(body)["error"]
    assert_error(error, request_.code, request_.param, request_.text)
    assert error["type"] == "invalid_request_error"
    assert served.admission.messages == []


@pytest.mark.parametrize(("sent", "headers"), [pytest.param(*row[1:], id=row[0]) for row in bad_inputs.ACCEPTED])
async def test_what_looks_odd_but_is_right_is_served(serve: Serve, sent: bytes, headers: dict[str, str]) -> None:
    """Strictness refuses nothing that is valid."""
    served = await serve(keys=KeyRing((bad_inputs.KEY,)))
    known = {name.lower() for name in headers} & {"authorization", "x-api-key"}
    more = {} if known else {"Authorization": f"Bearer {bad_inputs.KEY}"}
    async with served.http.post(CHAT, data=sent, headers=headers | more) as reply:
        assert reply.status == 200


@pytest.mark.parametrize(
    ("sent", "status", "code"), [pytest.param(*row[1:], id=row[0][:60]) for row in bad_inputs.WIRE]
)
async def test_what_is_no_http_is_in_the_envelope_too(served: Served, sent: bytes, status: int, code: str) -> None:
    """B61 to B68: not HTTP, or HTTP that smuggles: one answer, an id, and the end; what was smuggled is never run."""
    reader, writer = await served.connect()
    writer.write(sent)
    answer = await reader.read()
    assert len(re.findall(rb"HTTP/1\.\d \d{3} ", answer)) == 1, answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode(), answer
    assert b"x-request-id: req_" in head
    assert_error(json.loads(body)["error"], code, None)
    assert b"smuggled" not in answer


async def test_a_body_without_a_length_stops_at_the_limit(serve: Serve) -> None:
    """B16: reading stops at the limit, however many chunks there are."""
    served = await serve(max_body_bytes=1000)

    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 100

    async with served.http.post(CHAT, data=pieces(), headers=JSON) as reply:
        assert reply.status == 413
        assert_error((await reply.json())["error"], "request_too_large", None)


async def test_a_gzip_bomb_is_413(serve: Serve) -> None:
    """B17: what counts is the unpacked size."""
    served = await serve(max_body_bytes=1_000_000)
    bomb = gzip.compress(b" " * 100_000_000)
    async with served.http.post(CHAT, data=bomb, headers=JSON | {"Content-Encoding": "gzip"}) as reply:
        assert reply.status == 413


async def test_many_tiny_chunks_are_served(served: Served) -> None:
    """B20: 20,000 chunks are no attack that works."""

    async def pieces() -> Any:
        yield GOOD[:-1]
        for _ in range(20_000):
            yield b" "
        yield b"}"

    async with served.http.post(CHAT, data=pieces(), headers=JSON) as reply:
        assert reply.status == 200


async def test_what_is_sent_cannot_forge_the_log(served: Served) -> None:
    """B96: line breaks, terminal sequences and a megabyte in path, model and user make one short line of JSON each."""
    evil = '\n{"event": "forged"}\x1b[2J'
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        with structlog.testing.capture_logs() as lines:
            await served.post(CHAT, {"model": evil + "x" * 1_000_000, "messages": bad_inputs.HI})
            await served.post(CHAT, bad_inputs.chat(user=evil + "x" * 1_000_000))
            await served.get("/v1/models/" + "x" * 5000 + "%0aforged%1b")
    finally:
        structlog.configure(**before)
    written = [json.dumps(line) for line in lines]
    assert len(written) == 3
    assert all(len(line) <= 4096 and "\n" not in line and "\x1b" not in line for line in written)


def test_every_input_of_the_list_is_tested() -> None:
    """B1 to B100: each has a row here, or a test elsewhere that exists."""
    rows = {row[1] for row in FIELDS} | {one.name for one in bad_inputs.REQUESTS}
    names = [row[0] for row in bad_inputs.ACCEPTED] + [row[0] for row in bad_inputs.WIRE]
    named = {re.split(r"[ :]", name)[0] for name in names}
    known = rows | named | set(bad_inputs.ELSEWHERE) | bad_inputs.LATER
    assert [f"B{number}" for number in range(1, 101) if f"B{number}" not in known] == []
    for place in bad_inputs.ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), place
