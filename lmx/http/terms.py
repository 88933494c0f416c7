"""On which terms a request is made: who asks, how long they wait, and whether they ask again. From its headers."""

import math
from hashlib import blake2b

from aiohttp import web
from msgspec import Struct

from lmx.http.errors import ApiError, shown
from lmx.http.keys import sent

TIMEOUT = "x-request-timeout"
KEY = "Idempotency-Key"
RETRIES = "x-stainless-retry-count"
"""Every SDK that is made from OpenAI's specification sends it."""
LONGEST_KEY = 255


class Terms(Struct, frozen=True):
    client: str
    """Whose turn it is: an address, and the API key with it where one is sent."""
    seconds: float | None = None
    """None = as long as every request may take."""
    key: str = ""
    retry: bool = False


def terms_of(request: web.Request, longest: float) -> Terms:
    """An ApiError for a header that cannot be honoured; `longest` is how many seconds may be asked for."""
    headers = request.headers
    key = headers.get(KEY, "")
    if len(key) > LONGEST_KEY:
        text = f"Invalid '{KEY}': expected at most {LONGEST_KEY} characters, got {len(key)}."
        raise ApiError(400, text, "string_above_max_length", KEY)
    count = headers.get(RETRIES, "0")
    return Terms(
        _client(request), _seconds(headers.get(TIMEOUT), longest), key, count.isdecimal() and bool(count.strip("0"))
    )


def _client(request: web.Request) -> str:
    """On one machine, programs differ by their keys alone. A key is kept as a digest: it is nobody's business."""
    address, secret = request.remote or "unknown", sent(request)
    if not secret:
        return address
    return f"{address} {blake2b(secret.encode(errors='surrogateescape'), digest_size=8).hexdigest()}"


def _seconds(given: str | None, longest: float) -> float | None:
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 1.0 <= seconds <= longest:
        text = f"Invalid '{TIMEOUT}': expected seconds from 1 to {longest:g}, got '{shown(given)}'."
        raise ApiError(400, text, "invalid_value", TIMEOUT)
    return seconds
