"""What memory has to do with a request: how long its model is to stay, and whether its connection may."""

from typing import Any

import pytest

from lmx.http.gateway import Closing
from tests.http.conftest import Serve, Served

HI: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT: Any = {"model": "m", "prompt": "Hi"}


@pytest.mark.parametrize("keep_alive", [300, 0, -1, 0.5])
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", HI), ("/v1/completions", TEXT)])
async def test_a_request_says_how_long_its_model_is_to_stay(
    served: Served, path: str, body: Any, keep_alive: float
) -> None:
    """Seconds, 0 for not at all, -1 for ever: each sequence carries it; without it nothing is said."""
    await served.post(path, json={**body, "keep_alive": keep_alive, "n": 2})
    assert [ask.keep_alive for ask in await served.admission.submitted(2)] == [keep_alive, keep_alive]
    await served.post(path, json=body)
    assert (await served.admission.submitted(3))[-1].keep_alive is None


@pytest.mark.parametrize("keep_alive", ["5m", -2, 1e9, True, [1]])
async def test_what_is_no_number_of_seconds_is_refused(served: Served, keep_alive: Any) -> None:
    """By name, as every other field."""
    status, _, body = await served.post("/v1/chat/completions", json={**HI, "keep_alive": keep_alive})
    assert (status, body["error"]["param"]) == (400, "keep_alive")
    assert served.admission.submits() == []


async def test_connections_are_closed_while_memory_has_all_but_run_out(serve: Serve) -> None:
    """Every answer is the last one on its connection, and says so; later they are kept again."""
    closing = Closing()
    served = await serve(closing=closing)
    for on in (False, True, False):
        closing.tell(on)
        for send in (served.get("/healthz"), served.post("/v1/chat/completions", json=HI)):
            _, headers, _ = await send
            assert headers.get("Connection", "").lower() == ("close" if on else "")


async def test_a_closed_connection_is_closed(serve: Serve) -> None:
    """Not only announced."""
    closing = Closing()
    served = await serve(closing=closing)
    closing.tell(True)
    reader, writer = await served.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()
