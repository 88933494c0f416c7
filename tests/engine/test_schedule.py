"""Who computes what first, and who waits for whom."""

import time
from statistics import median

from lmx.machines.types import Text, Tokens
from tests.support.engine import EngineBench


def test_a_short_prompt_overtakes_a_long_one_that_waits() -> None:
    """Shortest remaining first: of two that wait for the only slot, the short one is answered first."""
    bench = EngineBench(slots=1)
    bench.insert(1, "x" * 40)
    bench.step()
    bench.insert(2, "y" * 400)
    bench.insert(3, "z")
    bench.run()
    assert bench.order == [1, 3, 2]


def test_a_batch_sequence_lets_interactive_ones_pass() -> None:
    """The class `batch` waits behind `interactive` even when it is shorter."""
    bench = EngineBench(slots=1)
    bench.insert(1, "x" * 40)
    bench.step()
    bench.insert(2, "y", priority="batch")
    bench.insert(3, "z" * 100)
    bench.run()
    assert bench.order == [1, 3, 2]


def test_who_waited_long_is_not_overtaken_any_more() -> None:
    """Aging: after minutes a long prompt goes before a short one that has just come."""
    bench = EngineBench(slots=1)
    bench.insert(1, "x" * 40)
    bench.step()
    bench.insert(2, "y" * 400)
    bench.now += 300
    bench.insert(3, "z")
    bench.run()
    assert bench.order == [1, 2, 3]


def test_a_long_prompt_steps_back_for_a_short_one_and_loses_nothing() -> None:
    """Its slot is given away while it reads; what it had read is where it goes on, and is not called cached."""
    bench = EngineBench(slots=1, context=10_000, chunk=64)
    bench.insert(1, "x" * 3000)
    for _ in range(10):
        bench.step()
    bench.insert(2, "short")
    bench.run()
    assert bench.order == [2, 1]
    assert (bench.texts[1], bench.cached[1]) == ("x" * 3000, 0)
    assert bench.engine.computed == 3000 + 5


def test_prompts_are_read_one_by_one_where_the_backend_says_so() -> None:
    """With room for one prompt, the second begins when the first is read, free slots or not."""
    bench = EngineBench("prompts=1")
    bench.insert(1, "x" * 24)
    bench.insert(2, "y" * 24)
    bench.step()
    assert bench.backend.stats().running == 1
    bench.run()
    assert bench.texts == {1: "x" * 24, 2: "y" * 24}


def test_equal_prompts_are_read_once() -> None:
    """`n` choices: the first reads the prompt, the others take a copy of it, all but its last token."""
    bench = EngineBench()
    for seq in range(1, 5):
        bench.insert(seq, "w" * 100)
    bench.run()
    assert bench.cached == {1: 0, 2: 99, 3: 99, 4: 99}
    assert bench.engine.computed == 103
    assert set(bench.texts.values()) == {"w" * 100}


def test_equal_prompts_are_read_once_by_models_with_snapshots() -> None:
    """The snapshot before the last token serves them."""
    bench = EngineBench("prefix=snapshot")
    for seq in range(1, 4):
        bench.insert(seq, "w" * 100)
    bench.run()
    assert bench.cached == {1: 0, 2: 99, 3: 99}


def test_who_waits_for_a_leader_that_is_cancelled_goes_on_alone() -> None:
    """Nobody is forgotten behind a sequence that never comes to its end."""
    bench = EngineBench()
    bench.insert(1, "w" * 100)
    bench.insert(2, "w" * 100)
    bench.step()
    bench.engine.cancel(1)
    bench.run()
    assert (list(bench.texts), bench.texts[2]) == ([1, 2], "w" * 100)


def test_a_follower_can_be_cancelled() -> None:
    """It waits for another's prompt, and nobody hears of it again."""
    bench = EngineBench()
    bench.insert(1, "w" * 100)
    bench.insert(2, "w" * 100)
    bench.step()
    bench.engine.cancel(2)
    bench.run()
    assert set(bench.finished) == {1}


def test_a_running_answer_lends_its_prompt() -> None:
    """Who comes while another one with the same beginning is being answered does not read it again."""
    bench = EngineBench()
    bench.insert(1, Text("s" * 200 + "one"))
    while not bench.order:
        bench.step()
    bench.insert(2, Text("s" * 200 + "two"))
    bench.run()
    assert bench.cached[2] == 200


def test_nobody_waits_long_to_be_spared_little() -> None:
    """A short prompt that shares its first lines with a very long one does not wait until that one is read."""
    bench = EngineBench(context=10_000, chunk=64)
    bench.insert(1, Text("s" * 40 + "x" * 4000))
    bench.step()
    bench.insert(2, Text("s" * 40 + "short"))
    bench.step()
    assert bench.backend.stats().running == 2
    bench.run()
    assert bench.texts[2] == "s" * 40 + "short"


def test_nobody_steps_back_before_a_first_step() -> None:
    """Who has only just been given a slot is not asked to give it up in the same breath."""
    bench = EngineBench("prompts=1", context=10_000, chunk=64)
    bench.insert(1, Text("x" * 3000))
    bench.insert(2, Text("y" * 40))
    bench.run()
    assert (bench.order, bench.engine.computed) == ([2, 1], 3040)


def test_a_known_prompt_is_as_short_as_what_is_new_of_it() -> None:
    """A long prompt of which almost all is known goes before a shorter one that is new."""
    bench = EngineBench(slots=1, context=10_000)
    bench.answer(1, Text("x" * 2000), max_tokens=1)
    bench.insert(2, Text("z" * 40))
    bench.step()
    bench.insert(3, Text("y" * 500))
    bench.insert(4, Text("x" * 2000 + "and more"))
    bench.run()
    assert bench.order == [1, 2, 4, 3]
    assert bench.cached[4] == 2000


def test_what_could_not_be_kept_is_not_interrupted() -> None:
    """A prompt whose KV exceeds the whole cache would lose its work: it is read to its end."""
    bench = EngineBench(slots=1, context=10_000, chunk=64, budget=4 * 1000)
    bench.answer(1, Text("a" * 100))
    bench.insert(2, Text("x" * 3000))
    for _ in range(30):
        bench.step()
    bench.insert(3, Text("short"))
    bench.run()
    assert (bench.order, bench.engine.computed) == ([1, 2, 3], 3105)


def test_a_burst_begins_in_small_groups_beside_a_running_answer() -> None:
    """Whoever begins may have to move what is left in a slot: those who decode do not wait for all of them."""
    bench = EngineBench(slots=8)
    bench.insert(1, Text("x" * 40))
    while not bench.order:
        bench.step()
    for seq in range(2, 8):
        bench.insert(seq, Text(str(seq) * 20))
    running = []
    for _ in range(3):
        bench.step()
        running.append(bench.backend.stats().running)
    assert running == [3, 5, 7]
    bench.run()
    assert len(bench.finished) == 7


def test_a_long_prompt_that_waits_costs_the_running_ones_nothing() -> None:
    """Each step looks what of it is known by now: of a million tokens in no more than a few milliseconds."""
    bench = EngineBench(slots=1, context=2_000_000)
    bench.answer(3, "known " * 10)
    bench.insert(1, "x" * 100)
    bench.step()
    bench.insert(2, Tokens((70,) * 1_000_000))
    seconds = []
    for _ in range(20):
        began = time.thread_time()
        bench.step()
        seconds.append(time.thread_time() - began)
    assert median(seconds) < 0.008
    bench.engine.cancel(2)
    bench.run()
    assert bench.texts[1] == "x" * 100
