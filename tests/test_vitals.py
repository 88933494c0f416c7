"""The look at the machine lives on when the machine does not let itself be looked at."""

import errno
import threading
from pathlib import Path

import psutil
import pytest

from lmx.actors.messages.vitals import Look, Vitals
from lmx.vitals import MOST_WAITING, Physician
from tests.support.inbox import Inbox


class Hanging:
    """A disk that answers once it is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def look(self, begun: Inbox[str]) -> tuple[int | None, bool]:
        begun.tell("begun")
        self.over.wait(20)
        return 1, True


def test_a_look_that_fails_is_not_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor nothing can be looked at; once there is one, all is told again."""
    failed = Inbox[str]()
    real = psutil.virtual_memory

    def exhausted() -> None:
        monkeypatch.setattr(psutil, "virtual_memory", real)
        failed.tell("once")
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil, "virtual_memory", exhausted)
    physician, told = Physician(tmp_path, dict), Inbox[Vitals]()
    physician.tell(Look(told))
    failed.wait(lambda messages: len(messages) == 1)
    physician.tell(Look(told))
    assert told.wait(lambda messages: len(messages) == 1)[0].memory_total == real().total


def test_who_waits_for_a_disk_that_hangs_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody asks meanwhile, what waits is bounded."""
    begun, told, hanging = Inbox[str](), Inbox[Vitals](), Hanging()
    monkeypatch.setattr("lmx.vitals.disk", lambda _: hanging.look(begun))
    physician = Physician(tmp_path, dict)
    physician.tell(Look(told))
    begun.wait(lambda messages: len(messages) == 1)
    for _ in range(2 * MOST_WAITING):
        physician.tell(Look(told))
    hanging.over.set()
    begun.wait(lambda messages: len(messages) == 2)
    told.wait(lambda messages: len(messages) == 1 + MOST_WAITING)
    assert len(told.messages) == 1 + MOST_WAITING
