"""What lmx relies on in mlx-lm without its being documented there: when an upgrade breaks lmx, look here first."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmx.backends.mlx.folder import Folder
from lmx.backends.mlx.imports import BatchGenerator, StopSequences, greedy_sampler, mx
from lmx.backends.mlx.loading import load_weights
from lmx.backends.mlx.model import Model
from lmx.backends.mlx.single_row import SingleRow
from lmx.machines.types import ModelSpec
from tests.support import mlx_models, models

PROMPT = [10, 20, 30, 40, 50]


def load(folder: Path) -> Model:
    return load_weights(Folder(str(folder)), ModelSpec(name="tiny", path=str(folder), backend="mlx"), lambda _: True)


@pytest.fixture(scope="module")
def model() -> Model:
    return load(models.mlx_folder())


@pytest.fixture
def batch(model: Model) -> Iterator[Any]:
    generator: Any = BatchGenerator(model.module, completion_batch_size=4, prefill_batch_size=1, prefill_step_size=64)
    yield generator
    generator.close()


def run(batch: Any) -> dict[int, list[Any]]:
    """Every response about a generated token, by sequence."""
    found: dict[int, list[Any]] = {}
    while True:
        prompts, generated = batch.next()
        for response in generated:
            found.setdefault(response.uid, []).append(response)
        if not prompts and not generated:
            return found


def test_processors_run_once_more_than_tokens_are_reported(batch: Any) -> None:
    """They get prompt and generated tokens, one more at each call, and a call after the last token."""
    lengths: list[int] = []

    def process(tokens: mx.array, logits: mx.array) -> mx.array:
        lengths.append(len(tokens))
        return logits

    batch.insert([PROMPT], max_tokens=[4], logits_processors=[[process]])
    (responses,) = run(batch).values()
    assert [response.token for response in responses] == responses[-1].all_tokens[len(PROMPT) :]
    assert lengths == [5, 6, 7, 8, 9]


def test_processors_see_the_very_tokens(batch: Any) -> None:
    """At each call the sequence as it stands: what was sampled a moment ago included, though not yet reported."""
    seen: list[mx.array] = []

    def process(tokens: mx.array, logits: mx.array) -> mx.array:
        seen.append(tokens + 0)
        return logits

    batch.insert([PROMPT], max_tokens=[3], logits_processors=[[process]])
    (responses,) = run(batch).values()
    said = [response.token for response in responses]
    assert [tokens.tolist() for tokens in seen] == [PROMPT + said[:count] for count in range(4)]


@pytest.mark.parametrize(("shared", "rows"), [(True, 2), (False, 1)])
def test_rows_with_one_sampler_object_are_sampled_at_once(batch: Any, shared: bool, rows: int) -> None:
    """The same object for all rows gets the whole batch; different ones get a row each, and so draw on their own."""
    shapes: set[int] = set()

    def sampler() -> Callable[[mx.array], mx.array]:
        def sample(logprobs: mx.array) -> mx.array:
            shapes.add(logprobs.shape[0])
            sampled: mx.array = greedy_sampler(logprobs)
            return sampled

        return sample

    one = sampler()
    batch.insert([PROMPT, PROMPT], max_tokens=[9, 9], samplers=[one, one if shared else sampler()])
    run(batch)
    assert max(shapes) == rows


def test_the_chunk_is_read_at_every_step(batch: Any) -> None:
    """prefill_step_size may change between steps; the last prompt token is a step of its own."""
    batch.insert([list(range(10, 60))], max_tokens=[1])
    progress = []
    for chunk in (7, 30, 30, 30):
        batch.prefill_step_size = chunk
        progress += [response.progress for response in batch.next()[0]]
    assert progress == [(7, 50), (37, 50), (49, 50), (50, 50)]


def test_one_prompt_at_a_time(batch: Any) -> None:
    """With prefill_batch_size 1 a step computes at most one chunk, however many prompts wait."""
    batch.insert([PROMPT * 4] * 3, max_tokens=[1] * 3)
    assert [response.uid for response in batch.next()[0]] == [0]


def test_rows_hold_the_tokens_of_the_cache(batch: Any) -> None:
    """`tokens` of the two batches are what the caches hold: stats() counts them."""
    (uid,) = batch.insert([PROMPT * 4], max_tokens=[9])
    batch.prefill_step_size = 8
    batch.next()
    assert list(map(len, batch._prompt_batch.tokens)) == [8]
    assert batch.extract_cache([uid])[uid][0][0].offset == 8
    while not batch.next()[1]:
        pass
    assert list(map(len, batch._generation_batch.tokens)) == [21]
    assert batch.extract_cache([uid])[uid][0][0].offset == 21
    run(batch)
    assert batch._generation_batch.tokens == batch._generation_batch.prompt_cache == []
    assert batch.prompt_cache_nbytes == 0


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 8])
def test_remove_in_every_phase(batch: Any, steps: int) -> None:
    """A removed sequence is gone, its cache too; unknown numbers are ignored."""
    (uid,) = batch.insert([PROMPT * 4], max_tokens=[9])
    batch.prefill_step_size = 8
    for _ in range(steps):
        batch.next()
    batch.remove([uid, 77])
    assert batch.next() == ([], [])
    assert batch.prompt_cache_nbytes == 0


def test_stop_sequences_belong_to_a_row(batch: Any) -> None:
    """Each row ends at its own stop token, which is reported; at the last token allowed "stop" wins over "length"."""
    batch.insert([PROMPT], max_tokens=[6])
    (usual,) = ([response.token for response in responses] for responses in run(batch).values())
    assert len(set(usual)) == 6
    stop, none = StopSequences([[usual[2]]]), StopSequences([])
    batch.insert([PROMPT] * 3, max_tokens=[6, 6, 3], stop_sequences=[stop, none, stop])
    ends = [(len(responses), responses[-1].finish_reason) for responses in run(batch).values()]
    assert sorted(ends) == [(3, "stop"), (3, "stop"), (6, "length")]


@pytest.mark.parametrize(("prompt", "max_tokens"), [([], 1), (PROMPT, 0)])
def test_what_cannot_be_inserted(batch: Any, prompt: list[int], max_tokens: int) -> None:
    """An empty prompt or no tokens to generate is a ValueError before anything changes."""
    with pytest.raises(ValueError, match="Sequence 0"):
        batch.insert([prompt], max_tokens=[max_tokens])
    assert batch.next() == ([], [])


def test_an_exception_in_a_processor_takes_the_sequence_with_it(batch: Any) -> None:
    """Why nothing that lmx passes in may raise: the sequence in transition vanishes without a response."""

    def fail(tokens: mx.array, logits: mx.array) -> mx.array:
        raise RuntimeError("broken")

    batch.insert([[10]], max_tokens=[3], logits_processors=[[fail]])
    with pytest.raises(RuntimeError, match="broken"):
        batch.next()
    assert batch.next() == ([], [])


@pytest.mark.parametrize("kind", ["llama4", "lfm2"])
def test_a_batch_of_one_is_what_mlx_lm_generates_alone(kind: str) -> None:
    """Caches that cannot be merged work in a batch of one, past the length of their chunks; so do the others."""
    from mlx_lm.generate import generate_step

    model = load(mlx_models.mlx_folder(kind))
    assert isinstance(model.new_cache()[0], SingleRow) != model.batches
    prompt = list(range(10, 100))
    steps = generate_step(mx.array(prompt), model.module, max_tokens=30, prefill_step_size=32)
    expected = [int(token) for token, _ in steps]
    generator: Any = BatchGenerator(model.module, completion_batch_size=1, prefill_batch_size=1, prefill_step_size=32)
    generator.insert([prompt], max_tokens=[30], caches=[model.new_cache()])
    (responses,) = run(generator).values()
    assert [response.token for response in responses] == expected
