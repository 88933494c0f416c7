"""Restart delays and budgets."""

from hypothesis import given
from hypothesis import strategies as st

from lmx.machines.restart import RestartBudget


def test_delays_double_up_to_half_a_minute() -> None:
    """Delays are 0, 1, 2, 4, 8, 16, 30, 30 … seconds."""
    budget = RestartBudget()
    assert [budget.take(float(i * 1000), 0.0) for i in range(9)] == [0, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 12))
def test_jitter_adds_at_most_a_fifth(chance: float, earlier: int) -> None:
    """Each delay lies within [1.0, 1.2] times its base."""
    plain, jittered = RestartBudget(), RestartBudget()
    for _ in range(earlier):
        plain.take(0.0, 0.0)
        jittered.take(0.0, chance)
    base = plain.take(0.0, 0.0)
    assert base <= jittered.take(0.0, chance) <= base * 1.2


def test_five_restarts_in_thirty_seconds_spend_the_budget() -> None:
    """The sixth death within the window is one too many."""
    budget = RestartBudget()
    for now in range(5):
        assert not budget.spent(float(now))
        budget.take(float(now), 0.0)
    assert budget.spent(5.0)
    assert not budget.spent(31.0)


def test_two_bad_days_do_not_add_up() -> None:
    """Five deaths, two minutes of health, five deaths: no quarantine."""
    budget = RestartBudget()
    for start in (0.0, 600.0):
        budget.was_healthy(start / 4)
        for i in range(5):
            assert not budget.spent(start + i)
            budget.take(start + i, 0.0)


def test_one_death_after_a_long_health_is_no_crash_loop() -> None:
    """Ten deaths in a row count no more once a worker has served for two minutes, not even at its own death."""
    budget = RestartBudget()
    for i in range(10):
        budget.take(i * 100.0, 0.0)
    assert budget.spent(1_000_000.0, healthy=119.0)
    assert not budget.spent(1_000_000.0, healthy=120.0)


def test_a_slow_crash_loop_is_a_crash_loop_too() -> None:
    """Ten deaths in a row without health spend the budget, however long each load took."""
    budget = RestartBudget()
    for i in range(10):
        assert not budget.spent(i * 100.0)
        budget.take(i * 100.0, 0.0)
    assert budget.spent(1000.0)
