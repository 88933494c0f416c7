"""A slot less after each out-of-memory death, and back again by serving well."""

from hypothesis import given
from hypothesis import strategies as st

from lmx.machines.allowance import FIRST_SECONDS, FULL, LONGEST_SECONDS, Allowance, after, explain, is_earned

ENDS = st.lists(st.tuples(st.booleans(), st.floats(0, 100_000)))


def one(allowance: Allowance, *, oom: bool = False, served: float = 0.0, configured: int = 4) -> Allowance:
    return after(allowance=allowance, configured=configured, oom=oom, served=served)


def test_a_slot_is_earned_by_serving_whoever_serves() -> None:
    """Half an hour of service in one worker or in several, and each slot anew; a worker that only waits earns none."""
    two = one(one(FULL, oom=True), oom=True)
    assert two.lost == 2
    almost = one(one(two, served=FIRST_SECONDS / 2), served=FIRST_SECONDS / 2 - 1)
    assert almost.lost == 2
    assert not is_earned(almost, 0.5)
    assert is_earned(almost, 1.0)
    back = one(almost, served=1.0)
    assert (back.lost, back.served) == (1, 0.0)
    assert one(back, served=FIRST_SECONDS).lost == 0


def test_what_ends_like_the_one_before_waits_longer() -> None:
    """Each slot that was given back in vain doubles the time until the next try, up to eight hours; a long good time
    forgets that."""
    now, waits = one(FULL, oom=True), []
    for _ in range(6):
        waits.append(now.seconds)
        now = one(one(now, served=now.seconds), oom=True)
    assert waits == [1800, 3600, 7200, 14_400, 28_800, 28_800]
    well = one(now, served=LONGEST_SECONDS)
    assert well.lost == 0
    assert one(well, served=LONGEST_SECONDS) == FULL


@given(ENDS, st.integers(0, 5))
def test_there_is_always_one_slot_and_never_one_too_many(ends: list[tuple[bool, float]], configured: int) -> None:
    """Whatever happens."""
    now = FULL
    for oom, served in ends:
        now = one(now, oom=oom, served=served, configured=configured)
        assert min(1, configured) <= configured - now.lost <= configured


def test_it_is_told_until_all_are_back() -> None:
    """How many of how many, why, and when that changes."""
    text = "3 of 4 since it was out of memory; one more after 30 min of service"
    assert explain(one(FULL, oom=True), 4) == text
    assert explain(FULL, 4) is None
