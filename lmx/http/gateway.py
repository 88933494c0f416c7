"""What the routes need of the rest of lmx, and nothing more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from lmx.actors.messages import admission, alias, crash_loop, journal, vitals
from lmx.actors.messages.journal import Page
from lmx.actors.messages.ref import Ref
from lmx.http.browser import Neighbours
from lmx.http.keys import KeyRing
from lmx.http.mailbox import Post
from lmx.http.presets import Preset
from lmx.http.responses.shelf import Shelf

MEBIBYTE = 1024 * 1024


class Closing:
    """Whether every answer is to be the last one on its connection; told from other threads."""

    def __init__(self) -> None:
        self.on = False

    def tell(self, message: bool) -> None:
        self.on = message


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The actors that HTTP talks to, and what is known before any request."""

    admission: Ref[admission.Message]
    journal: Ref[journal.Message]
    crash_loop: Ref[crash_loop.Message]
    physician: Ref[vitals.Message]
    """Who looks at the machine."""
    prove: Callable[[str], None]
    """Ask the model of this name to show that it answers."""
    models: tuple[str, ...]
    """Names that may be asked for, whatever their state."""
    keys: KeyRing = field(default_factory=KeyRing)
    neighbours: Neighbours = field(default_factory=Neighbours)
    aliases: Mapping[str, Ref[alias.Message]] = field(default_factory=dict)
    """Other names of models, and who moves them."""
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By alias: who is asked after the model that it means, in this order."""
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """By the names that clients use, `preset:NAME`."""
    diagram: Callable[[str, str | None, str], str]
    """(machine, active state or None, "mermaid" | "dot" | "table") → text."""
    started: int
    """Unix time."""
    read_journal: Callable[[int | None, str, int], Page] | None = None
    """(after which seq, None = the latest; of which actor, "" = all; how many) → entries. Blocks, raises OSError."""
    chaos: Callable[[str, str, Mapping[str, int]], str] | None = None
    """(what, of which, pids of the workers by model) → what was broken; None = nothing may be. Raises ValueError."""
    default_model: str | None = None
    """Model of requests that name none; None = they are refused."""
    heartbeat_seconds: float = 1.0
    """Pause between comments on a stream before its first token; also how long its headers are held back."""
    responses: Shelf | None = None
    """Where responses are kept; None = nowhere."""
    closing: Closing = field(default_factory=Closing)
    """On when memory has all but run out."""
    board_seconds: float = 1.0
    """How long the journal may take to answer before the server counts as not ready."""
    proof_seconds: float = 2.0
    """How long /readyz waits for a silent model's proof."""
    look_seconds: float = 5.0
    """How long a look at the machine may take."""
    max_connections: int = 1024
    """At the same time; more are answered with 503 and closed."""
    request_seconds: float = 600.0
    """How long a request may take, and so the longest time that one may ask for."""
    admin_seconds: float = 600.0
    """How long an admin's load or unload is waited for."""
    body_seconds: float = 30.0
    """How long a client may take to send a body."""
    write_seconds: float = 30.0
    """How long a client may leave what is written to it unread."""
    backlog_bytes: int = MEBIBYTE
    """Of what a stream has to tell while its client does not read; with more it is cut."""
    header_seconds: float = 10.0
    """How long a client may take from the first byte of a request's headers to the last."""
    idle_seconds: float = 75.0
    """How long a connection may stay without a request, at its start and between two."""
    max_body_bytes: int = 32 * MEBIBYTE
    fetch_images: bool = False
    """Of the network, by their URLs."""

    def offers(self, name: str) -> bool:
        """Whether requests may name it: a model, an alias of one, or a preset."""
        return name in self.models or name in self.aliases or name in self.presets


GATEWAY = web.AppKey("gateway", Gateway)
POST = web.AppKey("post", Post)
