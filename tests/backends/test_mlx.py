"""What the mlx backend does beyond the contract of all backends: kinds of caches, sampling, numbers that are none."""

import functools
import io
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lmx.backends import sampling as numpy_sampling
from lmx.backends.base import EngineFatal, Event, Prefilled, SeqError, SeqSpec, Token
from lmx.backends.mlx import MlxBackend
from lmx.backends.mlx.batch import SETTLE_STEPS, Batch
from lmx.backends.mlx.imports import mx
from lmx.backends.mlx.sampling import Bias, Draw, Penalties, RowSampling
from lmx.machines.types import ModelSpec, Sampling
from tests.support import mlx_models, models

GREEDY = Sampling(temperature=0)
VOCAB = 50
PROMPT = [3, 3, 7]


def opened(folder: Path, slots: int = 4) -> MlxBackend:
    backend = MlxBackend()
    spec = ModelSpec(name="tiny", path=str(folder), backend="mlx", context=512, slots=slots)
    backend.load(spec, lambda _: True)
    return backend


def run(backend: MlxBackend, *specs: SeqSpec, chunk: int = 32) -> dict[int, list[int]]:
    """The tokens of each sequence; nothing may fail."""
    for spec in specs:
        backend.add(spec)
    said: dict[int, list[int]] = {spec.id: [] for spec in specs}
    while events := backend.step(chunk):
        assert not [event for event in events if isinstance(event, SeqError)]
        for event in events:
            if isinstance(event, Token):
                said[event.seq].append(event.token)
    for spec in specs:
        backend.release(spec.id)
    return said


def empty(backend: MlxBackend) -> bool:
    stats = backend.stats()
    return (stats.running, stats.kv_used, stats.memory.kv) == (0, 0, 0)


@pytest.fixture(scope="module")
def llama() -> Iterator[MlxBackend]:
    backend = opened(models.mlx_folder())
    yield backend
    backend.close()


@pytest.fixture
def backend(llama: MlxBackend) -> Iterator[MlxBackend]:
    """Every test must leave it empty."""
    yield llama
    assert empty(llama)


# Kinds of models


@pytest.mark.parametrize("kind", mlx_models.CONFIGS)
def test_neighbours_do_not_matter(kind: str) -> None:
    """Recurrent, hybrid, sliding and chunked models say the same alone and, where they can be batched, among others."""
    backend = opened(mlx_models.mlx_folder(kind))
    backend.warm_up()
    specs = [SeqSpec(seq, list(range(10, 10 + length)), 10, GREEDY) for seq, length in enumerate((5, 90, 1))]
    alone = [run(backend, spec)[spec.id] for spec in specs]
    assert len({tuple(tokens) for tokens in alone}) == len(specs)
    if backend.free_slots() > 1:
        assert list(run(backend, *specs).values()) == alone
    assert run(backend, specs[1], chunk=7)[1] == alone[1]
    backend.close()


def test_a_model_that_cannot_be_batched_has_one_slot() -> None:
    """Whatever the configuration says: one sequence at a time, and the slot is free again after each."""
    backend = opened(mlx_models.mlx_folder("llama4"), slots=8)
    assert backend.free_slots() == 1
    backend.add(SeqSpec(0, PROMPT, 5, GREEDY))
    assert backend.free_slots() == 0
    backend.step(32)
    backend.release(0)
    assert backend.free_slots() == 1
    assert empty(backend)
    backend.close()


def test_a_long_run_of_a_hybrid_model_grows_no_graph() -> None:
    """Recurrent layers count positions that not all of them read: they are computed all the same, now and then."""
    backend = opened(mlx_models.mlx_folder("lfm2"))
    backend.add(SeqSpec(0, PROMPT, 400, GREEDY))
    for _ in range(3 * SETTLE_STEPS):
        backend.step(32)
    assert isinstance(backend._batch, Batch)
    first, second, _ = backend._batch._generator._generation_batch.prompt_cache
    assert max(operations(first.left_padding), operations(second.left_padding)) <= 2 * SETTLE_STEPS
    backend.release(0)
    backend.close()


def operations(array: mx.array) -> int:
    """How many operations an array still waits for, by its graph."""
    graph = io.StringIO()
    mx.export_to_dot(graph, array)
    return graph.getvalue().count("label")


# Steps


def test_what_is_in_the_cache_is_counted(backend: MlxBackend) -> None:
    """kv_used follows the prompts chunk by chunk and then the tokens; two prompts share a chunk."""

    def counted() -> tuple[int, int]:
        stats = backend.stats()
        return stats.running, stats.kv_used

    backend.add(SeqSpec(0, list(range(10, 50)), 5, GREEDY))
    backend.add(SeqSpec(1, [10, 20], 5, GREEDY))
    assert counted() == (2, 0)
    assert backend.step(40) == [Prefilled(0, 20), Prefilled(1, 1)]
    assert counted() == (2, 21)
    assert backend.step(40) == [Prefilled(1, 2), Prefilled(0, 39)]
    assert counted() == (2, 41)
    assert backend.stats().memory.kv > 0
    backend.release(0)
    backend.release(1)


def test_a_failed_computation_ends_the_worker() -> None:
    """When mlx itself fails in a step, the state of all sequences is unknown: EngineFatal."""
    backend = opened(models.mlx_folder())
    backend.add(SeqSpec(0, PROMPT, 5, GREEDY))
    backend._model.module.model.norm.weight = mx.ones(3)
    with pytest.raises(EngineFatal, match="rms_norm"):
        run(backend)
    backend.close()


# Faults of one sequence


@functools.cache
def poisoned_folder() -> Path:
    """The tiny llama with one token whose embedding is not a number."""
    folder = models.mlx_folder().parent / "mlx-poisoned"
    shutil.copytree(models.mlx_folder(), folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][models.POISON] = np.nan
    save_file(weights, folder / "model.safetensors")
    return folder


def outcome(backend: MlxBackend) -> dict[int, Event]:
    """The last event of each sequence."""
    last: dict[int, Event] = {}
    while events := backend.step(32):
        last |= {event.seq: event for event in events}
    for seq in last:
        backend.release(seq)
    return last


def test_audit_finds_numbers_that_are_none() -> None:
    """A sequence with `audit` ends in an error at its first bad logit; its neighbours say what they say alone."""
    backend = opened(poisoned_folder())
    sound = SeqSpec(1, [10, 20, 30], 8, GREEDY, audit=True)
    alone = run(backend, sound)[1]
    backend.add(SeqSpec(0, [10, models.POISON, 30], 8, GREEDY, audit=True))
    backend.add(SeqSpec(2, [10, models.POISON, 30], 8, GREEDY))
    backend.add(sound)
    last = outcome(backend)
    assert isinstance(last[0], SeqError)
    assert "not finite" in last[0].message
    assert last[1] == Token(1, alone[-1], "length")
    assert isinstance(last[2], Token)
    assert backend.free_slots() == 4
    assert run(backend, sound)[1] == alone
    backend.close()


WRONG: Any = "much"


def test_a_fault_in_sampling_is_its_own_sequences_affair(backend: MlxBackend) -> None:
    """An exception while a token is chosen ends that sequence with an error; those beside it go on."""
    sound = SeqSpec(1, PROMPT, 8, GREEDY)
    alone = run(backend, sound)[1]
    backend.add(SeqSpec(0, PROMPT, 8, Sampling(temperature=1.0, top_p=WRONG)))
    backend.add(sound)
    last = outcome(backend)
    assert isinstance(last[0], SeqError)
    assert last[1] == Token(1, alone[-1], "length")


# Sampling on the device means what it means in numpy


def logits(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 3, VOCAB).astype(np.float32)


def logprobs(seed: int) -> mx.array:
    values = mx.array(logits(seed))[None]
    return values - mx.logsumexp(values, axis=-1, keepdims=True)


def drawn(sampling: Sampling, row: mx.array, count: int = 300) -> Counter[int]:
    draw = Draw(sampling)
    return Counter(np.array(draw(row)).item() for _ in range(count))


FILTERS = [{"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 5, "top_p": 0.9, "min_p": 0.02}, {"top_k": 10**6}]


@pytest.mark.parametrize("filters", FILTERS)
def test_filters_leave_the_tokens_that_numpy_leaves(filters: dict[str, Any]) -> None:
    """top_k, top_p and min_p keep exactly the tokens that they keep on the GGUF side, alone and together."""
    flat = Sampling(temperature=1e6, seed=1, **filters)
    reference = logits(5)
    survivors = {numpy_sampling.draw(reference, flat, (n + 0.5) / 2000) for n in range(2000)}
    assert set(drawn(flat, logprobs(5), 1000)) == survivors


def test_draws_follow_the_probabilities() -> None:
    """Tokens come as often as the distribution at that temperature says."""
    row = mx.log(mx.array([[0.1, 0.2, 0.7]]))
    assert drawn(Sampling(seed=3), row, 1000)[2] == pytest.approx(700, rel=0.07)
    assert drawn(Sampling(seed=3, temperature=2.0), row, 1000)[2] == pytest.approx(523, rel=0.1)


@pytest.mark.parametrize("seed", [0, 7, -1, 2**64 - 1, 2**70])
def test_a_draw_depends_on_seed_and_index_only(seed: int) -> None:
    """Any integer is a seed; what else was drawn, by anyone, is no matter, and each index draws anew."""
    row = mx.zeros((1, 10_000))
    first, second = Draw(Sampling(seed=seed)), Draw(Sampling(seed=seed))
    tokens = [np.array(first(row)).item() for _ in range(5)]
    mx.random.seed(99)
    drawn(Sampling(), row, 3)
    assert [np.array(second(row)).item() for _ in range(5)] == tokens
    assert len(set(tokens)) == 5


PENALTIES = [
    {"repetition_penalty": 1.7},
    {"presence_penalty": 0.9},
    {"frequency_penalty": 0.4},
    {"repetition_penalty": 0.8, "presence_penalty": -0.5, "frequency_penalty": 0.3},
]


@pytest.mark.parametrize("penalties", PENALTIES)
def test_penalties_are_those_of_numpy(penalties: dict[str, float]) -> None:
    """Repetition looks at prompt and completion, presence and frequency at the completion only, on both sides."""
    sampling = Sampling(**penalties)  # type: ignore[arg-type]
    here, there = Penalties(sampling), numpy_sampling.Penalties(sampling, PROMPT, VOCAB)
    tokens = list(PROMPT)
    for index, said in enumerate((7, 9, 9, 3)):
        expected = logits(index)
        there.apply(expected)
        actual = np.array(here(mx.array(tokens), mx.array(logits(index))[None]))[0]
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
        tokens.append(said)
        there.count(said)


def test_bias_is_added() -> None:
    """Each token's own bias, -inf included, and nothing to the others."""
    biased = Bias({3: 2.5, 4: -np.inf})(mx.array(PROMPT), mx.zeros((1, 6), mx.float16))
    assert biased.tolist() == [[0, 0, 0, 2.5, -np.inf, 0]]


def test_nothing_is_made_for_what_changes_nothing() -> None:
    """Default settings cost no processor, so that rows without any stay in the fast lane of mlx-lm."""
    plain, greedy = RowSampling(SeqSpec(0, PROMPT, 1)), RowSampling(SeqSpec(0, PROMPT, 1, GREEDY))
    assert plain.processors == greedy.processors == []
    assert greedy.sampler is RowSampling(SeqSpec(1, PROMPT, 9, GREEDY)).sampler
