"""Who is asked next of an alias's models, and what the client is told in the end."""

import pytest

from lmx.machines.fallback import CANNOT, heir, last_word
from lmx.machines.types import Refusal, RefusalKind

MODELS = ("big", "mid", "small")


@pytest.mark.parametrize("kind", sorted(CANNOT))
def test_the_next_one_in_the_list_is_asked(kind: RefusalKind) -> None:
    """In the order of the list, and each one once."""
    assert heir(kind=kind, models=MODELS, declined=("big",), spoke=False) == "mid"
    assert heir(kind=kind, models=MODELS, declined=("big", "mid"), spoke=False) == "small"
    assert heir(kind=kind, models=MODELS, declined=MODELS, spoke=False) is None


@pytest.mark.parametrize("kind", sorted(set(RefusalKind) - CANNOT))
def test_what_the_request_is_at_fault_for_is_so_everywhere(kind: RefusalKind) -> None:
    """A bad request, a full queue and a server that stops are no matter of one model."""
    assert heir(kind=kind, models=MODELS, declined=("big",), spoke=False) is None


def test_nobody_else_goes_on_with_what_was_told() -> None:
    """Once tokens were sent the answer is that model's."""
    assert heir(kind=RefusalKind.MODEL_UNLOADED, models=MODELS, declined=("big",), spoke=True) is None


def test_the_last_refusal_is_told_with_what_the_others_said() -> None:
    """Kind, waiting time and words are the last one's; the reasons of those before follow."""
    first = Refusal(RefusalKind.MODEL_LOAD_FAILED, "The file is damaged.", 30.0)
    last = Refusal(RefusalKind.INSUFFICIENT_MEMORY, "It needs 3 GB.", 10.0)
    told = last_word(model="small", refusal=last, declined={"big": first, "small": last})
    assert told == Refusal(last.kind, "It needs 3 GB. Asked before small: big (The file is damaged.).", 10.0)
    assert last_word(model="small", refusal=last, declined={"small": last}) == last


def test_a_bad_request_is_told_as_it_is() -> None:
    """Whoever said something before does not matter to it."""
    bad = Refusal(RefusalKind.INVALID_PROMPT, "It is empty.", param="messages")
    before = Refusal(RefusalKind.MODEL_UNLOADED, "It was unloaded.")
    assert last_word(model="small", refusal=bad, declined={"big": before}) == bad
