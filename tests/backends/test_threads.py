"""The thread governor, by numbers."""

from lmx.backends.llama_cpp.threads import ThreadGovernor


def governor() -> ThreadGovernor:
    """Four threads; a row costs 10 ms with one."""
    made = ThreadGovernor(4)
    made.calibrate(0.01)
    return made


def test_a_quiet_machine_keeps_all_threads() -> None:
    """Steps that are faster than one thread could be leave everything as it is, with one row or many."""
    made = governor()
    for rows, seconds in ((1, 0.004), (8, 0.03), (1, 0.014), (8, 0.11)) * 5:
        made.stepped(rows, seconds, now=0.0)
        assert made.threads == 4


def test_one_slow_step_is_an_accident_two_are_a_busy_machine() -> None:
    """Two steps in a row that one thread would have done sooner: one thread it is."""
    made = governor()
    made.stepped(1, 2.0, now=0.0)
    made.stepped(1, 0.004, now=1.0)
    made.stepped(1, 2.0, now=2.0)
    assert made.threads == 4
    made.stepped(1, 2.0, now=4.0)
    assert made.threads == 1


def test_all_threads_are_tried_again_and_less_often_when_that_fails() -> None:
    """After 5 s, then 10, 20, 40, 60, 60; a good try starts from 5 s again."""
    made, now, pauses = governor(), 0.0, []
    made.stepped(1, 2.0, now)
    for _ in range(6):
        made.stepped(1, 2.0, now)
        assert made.threads == 1
        began = now
        while made.threads == 1:
            now += 1.0
            made.stepped(1, 0.01, now)
        pauses.append(now - began)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    made.stepped(1, 0.004, now)
    assert made.threads == 4


def test_a_slower_model_is_not_a_busier_machine() -> None:
    """When one thread turns out no faster (a long context), all threads come back and the measure is corrected."""
    made = governor()
    made.stepped(1, 0.05, now=0.0)
    made.stepped(1, 0.05, now=0.1)
    assert made.threads == 1
    made.stepped(1, 0.15, now=0.2)
    assert made.threads == 4
    for now in range(10):
        made.stepped(1, 0.06, now=float(now))
        assert made.threads == 4


def test_a_single_thread_is_never_governed() -> None:
    """With one core there is nothing to decide."""
    made = ThreadGovernor(1)
    made.calibrate(0.01)
    made.stepped(1, 9.0, now=0.0)
    made.stepped(1, 9.0, now=9.0)
    assert made.threads == 1
