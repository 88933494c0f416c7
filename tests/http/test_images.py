"""Images of requests: data URLs are read, everything else is refused or guarded."""

import base64
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from lmx.http import images
from lmx.http.errors import ApiError
from tests.support.projector import png

PARAM = "messages[0].content[0]"


def shown(url: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image", "url": url, "param": PARAM}, {"type": "text", "text": "?"}]}]


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


async def refusal(url: str, *, fetch: bool = False) -> str:
    with pytest.raises(ApiError) as caught:
        await images.gathered(shown(url), fetch=fetch)
    assert (caught.value.status, caught.value.error.param) == (400, PARAM)
    return caught.value.error.message


async def test_a_data_url_is_read() -> None:
    """The file comes as it is; the message keeps its place for it."""
    messages, files = await images.gathered(shown(data_url(png(1))), fetch=False)
    assert files == (png(1),)
    assert messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "?"}]


async def test_all_images_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be small enough, and all of them fetched, which no body bounds: a worker takes so much and no more."""
    monkeypatch.setattr(images, "ALL", 2 * len(png(1)))
    two = shown(data_url(png(1))) * 2
    assert len((await images.gathered(two, fetch=False))[1]) == 2
    with pytest.raises(ApiError, match="together") as caught:
        await images.gathered([*two, *shown(data_url(png(1)))], fetch=False)
    assert (caught.value.status, caught.value.error.code, caught.value.error.param) == (400, "invalid_image", PARAM)


async def test_messages_of_text_are_left_alone() -> None:
    message = {"role": "user", "content": "Hi"}
    assert await images.gathered([message], fetch=False) == ((message,), ())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "data: URL"),
        ("http://169.254.169.254/latest/meta-data", "does not fetch"),
        ("https://example.com/cat.png", "does not fetch"),
        ("data:image/png,abc", "base64"),
        ("data:image/png;base64,%%%", "damaged"),
        (data_url(b"no image"), "neither PNG"),
        (data_url(b"\x89PNG\r\n\x1a\n" + b"\0" * 4), "neither PNG"),
        (data_url(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 65535, 65535)), "pixels"),
        (data_url(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 0, 9)), "pixels"),
        ("data:image/png;base64," + "A" * 30_000_000, "larger than 20 MiB"),
    ],
)
async def test_what_cannot_be_shown_is_refused(url: str, why: str) -> None:
    """B98: nothing is fetched by default, no file is read, nothing huge is decoded; the part is named."""
    message = await refusal(url)
    assert why in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://10.0.0.1/", "http://127.1/",
        "http://2130706433/", "http://localhost/", "http://169.254.169.254/", "http://0.0.0.0/", "http://[fe80::1]/",
        "http://[64:ff9b::10.0.0.1]/", "http://[64:ff9b:1::8.8.8.8]/", "http://[2002:a9fe:a9fe::1]/",
        "http://[::127.0.0.1]/", "http://[ff0e::1]/",
    ],
)  # fmt: skip
async def test_private_addresses_are_never_asked(url: str) -> None:
    """Also where fetching is allowed, however the address is written."""
    message = await refusal(url, fetch=True)
    assert "public address" in message


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
)
def test_public_addresses_are_public(address: str) -> None:
    """Also those of a network that has IPv6 alone and reaches the others through a translator."""
    assert images.is_public(address)


class Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=flags)]

    async def close(self) -> None:
        pass


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def image(_: web.Request) -> web.Response:
        return web.Response(body=png(2))

    async def huge(_: web.Request) -> web.Response:
        return web.Response(body=b"\0" * (images.LARGEST + 2))

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1/")

    app = web.Application()
    app.router.add_get("/image", image)
    app.router.add_get("/huge", huge)
    app.router.add_get("/elsewhere", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://images.example:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_an_image_is_fetched_where_that_is_allowed(site: str) -> None:
    """Whole, and without following anybody elsewhere."""
    assert await images.fetched(f"{site}/image", PARAM, Here()) == png(2)
    with pytest.raises(ApiError, match="answered 302"):
        await images.fetched(f"{site}/elsewhere", PARAM, Here())
    with pytest.raises(ApiError, match="larger"):
        images.checked(await images.fetched(f"{site}/huge", PARAM, Here()), PARAM)


def test_headers_tell_the_size() -> None:
    jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x0b\x08" + struct.pack(">HH", 30, 40)
    bmp = b"BM" + b"\0" * 16 + struct.pack("<ii", 40, -30)
    assert [images.dimensions(data) for data in (png(1), jpeg, b"GIF89a" + struct.pack("<HH", 40, 30), bmp)] == [
        (40, 30)
    ] * 4
    assert images.dimensions(b"\xff\xd8\xff\xff") is None
