"""Images that come with a chat: of data URLs, and of the network only where that is allowed.

What is fetched is guarded against private addresses: each address that a name stands for must be a public one, and
the connection goes to the address that was looked at.
"""

import asyncio
import ipaddress
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec.structs import replace

from lmx.http import bulk
from lmx.http.errors import ApiError, shown
from lmx.http.messages import first_image
from lmx.machines.types import Chat, Generation

MEBIBYTE = 1024 * 1024
LARGEST = 20 * MEBIBYTE
"""Bytes of one image."""
PIXELS = 50_000_000
"""Of one image: it is decoded in memory, three bytes for each."""
MOST = 32
"""Images of one request."""
ALL = 32 * MEBIBYTE
"""Bytes of them together, wherever they are from: as much as a body may bring."""
FETCH_SECONDS = 10.0
NAT64, OWN_NAT64, COMPATIBLE = map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96"))
"""IPv6 addresses that hold IPv4 ones: RFC 6052, RFC 8215 (where they lead is a network's own affair), RFC 4291."""

_DATA = re.compile(r"^data:(?P<type>[\w/+.-]*)(?P<base64>;base64)?,", re.ASCII)

Message = dict[str, Any]


async def seen(asks: Sequence[Generation], *, fetch: bool) -> tuple[list[Generation], dict[str, str]]:
    """Generations for one chat with the files of its images; and what to call them if the model does not see."""
    chat = asks[0].prompt
    if not isinstance(chat, Chat):
        return [*asks], {}
    shown_chat, names = await sight(chat, fetch=fetch)
    return [replace(ask, prompt=shown_chat) for ask in asks] if names else [*asks], names


async def sight(chat: Chat, *, fetch: bool) -> tuple[Chat, dict[str, str]]:
    """The chat with the files of its images; and what to call them if the model does not see."""
    first = first_image(chat.messages)
    if first is None:
        return chat, {}
    messages, files = await gathered(chat.messages, fetch=fetch)
    return replace(chat, messages=messages, images=files), {"messages": first}


def advice(names: Mapping[str, str]) -> dict[str, str]:
    """What to do where the model does not see, for the names that `sight` gives: the client sends all of it again."""
    text = "Leave the image at '{}' out of the conversation, also from now on, or choose a model that sees."
    return {field: text.format(place) for field, place in names.items()}


async def gathered(messages: Sequence[Message], *, fetch: bool) -> tuple[tuple[Message, ...], tuple[bytes, ...]]:
    """Messages whose image parts are without their URLs, and the files in the same order.

    A part is {"type": "image", "url", "param"}; `param` is its place in the request, for errors.
    """
    images: list[bytes] = []
    plain: list[Message] = []
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            plain.append(message)
            continue
        parts = []
        for part in content:
            if part["type"] != "image":
                parts.append(part)
                continue
            if len(images) == MOST:
                raise ApiError(400, f"A request may hold {MOST} images at most.", "too_many_images", part["param"])
            images.append(checked(await _read(part["url"], part["param"], fetch=fetch), part["param"]))
            if sum(map(len, images)) > ALL:
                raise _invalid(f"The images are larger than {ALL // MEBIBYTE} MiB together.", part["param"])
            parts.append({"type": "image"})
        plain.append({**message, "content": parts})
    return tuple(plain), tuple(images)


async def _read(url: str, param: str, *, fetch: bool) -> bytes:
    if match := _DATA.match(url):
        return await bulk.aside(len(url), _decoded, url[match.end() :], bool(match["base64"]), param)
    if not url.startswith(("http://", "https://")):
        raise _invalid(f"Invalid image URL '{shown(url)}': expected a data: URL.", param)
    if not fetch:
        text = "This server does not fetch images: send them as data: URLs, or set server.fetch_images to true."
        raise _invalid(text, param)
    return await fetched(url, param)


def _decoded(text: str, in_base64: bool, param: str) -> bytes:
    if not in_base64:
        raise _invalid("Invalid image URL: expected base64 data, as in 'data:image/png;base64,…'.", param)
    if len(text) > LARGEST * 4 // 3 + 4:
        raise _too_large(param)
    try:
        return bulk.of_base64(text)
    except ValueError as error:
        raise _invalid("Invalid image URL: its base64 data is damaged.", param) from error


def checked(data: bytes, param: str) -> bytes:
    """The same, when it is an image file of a kind and size that may be decoded."""
    if len(data) > LARGEST:
        raise _too_large(param)
    size = dimensions(data)
    if size is None:
        raise _invalid("The image is damaged, or neither PNG, JPEG, GIF nor BMP.", param)
    if not 0 < size[0] * size[1] <= PIXELS:
        raise _invalid(f"The image has {size[0]} by {size[1]} pixels: at most {PIXELS} are decoded.", param)
    return data


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height, as the file's header says; None when it has none that is known."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            width, height = struct.unpack(">II", data[16:24])
        elif data.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack("<HH", data[6:10])
        elif data.startswith(b"BM"):
            width, height = map(abs, struct.unpack("<ii", data[18:26]))
        elif data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        else:
            return None
    except struct.error:
        return None
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """From the first start-of-frame segment."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


class PublicOnly(AbstractResolver):
    """Names that stand for any address that is not public are not resolved."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = [(kind, address[0]) for kind, _, _, _, address in found]
        if not addresses or not all(is_public(str(address)) for _, address in addresses):
            raise OSError(f"{host} stands for no public address")
        return [
            ResolveResult(
                hostname=host, host=str(address), port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """It holds nothing."""


def is_public(address: str) -> bool:
    """Whether it is a host of the internet: not this machine, not its network, nor anything reserved."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    end = _end(parsed)
    return end.is_global and not end.is_multicast and parsed not in OWN_NAT64


def _end(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Where its packets end: an IPv6 address may hold an IPv4 one, and a translator on the way that leads there."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64 or address in COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


async def fetched(url: str, param: str, resolver: AbstractResolver | None = None) -> bytes:
    """At most LARGEST bytes within FETCH_SECONDS, without redirects. ApiErrors say what went wrong."""
    host = urlsplit(url).hostname or ""
    if re.fullmatch(r"[0-9.]+|.*:.*", host) and not is_public(host):  # literals are never given to a resolver
        raise _invalid(f"The image's host '{shown(host)}' is no public address.", param)
    connector = aiohttp.TCPConnector(resolver=resolver or PublicOnly(), use_dns_cache=False)
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise _invalid(f"The image could not be fetched: its server answered {answer.status}.", param)
            data = await answer.content.read(LARGEST + 1)
            while len(data) <= LARGEST and (more := await answer.content.read(LARGEST + 1)):
                data += more
            return data
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        reason = shown(str(cause) or f"no answer within {FETCH_SECONDS:g} s")
        raise _invalid(f"The image could not be fetched: {reason}.", param) from error


def _invalid(text: str, param: str) -> ApiError:
    return ApiError(400, text, "invalid_image", param)


def _too_large(param: str) -> ApiError:
    return _invalid(f"The image is larger than {LARGEST // MEBIBYTE} MiB.", param)
