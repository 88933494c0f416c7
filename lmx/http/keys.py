"""API keys: which routes need one, and what is said to who has none. Keys are kept and compared as digests only."""

import re
from collections.abc import Iterable
from enum import Enum
from hashlib import sha256
from hmac import compare_digest

from aiohttp import web

from lmx.http.errors import ApiError

SHOWN_FROM = 16
"""Characters from which on a masked key shows its ends."""
PAGES = frozenset({"/", "/static/{name}", "/openapi.json", "/docs", "/docs/{name}"})
OPEN = PAGES | {"/healthz", "/livez", "/readyz", "/startupz", "/.well-known/lmx"}
CHALLENGE = {"WWW-Authenticate": "Bearer"}
MISSING = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth"
    " (i.e. Authorization: Bearer YOUR_KEY)."
)
FORBIDDEN = "Your API key has insufficient permissions for this operation: {needed} key is needed."

_HEADERS = re.compile(r"(authorization|x-api-key|bearer|basic)\b.*", re.IGNORECASE | re.DOTALL)


class Role(Enum):
    INFERENCE = "an inference"
    ADMIN = "the admin"


class KeyRing:
    """The keys that open something; without any, everything is open."""

    def __init__(self, inference: Iterable[str] = (), admin: str = "") -> None:
        self._digests = [(_digest(key), Role.INFERENCE) for key in inference]
        self._guarded = {Role.INFERENCE: bool(self._digests), Role.ADMIN: bool(self._digests or admin)}
        if admin:
            self._digests.append((_digest(admin), Role.ADMIN))

    def guards(self, roles: frozenset[Role]) -> bool:
        """Whether a key of one of the roles is asked for. Inference keys alone close the admin's routes to all."""
        return bool(roles) and all(self._guarded[role] for role in roles)

    def roles(self, key: str) -> frozenset[Role]:
        """What the key opens. Takes as long for any key of the same length: every known key is compared."""
        digest = _digest(key)
        return frozenset([role for known, role in self._digests if compare_digest(known, digest)])

    def check(self, roles: frozenset[Role], request: web.BaseRequest) -> None:
        """Raises ApiError unless the headers hold a key of one of the roles, or none of them is guarded."""
        if not self.guards(roles):
            return
        key = _given(request)
        found = self.roles(key)
        if not found:
            raise incorrect(key)
        if not found & roles:
            text = FORBIDDEN.format(needed=" or ".join(role.value for role in roles))
            raise ApiError(403, text, "insufficient_permissions")


def needed(route: str | None) -> frozenset[Role]:
    """The roles that may ask for a route, by its pattern, never by the path that was sent; None = no such route."""
    if route is None:
        return frozenset(Role)
    if route in OPEN:
        return frozenset()
    return frozenset({Role.ADMIN if route.startswith("/admin/") or route == "/metrics" else Role.INFERENCE})


def sent(request: web.BaseRequest) -> str:
    """Who asks, where no key is checked: the key however it was sent, "" for none. To be kept as a digest only."""
    value = request.headers.get("Authorization", "")
    scheme, _, key = value.partition(" ")
    if scheme.lower() == "bearer":
        return key.strip(" ")
    return value or request.headers.get("x-api-key", "")


def mask(key: str) -> str:
    """`sk-…xMYA`: enough to tell one's keys apart, and nothing of one that is short or odd."""
    plain = key.isascii() and key.isprintable()
    return f"{key[:3]}…{key[-4:]}" if plain and len(key) >= SHOWN_FROM else "…"


def scrubbed(text: str) -> str:
    """A parser's complaint, which may quote a header, without the key in it."""
    return _HEADERS.sub(r"\1 …", text)


def incorrect(key: str) -> ApiError:
    text = f"Incorrect API key provided: {mask(key)}. Check the key that your client sends."
    return ApiError(401, text, "invalid_api_key", headers=CHALLENGE)


def _given(request: web.BaseRequest) -> str:
    """The key that was sent: in `Authorization`, or else in `x-api-key`. The URL is never looked at."""
    for name in ("Authorization", "x-api-key"):
        values = request.headers.getall(name, [])
        if len(values) > 1:
            raise ApiError(401, f"There is more than one {name} header.", "invalid_api_key", headers=CHALLENGE)
        if values and values[0]:
            return values[0] if name == "x-api-key" else _bearer(values[0])
    raise ApiError(401, MISSING, headers=CHALLENGE)


def _bearer(value: str) -> str:
    scheme, _, key = value.partition(" ")
    if scheme.lower() != "bearer":
        raise incorrect("")
    return key.strip(" ")


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogateescape")).digest()
