"""The store of responses: what is on disk, what goes when there is too much, and what a broken disk does."""

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from lmx.config import Config, Responses
from lmx.http.responses.shelf import Shelf, ShelfError, Stored
from lmx.responses_file import NAME, Bounds, ResponsesFile
from lmx.responses_store import ResponseStore, opened

Open = Callable[..., ResponseStore]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Open]:
    """Start a store on the same file as before."""
    started: list[ResponseStore] = []

    def start(responses: int = 100, size: int = 1_000_000, **options: float) -> ResponseStore:
        made = ResponseStore(tmp_path / NAME, Bounds(responses, size), **options)  # type: ignore[arg-type]
        made.start()
        started.append(made)
        return made

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged; the tests are silent otherwise."""
    before, capture = structlog.get_config(), LogCapture()
    structlog.configure(processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0))
    yield capture.entries
    structlog.configure(**before)


def response(id: str, previous: str = "", *, size: int = 10, owner: str = "", items: tuple[str, ...] = ()) -> Stored:
    return Stored(id=id, owner=owner, previous=previous, response=b"r" * (size - 2), input=b"[]", items=items)


async def names(shelf: Shelf, *ids: str) -> set[str]:
    """Which of them are there."""
    return {id for id in ids if await shelf.find("", id) is not None}


async def test_it_survives_a_restart(store: Open, tmp_path: Path) -> None:
    """What was kept before a stop is there after the next start; the file is its owner's alone."""
    first = store()
    first.keep(response("a", items=("msg_a",)))
    assert first.stop()
    second = store()
    found = await second.find("", "a")
    assert found is not None
    assert (found.response, found.input) == (b"r" * 8, b"[]")
    by_item = await second.with_item("", "msg_a")
    assert by_item is not None
    assert by_item.id == "a"
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


async def test_the_number_is_bounded(store: Open) -> None:
    """The oldest go first."""
    shelf = store(responses=3)
    for id in "abcde":
        shelf.keep(response(id))
    assert await names(shelf, *"abcde") == {"c", "d", "e"}


async def test_the_bytes_are_bounded(store: Open, tmp_path: Path) -> None:
    """Also over a restart; items go with their response."""
    shelf = store(size=100)
    for id in "abc":
        shelf.keep(response(id, size=30, items=(f"msg_{id}",)))
    assert shelf.stop()
    shelf = store(size=100)
    shelf.keep(response("d", size=40))
    assert await names(shelf, *"abcd") == {"b", "c", "d"}
    assert await shelf.with_item("", "msg_a") is None
    shelf.keep(response("d", size=70))
    assert await names(shelf, *"abcd") == {"c", "d"}


async def test_a_conversation_that_goes_on_stays(store: Open) -> None:
    """Going on from a response is a use of all that it goes on from."""
    shelf = store(responses=3)
    for id, previous in (("a", ""), ("b", "a"), ("x", "")):
        shelf.keep(response(id, previous))
    assert [one.id for one in await shelf.chain("", "b")] == ["a", "b"]
    shelf.keep(response("c", "b"))
    assert await names(shelf, *"abcx") == {"a", "b", "c"}


async def test_owners_are_apart(store: Open) -> None:
    """Nobody sees, goes on from or deletes what is another one's."""
    shelf = store()
    shelf.keep(response("a", owner="x", items=("i",)))
    shelf.keep(response("b", "a", owner="y"))
    assert await shelf.find("y", "a") is None
    assert await shelf.with_item("y", "i") is None
    assert [one.id for one in await shelf.chain("y", "b")] == ["b"]
    assert await shelf.chain("y", "a") == []
    assert not await shelf.drop("y", "a")
    assert await shelf.drop("x", "a")
    assert not await shelf.drop("x", "a")


async def test_one_that_is_too_large_is_not_kept(store: Open, lines: list[Any]) -> None:
    """It is logged, and nothing else goes for it."""
    shelf = store(size=100)
    shelf.keep(response("a"))
    shelf.keep(response("b", size=101))
    assert await names(shelf, "a", "b") == {"a"}
    assert [(line["event"], line["id"]) for line in lines] == [("response_not_stored", "b")]


async def test_a_damaged_file_is_moved_aside(store: Open, tmp_path: Path, lines: list[Any]) -> None:
    """The start does not fail: a new file is begun, and the log says where the old one is."""
    (tmp_path / NAME).write_bytes(b"no database " * 1000)
    shelf = store()
    shelf.keep(response("a"))
    assert await names(shelf, "a") == {"a"}
    assert (tmp_path / f"{NAME}.broken").read_bytes().startswith(b"no database")
    assert [line["event"] for line in lines] == ["responses_failed"]


async def test_a_file_of_another_version_is_moved_aside(store: Open, tmp_path: Path, lines: list[Any]) -> None:
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("PRAGMA user_version = 99")
    shelf = store()
    shelf.keep(response("a"))
    assert await names(shelf, "a") == {"a"}
    assert "schema 99" in lines[0]["error"]


async def test_a_disk_that_refuses(store: Open, tmp_path: Path, lines: list[Any]) -> None:
    """`keep` returns, the log says what was not stored, questions fail; it is used again when it can be."""
    (tmp_path / NAME).mkdir()
    shelf = store()
    shelf.keep(response("a"))
    with pytest.raises(ShelfError):
        await shelf.find("", "a")
    assert [line["event"] for line in lines] == ["responses_failed", "response_not_stored"]
    (tmp_path / NAME).rmdir()
    shelf.keep(response("b"))
    assert await names(shelf, "a", "b") == {"b"}


async def test_a_full_disk(tmp_path: Path) -> None:
    """What did not fit is not there in part, and what was there still is."""
    file = ResponsesFile(tmp_path / NAME, Bounds(100, 10_000_000))
    file.keep(response("a", items=("i",)))
    file._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        file.keep(response("b", size=1_000_000, items=("j",)))
    assert file.find("", "a") is not None
    assert file.find("", "b") is None
    assert file.with_item("", "j") is None
    file.keep(response("c"))
    assert file.find("", "c") is not None
    file.close()


async def test_a_disk_that_hangs_holds_nobody_up(store: Open, lines: list[Any]) -> None:
    """Questions end with an error in time, and only so many jobs wait."""
    release, held = threading.Event(), threading.Event()
    shelf = store(waiting=2, seconds=0.05)

    def hang(_: ResponsesFile) -> None:
        held.set()
        release.wait(20)

    hanging = shelf._submit(hang)
    try:
        assert await asyncio.to_thread(held.wait, 20)
        with pytest.raises(ShelfError, match="did not answer"):
            await shelf.find("", "a")
        for id in "abc":
            shelf.keep(response(id))
        assert {line["event"] for line in lines} == {"response_not_stored"}
    finally:
        release.set()
    await asyncio.wrap_future(hanging)


@pytest.mark.parametrize("wanted", [Responses(count=0), Responses(bytes=0)])
def test_it_can_be_switched_off(wanted: Responses, tmp_path: Path) -> None:
    """0 = nothing is stored, and there is no file."""
    assert opened(Config(responses=wanted, state_dir=str(tmp_path))) is None
    assert not (tmp_path / NAME).exists()
