"""GET /admin/journal."""

import threading
from collections.abc import Awaitable, Callable
from typing import Any

from lmx.actors.messages.journal import Entry, Page

Serve = Callable[..., Awaitable[Any]]

ENTRY = Entry(seq=7, run=1, at=1.5, kind="event", actor="loader", event="fits", source="reserving", target="spawning")


async def test_a_page_is_read_off_the_loop_with_what_was_asked_for(serve: Serve) -> None:
    """Cursor, actor and limit are handed on; what blocks does so in another thread."""
    asked: list[Any] = []

    def look(since: int | None, actor: str, limit: int) -> Page:
        asked.append((since, actor, limit, threading.current_thread() is threading.main_thread()))
        return Page((ENTRY,), 7)

    served = await serve(read_journal=look)
    status, _, page = await served.get("/admin/journal")
    assert status == 200
    assert page["cursor"] == 7
    [entry] = page["entries"]
    assert (entry["seq"], entry["actor"], entry["target"]) == (7, "loader", "spawning")
    await served.get("/admin/journal?since=0&actor=model:m&limit=5")
    assert asked == [(None, "", 100, False), (0, "model:m", 5, False)]


async def test_what_cannot_be_asked_for_is_a_400(serve: Serve) -> None:
    """A cursor and a limit are whole numbers, and a limit has a bound."""
    served = await serve(read_journal=lambda *_: Page((), 0))
    odd = ("since=soon", "since=-1", f"since={'9' * 5000}", "limit=1001", "limit=²")
    for query, param in ((query, query.partition("=")[0]) for query in odd):
        status, _, body = await served.get(f"/admin/journal?{query}")
        assert (status, body["error"]["param"]) == (400, param)


async def test_a_journal_that_is_off_or_broken_says_so(serve: Serve) -> None:
    """404 where there is none, 503 with the reason where it cannot be read."""
    served = await serve()
    assert (await served.get("/admin/journal"))[0] == 404

    def broken(*_: object) -> Page:
        raise OSError("The disk is gone.")

    served = await serve(read_journal=broken)
    status, headers, body = await served.get("/admin/journal")
    assert (status, body["error"]["message"]) == (503, "The disk is gone.")
    assert "Retry-After" in headers
