"""Starts that come too often."""

import pytest

from lmx.machines.crash_loop import AllowLoads, CrashLoopMachine, ForbidLoads, restored, suspect, unclean_starts


def test_only_starts_of_the_last_minute_count() -> None:
    """Older starts, and those of a clock that was set back, do not make a loop."""
    assert unclean_starts([0.0, 30.0, 61.0, 90.0, 900.0], now=90.0) == 3


def test_the_third_unclean_start_is_safe_mode_until_it_is_quiet() -> None:
    """One start is nothing, two are suspect, three forbid loads, and quiet allows them again."""
    assert CrashLoopMachine().step("started", unclean_starts=1) == ()
    suspect = CrashLoopMachine()
    suspect.step("started", unclean_starts=2)
    assert suspect.current == "suspect"
    looping = CrashLoopMachine()
    assert looping.step("started", unclean_starts=3) == (ForbidLoads(),)
    assert looping.current == "safe_mode"
    assert looping.step("quiet") == (AllowLoads(),)
    assert looping.current == "watching"


@pytest.mark.parametrize(
    ("last_start", "panic", "blamed"),
    [(10.0, 11.0, "m"), (10.0, 10.0, ""), (10.0, 9.0, ""), (10.0, None, ""), (None, 11.0, "")],
)
def test_only_a_panic_after_an_unclean_start_has_a_suspect(
    last_start: float | None, panic: float | None, blamed: str
) -> None:
    """A panic before the last start is an old story; after a clean stop it was not ours."""
    assert suspect(latest="m", last_start=last_start, panic=panic) == blamed


def test_what_is_restored_comes_once_each_in_order() -> None:
    """First what the config wants, then what was loaded, never the suspect."""
    assert restored(preload=("c", "a"), loaded=("a", "b", "d"), suspect="b") == ("c", "a", "d")
    assert restored(preload=("a",), loaded=(), suspect="a") == ()
