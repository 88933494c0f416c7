"""Prompts beside decoding rows: the pause stays under the target, and little of the machine is left unused."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from lmx.engine.chunks import SMALLEST, ChunkController

Step = tuple[int, float]


def machine(
    controller: ChunkController, rows: int, cost: Callable[[int], float], decode: float, prompt: int
) -> Iterator[Step]:
    """Read a prompt beside `rows` rows: (chunk, seconds) of each step."""
    at = 0
    while at < prompt:
        chunk = min(controller.chunk(rows), prompt - at)
        seconds = decode + sum(cost(at + done) for done in range(chunk))
        controller.observe(rows, chunk, seconds)
        at += chunk
        yield chunk, seconds


def rising(at: int) -> float:
    """40 µs a token, three times as much after 30,000."""
    return 40e-6 * (1 + 2 * at / 30_000)


@pytest.mark.parametrize("decode", [0.005, 0.05, 0.12])
@pytest.mark.parametrize("known", [True, False])
def test_the_pause_stays_under_the_target(decode: float, known: bool) -> None:
    """Whatever decoding costs and whether it is known: no pause above 1.2 targets, and 75 % of what fits is read."""
    target, prompt = 0.25, 30_000
    controller = ChunkController(target, 1.0, 8192)
    if known:
        controller.observe(4, 0, decode)
    steps = list(machine(controller, 4, rising, decode, prompt))
    assert max(seconds for _, seconds in steps[2:]) <= 1.2 * target
    at, shares = 0, []
    for chunk, _ in steps[:-1]:
        shares.append(chunk * rising(at) / (target - decode))
        at += chunk
    assert sum(shares[4:]) / len(shares[4:]) >= 0.75


def test_noise_is_kept_out_of_the_pause() -> None:
    """Steps that take up to 15 % more or less than predicted: few are above the target, none far above."""
    random = Random(7)
    controller = ChunkController(0.25, 1.0, 8192)
    took = []
    for _ in range(400):
        chunk = controller.chunk(2)
        took.append((0.05 + 60e-6 * chunk) * random.uniform(0.85, 1.15))
        controller.observe(2, chunk, took[-1])
    assert max(took[2:]) <= 1.2 * 0.25
    assert sum(seconds > 0.25 for seconds in took) < 48
    assert sum(took) / len(took) > 0.75 * 0.25


def test_a_step_that_took_too_long_is_answered_at_once() -> None:
    """Another prompt, far into its context, costs three times as much: one long pause, not two."""
    controller = ChunkController(0.25, 1.0, 8192)
    for _ in range(20):
        controller.observe(2, 0, 0.02)
        chunk = controller.chunk(2)
        controller.observe(2, chunk, 0.02 + chunk * 40e-6)
    before = controller.chunk(2)
    controller.observe(2, before, 0.02 + before * 120e-6)
    after = controller.chunk(2)
    assert 0.02 + after * 120e-6 <= 0.25
    for _ in range(10):
        controller.observe(2, chunk := controller.chunk(2), 0.02 + chunk * 40e-6)
    assert controller.chunk(2) > 0.7 * before


def test_nobody_decodes() -> None:
    """Then a step reads as much as it may."""
    controller = ChunkController(0.1, 1.0, 512)
    assert controller.chunk(0) == 512
    controller.observe(0, 512, 9.0)
    assert controller.chunk(0) == 512


def test_the_first_guess_is_cautious() -> None:
    """Nothing known: few tokens. Known from prompts read alone: less than that promises."""
    controller = ChunkController(0.1, 1.0, 512)
    assert controller.chunk(1) == 64
    controller.observe(0, 512, 0.1)
    assert 128 <= controller.chunk(1) <= 400


def test_a_prompt_always_goes_on() -> None:
    """Where decoding alone takes longer than the target, a little is read all the same."""
    controller = ChunkController(0.1, 1.0, 512)
    controller.observe(8, 0, 0.5)
    controller.observe(8, 64, 0.6)
    assert controller.chunk(8) == SMALLEST
    assert ChunkController(0.1, 1.0, 16).chunk(8) == 16


def test_batch_rows_bear_longer_pauses() -> None:
    """The batch target counts when all rows are of that class."""
    controller = ChunkController(0.1, 1.0, 100_000)
    for _ in range(12):
        chunk = controller.chunk(2, batch_only=True)
        controller.observe(2, chunk, 0.01 + chunk * 1e-4)
    assert 0.01 + controller.chunk(2, batch_only=True) * 1e-4 == pytest.approx(0.95, rel=0.05)
    assert 0.01 + controller.chunk(2) * 1e-4 == pytest.approx(0.095, rel=0.05)


def test_the_last_few_tokens_of_a_prompt_teach_nothing() -> None:
    """A step of three tokens says how long decoding takes, not what a token costs."""
    controller = ChunkController(0.25, 1.0, 8192)
    for _ in range(12):
        chunk = controller.chunk(2)
        controller.observe(2, chunk, 0.02 + chunk * 40e-6)
    before = controller.chunk(2)
    controller.observe(2, 3, 0.024)
    assert controller.chunk(2) == before


def test_short_prompts_that_come_together_are_read_in_one_step() -> None:
    """Where nobody decodes, a step reads what is left of several short prompts, but of a long one no more than ever."""
    controller = ChunkController(0.25, 1.0, 512)
    controller.observe(0, 512, 0.512)
    assert controller.chunk(0, [74] * 16) == 1184
    assert controller.chunk(0, [5000]) == 512
    assert controller.chunk(0, [5000, 100]) == 612
    assert controller.chunk(0, [512] * 16) == 2000, "what takes two seconds"
    assert controller.chunk(1, [74] * 16) <= 250


def test_how_much_is_read_together_waits_for_the_first_measurement() -> None:
    """Before any step is known, no step reads more than the largest chunk."""
    assert ChunkController(0.25, 1.0, 512).chunk(0, [74] * 16) == 512
