"""The memory ledger's plan."""

from hypothesis import given
from hypothesis import strategies as st

from lmx.machines.memory import Evict, Fits, TooBig, plan


def test_what_fits_is_loaded() -> None:
    """Enough free memory within the budget: go."""
    assert plan(need=5, free=10, budget=9, held={}, idle_first=[]) == Fits()


def test_the_budget_binds_even_when_the_machine_has_more() -> None:
    """Models together never hold more than the configured share."""
    assert isinstance(plan(need=5, free=100, budget=9, held={"a": 6}, idle_first=[]), TooBig)


def test_the_longest_unused_goes_first_and_no_more_than_needed() -> None:
    """Evict from the front of the list, and stop as soon as it fits."""
    held = {"old": 2, "middle": 3, "new": 4}
    assert plan(need=5, free=2, budget=100, held=held, idle_first=list(held)) == Evict(("old", "middle"))


def test_a_refusal_shows_its_figures() -> None:
    """What cannot fit is refused with what could be free, what is needed, and the budget."""
    assert plan(need=50, free=10, budget=20, held={"a": 5}, idle_first=["a"]) == TooBig(15, 50, 20)


@given(
    need=st.integers(0, 50),
    free=st.integers(0, 60),
    budget=st.integers(0, 60),
    sizes=st.dictionaries(st.text(min_size=1, max_size=2), st.integers(0, 20), max_size=5),
    data=st.data(),
)
def test_nothing_busy_is_evicted_and_what_is_granted_fits(
    need: int, free: int, budget: int, sizes: dict[str, int], data: st.DataObject
) -> None:
    """Only idle models are chosen; after the plan the load stays within budget and free memory."""
    idle = data.draw(st.lists(st.sampled_from(sorted(sizes)), unique=True)) if sizes else []
    decided = plan(need=need, free=free, budget=budget, held=sizes, idle_first=idle)
    match decided:
        case Fits():
            assert need + sum(sizes.values()) <= budget
            assert need <= free
        case Evict(models):
            assert set(models) <= set(idle)
            gone = sum(sizes[model] for model in models)
            assert need + sum(sizes.values()) - gone <= budget
            assert need <= free + gone
