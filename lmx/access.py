"""The settings of who may connect: address, names, origins and keys."""

from ipaddress import ip_address
from typing import Annotated

from msgspec import Meta, Struct

from lmx.settings import SECRET

__all__ = ["Keys", "Server", "authority", "is_loopback", "unguarded"]

HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+\Z", description="names")]
Origin = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+.-]*://[^\s/,*]+\Z", description="origins (https://chat.example)")]
Secret = Annotated[
    str,
    Meta(
        min_length=8,
        pattern=r"^[!-+\--~]+\Z",
        description="keys of at least 8 printable ASCII characters, without spaces and commas",
        extra=SECRET,
    ),
]
AdminKey = Annotated[
    str,
    Meta(
        pattern=r"^\Z|^[!-+\--~]{8,}\Z",
        description="a key of at least 8 printable ASCII characters, without spaces and commas",
        extra=SECRET,
    ),
]


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The socket and its life."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on; anything but loopback lets other machines in, and needs `keys.inference`."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 1234
    """TCP port to listen on; 0 = any free one."""
    hosts: tuple[HostName, ...] = ()
    """Names that requests may be sent to, besides loopback and `host`; others are refused with 421."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages that may use the server from a browser, besides its own."""
    drain_seconds: Annotated[float, Meta(gt=0, le=604_800)] = 30.0
    """How long requests in flight may take to finish after SIGTERM."""
    fetch_images: bool = False
    """Fetch images that requests name by http(s) URLs, from public addresses only; else they are refused."""
    heartbeat_seconds: Annotated[float, Meta(gt=0, le=604_800)] = 1.0
    """Pause between comments that keep a stream alive before its first token."""


class Keys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may ask for what. They are never shown: neither in errors nor in logs."""

    inference: tuple[Secret, ...] = ()
    """Any of them opens `/v1`; none = it is open to all. In the variable there are commas between them."""
    admin: AdminKey = ""
    """Opens `/admin` and `/metrics`; empty = they are open to all, and to nobody where `keys.inference` is set."""

    def __repr__(self) -> str:
        return "Keys(…)"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def authority(host: str, port: int) -> str:
    """The two as URLs have them: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unguarded(host: str, keys: Keys) -> str | None:
    """Why lmx does not listen there, in one sentence; None = it may."""
    if is_loopback(host) or keys.inference:
        return None
    advice = "set keys.inference (or LMX_KEYS_INFERENCE) to keys that clients must send, or listen on 127.0.0.1"
    return f"{host} lets other machines in, and no API key is set: {advice}."
