"""A draft model beside an MLX model: it changes how fast the text comes, never the text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmx.backends.base import Event, LoadError, Logprob, Prefilled, Reuse, SeqSpec, Token
from lmx.backends.mlx import MlxBackend
from lmx.backends.mlx.imports import mx
from lmx.machines.types import ModelSpec, Sampling
from tests.support import guide, mlx_models, models

GREEDY = Sampling(temperature=0)
WRITTEN = 60
QUESTION = "<|im_start|>user\nWhat is lmx?<|im_end|>\n<|im_start|>assistant\n"


def opened(folder: Path = guide.MLX, **settings: Any) -> MlxBackend:
    backend = MlxBackend()
    backend.load(ModelSpec(name="m", path=str(folder), backend="mlx", context=512, **settings), lambda _: True)
    return backend


@pytest.fixture(scope="module")
def alone() -> Iterator[MlxBackend]:
    backend = opened()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lmx-guide, disturbed: often right, and often not."""
    folder = tmp_path_factory.mktemp("weak")
    for file in guide.MLX.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    mx.random.seed(1)
    loaded: Any = mx.load(str(guide.MLX / "model.safetensors"))
    weights = {
        name: (array + 0.1 * array.std() * mx.random.normal(array.shape)).astype(array.dtype)
        for name, array in loaded.items()
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder


@pytest.fixture(scope="module", params=["itself", "weak"])
def drafting(request: pytest.FixtureRequest, weak: Path) -> Iterator[MlxBackend]:
    backend = opened(draft=str(guide.MLX if request.param == "itself" else weak), draft_tokens=4)
    backend.warm_up()
    yield backend
    assert (backend.stats().running, backend.stats().kv_used, backend.stats().memory.kv) == (0, 0, 0)
    backend.close()


def run(backend: MlxBackend, spec: SeqSpec, chunk: int = 8) -> list[Event]:
    backend.add(spec)
    events: list[Event] = []
    while step := backend.step(chunk):
        events += step
    return events


def tokens(events: list[Event]) -> list[Token]:
    return [event for event in events if isinstance(event, Token)]


def told(backend: MlxBackend, spec: SeqSpec) -> list[Token]:
    found = tokens(run(backend, spec))
    backend.release(spec.id)
    return found


SAMPLINGS = {
    "greedy": GREEDY,
    "drawn": Sampling(seed=4),
    "filtered": Sampling(temperature=0.7, seed=8, top_k=20, top_p=0.9, min_p=0.02),
    "penalised": Sampling(temperature=0, repetition_penalty=1.3, frequency_penalty=0.2),
}


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_text_is_the_same(alone: MlxBackend, drafting: MlxBackend, sampling: str) -> None:
    """Greedy or drawn, with penalties or without: token by token what the model says by itself."""
    spec = SeqSpec(0, alone.encode(QUESTION, special=True), WRITTEN, SAMPLINGS[sampling])
    assert told(drafting, spec) == told(alone, spec)


def test_guesses_are_counted(drafting: MlxBackend) -> None:
    """Some were made, no more were right than made, and some of them were."""
    stats = drafting.stats()
    told(drafting, SeqSpec(0, drafting.encode(QUESTION, special=True), WRITTEN, GREEDY))
    after = drafting.stats()
    drafted, accepted = after.drafted - stats.drafted, after.accepted - stats.accepted
    assert 0 < accepted <= drafted


def test_stop_tokens_end_it_amid_guesses(alone: MlxBackend, drafting: MlxBackend) -> None:
    """Nothing is told after the token that ends it."""
    prompt = alone.encode(QUESTION, special=True)
    usual = [token.token for token in told(alone, SeqSpec(0, prompt, WRITTEN, GREEDY))]
    for stop in set(usual[3:12]):
        spec = SeqSpec(0, prompt, WRITTEN, GREEDY, stop_ids=frozenset({stop}))
        assert [token.token for token in told(drafting, spec)] == usual[: usual.index(stop) + 1]


def test_log_probabilities_are_the_models(alone: MlxBackend, drafting: MlxBackend) -> None:
    """Of the answer and of the prompt: those that the model gives without a draft model beside it."""
    spec = SeqSpec(0, alone.encode(QUESTION, special=True), 20, GREEDY, logprobs=3, prompt_logprobs=True)
    found = []
    for backend in (alone, drafting):
        events = run(backend, spec)
        backend.release(0)
        prompt = [logprob for event in events if isinstance(event, Prefilled) for logprob in event.logprobs]
        found.append([*prompt, *(token.logprob for token in tokens(events))])
    assert len(found[0]) == len(found[1]) == len(spec.prompt) + 20
    for left, right in zip(*found, strict=True):
        assert isinstance(left, Logprob)
        assert isinstance(right, Logprob)
        assert (left.token, [token for token, _ in left.top]) == (right.token, [token for token, _ in right.top])
        assert left.logprob == (None if right.logprob is None else pytest.approx(right.logprob, abs=1e-3))


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_it_can_be_stopped_and_taken_up_again(drafting: MlxBackend, steps: int) -> None:
    """A handle holds what both models have computed, no more than was reported; also from its bytes."""
    prompt = drafting.encode(QUESTION, special=True)
    whole = [token.token for token in told(drafting, SeqSpec(0, prompt, WRITTEN, GREEDY))]
    drafting.add(SeqSpec(0, prompt, WRITTEN, GREEDY))
    events = [event for _ in range(steps) for event in drafting.step(8)]
    said = [token.token for token in tokens(events)]
    handle = drafting.release(0, keep=True)
    assert handle is not None
    assert 0 < handle.tokens <= len(prompt) + len(said)
    restored = drafting.restore(memoryview(b"".join(drafting.save(handle))), handle.tokens)
    assert restored is not None
    for known in (handle, restored):
        reuse = Reuse(known, min(known.tokens, len(prompt) + len(said) - 1))
        rest = told(drafting, SeqSpec(0, prompt + said, WRITTEN - len(said), GREEDY, reuse=reuse))
        assert said + [token.token for token in rest] == whole


def test_progress_and_endings(drafting: MlxBackend) -> None:
    """One slot; the prompt in chunks; max_tokens 0 reads the prompt and ends; an unknown id is ignored."""
    prompt = drafting.encode(QUESTION * 2, special=True)
    drafting.add(SeqSpec(0, prompt, 1, GREEDY))
    assert drafting.free_slots() == 0
    drafting.release(9)
    events: list[Event] = []
    while step := drafting.step(5):
        events += step
    done = [event.done for event in events if isinstance(event, Prefilled)]
    assert done == [*range(5, len(prompt) - 1, 5), len(prompt) - 1, len(prompt)]
    assert [token.reason for token in tokens(events)] == ["length"]
    drafting.release(0)
    events = run(drafting, SeqSpec(1, prompt[:1], 0, GREEDY, logprobs=0, prompt_logprobs=True))
    assert events == [Prefilled(1, 1, 0, (Logprob(prompt[0], None),))]
    drafting.release(1)


def test_what_cannot_guess_for_it_is_refused() -> None:
    """Another vocabulary, layers that cannot go back, and a draft that is wanted but not named."""
    for folder, settings, reason in (
        (guide.MLX, {"draft": str(models.mlx_folder())}, "another vocabulary"),
        (mlx_models.mlx_folder("lfm2"), {"draft": str(models.mlx_folder())}, "recurrent layers"),
        (guide.MLX, {"speculation": "draft"}, "set `draft`"),
    ):
        with pytest.raises(LoadError, match=reason):
            opened(folder, **settings)


@pytest.mark.parametrize(
    ("settings", "said"), [({}, "off: mlx-lm"), ({"speculation": "off", "draft": "x"}, "off: as configured")]
)
def test_why_nothing_is_guessed_is_told(settings: dict[str, Any], said: str) -> None:
    """Info names the reason; a draft model that is not to be used is not loaded."""
    backend = MlxBackend()
    spec = ModelSpec(name="m", path=str(models.mlx_folder()), backend="mlx", **settings)
    assert backend.load(spec, lambda _: True).speculation.startswith(said)
    backend.close()
