"""What is known of earlier prompts, seen through the engine."""

import time
from pathlib import Path

from lmx.engine.disk import DiskTier
from lmx.machines.types import Text
from tests.support.engine import EngineBench


def test_the_next_turn_of_a_chat_begins_where_the_last_one_ended() -> None:
    """Prompt and answer are known; only what is new is computed."""
    bench = EngineBench(context=2000)
    answer = bench.answer(1, Text("a" * 100))
    bench.answer(2, Text("a" * 100 + answer + "and then"))
    assert bench.cached[2] == 200


def test_nothing_is_kept_beyond_the_budget() -> None:
    """The least recently used goes first."""
    bench = EngineBench(budget=2000)
    for seq, letter in enumerate("abcd"):
        bench.answer(seq, Text(letter * 100))
    assert sum(handle.nbytes for handle in bench.backend.kept) <= 2000
    bench.answer(10, Text("d" * 100 + "!"))
    bench.answer(11, Text("a" * 100 + "!"))
    assert (bench.cached[10], bench.cached[11]) == (100, 0)


def test_what_the_backend_lost_is_forgotten() -> None:
    """A handle whose content could not be saved is no hit: the prompt is read, and known again."""
    bench = EngineBench()
    bench.answer(1, Text("a" * 100))
    for handle in bench.backend.kept:
        object.__setattr__(handle, "ids", ())
    bench.answer(2, Text("a" * 100))
    bench.answer(3, Text("a" * 100))
    assert (bench.cached[2], bench.cached[3]) == (0, 99)


def test_a_request_may_ask_why_its_prompt_was_not_known() -> None:
    """How much was, where it differs, and in which message."""
    bench = EngineBench()
    bench.answer(1, "x" * 60, explain_cache=True)
    bench.answer(2, "x" * 50 + "y" * 10, explain_cache=True)
    first, second = bench.reports[1], bench.reports[2]
    assert (first.cause, first.cached_tokens, first.prompt_tokens) == ("first_use", 0, 60)
    assert (second.cause, second.cached_tokens, second.first_difference, second.message) == ("changed", 50, 50, 0)


def test_who_does_not_ask_is_told_nothing() -> None:
    """Explanations cost time."""
    bench = EngineBench()
    bench.answer(1, "x" * 60)
    assert bench.reports == {}


def test_prompt_log_probabilities_are_computed_even_of_a_known_prompt() -> None:
    """`echo` with `logprobs` needs the logits of every prompt token: nothing comes from the cache."""
    bench = EngineBench()
    bench.answer(1, Text("x" * 60))
    bench.answer(2, Text("x" * 60), echo=True, logprobs=2, max_tokens=0)
    assert (bench.cached[2], bench.tokens[2], bench.finished[2].reason) == (0, 0, "length")
    told = bench.prompt_logprobs[2]
    assert (len(told), told[0].logprob) == (60, None)
    assert all(one.logprob is not None and len(one.top) == 2 for one in told[1:])


def disk(folder: Path) -> DiskTier:
    return DiskTier(folder, "key", 10_000_000, 0, time.time)


def test_a_new_engine_finds_on_disk_what_an_old_one_knew(tmp_path: Path) -> None:
    """What was computed survives the process."""
    old = EngineBench(context=2000, disk=disk(tmp_path))
    old.answer(1, Text("a" * 600))
    old.engine.known.close(10.0)
    new = EngineBench(context=2000, disk=disk(tmp_path))
    new.answer(1, Text("a" * 600 + "b"))
    assert new.cached[1] == 600
    assert new.texts[1] == "a" * 600 + "b"


def test_a_damaged_file_costs_time_and_nothing_else(tmp_path: Path) -> None:
    """The prompt is computed again, and the file is gone."""
    old = EngineBench(context=2000, disk=disk(tmp_path))
    old.answer(1, Text("a" * 600))
    old.engine.known.close(10.0)
    new = EngineBench(context=2000, disk=disk(tmp_path))
    (file,) = tmp_path.rglob("*.kv")
    content = bytearray(file.read_bytes())
    content[-7] ^= 255
    file.write_bytes(content)
    new.answer(1, Text("a" * 600 + "b"))
    assert (new.cached[1], new.texts[1]) == (0, "a" * 600 + "b")
    assert not file.exists()


def test_what_memory_has_no_room_for_is_still_found_on_disk(tmp_path: Path) -> None:
    """Evicted, a prompt goes to the disk and comes back from there."""
    bench = EngineBench(context=2000, budget=3000, disk=disk(tmp_path))
    bench.answer(1, Text("a" * 600))
    bench.answer(2, Text("b" * 600))
    bench.engine.known.close(10.0)
    bench.answer(3, Text("a" * 600 + "!"))
    assert bench.cached[3] == 600


def test_when_memory_is_short_nothing_is_kept(tmp_path: Path) -> None:
    """All handles are dropped at once, without a detour by the disk; what is on disk stays known."""
    tier = disk(tmp_path)
    bench = EngineBench(context=2000, disk=tier)
    bench.answer(1, Text("a" * 600))
    bench.engine.known.close(5.0)
    bench.answer(2, Text("b" * 600))
    bench.engine.known.trim()
    assert bench.backend.kept == set()
    assert bench.engine.known.kept().nbytes == 0
    assert not bench.engine.known.unsaved
    bench.answer(3, Text("a" * 600))
    bench.answer(4, Text("b" * 600))
    assert (bench.cached[3], bench.cached[4]) == (599, 0)
