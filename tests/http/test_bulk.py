"""Large requests, which hold up nobody else."""

import base64
import io
import json
import threading
from typing import Any

import msgspec
import pytest

from lmx.http import bulk
from lmx.http.errors import ApiError
from tests.http.conftest import Served

MIB = 1024 * 1024


def chat(part: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": [part]}]}).encode()


def image(kind: str) -> Any:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (10).to_bytes(4, "big") * 2
    data = base64.b64encode(png + bytes(15 * MIB)).decode()
    if kind == "messages":
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def items(field: str) -> bytes:
    return json.dumps({"model": "m", field: [{"role": "user", "content": "a"}] * 40_000}).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat(image("chat"))),
        ("/v1/messages", chat(image("messages"))),
        ("/v1/chat/completions", items("messages")),
        ("/v1/responses", items("input")),
    ],
    ids=["image", "image of Anthropic", "messages", "items"],
)
async def test_a_large_request_is_read_beside_the_event_loop(
    served: Served, path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fields, and the files of its images; a small one is not worth a thread."""
    threads: set[int] = set()

    def seen(work: Any) -> Any:
        def noted(*args: Any, **named: Any) -> Any:
            threads.add(threading.get_ident())
            return work(*args, **named)

        return noted

    for module, name in ((msgspec, "convert"), (base64, "b64decode")):
        monkeypatch.setattr(module, name, seen(getattr(module, name)))
    reply = await served.http.post(path, data=io.BytesIO(body), headers={"Content-Type": "application/json"})
    assert reply.status == 200
    assert threads
    assert threading.get_ident() not in threads
    threads.clear()
    assert (await served.post("/v1/chat/completions", json.loads(chat({"type": "text", "text": "hi"}))))[0] == 200
    assert threads == {threading.get_ident()}


def test_a_body_of_too_many_values_is_refused_before_it_is_read() -> None:
    """It would be gigabytes of objects, made in one go. What stands in strings is no value."""
    with pytest.raises(
        ApiError, match="Too many values in one request: at most 1000000 are read, of them 100000 objects"
    ):
        bulk.decoded(b'{"messages": [' + b"{}," * 1_000_000 + b"{}]}")
    with pytest.raises(ApiError, match="Too many values"):
        bulk.decoded(b'{"prompt": ["a\\\\", ' + b"1," * bulk.VALUES + b"1]}")
    for text in ("a,{[" * 300_000, 'a\\",{[' * 300_000, "\\" * 999 + "," * bulk.VALUES + "\\"):
        assert bulk.decoded(json.dumps({"a": [text, "b"]}).encode()) == {"a": [text, "b"]}
    with pytest.raises(msgspec.DecodeError):
        bulk.decoded(b'{"a": "' + b"," * (bulk.VALUES + 1))


def test_base64_is_decoded_in_pieces_as_in_one() -> None:
    """What is damaged in one piece only is damaged."""
    data = bytes(range(256)) * 10_000
    text = base64.b64encode(data + b"a").decode()
    assert bulk.of_base64(text) == data + b"a"
    middle = bulk.PIECE - 1
    for broken in (f"{text[:middle]}={text[middle + 1 :]}", text[:-1], f"{text}\n", f"{text[:5]}!{text[6:]}"):
        with pytest.raises(ValueError, match=r"^(Invalid|Incorrect|Only|Excess|Non|it goes|Discon|Leading)"):
            bulk.of_base64(broken)
