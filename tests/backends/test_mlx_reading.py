"""Log-probabilities of prompts on the mlx backend."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from lmx.backends.base import Event, Logprob, Prefilled, Reuse, SeqSpec, Token
from lmx.backends.mlx import MlxBackend
from lmx.backends.mlx.imports import mx
from lmx.machines.types import ModelSpec, Sampling
from tests.support import mlx_models, models

PROMPT = [int(token) for token in np.random.default_rng(0).integers(10, 200, 150)]
SPEC = SeqSpec(0, PROMPT, 5, Sampling(temperature=0), logprobs=4, prompt_logprobs=True)


def opened(kind: str) -> MlxBackend:
    folder = models.mlx_folder() if kind == "llama" else mlx_models.mlx_folder(kind)
    backend = MlxBackend()
    backend.load(ModelSpec(name="m", path=str(folder), backend="mlx", context=512, slots=4), lambda _: True)
    return backend


@pytest.fixture(scope="module")
def backend() -> Iterator[MlxBackend]:
    backend = opened("llama")
    yield backend
    backend.close()


def run(backend: MlxBackend, *specs: SeqSpec, chunk: int = 32) -> list[Event]:
    for spec in specs:
        backend.add(spec)
    events: list[Event] = []
    while step := backend.step(chunk):
        events += step
    for spec in specs:
        backend.release(spec.id)
    assert (backend.stats().running, backend.stats().kv_used, backend.stats().memory.kv) == (0, 0, 0)
    return events


def of_prompt(events: Sequence[Event], seq: int = 0) -> list[Logprob]:
    found = [event for event in events if isinstance(event, Prefilled) and event.seq == seq]
    return [logprob for event in found for logprob in event.logprobs]


def said(events: Sequence[Event], seq: int = 0) -> list[int]:
    return [event.token for event in events if isinstance(event, Token) and event.seq == seq]


@pytest.mark.parametrize("kind", ["llama", "lfm2", "gemma3_text", "llama4"])
@pytest.mark.parametrize("chunk", [7, 512])
def test_prompt_logprobs_are_those_of_one_forward_pass(kind: str, chunk: int) -> None:
    """Each token with its own and the best ones in its place, whatever the chunks; the first one has none."""
    backend = opened(kind)
    logits = backend._model.module(mx.array([PROMPT]), cache=backend._model.new_cache())[0]
    expected = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True), np.float32)
    events = run(backend, SPEC, chunk=chunk)
    first, *found = of_prompt(events)
    assert first == Logprob(PROMPT[0], None)
    assert [logprob.token for logprob in found] == PROMPT[1:]
    for logprob, row in zip(found, expected, strict=False):
        best = np.sort(row)[::-1][:4]
        assert logprob.logprob == pytest.approx(row[logprob.token], abs=1e-3)
        np.testing.assert_allclose([value for _, value in logprob.top], best, atol=1e-3)
    assert said(events) == said(run(backend, replace(SPEC, prompt_logprobs=False)))
    backend.close()


def test_they_come_with_the_step_that_read_them(backend: MlxBackend) -> None:
    """A step reads no more than its chunk, and progress rises to the length of the prompt."""
    events = [event for event in run(backend, SPEC) if isinstance(event, Prefilled)]
    assert [event.done for event in events] == [32, 64, 96, 128, 149, 150]
    assert [len(event.logprobs) for event in events] == [33, 32, 32, 32, 21, 0]


@pytest.mark.parametrize("length", [1, 2, 150])
def test_a_prompt_can_be_all_that_is_wanted(backend: MlxBackend, length: int) -> None:
    """max_tokens 0: the whole prompt is told, no token follows, and what was computed can be kept."""
    spec = replace(SPEC, prompt=PROMPT[:length], max_tokens=0)
    backend.add(spec)
    events: list[Event] = []
    while step := backend.step(64):
        events += step
    assert not said(events)
    assert events[-1].seq == 0
    assert isinstance(events[-1], Prefilled)
    assert events[-1].done == length
    assert [logprob.token for logprob in of_prompt(events)] == PROMPT[:length]
    handle = backend.release(0, keep=True)
    assert (handle.tokens if handle else 0) == length - 1


@pytest.mark.parametrize("length", [1, 2])
def test_short_prompts_are_told_too(backend: MlxBackend, length: int) -> None:
    """Every step tells something while the sequence runs."""
    events = run(backend, replace(SPEC, prompt=PROMPT[:length]))
    assert [logprob.token for logprob in of_prompt(events)] == PROMPT[:length]
    assert len(said(events)) == 5


def test_others_decode_meanwhile(backend: MlxBackend) -> None:
    """A prompt that is read for its log-probabilities stops nobody, and several wait for their turn."""
    other = SeqSpec(9, PROMPT[:20], 12, Sampling(temperature=0))
    alone = said(run(backend, other), 9)
    events = run(backend, other, SPEC, replace(SPEC, id=1))
    assert said(events, 9) == alone
    assert of_prompt(events) == of_prompt(events, 1) != []
    assert said(events) == said(events, 1)


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 7])
def test_it_can_be_released_at_any_time(backend: MlxBackend, steps: int) -> None:
    """Its handle covers what was read; nothing is left behind."""
    backend.add(SPEC)
    events = [event for _ in range(steps) for event in backend.step(32)]
    done = max((event.done for event in events if isinstance(event, Prefilled)), default=0)
    handle = backend.release(0, keep=True)
    assert (handle.tokens if handle else 0) == done + len(said(events))
    assert run(backend, SPEC)


def test_what_is_known_is_read_again(backend: MlxBackend) -> None:
    """Cached tokens have no logits: reuse is passed over, and reported as none."""
    backend.add(replace(SPEC, prompt_logprobs=False))
    while backend.step(64):
        pass
    handle = backend.release(0, keep=True)
    assert handle is not None
    events = run(backend, replace(SPEC, reuse=Reuse(handle, 100)))
    assert [logprob.token for logprob in of_prompt(events)] == PROMPT
    assert {event.cached for event in events if isinstance(event, Prefilled)} == {0}
