"""The worker's sign of life."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lmx.backends.fake import FakeBackend
from lmx.engine.beat import LEAST, LEAST_WITH_DISK, MARGIN, UNMEASURED, Heart, Work, patience, queueing
from lmx.engine.chunks import ChunkController
from lmx.engine.jobs import Job, Jobs
from lmx.engine.process import WorkerProcess
from lmx.engine.wire import Channel
from lmx.machines import frames
from lmx.machines.types import Chat, Generation, ModelSpec
from tests.support.inbox import Inbox

Ends = tuple[Channel[frames.Command, frames.Report], Channel[frames.Report, frames.Command]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The worker's and the main process' end of one pipe."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(theirs, frames.Command), Channel(ours, frames.Report)


def test_patience_is_generous_and_never_short() -> None:
    """Ten times what was predicted, 10 s at least, a minute where a disk may be read, two of which nothing is known."""
    assert patience(None, disk=False) == patience(None, disk=True) == UNMEASURED == 120.0
    assert patience(0.01, disk=False) == LEAST == 10.0
    assert patience(0.01, disk=True) == LEAST_WITH_DISK
    assert patience(30.0, disk=True) == 30.0 * MARGIN


def test_the_longest_step_is_as_it_was_measured() -> None:
    """A whole chunk at the cost of a token, and those who decode beside it; unknown until a prompt was read."""
    chunks = ChunkController(0.1, 1.0, 512)
    assert chunks.longest() is None
    chunks.observe(2, 0, 0.05)
    assert chunks.longest() is None
    chunks.observe(0, 100, 1.0)
    assert chunks.longest() == pytest.approx(512 * 0.01 + 0.05)
    fast = ChunkController(0.1, 1.0, 512)
    fast.observe(0, 1000, 0.1)
    assert fast.longest() == pytest.approx(4 * 512 * 0.0001)


def test_a_piece_of_work_moves_the_count_when_it_begins_and_when_it_ends(ends: Ends) -> None:
    """Two beats with the same count and `busy` in both have seen one and the same piece of work."""
    work = Work()
    heart = Heart(ends[0], work, queueing=dict)
    seen = [heart.beat()]
    work.rest()
    seen.append(heart.beat())
    work.begin(30.0)
    seen.append(heart.beat())
    seen.append(heart.beat())
    work.begin(40.0)
    seen.append(heart.beat())
    assert [beat.busy for beat in seen] == [True, False, True, True, True]
    assert [beat.patience for beat in seen] == [UNMEASURED, UNMEASURED, 30.0, 30.0, 40.0]
    steps = [beat.steps for beat in seen]
    assert steps[2] == steps[3]
    assert len(set(steps)) == 4


def test_who_waits_for_a_cpu_is_given_more_time(ends: Ends) -> None:
    """On a machine that is too busy, a step's patience grows by the time that its slowest thread got no CPU."""
    work, waits = Work(), {"1": 5.0, "2": 7.0}
    heart = Heart(ends[0], work, queueing=lambda: dict(waits))
    work.begin(10.0)
    assert heart.beat().patience == 10.0
    assert heart.beat().patience == 10.0
    waits.update({"1": 5.9, "2": 7.2, "3": 100.0})
    assert heart.beat().patience == pytest.approx(10.9)
    work.begin(10.0)
    assert heart.beat().patience == 10.0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not tell")
def test_the_kernel_tells_how_long_threads_wait() -> None:
    """One number for each thread of this process."""
    found = queueing()
    assert str(threading.get_native_id()) in found
    assert all(seconds >= 0 for seconds in found.values())


def test_beats_come_once_a_second_while_the_engine_thread_does_not(ends: Ends) -> None:
    """The thread needs nothing of what the engine has."""
    Heart(ends[0], Work(), queueing=dict, seconds=0.05).start()
    beats = [ends[1].receive() for _ in range(3)]
    assert beats == [frames.Beat(0, busy=True, patience=UNMEASURED)] * 3
    ends[1].hang_up()
    for thread in threading.enumerate():
        if thread.name == "heart":
            thread.join(10)
            assert not thread.is_alive(), "it beats for nobody"


def test_a_beat_is_dropped_rather_than_waited_with(ends: Ends) -> None:
    """Nobody reads: the engine thread hangs in its write, and the beat is offered in vain, not for ever."""
    theirs, ours = ends
    big = frames.Broken("x" * 4_000_000)
    writing = threading.Thread(target=theirs.send, args=(big,))
    writing.start()
    while not theirs._sending.locked():
        time.sleep(0.001)
    began = time.monotonic()
    assert theirs.offer(frames.Beat(1, busy=True)) is False
    assert time.monotonic() - began < 2.0
    assert ours.receive() == big
    writing.join(10)
    assert theirs.offer(frames.Beat(2, busy=True)) is True
    assert ours.receive() == frames.Beat(2, busy=True)


def fill(sock: socket.socket) -> int:
    """Bytes that the kernel took."""
    sent = 0
    try:
        while True:
            sent += sock.send(b"\0" * 65536)
    except BlockingIOError:
        return sent


def test_a_full_pipe_takes_no_beat(ends: Ends) -> None:
    """The kernel's buffer is full: the beat is not begun, so no later frame is cut into."""
    theirs, ours = ends
    theirs._sock.setblocking(False)
    sent = fill(theirs._sock)
    theirs._sock.setblocking(True)
    assert theirs.offer(frames.Beat(1, busy=True)) is False
    assert ours._exactly(sent) == b"\0" * sent


def chat(text: str) -> Generation:
    return Generation(prompt=Chat(({"role": "user", "content": text},)))


class Told:
    """A worker, and what it says."""

    def __init__(self, script: str) -> None:
        self.reports: Inbox[frames.Report] = Inbox()
        self.ends: Inbox[tuple[str, str]] = Inbox()
        self.process = WorkerProcess(self.reports.tell, lambda cause, detail: self.ends.tell((cause, detail)))
        self.process.send(frames.Load(ModelSpec(name="m", path="", backend="fake", script=script)))

    def beats(self) -> list[frames.Beat]:
        return [report for report in self.reports.messages if isinstance(report, frames.Beat)]

    def await_beats(self, more: int) -> list[frames.Beat]:
        """The next so many."""
        before = len(self.beats())
        self.reports.wait(lambda told: sum(isinstance(one, frames.Beat) for one in told) >= before + more)
        return self.beats()[before:]

    def end(self) -> None:
        self.process.kill()
        self.ends.wait_for(tuple)


def test_a_worker_beats_from_its_first_second_on() -> None:
    """Also while it loads; at rest it is not busy; in a step that does not end it is, and the count stands still."""
    told = Told("load=2.5;stall=token:5")
    try:
        told.await_beats(2)
        assert not any(isinstance(report, frames.Loaded) for report in told.reports.messages)
        assert all(beat.busy for beat in told.beats())
        told.reports.wait_for(frames.Loaded)
        resting = told.await_beats(2)[-1]
        assert not resting.busy
        told.process.send(frames.Probe(7))
        assert told.reports.wait_for(frames.Probed) == frames.Probed(7)
        told.process.send(frames.Insert(1, chat("hello world")))
        told.process.send(frames.Probe(8))
        first, second = told.await_beats(3)[-2:]
        assert first.busy
        assert second.busy
        assert first.steps == second.steps > resting.steps
        assert second.patience >= LEAST
    finally:
        told.end()


def test_a_probe_does_not_end_a_load() -> None:
    """Only a Shutdown does: whatever else waits for the engine thread is done after it."""
    told = Told("load=0.5")
    try:
        told.reports.wait_for(frames.LoadProgress)
        told.process.send(frames.TrimCaches())
        told.process.send(frames.Probe(1))
        told.reports.wait_for(frames.Loaded)
        told.reports.wait_for(frames.Probed)
    finally:
        told.end()


ORPHAN = """
import sys, time
from lmx.engine.process import WorkerProcess
from lmx.machines import frames
from lmx.machines.types import ModelSpec
worker = WorkerProcess(lambda report: print(worker.pid, flush=True), lambda *_: None)
worker.send(frames.Load(ModelSpec(name="m", path="", backend="fake", script="load=60")))
time.sleep(60)
"""


def test_a_worker_does_not_outlive_its_main_process() -> None:
    """SIGKILL of the parent: the child is gone within 10 s, in the middle of a load."""
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert psutil.wait_procs([worker], timeout=10)[1] == []


CHILD = """
import socket, sys, time
from lmx.engine.beat import Heart, Work
from lmx.engine.wire import Channel
from lmx.machines import frames
Heart(Channel(socket.socket(fileno=int(sys.argv[1])), frames.Command), Work(), seconds=0.05).start()
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], pass_fds=[int(sys.argv[1])])
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_another_parent_ends_the_process_by_itself() -> None:
    """Where neither kernel nor socket tells of it: the beating thread sees that its parent is another one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", PARENT, str(theirs.fileno()), CHILD]
        parent = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with parent:
            assert parent.stdout is not None
            child = psutil.Process(int(parent.stdout.readline()))
            channel: Channel[frames.Report, frames.Command] = Channel(ours, frames.Report)
            assert isinstance(channel.receive(), frames.Beat)
            parent.kill()
        assert psutil.wait_procs([child], timeout=10)[1] == []


def test_embedding_jobs_tell_what_their_next_turn_reads() -> None:
    """The patience of a turn goes by its tokens."""
    jobs = Jobs(FakeBackend())
    assert jobs.turn_tokens == 0
    jobs.add(Job(1, [[1] * 400, [2] * 100, [3] * 100], score=False))
    assert jobs.turn_tokens == 500
