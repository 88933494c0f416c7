"""What the routes need of the rest of lmx, and nothing more."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from lmx.actors.messages import admission, crash_loop, journal
from lmx.actors.messages.ref import Ref
from lmx.http.mailbox import Post

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The actors that HTTP talks to, and what is known before any request."""

    admission: Ref[admission.Message]
    journal: Ref[journal.Message]
    crash_loop: Ref[crash_loop.Message]
    models: tuple[str, ...]
    """Names that may be asked for, whatever their state."""
    diagram: Callable[[str, str | None, str], str]
    """(machine, active state or None, "mermaid" | "dot" | "table") → text."""
    started: int
    """Unix time."""
    default_model: str | None = None
    """Model of requests that name none; None = they are refused."""
    heartbeat_seconds: float = 1.0
    """Pause between comments on a stream before its first token; also how long its headers are held back."""
    board_seconds: float = 1.0
    """How long the journal may take to answer before the server counts as not ready."""
    admin_seconds: float = 600.0
    """How long an admin's load or unload is waited for."""
    body_seconds: float = 30.0
    """How long a client may take to send a body."""
    write_seconds: float = 30.0
    """How long a client may leave what is written to it unread."""
    max_body_bytes: int = 32 * MEBIBYTE


GATEWAY = web.AppKey("gateway", Gateway)
POST = web.AppKey("post", Post)
