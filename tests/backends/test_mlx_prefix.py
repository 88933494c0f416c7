"""Handles of the mlx backend, beyond the contract: kinds of caches, snapshots, what they weigh, their bytes."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmx.backends.base import Event, Handle, Info, Prefilled, Reuse, SeqSpec, Snapshot, Token
from lmx.backends.mlx import MlxBackend, store
from lmx.backends.mlx.handle import CacheHandle, arrays, kept
from lmx.backends.mlx.imports import ArraysCache, KVCache, mx
from lmx.machines.types import ModelSpec, Sampling
from tests.support import mlx_models, models

GREEDY = Sampling(temperature=0)
Cache: Any = KVCache
PROMPT = list(range(10, 110))
SPEC = SeqSpec(0, PROMPT, 20, GREEDY)
SNAPSHOT_KINDS = ("mamba", "lfm2", "gemma3_text", "llama4")


@functools.cache
def opened(kind: str, context: int = 512) -> tuple[MlxBackend, Info]:
    folder: Path = models.mlx_folder() if kind == "llama" else mlx_models.mlx_folder(kind)
    backend = MlxBackend()
    spec = ModelSpec(name="tiny", path=str(folder), backend="mlx", context=context, slots=4)
    return backend, backend.load(spec, lambda _: True)


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    for kind in ("llama", *SNAPSHOT_KINDS):
        opened(kind)[0].close()
    opened.cache_clear()


def run(backend: MlxBackend, spec: SeqSpec, *, keep: bool = False) -> tuple[list[Event], Handle | None]:
    backend.add(spec)
    events: list[Event] = []
    while step := backend.step(64):
        events += step
    return events, backend.release(spec.id, keep=keep)


def says(backend: MlxBackend, prompt: list[int], reuse: Reuse | None = None) -> list[int]:
    return written(run(backend, SeqSpec(5, prompt, 20, GREEDY, reuse=reuse))[0])


def written(events: list[Event]) -> list[int]:
    return [event.token for event in events if isinstance(event, Token)]


@pytest.mark.parametrize(("kind", "prefix"), [("llama", "trim"), *((kind, "snapshot") for kind in SNAPSHOT_KINDS)])
def test_what_can_be_reused_is_known_at_load(kind: str, prefix: str) -> None:
    """Any beginning where all layers keep all tokens; whole snapshots of recurrent, sliding and chunked layers."""
    assert opened(kind)[1].prefix == prefix


def test_a_window_that_no_sequence_outgrows_is_no_window() -> None:
    """A model with sliding windows is trimmed like any other when the context is shorter than its windows."""
    backend, info = opened("gemma3_text", 15)
    assert info.prefix == "trim"
    short = PROMPT[:8]
    events, handle = run(backend, SeqSpec(0, short, 5, GREEDY), keep=True)
    assert handle is not None
    assert written(run(backend, SeqSpec(1, short, 5, GREEDY, reuse=Reuse(handle, 4)))[0]) == written(events)
    backend.close()


@pytest.mark.parametrize("kind", SNAPSHOT_KINDS)
def test_snapshots_at_checkpoints(kind: str) -> None:
    """The prompt is read up to each checkpoint exactly, and a snapshot made there; each gives the same answer."""
    backend, _ = opened(kind)
    events, _ = run(backend, replace(SPEC, checkpoints=(40, 90, 100)))
    snapshots = [event.handle for event in events if isinstance(event, Snapshot)]
    assert [handle.tokens for handle in snapshots] == [40, 90, 100]
    assert written(events) == says(backend, PROMPT)
    for handle in snapshots:
        longer = [*PROMPT[: handle.tokens], 7, 8, 9]
        assert says(backend, longer, Reuse(handle, handle.tokens)) == says(backend, longer)


def test_no_snapshots_where_any_beginning_can_be_reused() -> None:
    """A model that can be trimmed needs none: what is kept at the end is enough."""
    events, _ = run(opened("llama")[0], replace(SPEC, checkpoints=(40,)))
    assert not [event for event in events if isinstance(event, Snapshot)]


@pytest.mark.parametrize("kind", SNAPSHOT_KINDS)
@pytest.mark.parametrize("whole", [False, True])
def test_a_conversation_goes_on_from_its_end(kind: str, whole: bool) -> None:
    """The handle of a finished sequence covers all of it, and what is said next is as without it; also from bytes."""
    backend, _ = opened(kind)
    events, handle = run(backend, SPEC, keep=True)
    assert handle is not None
    known = PROMPT + written(events)
    assert handle.tokens == len(known)
    fresh = says(backend, [*known, 5])
    restored = backend.restore(memoryview(b"".join(backend.save(handle))), handle.tokens)
    assert restored is not None
    assert says(backend, [*known, 5], Reuse(handle, handle.tokens, whole)) == fresh
    assert says(backend, [*known, 5], Reuse(restored, handle.tokens, whole)) == fresh


@pytest.mark.parametrize("kind", ["llama", *SNAPSHOT_KINDS])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_a_handle_covers_what_was_reported(kind: str, steps: int) -> None:
    """Amid the prompt or the answer: the prompt tokens read so far and the tokens written, not one more."""
    backend, _ = opened(kind)
    backend.add(SPEC)
    events = [event for _ in range(steps) for event in backend.step(30)]
    done = max(event.done for event in events if isinstance(event, Prefilled))
    taken, handle = backend.snapshot(0), backend.release(0, keep=True)
    assert taken is not None
    assert handle is not None
    assert taken.tokens == handle.tokens == done + len(written(events))
    known = [*PROMPT[:done], *written(events), 200, 201]
    fresh = says(backend, known)
    assert says(backend, known, Reuse(taken, taken.tokens)) == fresh
    assert says(backend, known, Reuse(handle, handle.tokens)) == fresh


def test_a_handle_weighs_what_its_tokens_do() -> None:
    """Buffers have room to grow; what is kept has not. Dropping a handle frees it."""
    backend, _ = opened("llama")
    _, handle = run(backend, SPEC, keep=True)
    assert handle is not None
    per_token = models.LAYERS * 2 * models.KV_HEADS * models.HEAD_DIM * 4
    assert handle.nbytes == handle.tokens * per_token
    before = mx.get_active_memory()
    mx.eval(arrays(handle.caches))  # type: ignore[attr-defined]
    backend.drop(handle)
    assert handle.nbytes == 0
    assert before - mx.get_active_memory() >= 120 * per_token


def test_a_view_is_kept_without_what_it_is_a_view_of() -> None:
    """A row of a batch's recurrent state must not keep the other rows alive."""
    state = mx.ones((64, 1000))
    mx.eval(state)
    cache = ArraysCache(1)
    cache[0] = state[3:4]
    handle = kept([cache], 9)
    mx.eval(arrays(handle.caches))
    before = mx.get_active_memory()
    del cache, state
    assert before - mx.get_active_memory() >= 63 * 4000


# Bytes


def numbers(kind: Any) -> CacheHandle:
    cache = Cache()
    values = mx.arange(2 * 5 * 4).reshape(1, 2, 5, 4).astype(kind)
    cache.state = (values, values + 1, 5)
    return CacheHandle([cache], 5)


@pytest.mark.parametrize("kind", [mx.float32, mx.float16, mx.bfloat16], ids=str)
def test_every_kind_of_number_comes_back(kind: Any) -> None:
    """Also those that numpy has no name for."""
    handle = numbers(kind)
    data = memoryview(b"".join(store.save(handle, "key")))
    restored = store.restore(data, "key", 5, [Cache()])
    assert restored is not None
    for before, after in zip(arrays(handle.caches), arrays(restored.caches), strict=True):
        assert before.dtype == after.dtype
        assert mx.array_equal(before, after)


@pytest.mark.parametrize(
    ("key", "tokens", "caches"),
    [("other", 5, [Cache()]), ("key", 4, [Cache()]), ("key", 5, [ArraysCache(1)]), ("key", 5, [])],
)
def test_bytes_of_another_model_are_no_handle(key: str, tokens: int, caches: list[Any]) -> None:
    """Other files, another length, other kinds of layers, or another number of them."""
    data = memoryview(b"".join(store.save(numbers(mx.float32), "key")))
    assert store.restore(data, key, tokens, caches) is None


def test_any_changed_byte_is_found() -> None:
    """Each single byte, in the header or in the numbers; and each length but the right one."""
    data = b"".join(store.save(numbers(mx.float16), "key"))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert store.restore(memoryview(changed), "key", 5, [Cache()]) is None
        assert store.restore(memoryview(data)[:place], "key", 5, [Cache()]) is None
