"""The judgement of the watchdog, on a clock that the test moves; tests/e2e has real processes that hang."""

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

import pytest

from lmx.actors.timers import TimerThread
from lmx.notify import Notify
from lmx.system import SystemClock
from lmx.watchdog import STUCK, Watchdog, of_actor, of_timers, stacks
from tests.support.house import Actors

LIMIT = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class One:
    """Answers a question when it is told to; `prompt`: at once."""

    def __init__(self, prompt: bool = True) -> None:
        self.prompt = prompt
        self.asked: list[Callable[[], None]] = []

    def ask(self, answered: Callable[[], None]) -> None:
        self.asked.append(answered)
        if self.prompt:
            answered()

    def answer(self) -> None:
        self.asked[-1]()


class Case:
    """A watchdog over `loop` and `actor`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ends: list[Mapping[str, float]] = []
        self.beats: list[float] = []
        self.loop, self.actor = One(), One()
        case = self

        class Heard(Notify):
            def alive(self, now: float) -> None:
                case.beats.append(now)

        self.watchdog = Watchdog(LIMIT, Heard(), self.ends.append, self.clock)
        self.watchdog.watch("loop", self.loop.ask)
        self.watchdog.watch("actor", self.actor.ask)

    def pass_time(self, seconds: int, step: float = 1.0) -> None:
        for _ in range(seconds):
            self.clock.now += step
            self.watchdog.look()
            if self.ends:
                return


@pytest.fixture
def case() -> Case:
    return Case()


def test_who_answers_lives(case: Case) -> None:
    """An hour of answers ends nothing, and the service manager is told every second that all is well."""
    case.pass_time(3600)
    assert not case.ends
    assert len(case.beats) == 3600


@pytest.mark.parametrize("silent", ["loop", "actor"])
def test_either_silence_is_an_end(case: Case, silent: str) -> None:
    """The loop or the actors: not before the limit, and less than two seconds after it; asked many times in vain."""
    case.pass_time(5)
    one = case.loop if silent == "loop" else case.actor
    one.prompt, before = False, len(one.asked)
    case.pass_time(20)
    assert not case.ends
    case.pass_time(2)
    assert [list(end) for end in case.ends] == [[silent]]
    assert LIMIT <= case.ends[0][silent] < LIMIT + 2
    assert len(one.asked) - before > 2


def test_a_late_answer_is_an_answer(case: Case) -> None:
    """Slow is not dead: 19 s of silence, an answer, 19 s of silence, and so on."""
    case.loop.prompt = False
    for _ in range(5):
        case.pass_time(19)
        case.loop.answer()
    assert not case.ends


def test_one_question_is_no_proof(case: Case) -> None:
    """Whoever was asked only once is not judged, however long ago that was."""
    case.loop.prompt = False
    case.pass_time(1)
    case.clock.now += 1.9
    case.watchdog.look()
    assert case.watchdog.lags()["loop"] == pytest.approx(1.9)
    assert not case.ends


def test_its_own_sleep_is_forgiven(case: Case) -> None:
    """F48: nobody answers while the machine sleeps for eight hours; the count starts over when it wakes."""
    case.loop.prompt = case.actor.prompt = False
    case.pass_time(15)
    case.clock.now += 8 * 3600
    case.watchdog.look()
    case.pass_time(19)
    assert not case.ends
    case.pass_time(3)
    assert set(case.ends[0]) == {"loop", "actor"}


def test_the_manager_hears_nothing_of_a_process_that_hangs(case: Case) -> None:
    """WATCHDOG=1 stops well before the end: systemd ends what this thread could not."""
    case.actor.prompt = False
    case.pass_time(25)
    assert case.ends
    assert max(case.beats) - 1000 <= LIMIT / 2 + 1


def test_it_ends_the_process_once(case: Case) -> None:
    case.loop.prompt = False
    case.pass_time(22)
    assert len(case.ends) == 1


def test_at_the_end_only_the_loop_is_watched(case: Case) -> None:
    """Actors that were stopped answer no more, as they should; a loop that hangs in its last seconds still ends it."""
    case.actor.prompt = False
    case.pass_time(10)
    case.watchdog.watch_only("loop")
    case.pass_time(60)
    assert not case.ends
    case.loop.prompt = False
    case.pass_time(25)
    assert set(case.ends[0]) == {"loop"}


def test_the_lag_is_what_an_answer_took(case: Case) -> None:
    """For /admin/health: of the latest answer, or of the one that is still owed."""
    case.loop.prompt = False
    case.pass_time(1)
    case.clock.now += 0.5
    case.loop.answer()
    assert case.watchdog.lags() == {"loop": 0.5, "actor": 0.0}
    case.pass_time(4)
    assert case.watchdog.lags()["loop"] == 3.0


def test_a_watchdog_that_raises_ends_the_process() -> None:
    """Nobody would watch any more, and nobody would know."""
    ended = threading.Event()
    raised: list[object] = []
    hook, threading.excepthook = threading.excepthook, lambda args: raised.append(args.exc_type)

    def ask(answered: Callable[[], None]) -> None:
        raise RuntimeError("the question cannot be put")

    try:
        watchdog = Watchdog(LIMIT, Notify(), lambda _: ended.set())
        watchdog.watch("loop", ask)
        watchdog.start()
        assert ended.wait(10)
        watchdog.stop()
    finally:
        threading.excepthook = hook
    assert raised == [RuntimeError]


def test_real_actors_and_timers_answer() -> None:
    """Every actor answers a ping in its own thread, whatever its messages are; so does the timer thread."""
    actors, timers = Actors(), TimerThread(SystemClock())
    timers.start()
    try:
        for ask in (of_actor(actors.journal), of_actor(actors.loader), of_timers(timers)):
            answered = threading.Event()
            ask(answered.set)
            assert answered.wait(5)
    finally:
        actors.close()
        timers.stop()


def test_the_stacks_name_thread_file_line_and_function() -> None:
    """What the last log line holds."""
    inside, leave = threading.Event(), threading.Event()

    def hang_here() -> None:
        inside.set()
        leave.wait(10)

    thread = threading.Thread(target=hang_here, name="the one that hangs")
    thread.start()
    try:
        assert inside.wait(5)
        frames = stacks()["the one that hangs"]
    finally:
        leave.set()
        thread.join()
    assert any(frame.startswith(__file__) and frame.endswith("hang_here") for frame in frames)


STOP_THAT_HANGS = """
import asyncio, threading
from lmx.watchdog import leave_within

async def main():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    leave_within(0.2).start()

asyncio.run(main())
"""


def test_a_stop_that_hangs_in_a_thread_ends() -> None:
    """asyncio waits without end for what runs in its threads, as a read from a disk that is gone; the loop turns."""
    command = [sys.executable, "-c", STOP_THAT_HANGS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == STUCK, ended.stderr
    assert "'stop': 0.2" in ended.stdout + ended.stderr
