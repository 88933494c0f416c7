"""What only llama.cpp does: GGUF files good and bad, recurrent memory, failing decodes. The rest: test_contract."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from lmx.backends.base import Event, LoadError, Prefilled, SeqError, SeqSpec, Stats, Token
from lmx.backends.llama_cpp import LlamaCppBackend
from lmx.backends.llama_cpp.row import Row, share
from lmx.backends.sampling import Sampler
from lmx.machines.types import ModelSpec, Sampling
from tests.support import models

GREEDY = Sampling(temperature=0)
SLOTS = 3


def spec_of(path: Path, **changes: object) -> ModelSpec:
    values = {"context": 256, "slots": SLOTS, "threads": 1} | changes
    return ModelSpec(name="tiny", path=str(path), backend="llama_cpp", **values)  # type: ignore[arg-type]


def go_on(_fraction: float) -> bool:
    return True


def sequence(seq: int, length: int, max_tokens: int = 10) -> SeqSpec:
    random = np.random.default_rng([seq, length])
    return SeqSpec(seq, [int(token) for token in random.integers(60, 200, length)], max_tokens, GREEDY)


def released(backend: LlamaCppBackend, events: list[Event]) -> list[Event]:
    """`events`; the sequences that they end are released."""
    for event in events:
        if isinstance(event, Token) and event.reason:
            backend.release(event.seq)
    return events


def drain(backend: LlamaCppBackend, *specs: SeqSpec, chunk: int = 64) -> list[Event]:
    for spec in specs:
        backend.add(spec)
    events: list[Event] = []
    while step := released(backend, backend.step(chunk)):
        events += step
    stats = backend.stats()
    assert (stats.running, stats.kv_used) == (0, 0)
    assert backend.free_slots() == SLOTS
    return events


def tokens(events: list[Event], seq: int) -> list[int]:
    return [event.token for event in events if isinstance(event, Token) and event.seq == seq]


def errors(events: list[Event]) -> list[SeqError]:
    return [event for event in events if isinstance(event, SeqError)]


@pytest.fixture
def opened() -> Iterator[Callable[[Path], LlamaCppBackend]]:
    """Opens models and closes them after the test."""
    backends: list[LlamaCppBackend] = []

    def load(path: Path, **changes: object) -> LlamaCppBackend:
        backends.append(LlamaCppBackend())
        backends[-1].load(spec_of(path, **changes), go_on)
        return backends[-1]

    yield load
    for backend in backends:
        backend.close()


# Kinds of models


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
@pytest.mark.parametrize("chunk", [7, 256])
def test_recurrent_and_hybrid_models_batch(opened: Callable[[Path], LlamaCppBackend], kind: str, chunk: int) -> None:
    """Models with a recurrent state say the same alone, in a batch and for any chunk, and leave nothing behind."""
    backend = opened(models.gguf_file(kind))
    specs = [sequence(0, 5), sequence(1, 100), sequence(2, 33)]
    alone = [tokens(drain(backend, one), one.id) for one in specs]
    events = drain(backend, *specs, chunk=chunk)
    assert [tokens(events, one.id) for one in specs] == alone
    assert len({tuple(said) for said in alone}) == len(specs)


def test_a_recurrent_slot_remembers_nothing(opened: Callable[[Path], LlamaCppBackend]) -> None:
    """A released sequence leaves no state to the next one in its slot."""
    backend = opened(models.gguf_file("mamba"))
    fresh = tokens(drain(backend, sequence(0, 20)), 0)
    backend.add(sequence(1, 50))
    backend.step(30)
    backend.release(1)
    assert tokens(drain(backend, sequence(0, 20)), 0) == fresh


@pytest.mark.parametrize("kind", ["embedding", "bert"])
def test_models_that_do_not_write_have_no_slots(kind: str) -> None:
    """Embedding models and encoders load and warm up, take no sequences, and leave nothing running."""
    backend = LlamaCppBackend()
    info = backend.load(spec_of(models.gguf_file(kind)), go_on)
    backend.warm_up()
    assert (info.generates, info.slots, info.embedding) == (False, 0, models.DIM)
    assert backend.free_slots() == 0
    assert backend.step(64) == []
    backend.close()


# Files


def truncated(tmp_path: Path, keep: float) -> Path:
    whole = models.gguf_file().read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


@pytest.mark.parametrize(
    ("keep", "why"), [(0.00002, "is cut off after 8 bytes"), (0.01, "cannot be loaded"), (0.9, "not within the file")]
)
def test_truncated_files_are_refused(tmp_path: Path, keep: float, why: str) -> None:
    """A file cut in its header, its metadata or its tensors is a LoadError that says so."""
    with pytest.raises(LoadError, match=why):
        LlamaCppBackend().load(spec_of(truncated(tmp_path, keep)), go_on)


def test_a_folder_is_refused() -> None:
    """The folder around the model is a common mistake: the message says what to give instead."""
    with pytest.raises(LoadError, match=r"is a folder; give the .gguf file inside it"):
        LlamaCppBackend().load(spec_of(models.gguf_file().parent), go_on)


def test_too_many_slots_are_refused() -> None:
    """More slots than llama.cpp has sequences is a LoadError with the limit."""
    with pytest.raises(LoadError, match="allows 256"):
        LlamaCppBackend().load(spec_of(models.gguf_file(), slots=300), go_on)


def test_silence(tmp_path: Path) -> None:
    """Nothing is written to stdout or stderr by a load and a step that go well; a failed load says why on stderr."""
    code = (
        "import sys; from lmx.backends.llama_cpp import LlamaCppBackend; from lmx.backends.base import *;"
        "from lmx.machines.types import *; b = LlamaCppBackend();"
        "b.load(ModelSpec(name='x', path=sys.argv[1], backend='llama_cpp', slots=3, context=300), lambda f: True);"
        "b.warm_up(); b.add(SeqSpec(1, [5, 6], 3)); [b.step(8) for _ in range(4)]; b.close()"
    )
    good = subprocess.run([sys.executable, "-c", code, models.gguf_file()], capture_output=True, text=True, check=True)
    assert (good.stdout, good.stderr) == ("", "")
    bad = subprocess.run(
        [sys.executable, "-c", code, truncated(tmp_path, 0.9)], capture_output=True, text=True, check=False
    )
    assert "not within the file bounds" in bad.stderr
    assert bad.stdout == ""


def test_close_twice(opened: Callable[[Path], LlamaCppBackend]) -> None:
    """Closing again, or without a load, does nothing."""
    backend = opened(models.gguf_file())
    backend.close()
    backend.close()
    LlamaCppBackend().close()
    assert backend.stats() == Stats(running=0, kv_used=0)


def test_user_defined_tokens_are_text() -> None:
    """Control tokens add nothing to the text; user-defined ones, like tags of a reasoning model, do."""
    info = (backend := LlamaCppBackend()).load(spec_of(models.gguf_file()), go_on)
    backend.close()
    assert info.token_bytes[models.vocabulary().index(models.THINK)] == models.THINK.encode()


# Failures of a step


def test_poison_fails_its_own_sequence_only(opened: Callable[[Path], LlamaCppBackend]) -> None:
    """NaN logits end their sequence; neighbours and whoever comes into the slot later are unharmed."""
    backend = opened(models.gguf_file(poisoned=True))
    other = sequence(1, 40)
    alone = tokens(drain(backend, other), 1)
    poisoned = SeqSpec(0, [70, 71, models.POISON, 72], 5, GREEDY)
    events = drain(backend, poisoned, other)
    assert [(error.seq, "non-finite logits" in error.message) for error in errors(events)] == [(0, True)]
    assert tokens(events, 1) == alone
    assert tokens(drain(backend, replace(other, id=2)), 2) == alone


def test_a_poisoned_slot_waits_until_it_can_be_cleaned(opened: Callable[[Path], LlamaCppBackend]) -> None:
    """While others run the slot is not given to anyone; with the last of them it comes back."""
    backend = opened(models.gguf_file("lfm2", poisoned=True))
    backend.add(SeqSpec(0, [70, models.POISON], 5, GREEDY))
    backend.add(sequence(1, 40))
    backend.step(64)
    assert backend.stats().running == 1
    assert backend.free_slots() == SLOTS - 2
    backend.release(1)
    assert backend.free_slots() == SLOTS


def test_a_sequence_without_room_fails_alone(opened: Callable[[Path], LlamaCppBackend]) -> None:
    """A sequence that outgrows its KV cache (the engine should not let it) ends with an error; the others go on."""
    backend = opened(models.gguf_file())
    other = sequence(1, 40, 60)
    alone = tokens(drain(backend, other), 1)
    events = drain(backend, sequence(0, 250, 50), other)
    assert [(error.seq, "no room in the KV cache" in error.message) for error in errors(events)] == [(0, True)]
    assert len(tokens(events, 0)) == 256 - 250 + 1
    assert tokens(events, 1) == alone


def test_a_rejected_sequence_fails_alone(opened: Callable[[Path], LlamaCppBackend]) -> None:
    """A token that the model does not have (the engine should not let it in) is that sequence's error only."""
    backend = opened(models.gguf_file())
    other = sequence(1, 40)
    alone = tokens(drain(backend, other), 1)
    events = drain(backend, SeqSpec(0, [70, 1_000_000], 5, GREEDY), other)
    assert [(error.seq, "rejected the batch" in error.message) for error in errors(events)] == [(0, True)]
    assert tokens(events, 1) == alone


# Sharing a step


def row(seq: int, length: int) -> Row:
    spec = SeqSpec(seq, range(length), 1, GREEDY)
    return Row(spec, seq, Sampler(spec, length))


def test_the_shortest_prompt_goes_first() -> None:
    """A short prompt does not wait behind a long one that came earlier, which still gets a quarter at least."""
    long, short = row(0, 1000), row(1, 100)
    assert share([long, short], 256) == {short: 100, long: 156}
    assert share([long, row(1, 900)], 256)[long] == 64


def test_prompts_share_a_step() -> None:
    """The shortest ones first, as many as there is room for, and a quarter for the oldest."""
    rows = [row(0, 500), row(1, 400), row(2, 300)]
    assert share(rows, 100) == {rows[2]: 75, rows[0]: 25}
    assert share(rows, 1000) == {rows[2]: 300, rows[1]: 400, rows[0]: 300}


def test_nothing_is_shared_out_beyond_need() -> None:
    """A budget larger than the prompts is not used up; no budget gives nothing."""
    rows = [row(0, 5), row(1, 3)]
    assert share(rows, 512) == {rows[0]: 5, rows[1]: 3}
    assert share(rows, 0) == {}
    assert share([], 10) == {}


def test_a_long_prompt_is_not_starved(opened: Callable[[Path], LlamaCppBackend]) -> None:
    """Short prompts that keep coming do not stop a long one from being computed."""
    backend = opened(models.gguf_file())
    backend.add(sequence(0, 200, 1))
    seen: list[int] = []
    for seq in range(1, 60):
        if backend.free_slots():
            backend.add(sequence(seq, 16, 1))
        events = released(backend, backend.step(16))
        seen += [event.done for event in events if isinstance(event, Prefilled) and event.seq == 0]
    assert seen[-1] == 200
    drain(backend)
