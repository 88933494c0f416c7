"""The facts of one request: its id, its one canonical log line and its metrics."""

import re
import time
from uuid import uuid4

import structlog
from aiohttp import web
from prometheus_client import Counter, Histogram

_OURS = re.compile(r"[A-Za-z0-9._-]{1,128}")
REQUESTS = Counter("lmx_http_requests", "HTTP requests by route and status.", ["method", "route", "status"])
SECONDS = Histogram(
    "lmx_http_request_seconds",
    "From the request's headers to the last byte of the answer.",
    ["route"],
    buckets=(0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
CLIENT_GONE = 499
"""The status that nginx logs when there was nobody left to send one to."""


class Record:
    def __init__(self, request: web.BaseRequest) -> None:
        self.id = request_id(request.headers.get("X-Request-ID", ""))
        self._method = request.method
        self._path = request.path
        self._client = request.remote
        self._started = time.perf_counter()
        self._facts: dict[str, object] = {}
        self._served: list[str] = []
        self.model = ""
        """Whom the request went to, as far as that is known: an alias may mean several models."""

    def served(self, model: str) -> None:
        """By this model, which took it; of several choices, each may have been taken by another one."""
        if model and model not in self._served:
            self._served.append(model)
            self._facts["served"] = self.model = ", ".join(self._served)

    def note(self, **facts: object) -> None:
        self._facts.update(facts)

    def first_text(self) -> None:
        """Now the first token reaches HTTP; later calls do nothing."""
        if "first_text_seconds" not in self._facts:
            self._facts["first_text_seconds"] = self._elapsed()

    def close(self, status: int, route: str, method: str) -> None:
        """`route` and `method` are labels: few, whatever clients send."""
        seconds = self._elapsed()
        REQUESTS.labels(method, route, str(status)).inc()
        SECONDS.labels(route).observe(seconds)
        structlog.get_logger().info(
            "request",
            request_id=self.id,
            method=self._method[:32],
            path=self._path[:256],
            status=status,
            seconds=seconds,
            client=self._client,
            **self._facts,
        )

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._started, 4)


def request_id(given: str) -> str:
    """The client's own id when it is harmless, else a new one."""
    return given if _OURS.fullmatch(given) else f"req_{uuid4().hex}"


RECORD = web.RequestKey("record", Record)
