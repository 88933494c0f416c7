"""The index of computed prompts: finds the longest beginning, forgets the least recently used, says what it missed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmx.backends.base import Handle
from lmx.engine import prefix
from lmx.engine.prefix import Cold, Kind, PrefixCache
from lmx.engine.radix import Node, as_array, common


@dataclass(eq=False)
class Warm:
    """A handle as a backend might make it."""

    tokens: int
    nbytes: int = 1


@dataclass
class Case:
    """A cache, and what it let go."""

    kind: Kind = "trim"
    budget: int = 10**9
    dropped: list[Handle] = field(default_factory=list)
    forgotten: list[Cold] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache = PrefixCache(self.kind, self.budget, self.dropped.append, self.forgotten.append)

    def put(self, tokens: Sequence[int], nbytes: int = 1) -> Warm:
        handle = Warm(len(tokens), nbytes)
        self.cache.put(tokens, handle)
        return handle

    def put_cold(self, tokens: Sequence[int]) -> Cold:
        cold = Cold("/".join(map(str, tokens[:99])) + f"#{len(tokens)}", len(tokens))
        self.cache.put(tokens, cold)
        return cold

    def found(self, tokens: Sequence[int]) -> tuple[Handle, int] | None:
        match = self.cache.find(tokens)
        return None if match is None else (match.entry.handle, match.tokens)


def upto(size: int, *more: int) -> list[int]:
    return [*range(1, size + 1), *more]


# --- what is found ---------------------------------------------------------------------------------------------------


def test_a_beginning_is_found_inside_an_edge() -> None:
    """trim: any entry serves as far as it agrees, also where it goes on differently."""
    case = Case()
    handle = case.put(upto(100))
    assert case.found([*upto(60), 7, 7]) == (handle, 60)
    assert case.found([9, 9]) is None


def test_the_last_token_is_always_computed() -> None:
    """At most len(tokens) - 1 tokens are reused, so that there is a forward pass to draw from."""
    case = Case()
    handle = case.put(upto(10))
    assert case.found(upto(10)) == (handle, 9)
    assert case.found([1]) is None
    whole = Case("snapshot")
    whole.put(upto(10))
    assert whole.found(upto(10)) is None


def test_a_snapshot_serves_only_as_a_whole() -> None:
    """snapshot: the longest entry that is wholly a beginning."""
    case = Case("snapshot")
    short, long = case.put(upto(5)), case.put(upto(20))
    assert case.found(upto(21)) == (long, 20)
    assert case.found([*upto(15), 7]) == (short, 5)
    assert case.found([1, 2, 7]) is None


def test_a_kind_without_reuse_keeps_nothing() -> None:
    """none: what is put is dropped at once."""
    case = Case("none")
    handle = case.put(upto(5))
    assert case.dropped == [handle]
    assert case.found(upto(9)) is None
    assert case.cache.explain(upto(9), 0).cause == "unsupported"


def test_what_a_longer_one_covers_is_dropped() -> None:
    """trim: of a sequence and its continuation only the longer one stays, in whichever order they come."""
    case = Case()
    short = case.put(upto(5))
    long = case.put(upto(9))
    again = case.put(upto(7))
    assert case.dropped == [short, again]
    assert case.found(upto(99)) == (long, 9)
    assert len(case.cache) == 1


def test_the_newer_of_two_equal_ones_stays() -> None:
    """The same tokens again: the older handle is dropped; the same handle again is not."""
    for kind in ("trim", "snapshot"):
        case = Case(kind)
        old, new = case.put(upto(5)), case.put(upto(5))
        case.cache.put(upto(5), new)
        assert case.dropped == [old]
        assert case.found(upto(9)) == (new, 5)


def test_a_handle_may_cover_less_than_the_tokens() -> None:
    """Only what it covers is known; one that claims more than the tokens, or nothing, is dropped."""
    case = Case()
    handle, too_long, empty = Warm(4), Warm(11), Warm(0)
    for given_handle in (handle, too_long, empty):
        case.cache.put(upto(10), given_handle)
    assert case.found(upto(10)) == (handle, 4)
    assert case.dropped == [too_long, empty]


def test_taken_handles_are_not_dropped() -> None:
    """take: the handle leaves the index and belongs to the caller."""
    case = Case()
    handle = case.put(upto(9))
    match = case.cache.find(upto(20))
    assert match is not None
    assert case.cache.take(match) is handle
    assert case.dropped == []
    assert len(case.cache) == 0
    assert case.found(upto(20)) is None


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_only_when_it_saves_much() -> None:
    """A cold entry is chosen when it is 64 tokens longer than the best warm one, not before."""
    for kind in ("trim", "snapshot"):
        case = Case(kind)
        warm, cold = case.put(upto(100)), case.put_cold(upto(163))
        assert case.found(upto(500)) == (warm, 100)
        longer = case.put_cold(upto(164))
        assert case.found(upto(500)) == (longer, 164)
        assert (case.forgotten == [cold]) == (kind == "trim")


def test_a_long_file_is_not_read_for_a_short_beginning() -> None:
    """At least a sixteenth of what is read must be of use."""
    case = Case()
    cold = case.put_cold(upto(3200))
    assert case.found([*upto(199), 7, 7]) is None
    assert case.found([*upto(200), 7, 7]) == (cold, 200)


def test_what_has_no_file_may_be_saved_before_it_goes() -> None:
    """spill is told of evicted entries, not of those that a longer one made redundant, nor of those with a file."""
    case = Case()
    spilt: list[list[int]] = []
    cache = PrefixCache("trim", 0, case.dropped.append, spill=lambda entry: spilt.append(entry.tokens.tolist()))
    cache.put(upto(3), Warm(3))
    cache.put(upto(5), Warm(5))
    cache.put([9, 9], Warm(2))
    cache.put([9, 9], Cold("nine", 2))
    assert (len(case.dropped), spilt) == (1, [])
    cache.shrink()
    assert (len(case.dropped), spilt) == (3, [upto(5)])


def test_what_is_evicted_from_memory_may_be_in_a_file_still() -> None:
    """An entry may be both; eviction takes the memory, the file stays known."""
    case = Case(budget=0)
    warm, cold = case.put(upto(100)), case.put_cold(upto(100))
    assert case.found(upto(101)) == (warm, 100)
    case.cache.shrink()
    assert case.dropped == [warm]
    assert case.found(upto(101)) == (cold, 100)
    match = case.cache.find(upto(101))
    assert match is not None
    assert case.cache.take(match) == cold
    assert len(case.cache) == 0
    assert case.forgotten == []


def test_the_entries_say_what_no_file_has_yet() -> None:
    """Iteration gives every entry, least recently used first, with its tokens, its handle and its file."""
    case = Case()
    case.put(upto(3))
    case.put(upto(2, 9))
    cold = case.put_cold(upto(3))
    assert [(entry.tokens.tolist(), entry.cold) for entry in case.cache] == [([1, 2, 9], None), ([1, 2, 3], cold)]


# --- what is forgotten -----------------------------------------------------------------------------------------------


def test_the_least_recently_used_goes_first() -> None:
    """shrink evicts until the bytes fit; put and use make an entry the last to go."""
    case = Case(budget=25)
    first, second, third = (case.put([start, *upto(5)], 10) for start in (11, 12, 13))
    used = case.cache.find([11, *upto(9)])
    assert used is not None
    case.cache.use(used)
    assert case.cache.nbytes == 30
    case.cache.shrink()
    assert case.dropped == [second]
    assert case.cache.nbytes == 20
    first.nbytes = 20
    case.cache.shrink()
    assert case.dropped == [second, third]


def test_what_frees_nothing_is_kept() -> None:
    """Entries of no bytes are evicted only beyond a number of entries."""
    case = Case(budget=5)
    free = case.put([7, 7], 0)
    big = case.put([8, 8], 9)
    case.cache.shrink()
    assert case.dropped == [big]
    many = Case()
    handles = [many.put([number, 0], 0) for number in range(prefix.MAX_ENTRIES + 3)]
    many.cache.shrink()
    assert many.dropped == handles[:3]
    assert case.found([7, 7, 7]) == (free, 2)


# --- why not more ----------------------------------------------------------------------------------------------------


def test_the_report_names_the_first_difference() -> None:
    """changed: a known prompt has other tokens from there on."""
    case = Case()
    case.put(upto(100))
    report = case.cache.explain([*upto(40), 7, 7, 7], 40)
    assert (report.cause, report.first_difference) == ("changed", 40)
    assert (report.cached_tokens, report.prompt_tokens) == (40, 43)


def test_all_that_can_be_is_a_hit() -> None:
    """hit: a known prompt goes on, or all but the last token was known."""
    case = Case()
    case.put(upto(100))
    assert case.cache.explain([*upto(100), 7, 7], 100).cause == "hit"
    assert case.cache.explain(upto(50), 49).cause == "hit"


def test_a_new_prompt_is_a_first_use() -> None:
    """first_use: nothing in common; short: hardly more than how every prompt begins."""
    case = Case()
    assert case.cache.explain(upto(50), 0).cause == "first_use"
    case.put(upto(100))
    assert case.cache.explain([9, 9, 9], 0).cause == "first_use"
    assert case.cache.explain([1, 2, 9, 9], 2).cause == "short"


def test_an_evicted_prompt_is_remembered_as_such() -> None:
    """evicted: it was known, but memory was needed; no longer once it is known again."""
    case = Case(budget=0)
    case.put(upto(100))
    case.cache.shrink()
    assert case.cache.explain([*upto(100), 7], 0).cause == "evicted"
    assert case.cache.explain([*upto(50), 7], 0).cause == "evicted"
    case.put(upto(100))
    assert case.cache.explain([*upto(100), 7], 100).cause == "hit"


def test_a_snapshot_that_stops_before_the_difference() -> None:
    """snapshot: what was cached may end before the first different token; the report names the latter."""
    case = Case("snapshot")
    case.put(upto(40))
    case.put(upto(100))
    report = case.cache.explain([*upto(70), 7, 7], 40)
    assert (report.cause, report.first_difference) == ("changed", 70)


def test_memory_of_the_evicted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was evicted is remembered by number and by tokens, not for ever."""
    monkeypatch.setattr(prefix, "MAX_GONE", 3)
    monkeypatch.setattr(prefix, "MAX_GONE_TOKENS", 250)
    case = Case(budget=0)
    for start in (11, 12, 13, 14, 15):
        case.put([start, *upto(99)])
        case.cache.shrink()
    causes = [case.cache.explain([start, *upto(99), 7], 0).cause for start in (11, 12, 13, 14, 15)]
    assert causes == ["first_use", "first_use", "first_use", "evicted", "evicted"]
    case.put([16, *range(300)])
    case.cache.shrink()
    assert case.cache.explain([16, *range(300)], 0).cause == "first_use"


# --- against the definition ------------------------------------------------------------------------------------------

SEQUENCE = st.lists(st.integers(0, 2), min_size=1, max_size=9)
ACTION = st.one_of(
    st.tuples(st.sampled_from(["put", "file", "find", "take"]), SEQUENCE),
    st.tuples(st.just("shrink"), st.just([0])),
)


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


class Model:
    """The same without a tree: lists of (tokens, handle), the least recently used first."""

    def __init__(self, kind: Kind) -> None:
        self.trims = kind == "trim"
        self.warm: list[tuple[tuple[int, ...], Handle]] = []
        self.cold: list[tuple[tuple[int, ...], Handle]] = []

    def put(self, tokens: Sequence[int], handle: Handle) -> None:
        held = self.cold if isinstance(handle, Cold) else self.warm
        new = tuple(tokens)
        if self.trims and any(len(old) > len(new) and old[: len(new)] == new for old, _ in held):
            return
        gone = [old for old, _ in held if old == new or (self.trims and new[: len(old)] == old)]
        held[:] = [*(pair for pair in held if pair[0] not in gone), (new, handle)]

    def reach(self, held: list[tuple[tuple[int, ...], Handle]], tokens: Sequence[int]) -> int:
        if self.trims:
            return max((shared(old, tokens[:-1]) for old, _ in held), default=0)
        return max((len(old) for old, _ in held if tuple(tokens[:-1][: len(old)]) == old), default=0)

    def best(self, tokens: Sequence[int], margin: int) -> int:
        warm, cold = self.reach(self.warm, tokens), self.reach(self.cold, tokens)
        return cold if cold >= warm + margin else warm


def invariants(node: Node, depth: int = 0) -> list[int]:
    """Depths add up, first tokens are the keys, every node is needed; returns what it holds."""
    assert node.depth == depth + len(node.edge)
    assert node.parent is None or any(node.marks) or len(node.children) > 1
    held = [int(mark) for mark in node.marks]
    for key, child in node.children.items():
        assert child.parent is node
        assert child.edge[0] == key
        held = [a + b for a, b in zip(held, invariants(child, node.depth), strict=True)]
    assert held == node.holds
    return held


@pytest.mark.parametrize("kind", ["trim", "snapshot"])
@settings(max_examples=300, deadline=None)
@given(actions=st.lists(ACTION, max_size=30))
def test_the_tree_does_what_lists_would(kind: Kind, actions: list[tuple[str, list[int]]]) -> None:
    """Whatever is put, evicted or taken: what is found is as long as the definition says, and nothing leaks."""
    case, model, margin = Case(kind, budget=4), Model(kind), 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "WORTH_READING", margin)
        patch.setattr(prefix, "MAX_GONE", 3)
        given_out: list[Handle] = []
        taken: list[Handle] = []
        for name, tokens in actions:
            match name:
                case "put":
                    given_out.append(case.put(tokens))
                    model.put(tokens, given_out[-1])
                case "file":
                    model.put(tokens, case.put_cold(tokens))
                case "shrink":
                    case.cache.shrink()
                    kept = {id(entry.warm) for entry in case.cache}
                    model.warm = [pair for pair in model.warm if id(pair[1]) in kept]
                    assert case.cache.nbytes <= 4
                case _:
                    match = case.cache.find(tokens)
                    assert (match.tokens if match else 0) == model.best(tokens, margin)
                    if match is not None:
                        assert shared(match.entry.tokens.tolist(), tokens) >= match.tokens
                    if match is not None and name == "take":
                        taken.append(case.cache.take(match))
                        model.warm = [pair for pair in model.warm if pair[1] is not taken[-1]]
                        model.cold = [pair for pair in model.cold if pair[1] is not taken[-1]]
                    case.cache.explain(tokens, match.tokens if match else 0)
            invariants(case.cache._tree.root)
            inside = [entry.warm for entry in case.cache if entry.warm is not None]
            outside = case.dropped + [handle for handle in taken if not isinstance(handle, Cold)]
            assert sorted(map(id, inside + outside)) == sorted(map(id, given_out))
            assert len(case.cache) == len({old for old, _ in model.warm + model.cold})


@given(left=SEQUENCE, right=SEQUENCE)
def test_common_is_the_length_of_the_common_beginning(left: list[int], right: list[int]) -> None:
    """Vectorised, the same as token by token."""
    assert common(as_array(left), as_array(right)) == shared(left, right)


def test_long_prompts_and_deep_trees_are_quick() -> None:
    """100,000 tokens are put and found in milliseconds, and a chat of 3000 turns needs no recursion."""
    case = Case("snapshot")
    tokens = np.arange(100_000, dtype=np.int32)
    case.cache.put(tokens, Warm(100_000))
    took = []
    for at in range(5):
        began = perf_counter()
        case.cache.put(np.concatenate([tokens[: 50_000 + at], tokens]), Warm(150_000 + at))
        assert case.cache.find(np.append(tokens, 7)) is not None
        took.append(perf_counter() - began)
    assert min(took) < 0.01
    for turn in range(3000, 0, -1):
        case.cache.put(tokens[: 30 * turn], Warm(30 * turn))
    match = case.cache.find(tokens[:90_000])
    assert match is not None
    assert match.tokens == 89_970
