"""What ended sequences leave in the slots of llama.cpp's KV cache, and how others begin with it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from lmx.backends.base import Reuse, SeqSpec, Token
from lmx.backends.llama_cpp.slots import KvHandle
from tests.support import models
from tests.support.contract import prompt
from tests.support.gguf_driver import GREEDY, Driven, Open, opening

TEXT = "lmx serves several models over one interface. Every model runs in a worker process of its own. " * 2


@pytest.fixture
def load() -> Iterator[Open]:
    with opening() as open_model:
        yield open_model


def slots_of(*handles: object) -> list[int | None]:
    return [handle.slot for handle in handles if isinstance(handle, KvHandle)]


# Warm slots


def test_what_ended_stays_where_it_is_while_there_is_room(load: Open) -> None:
    """A kept sequence costs no memory as long as its slot is not needed."""
    model = load()
    first, _ = model.computed(1, model.text(TEXT))
    second, _ = model.computed(2, model.text("Another one."))
    assert (first.nbytes, second.nbytes) == (0, 0)
    assert slots_of(first, second) == [0, 1]
    assert model.backend.free_slots() == 4


def test_a_slot_is_taken_over_when_it_is_given_away(load: Open) -> None:
    """`whole`: the next sequence goes on in the same slot, also from the middle of it; the handle is empty then."""
    model = load()
    handle, tokens = model.computed(1, model.text(TEXT))
    longer = tokens[:-5] + model.text(" And then?")
    fresh = model.says(longer)
    (slot,) = slots_of(handle)
    model.backend.add(SeqSpec(2, longer, 12, GREEDY, reuse=Reuse(handle, len(tokens) - 5, whole=True)))
    assert slots_of(handle) == [None]
    assert model.run()[2] == fresh
    assert slots_of(model.kept[2]) == [slot]


def test_a_copy_leaves_the_original(load: Open) -> None:
    """Without `whole` the warm slot is copied, and can be again."""
    model = load()
    handle, tokens = model.computed(1, model.text(TEXT))
    for words in (" And then?", " Why?"):
        longer = tokens + model.text(words)
        assert model.says(longer, reuse=Reuse(handle, len(tokens))) == model.says(longer)
    assert (handle.nbytes, slots_of(handle)) == (0, [0])


def test_a_displaced_sequence_moves_to_host_memory(load: Open) -> None:
    """When all slots are needed the oldest warm one gives way; its handle then owns the bytes, and works as before."""
    model = load()
    handle, tokens = model.computed(1, model.text(TEXT))
    model.run(*(SeqSpec(seq, model.text(f"Question {seq}"), 3, GREEDY) for seq in range(2, 6)))
    assert handle.nbytes > 1000 * len(tokens)
    longer = tokens + model.text(" And then?")
    assert model.says(longer, reuse=Reuse(handle, len(tokens))) == model.says(longer)
    model.backend.drop(handle)
    assert handle.nbytes == 0


def test_the_only_free_slot_may_be_the_source(load: Open) -> None:
    """With all others running, the copy is made in host memory and the sequence begins in the source's own slot."""
    model = load(slots=2)
    handle, tokens = model.computed(1, model.text(TEXT))
    longer = tokens + model.text(" And then?")
    fresh = model.says(longer)
    model.backend.add(SeqSpec(2, model.text("A long story"), 40, GREEDY))
    model.step()
    model.backend.add(SeqSpec(3, longer, 12, GREEDY, reuse=Reuse(handle, len(tokens))))
    assert model.run()[3] == fresh
    assert handle.nbytes > 0
    assert model.says(longer, reuse=Reuse(handle, len(tokens), whole=True)) == fresh


def test_an_emptied_handle_is_computed_again(load: Open) -> None:
    """Reuse of what was given away or dropped before costs time, and no more."""
    model = load()
    handle, tokens = model.computed(1, model.text(TEXT))
    model.backend.drop(handle)
    longer = tokens + model.text(" And then?")
    model.run(SeqSpec(2, longer, 5, GREEDY, reuse=Reuse(handle, len(tokens))))
    assert model.cached(2) == 0
    assert (model.backend.save(handle), model.cached(2)) == ([], 0)


# Layouts


@pytest.mark.parametrize("layout", ["per_sequence", "unified"])
def test_layouts_say_the_same(load: Open, layout: str) -> None:
    """Whether slots share their cells or not: the same tokens, with reuse and without, alone and side by side."""
    model, other = load(kv_layout=layout), load()
    handle, tokens = model.computed(1, model.text(TEXT))
    prompts = [tokens + model.text(words) for words in (" And then?", " Why?", " Where?")]
    expected = [other.says(one) for one in prompts]
    reuse = Reuse(handle, len(tokens))
    said = model.run(*(SeqSpec(seq, one, 12, GREEDY, reuse=reuse) for seq, one in enumerate(prompts, 10)))
    assert list(said.values()) == expected
    assert [model.cached(seq) for seq in said] == [len(tokens)] * 3
    for kept in model.kept.values():
        model.backend.drop(kept)
    assert model.says(prompts[0], reuse=reuse) == expected[0]


def test_a_gap_between_running_slots_is_closed(load: Open) -> None:
    """When a sequence amid others ends, the last one takes its place after some steps, and says what it would have."""
    model = load()
    specs = [SeqSpec(seq, model.text(f"Question {seq}: what is lmx?"), 30, GREEDY) for seq in range(3)]
    alone = {spec.id: model.says(list(spec.prompt), 30) for spec in specs}
    for spec in specs:
        model.backend.add(spec)
    for _ in range(5):
        model.step()
    middle = model.backend.release(1, keep=True)
    said = model.run()
    assert slots_of(model.kept[2], middle) == [1, 2]
    tokens = [event.token for event in model.events if isinstance(event, Token) and event.seq == 2]
    assert tokens == alone[2]
    assert said[0] == alone[0][-len(said[0]) :]
    assert middle is not None
    covered = (list(specs[1].prompt) + alone[1])[: middle.tokens]
    longer = [*covered, 100]
    assert model.says(longer, reuse=Reuse(middle, middle.tokens)) == model.says(longer)


def test_new_sequences_come_beside_the_running_ones(load: Open) -> None:
    """A gap costs up to twice the time: a warm slot beside the running one is taken before an empty one far off."""
    model = load()
    handles = [model.computed(seq, model.text(f"Question {seq}"))[0] for seq in range(3)]
    model.backend.add(SeqSpec(5, model.text(TEXT), 40, GREEDY, reuse=Reuse(handles[2], 1, whole=True)))
    model.step()
    model.backend.add(SeqSpec(6, model.text("And now?"), 3, GREEDY))
    model.run()
    (slot,) = slots_of(model.kept[6])
    assert slot in (1, 3)


# Models that cannot be cut


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
def test_snapshots_at_checkpoints(load: Open, kind: str) -> None:
    """Recurrent and hybrid models give a handle at each checkpoint, from which a later prompt goes on."""
    model = load(models.gguf_file(kind), context=256)
    assert model.info.prefix == "snapshot"
    assert model.info.speculation.startswith("off: ")
    whole = prompt(90)
    model.run(SeqSpec(1, whole, 4, GREEDY, checkpoints=(20, 64)))
    first, second = model.snapshots()
    assert (first.tokens, second.tokens) == (20, 64)
    assert min(first.nbytes, second.nbytes) > 0
    for handle in (first, second, second):
        other = whole[: handle.tokens] + prompt(30, seed=5)
        fresh = model.says(other)
        assert model.says(other, reuse=Reuse(handle, handle.tokens)) == fresh
        assert model.cached(1_000_000) == handle.tokens


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
@pytest.mark.parametrize("displaced", [False, True])
def test_the_end_of_a_recurrent_sequence_is_a_beginning(load: Open, kind: str, displaced: bool) -> None:
    """An ended sequence is taken up as a whole: from its slot or, displaced, from host memory, copied or taken over."""
    model = load(models.gguf_file(kind), context=256, slots=2)
    for whole in (False, True):
        handle, tokens = model.computed(1, prompt(50))
        if displaced:
            model.run(*(SeqSpec(seq, prompt(9, seq), 3, GREEDY) for seq in (2, 3)))
        assert (handle.nbytes > 0) == displaced
        longer = tokens + prompt(20, seed=7)
        fresh = model.says(longer)
        assert model.says(longer, reuse=Reuse(handle, handle.tokens, whole)) == fresh
        assert model.cached(1_000_000) == len(tokens)
        data = b"".join(model.backend.save(handle))
        restored = model.backend.restore(memoryview(data), handle.tokens) if data else None
        assert (restored is None) == whole
        if restored:
            assert model.says(longer, reuse=Reuse(restored, handle.tokens)) == fresh


def test_checkpoints_mean_nothing_to_models_that_can_be_cut(load: Open) -> None:
    """Any beginning of a handle can be reused there, so no memory is spent on copies of it."""
    model = load()
    model.run(replace(SeqSpec(1, model.text(TEXT), 3, GREEDY), checkpoints=(5, 10)))
    assert model.info.prefix == "trim"
    assert model.snapshots() == []


# Bytes


def test_bytes_of_another_configuration_are_no_handle(load: Open) -> None:
    """What was computed with another KV type or another number of slots is refused, not read."""
    model = load()
    handle, tokens = model.computed(1, model.text(TEXT))
    data = memoryview(b"".join(model.backend.save(handle)))
    assert model.backend.restore(data, len(tokens)) is not None
    others: list[Driven] = [load(slots=3), load(kv_type="q8_0"), load(kv_layout="unified"), load(flash_attention="on")]
    assert [other.backend.restore(data, len(tokens)) for other in others] == [None] * len(others)
    assert len({other.info.kv_key for other in (model, *others)}) == 5
    assert load().info.kv_key == model.info.kv_key


def test_bytes_of_another_context_are_no_handle_where_it_turns_positions(load: Open) -> None:
    """LongRoPE has other factors in a context that is longer than the original one: nothing is taken from there."""
    path = models.gguf_file("longrope")
    short, long, longer = (load(path, context=context) for context in (models.SHORT_CONTEXT, 512, 1024))
    handle, tokens = short.computed(1, short.text(TEXT))
    data = memoryview(b"".join(short.backend.save(handle)))
    assert short.says(tokens) != long.says(tokens) == longer.says(tokens)
    assert long.backend.restore(data, len(tokens)) is None
    assert short.info.kv_key != long.info.kv_key == longer.info.kv_key
