"""The parent's side of a worker: its end is always noticed."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from lmx.engine import process
from lmx.engine.process import WorkerProcess
from tests.support.inbox import Inbox

DEAF = """#!{python}
import os, sys, time
os.close(int(sys.argv[-1]))
time.sleep(60)
"""


def test_a_worker_that_hangs_after_its_last_frame_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end of the socket is closed but its process stays: after a while it is ended, and that is told."""
    program = tmp_path / "deaf"
    program.write_text(DEAF.format(python=sys.executable))
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(process, "EXIT_SECONDS", 0.2)
    ends: Inbox[tuple[str, str]] = Inbox()
    began = time.monotonic()
    worker = WorkerProcess(lambda _: None, lambda cause, detail: ends.tell((cause, detail)))
    cause, detail = ends.wait_for(tuple)
    assert (cause, detail) == ("killed", "The worker closed its end but did not exit, and was killed.")
    assert time.monotonic() - began < 10
    assert not psutil.pid_exists(worker.pid)
