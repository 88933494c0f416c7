"""The parent's side of a worker: its end is always noticed, and told by its cause."""

import errno
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from lmx.engine import death, process, wire
from lmx.engine.death import Death, describe, of_message
from lmx.engine.process import WorkerProcess
from lmx.engine.worker import _start
from lmx.machines import frames
from lmx.machines.tasks import Embedding, Rendering
from lmx.machines.types import Chat, Generation, ModelSpec, RefusalKind, Text
from tests.support.inbox import Inbox

Ends = Inbox[tuple[str, str]]
Run = Callable[..., tuple[WorkerProcess, Ends]]

HELLO = msgspec.msgpack.encode(frames.Hello(frames.PROTOCOL, 1))
HEAD = """#!{python}
import os, signal, socket, sys, time
sock = socket.socket(fileno=int(sys.argv[-1]))
"""
GREETING = f"sock.sendall({len(HELLO).to_bytes(4, 'big') + HELLO!r})\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Starts a program in the worker's place; it has `sock`, and has said its first word."""
    monkeypatch.setattr(process, "EXIT_SECONDS", 0.5)

    def start(body: str, greeting: str = GREETING) -> tuple[WorkerProcess, Ends]:
        program = tmp_path / "program"
        program.write_text(HEAD.format(python=PYTHON) + greeting + body)
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        ends: Ends = Inbox()
        return WorkerProcess(lambda _: None, lambda cause, detail: ends.tell((cause, detail))), ends

    return start


PYTHON = sys.executable
MALFORMED = (
    "The worker broke the protocol: a frame cannot be read: MessagePack data is malformed: "
    "invalid opcode '\\xc1' (byte 0)."
)


def test_a_worker_that_hangs_after_its_last_frame_is_killed(run: Run) -> None:
    """Its end of the socket is closed but its process stays: after a while it is ended, and that is told."""
    began = time.monotonic()
    worker, ends = run("sock.close()\ntime.sleep(60)\n")
    cause, detail = ends.wait_for(tuple)
    assert (cause, detail) == ("killed", "The worker closed its end but did not exit, and was killed.")
    assert time.monotonic() - began < 10
    assert not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize(
    ("body", "cause", "detail"),
    [
        ("", "exit", "The worker exited with code 0."),
        ("sys.exit(3)", "exit", "The worker exited with code 3."),
        ("sys.exit(75)", "unstarted", "The worker could not start its threads: the limit of processes is reached."),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "The worker was killed (SIGKILL)."),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal", "The worker died of SIGSEGV."),
        (
            "sock.sendall(b'garbage, garbage'); time.sleep(60)",
            "protocol",
            "The worker broke the protocol: a frame of 1734439522 bytes was announced.",
        ),
        (
            "sock.sendall(b'\\0\\0\\0\\3\\xc1\\xc1\\xc1'); time.sleep(60)",
            "protocol",
            MALFORMED,
        ),
        (
            "sock.sendall(b'\\0\\0\\0\\x09half')",
            "protocol",
            "The worker broke the protocol: the peer closed in the middle of a frame.",
        ),
        (
            "sock.sendall(b'\\0\\0\\0\\x09half'); os.kill(os.getpid(), signal.SIGKILL)",
            "killed",
            "The worker was killed (SIGKILL).",
        ),
        (
            "sock.sendall(b'\\x40\\0\\0\\0' + b'x' * 100_000); time.sleep(60)",
            "protocol",
            "The worker broke the protocol: a frame of 1073741824 bytes was announced.",
        ),
    ],
)
def test_every_end_has_a_cause(run: Run, body: str, cause: str, detail: str) -> None:
    """Exit codes, signals, and all that is no frame: told once, with the process reaped; and it costs no memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker, ends = run(body)
    assert ends.wait_for(tuple) == (cause, detail)
    assert not psutil.pid_exists(worker.pid)
    assert len(ends.messages) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("out of memory: 3 GB", "oom"),
        ("a step of mlx-lm failed: [metal::malloc] Attempting to allocate 9 bytes which is too much", "oom"),
        ("[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCall…)", "oom"),
        ("[METAL] Command buffer execution failed: Caused GPU Timeout Error (00000002:kIOGPU…)", "gpu"),
        ("CUDA error: an illegal memory access was encountered", "gpu"),
        ("CUDA error: out of memory", "oom"),
        ("llama_decode returned -3: ggml_backend_cpu_buffer: failed to allocate buffer of size 9", "oom"),
        ("slot 3 could not be moved to 1", "exit"),
        ("std::bad_alloc", "oom"),
    ],
)
def test_what_an_engine_says_when_it_breaks(message: str, cause: str) -> None:
    """Memory and GPU are named as causes of their own; the words stay as they were."""
    assert of_message(message) == Death(cause, f"The engine broke: {message}")  # type: ignore[arg-type]


def test_out_of_memory_is_guessed_only_as_a_guess() -> None:
    """A SIGKILL of somebody else, while the kernel killed for memory: `probably`; and never where it was ours."""
    assert describe(-signal.SIGKILL).cause == "killed"
    guess = describe(-signal.SIGKILL, oom_kills=1)
    assert guess.cause == "oom"
    assert "probably" in guess.detail
    assert describe(-signal.SIGKILL, ours=True, oom_kills=1) == ("killed", "lmx has killed the worker (SIGKILL).")
    assert describe(-signal.SIGSEGV, oom_kills=1).cause == "signal"
    assert describe(-63).detail == "The worker died of signal 63."


def test_the_kernel_counts_what_it_kills_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does; elsewhere nothing was killed."""
    monkeypatch.setattr(death, "VMSTAT", tmp_path / "vmstat")
    assert death.oom_kills() == 0
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 3\nzone_oom_kill 9\n")
    assert death.oom_kills() == 3


def test_what_is_too_large_for_a_frame_is_refused_and_harms_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes it for a broken protocol and dies, and so does the next one: a body of 32 MiB may come to more."""
    monkeypatch.setattr(wire, "MAX_FRAME", 200)
    worker, ends = run("sock.recv(1)\ntime.sleep(60)\n")
    reports: Inbox[frames.Report] = Inbox()
    worker._reported = reports.tell
    asked = Text("x" * 200)
    for command in (
        frames.Insert(1, Generation(prompt=asked)),
        frames.Embed(2, Embedding((asked,))),
        frames.Render(3, Rendering(asked, "tokens")),
    ):
        worker.send(command)
    told = reports.wait(lambda told: sum(isinstance(report, frames.Rejected) for report in told) == 3)
    rejected = [report for report in told if isinstance(report, frames.Rejected)]
    assert [report.seq for report in rejected] == [1, 2, 3]
    assert {report.refusal.kind for report in rejected} == {RefusalKind.INVALID_PROMPT}
    assert worker.condition() == "running"
    worker.kill()
    assert ends.wait_for(tuple)[0] == "killed"


def test_the_operating_system_is_asked_how_a_process_is(run: Run) -> None:
    """Running, stopped, running again, gone."""
    worker, ends = run("sock.recv(1)\n")
    assert worker.condition() == "running"
    os.kill(worker.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while worker.condition() != "stopped":
        assert time.monotonic() < deadline
    os.kill(worker.pid, signal.SIGCONT)
    while worker.condition() != "running":
        assert time.monotonic() < deadline
    os.kill(worker.pid, signal.SIGSTOP)
    worker.kill()
    assert ends.wait_for(tuple) == ("killed", "lmx has killed the worker (SIGKILL).")
    assert worker.condition() == "gone"


def test_a_process_that_cannot_be_looked_at_counts_as_running(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left: whoever asks does not die of that, and other proofs decide."""
    worker, ends = run("sock.recv(1)\n")

    def exhausted(_: int) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(psutil, "Process", exhausted)
        assert worker.condition() == "running"
    worker.kill()
    assert ends.wait_for(tuple)[0] == "killed"


def test_a_kill_is_noticed_although_a_grandchild_holds_the_socket(run: Run) -> None:
    """Whoever inherited the worker's end does not keep us waiting for its frames."""
    worker, ends = run("if os.fork() == 0:\n    time.sleep(20)\n    os._exit(0)\ntime.sleep(20)\n")
    worker.kill()
    assert ends.wait_for(tuple, 5.0)[0] == "killed"


def test_a_process_that_is_reaped_is_signalled_no_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id may be another one's by then."""
    worker, ends = run("")
    ends.wait_for(tuple)
    signalled: list[object] = []
    monkeypatch.setattr(os, "kill", lambda *call: signalled.append(call))
    for _ in range(3):
        worker.kill()
    assert signalled == []


def test_killing_while_it_dies_harms_nobody(run: Run) -> None:
    """Kills from another thread, just when the process ends by itself and is reaped: one end each, and no zombie."""
    for _ in range(20):
        worker, ends = run("")
        while not ends.messages:
            worker.kill()
        assert len(ends.messages) == 1
    children = psutil.Process().children()
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []


def test_an_engine_without_memory_says_so() -> None:
    """A MemoryError ends the worker with its name, not with a bare exit code."""
    ends: Ends = Inbox()
    reports: Inbox[frames.Report] = Inbox()
    worker = WorkerProcess(reports.tell, lambda cause, detail: ends.tell((cause, detail)))
    worker.send(frames.Load(ModelSpec(name="m", path="", backend="fake", script="oom=token:1")))
    reports.wait_for(frames.Loaded)
    worker.send(frames.Insert(1, Generation(prompt=Chat(({"role": "user", "content": "hello"},)))))
    assert ends.wait_for(tuple) == ("oom", "The engine broke: out of memory: the script says so")


def test_a_worker_that_has_no_thread_is_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """F25: its process could be started, but nobody could listen to it: OSError, and it is gone."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = psutil.Process().children()
    with pytest.raises(BlockingIOError, match="can't start new thread"):
        run("time.sleep(60)\n")
    assert psutil.Process().children() == before


def test_a_worker_that_cannot_start_its_threads_says_so_by_its_exit_code() -> None:
    """F25: there was a process left for it, but no thread: that is no fault of the model's."""
    spent = threading.Thread(target=lambda: None)
    spent.start()
    with pytest.raises(SystemExit) as ended:
        _start(spent)
    assert describe(ended.value.code).cause == "unstarted"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("sys.exit(1)", "The worker could not be started: it exited with code 1."),
        ("os.kill(os.getpid(), signal.SIGINT)", "The worker could not be started: it died of SIGINT."),
    ],
)
def test_who_never_said_a_word_was_not_started(run: Run, body: str, detail: str) -> None:
    """A worker that ends before it can hear of its model: no thread for its libraries, or a broken installation."""
    _, ends = run("signal.signal(signal.SIGINT, signal.SIG_DFL)\n" + body, greeting="")
    assert ends.wait_for(tuple) == ("unstarted", detail)
