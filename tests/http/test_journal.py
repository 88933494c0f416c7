"""GET /admin/journal."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lmx.actors.messages.journal import Entry, Page
from lmx.http import errands

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


async def test_a_disk_that_hangs_holds_up_nobody_else(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for the journal is told so, however many ask; large answers are packed all the same, on threads too."""
    monkeypatch.setattr(errands, "SECONDS", 0.5)
    back = threading.Event()

    def hangs(*_: object) -> Page:
        back.wait(60)
        return Page((), 0)

    served = await serve(read_journal=hangs)
    try:
        answers = await asyncio.gather(*(served.get("/admin/journal") for _ in range(50)))
        assert {(status, body["error"]["message"]) for status, _, body in answers} == {(503, errands.SILENT)}
        assert (await asyncio.wait_for(served.get("/openapi.json"), 10))[0] == 200
    finally:
        back.set()
    async with asyncio.timeout(10):
        while (await served.get("/admin/journal"))[0] != 200:
            pass


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
