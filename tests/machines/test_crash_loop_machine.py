"""Starts that come too often."""

from lmx.machines.crash_loop import AllowLoads, CrashLoopMachine, ForbidLoads, unclean_starts


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
