"""The Backend protocol for both real backends, with a real model: computed prompts that are taken up again."""

import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lmx.backends.base import Backend, Event, Handle, Info, Prefilled, Reuse, SeqSpec, Token
from lmx.backends.registry import open_backend
from lmx.machines.types import Sampling
from tests.support import guide
from tests.support.contract import go_on

GREEDY = Sampling(temperature=0)
TEXT = (
    "lmx is an inference server for one machine. It serves several models over an OpenAI-compatible interface. "
    "Every model runs in a worker process of its own, so that a crash ends one model and not the server. "
)
LIBRARIES = {"llama_cpp": "llama_cpp", "mlx": "mlx_lm"}
WRITTEN = 16


class Guide(NamedTuple):
    """A backend that has lmx-guide loaded."""

    backend: Backend
    info: Info

    def prompt(self, text: str = TEXT) -> list[int]:
        return self.backend.encode(text, special=False)

    def run(self, spec: SeqSpec) -> list[Event]:
        """All that is told about one sequence; it is not released."""
        self.backend.add(spec)
        events: list[Event] = []
        while step := self.backend.step(64):
            events += step
        return events

    def says(self, prompt: list[int], reuse: Reuse | None = None) -> tuple[list[int], int]:
        """Its greedy tokens, and how many of the prompt's were not computed."""
        events = self.run(SeqSpec(7, prompt, WRITTEN, GREEDY, reuse=reuse))
        self.backend.release(7)
        return written(events), next(event.cached for event in events if isinstance(event, Prefilled))

    def computed(self, prompt: list[int], seq: int = 1) -> tuple[Handle, list[int]]:
        """A handle of a finished sequence, and the tokens that it covers."""
        said = written(self.run(SeqSpec(seq, prompt, WRITTEN, GREEDY)))
        handle = self.backend.release(seq, keep=True)
        assert handle is not None
        return handle, [*prompt, *said][: handle.tokens]


def written(events: list[Event]) -> list[int]:
    return [event.token for event in events if isinstance(event, Token)]


@pytest.fixture(scope="module", params=LIBRARIES)
def opened(request: pytest.FixtureRequest) -> Iterator[Guide]:
    if importlib.util.find_spec(LIBRARIES[request.param]) is None:
        pytest.skip(f"{LIBRARIES[request.param]} is not installed")
    backend = open_backend(request.param)
    yield Guide(backend, backend.load(guide.SPECS[request.param], go_on))
    backend.close()


@pytest.fixture
def model(opened: Guide) -> Iterator[Guide]:
    """Every test must leave it empty."""
    yield opened
    stats = opened.backend.stats()
    assert (stats.running, stats.kv_used, opened.backend.free_slots()) == (0, 0, opened.info.slots)


# What a handle covers


def test_a_finished_sequence_can_be_kept(model: Guide) -> None:
    """release(keep) covers the prompt and all reported tokens but perhaps the last, and tells what it costs."""
    prompt = model.prompt()
    handle, tokens = model.computed(prompt)
    assert len(prompt) + WRITTEN - 1 <= handle.tokens == len(tokens)
    model.backend.drop(handle)


def test_nothing_is_kept_unasked(model: Guide) -> None:
    """Without `keep`, for unknown sequences, and where nothing was computed there is no handle."""
    model.run(SeqSpec(1, model.prompt(), 2, GREEDY))
    assert model.backend.release(1) is None
    assert model.backend.release(1, keep=True) is None
    assert model.backend.snapshot(1) is None
    model.backend.add(SeqSpec(2, model.prompt(), 2, GREEDY))
    assert model.backend.release(2, keep=True) is None


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_a_sequence_that_was_stopped_goes_on(model: Guide, steps: int) -> None:
    """Whenever it is taken out, its handle covers tokens that are known, and with it the rest is as without a break."""
    prompt = model.prompt(TEXT * 2)
    whole, _ = model.says(prompt)
    model.backend.add(SeqSpec(1, prompt, WRITTEN, GREEDY))
    events = [event for _ in range(steps) for event in model.backend.step(40)]
    handle = model.backend.release(1, keep=True)
    assert handle is not None
    known = prompt + written(events)
    reuse = Reuse(handle, min(handle.tokens, len(known) - 1), whole=True)
    assert handle.tokens <= len(known)
    said, cached = model.says(known, reuse)
    assert cached == reuse.tokens
    assert (written(events) + said)[:WRITTEN] == whole


# Reuse


@pytest.mark.parametrize("whole", [False, True])
def test_reuse_changes_nothing_but_time(model: Guide, whole: bool) -> None:
    """A prompt that goes on after a known one is answered as without reuse, and the known part is reported."""
    handle, tokens = model.computed(model.prompt())
    longer = tokens + model.prompt("Why is it so?")
    fresh, none = model.says(longer)
    said, cached = model.says(longer, Reuse(handle, handle.tokens, whole))
    assert (said, cached, none) == (fresh, len(tokens), 0)
    if not whole:
        again, _ = model.says(longer, Reuse(handle, handle.tokens))
        assert again == fresh
        model.backend.drop(handle)


@pytest.mark.parametrize("part", [1, 7, 30])
def test_the_beginning_of_a_handle_can_be_reused(model: Guide, part: int) -> None:
    """Any number of its first tokens, for prompts that differ from there on; the handle stays what it was."""
    handle, tokens = model.computed(model.prompt())
    other = tokens[:part] + model.prompt("Another question: which models are there?")
    fresh, _ = model.says(other)
    assert model.says(other, Reuse(handle, part)) == (fresh, part)
    longer = tokens + model.prompt("And now?")
    said, _ = model.says(longer, Reuse(handle, handle.tokens))
    assert said == model.says(longer)[0]
    model.backend.drop(handle)


def test_one_token_is_always_computed(model: Guide) -> None:
    """A prompt that is known as a whole is reused but for its last token."""
    handle, tokens = model.computed(model.prompt())
    assert model.says(tokens, Reuse(handle, len(tokens) - 1)) == (model.says(tokens)[0], len(tokens) - 1)
    model.backend.drop(handle)


def test_progress_counts_what_was_known(model: Guide) -> None:
    """Prefilled.done includes the reused tokens and rises from them to the length of the prompt."""
    handle, tokens = model.computed(model.prompt())
    longer = tokens + model.prompt(TEXT * 2)
    events = model.run(SeqSpec(1, longer, 1, GREEDY, reuse=Reuse(handle, handle.tokens, whole=True)))
    model.backend.release(1)
    done = [event.done for event in events if isinstance(event, Prefilled)]
    assert done == sorted(set(done))
    assert (done[0] > len(tokens), done[-1]) == (True, len(longer))


def test_several_sequences_share_a_handle(model: Guide) -> None:
    """Side by side, each with an end of its own, as choices of one prompt do."""
    handle, tokens = model.computed(model.prompt())
    prompts = [tokens + model.prompt(end) for end in ("Why?", "How many?", "Since when?")]
    alone = [model.says(prompt)[0] for prompt in prompts]
    for seq, prompt in enumerate(prompts):
        model.backend.add(SeqSpec(seq, prompt, WRITTEN, GREEDY, reuse=Reuse(handle, handle.tokens)))
    said: dict[int, list[int]] = {seq: [] for seq in range(len(prompts))}
    while events := model.backend.step(64):
        for event in events:
            if isinstance(event, Token):
                said[event.seq].append(event.token)
    for seq in said:
        model.backend.release(seq)
    assert list(said.values()) == alone
    model.backend.drop(handle)


# Snapshots


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_a_running_sequence_can_be_copied(model: Guide, steps: int) -> None:
    """snapshot covers what is computed so far; the sequence goes on as if nothing had been taken from it."""
    prompt = model.prompt(TEXT * 2)
    whole, _ = model.says(prompt)
    model.backend.add(SeqSpec(1, prompt, WRITTEN, GREEDY))
    events = [event for _ in range(steps) for event in model.backend.step(40)]
    handle = model.backend.snapshot(1)
    known = prompt + written(events)
    assert handle is not None
    assert 0 < handle.tokens <= len(known)
    while step := model.backend.step(40):
        events += step
    model.backend.release(1)
    assert written(events) == whole
    other = known[: handle.tokens] + model.prompt("But why?")
    assert model.says(other, Reuse(handle, handle.tokens))[0] == model.says(other)[0]
    model.backend.drop(handle)


# Bytes


def test_a_handle_comes_back_from_its_bytes(model: Guide) -> None:
    """save and restore: the same reuse, also of a part; kv_key names what must be the same."""
    assert model.info.kv_key
    handle, tokens = model.computed(model.prompt())
    data = b"".join(model.backend.save(handle))
    model.backend.drop(handle)
    longer = tokens + model.prompt("Why is it so?")
    fresh, _ = model.says(longer)
    for part in (len(tokens), len(tokens) // 2):
        restored = model.backend.restore(memoryview(data), len(tokens))
        assert restored is not None
        assert restored.tokens == len(tokens)
        assert model.says(longer, Reuse(restored, part, whole=True)) == (fresh, part)


def test_damaged_bytes_are_no_handle(model: Guide) -> None:
    """Cut off, changed anywhere, empty, or of another length: None, and the backend goes on."""
    handle, tokens = model.computed(model.prompt())
    data = b"".join(model.backend.save(handle))
    model.backend.drop(handle)
    places = (0, 9, 17, 40, 300, len(data) // 2, len(data) - 1)
    damaged = [data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :] for place in places]
    damaged += [b"", data[:7], data[:100], data[:-1], data + b"\0", bytes(len(data))]
    assert [model.backend.restore(memoryview(content), len(tokens)) for content in damaged] == [None] * len(damaged)
    assert model.backend.restore(memoryview(data), len(tokens) - 1) is None
    assert len(model.says(tokens)[0]) == WRITTEN
