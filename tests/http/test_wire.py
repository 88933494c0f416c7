"""The connection itself: who is too slow, too greedy or speaks something else, and in which form answers are sent."""

import asyncio
import contextlib
import gzip
import json
import logging
import struct
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from lmx.actors.messages import admission
from lmx.actors.messages.client import Accepted, Delta, Embedded, Finished
from lmx.http.packing import LARGE, accepts_gzip
from lmx.machines.types import Usage
from tests.http.conftest import Serve, Served
from tests.support.dummies import Act, is_silent, says, tells

CHAT = "/v1/chat/completions"
HI: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
Lines = list[MutableMapping[str, Any]]


def chat(**fields: Any) -> bytes:
    body = json.dumps(HI | fields).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextlib.contextmanager
def logged() -> Iterator[Lines]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        with structlog.testing.capture_logs() as lines:
            yield lines
    finally:
        structlog.configure(**before)


async def answer(served: Served, sent: bytes, seconds: float = 5) -> bytes:
    """All that is said until the server closes the connection."""
    reader, writer = await served.connect()
    writer.write(sent)
    return await asyncio.wait_for(reader.read(), seconds)


# --- too slow to ask ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [None, 0.01], ids=["never ends", "drips"])
async def test_headers_must_end_in_time(serve: Serve, pause: float | None) -> None:
    """B56, B57: however busily they come, they have so long from their first byte on; then 408, and the end."""
    served = await serve(header_seconds=0.2)
    reader, writer = await served.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
    closed = asyncio.create_task(reader.read())
    begun = asyncio.get_running_loop().time()
    while pause and not closed.done():
        writer.write(b"x")
        await asyncio.wait({closed}, timeout=pause)
    with contextlib.suppress(ConnectionResetError):  # it went on sending to a connection that was closed
        await asyncio.wait({closed}, timeout=5)
        assert 0.2 <= asyncio.get_running_loop().time() - begun < 2
        await closed
    if pause:
        return
    head, _, body = closed.result().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"x-request-id: req_" in head
    assert json.loads(body)["error"]["code"] == "request_timeout"


async def test_headers_that_end_in_time_are_no_matter(serve: Serve) -> None:
    """The time is that of the headers alone: not that of the body, of the answer or of the pause behind it."""
    served = await serve(header_seconds=0.1)
    reader, writer = await served.connect()
    for piece in (b"GET /healthz HTTP/1.1\r\n", b"Host: x\r\n\r\n"):
        writer.write(piece)
        await writer.drain()
    assert (await reader.readuntil(b'{"ok":true}')).startswith(b"HTTP/1.1 200")
    await asyncio.wait({asyncio.create_task(reader.read(1))}, timeout=0.3)
    assert not reader.at_eof()


async def test_connections_that_say_nothing_are_closed(serve: Serve) -> None:
    """B59: silent ones go after the idle time, without a word, and others are answered all the while."""
    served = await serve(idle_seconds=0.3)
    silent = [(await served.connect())[0] for _ in range(200)]
    assert (await served.get("/healthz"))[0] == 200
    assert await asyncio.wait_for(asyncio.gather(*(reader.read() for reader in silent)), 5) == [b""] * 200


async def test_an_idle_connection_is_closed_after_its_answer(serve: Serve) -> None:
    """H10: keep-alive ends; aiohttp's own hour does not."""
    served = await serve(idle_seconds=0.1)
    assert (await answer(served, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b'{"ok":true}')


async def test_a_slow_body_is_408(serve: Serve) -> None:
    """B58: a client that never ends its body is told so, and let go."""
    served = await serve(body_seconds=0.05)
    reader, writer = await served.connect()
    writer.write(chat()[:-1])
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408")


# --- too slow to listen ---------------------------------------------------------------------------------------------


def floods(size: int, cancelled_after: float = 0.001) -> Act:
    def act(submit: admission.Submit, cancelled: Any) -> None:
        submit.reply_to.tell(Accepted(1))
        while not cancelled.wait(cancelled_after):
            submit.reply_to.tell(Delta("x" * size))

    return act


def cut(lines: Lines) -> str:
    """Why, as the log says it; the request's own line says it too."""
    (line,) = [line for line in lines if line["event"] == "client_cut"]
    asked = [line for line in lines if line["event"] == "request"]
    assert [(one["error"], one["status"], one["message"]) for one in asked] == [
        ("client_too_slow", 499, line["why"])
    ], asked
    return str(line["why"])


async def test_a_stream_that_nobody_reads_is_cut_in_time(serve: Serve) -> None:
    """H16: what is unread for the write time-out ends the stream and the work, and the log says why."""
    served = await serve(write_seconds=0.3, backlog_bytes=2**60)
    served.admission.script = floods(200_000)
    with logged() as lines:
        _, writer = await served.connect()
        writer.write(chat(stream=True))
        assert isinstance((await served.admission.ends())[0], admission.Cancel)
    assert "read next to nothing for 0.3 s" in cut(lines)


async def test_a_stream_that_nobody_reads_holds_so_much(serve: Serve) -> None:
    """H16: long before the time-out when there is much to tell: what waits for one client is bounded."""
    served = await serve(write_seconds=600, backlog_bytes=1_000_000)
    served.admission.script = floods(50_000)
    with logged() as lines:
        _, writer = await served.connect()
        writer.write(chat(stream=True))
        assert isinstance((await served.admission.ends())[0], admission.Cancel)
    assert "more than 1000000 bytes were waiting" in cut(lines)


async def test_a_slow_reader_is_not_a_dead_one(serve: Serve) -> None:
    """What is read a little at a time goes on for as long as it takes, and is whole."""
    served = await serve(write_seconds=0.5, backlog_bytes=2**60)
    served.admission.script = says(*["x" * 100_000] * 100)
    reader, writer = await served.connect()
    writer.write(chat(stream=True))
    loop, heard = asyncio.get_running_loop(), b""
    begun = loop.time()
    while not heard.endswith(b"0\r\n\r\n"):
        heard += await reader.read(200_000)
        await asyncio.sleep(0.02)  # the test itself is the slow client
    assert heard.count(b"x" * 1000) >= 100
    assert b"data: [DONE]\n\n" in heard
    assert loop.time() - begun > 0.5


async def test_others_are_not_held_up(serve: Serve) -> None:
    """One that does not read costs nobody else a token."""
    served = await serve(write_seconds=600, backlog_bytes=2**60)
    served.admission.script = floods(200_000)
    _, writer = await served.connect()
    writer.write(chat(stream=True))
    await served.admission.submitted()
    served.admission.script = says("Hello")
    for _ in range(20):
        status, _, body = await asyncio.wait_for(served.post(CHAT, HI), 5)
        assert (status, body["choices"][0]["message"]["content"]) == (200, "Hello")


async def test_a_reply_that_nobody_reads_is_cut(serve: Serve) -> None:
    """The same for JSON: its sequence does not stay open for as long as its client stays connected."""
    served = await serve(write_seconds=0.2)
    served.admission.script = says("x" * 30_000_000)
    with logged() as lines:
        _, writer = await served.connect()
        writer.write(chat())
        assert isinstance((await served.admission.ends())[0], admission.Cancel)
    assert "read next to nothing" in cut(lines)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_noticed(served: Served, stream: bool) -> None:
    """H9, H11: its request is cancelled at once, also where nothing is written yet."""
    served.admission.script = is_silent(Accepted(5))
    _, writer = await served.connect()
    writer.write(chat(stream=stream))
    await served.admission.submitted()
    writer.close()
    assert isinstance((await asyncio.wait_for(served.admission.ends(), 5))[0], admission.Cancel)


# --- something else -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, "/v1/nope", "/healthz"])
@pytest.mark.parametrize(("expect", "length", "status"), [("bogus", 5, 417), ("100-continue", 2**40, 413)])
async def test_what_is_expected_is_known_or_refused(
    served: Served, path: str, expect: str, length: int, status: int
) -> None:
    """B65: before the body is sent, in the envelope, with an id, on any URL."""
    method = "POST" if path != "/healthz" else "GET"
    reader, writer = await served.connect()
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nExpect: {expect}\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    if (path, expect) == ("/v1/nope", "100-continue"):  # told to go on, and then that it is too much
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"x-request-id: req_" in head
    assert b"application/json" in head


@pytest.mark.parametrize("count", [3, 1000])
async def test_pipelined_requests_are_answered_in_order(served: Served, count: int) -> None:
    """B69: one after the other, however many are sent at once."""
    sent = [f"GET /v1/models/x{number} HTTP/1.1\r\nHost: x\r\n\r\n" for number in range(count)]
    sent[-1] = sent[-1].replace("Host: x", "Host: x\r\nConnection: close")
    heard = await answer(served, "".join(sent).encode(), 20)
    assert heard.count(b"HTTP/1.1 404 ") == count
    places = [heard.find(b"`x%d`" % number) for number in range(count)]
    assert places == sorted(places)
    assert places[0] > 0


UPGRADES = [b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk", b"Upgrade: websocket\r\nSec-WebSocket-Version: 13"]


@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_an_upgrade_is_not_taken(served: Served, upgrade: bytes) -> None:
    """B68: who would rather speak something else is answered in HTTP/1.1, and the connection lives on."""
    reader, writer = await served.connect()
    for more in (b"Connection: Upgrade\r\n" + upgrade, b"X: y"):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b'{"ok":true}'), 5)).startswith(b"HTTP/1.1 200 OK")


async def test_we_are_no_proxy(served: Served) -> None:
    """B68: CONNECT opens nothing."""
    reader, writer = await served.connect()
    writer.write(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    heard = await asyncio.wait_for(reader.readuntil(b"}}"), 5)
    assert heard.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/v1/models/nope", "/nope", "/metrics", CHAT])
async def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    """B66: the same status and length, nothing behind the headers, and the connection goes on."""
    got = await served.http.get(path)
    length = len(await got.read())
    heard = await answer(served, f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert heard.startswith(f"HTTP/1.1 {got.status} ".encode())
    assert heard.endswith(b"\r\n\r\n")
    if path not in ("/metrics", CHAT, "/nope"):  # figures that move, and messages that name the method
        assert f"Content-Length: {length}\r\n".encode() in heard


async def test_a_broken_body_ends_its_connection(served: Served) -> None:
    """Where the next request begins is not known: the answer says that it is the last one, and nothing is logged."""
    body = b"not gzip at all"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    with logged() as lines:
        heard = await answer(served, head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert heard.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in heard
    assert [line["event"] for line in lines] == ["request"]


# --- packed ---------------------------------------------------------------------------------------------------------

ACCEPTED = [
    ("gzip", True), ("gzip, deflate", True), ("GZIP;q=0.5", True), ("*", True), ("br, *;q=0.1", True), ("x-gzip", True),
    ("", False), ("identity", False), ("gzip;q=0", False), ("gzip; q=0.000, *", False), ("br", False), ("*;q=0", False),
]  # fmt: skip


@pytest.mark.parametrize(("header", "yes"), ACCEPTED)
def test_who_takes_gzip(header: str, yes: bool) -> None:
    """RFC 9110, 12.5.3: by name or by `*`, with a weight that is not zero."""
    assert accepts_gzip(header) == yes


@pytest.mark.parametrize("accept", ["gzip", "gzip;q=0", "identity"])
@pytest.mark.parametrize("size", [LARGE - 1000, LARGE])
async def test_large_json_is_packed_for_who_asks(served: Served, size: int, accept: str) -> None:
    """Small bodies never; `Vary` tells caches, also where it was not packed."""
    served.admission.script = says("x" * size)
    packed = size == LARGE and accept == "gzip"
    options: Any = {"headers": {"Accept-Encoding": accept}, "json": HI}
    async with served.http.post(CHAT, **options) as reply:
        assert reply.headers.get("Content-Encoding") == ("gzip" if packed else None)
        assert reply.headers.get("Vary") == ("Accept-Encoding" if size == LARGE else None)
        assert (int(reply.headers["Content-Length"]) < 1000) == packed
        assert (await reply.json())["choices"][0]["message"]["content"] == "x" * size


async def test_packed_numbers_are_the_same_numbers(served: Served) -> None:
    """What the client unpacks is what would have been sent."""
    served.admission.script = tells(
        Accepted(1), Embedded(struct.pack("<f", 0.5) * 20_000, 20_000, (1,)), Finished("stop", Usage(1, 0))
    )
    asked = {"model": "m", "input": "Hi", "encoding_format": "float"}
    bodies = []
    for accept in ("gzip", "identity"):
        async with served.http.post("/v1/embeddings", json=asked, headers={"Accept-Encoding": accept}) as reply:
            bodies.append((await reply.json())["data"])
    assert bodies[0] == bodies[1]


async def test_a_stream_is_never_packed(served: Served) -> None:
    """Packing would hold tokens back."""
    served.admission.script = says(*["x" * 1000] * 100)
    async with served.http.post(CHAT, json=HI | {"stream": True}, headers={"Accept-Encoding": "gzip"}) as reply:
        assert "Content-Encoding" not in reply.headers
        assert gzip.compress(b"")[:2] not in await reply.read()
