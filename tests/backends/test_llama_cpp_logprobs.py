"""Log-probabilities from llama.cpp: of what is written and of the prompt."""

import math
from collections.abc import Iterator

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from lmx.backends.base import Logprob, Prefilled, SeqSpec, Token
from lmx.machines.types import Sampling
from tests.support.gguf_driver import GREEDY, Driven, Open, opening

TEXT = "lmx is an inference server for one machine. It serves several models over an OpenAI-compatible interface. " * 2


@pytest.fixture
def load() -> Iterator[Open]:
    with opening() as open_model:
        yield open_model


def of_prompt(model: Driven, seq: int) -> list[Logprob]:
    return [
        one for event in model.events if isinstance(event, Prefilled) and event.seq == seq for one in event.logprobs
    ]


def test_all_of_a_vocabulary_weigh_one(load: Open) -> None:
    """The probabilities of all tokens sum to 1; the best comes first, and is the greedy token."""
    model = load()
    model.run(SeqSpec(1, model.text(TEXT), 3, GREEDY, logprobs=model.info.vocab))
    for event in model.events:
        if isinstance(event, Token):
            assert event.logprob is not None
            assert sum(math.exp(value) for _, value in event.logprob.top) == pytest.approx(1, abs=1e-3)
            assert event.logprob.top[0] == (event.token, event.logprob.logprob)


@pytest.mark.parametrize("chunk", [1, 20, 512])
def test_a_prompt_is_told_token_by_token(load: Open, chunk: int) -> None:
    """Every prompt token once, the first without a number, whatever the chunks; then it may end without a token."""
    model = load()
    prompt = model.text(TEXT)
    model.backend.add(SeqSpec(1, prompt, 0, GREEDY, logprobs=2, prompt_logprobs=True))
    while model.step(chunk):
        pass
    assert model.backend.stats().running == 1
    assert model.backend.release(1) is None
    told = of_prompt(model, 1)
    assert [one.token for one in told] == prompt
    assert [one.logprob is None for one in told] == [True] + [False] * (len(prompt) - 1)
    assert not [event for event in model.events if isinstance(event, Token)]
    assert {len(one.top) for one in told[1:]} == {2}


def test_a_prompt_and_what_is_written_agree(load: Open) -> None:
    """A text gets the same numbers when it is written as when it is read."""
    model = load()
    prompt = model.text(TEXT)[:20]
    said = model.run(SeqSpec(1, prompt, 10, GREEDY, logprobs=0))[1]
    written = [event.logprob for event in model.events if isinstance(event, Token)]
    model.run(SeqSpec(2, prompt + said, 1, GREEDY, logprobs=0, prompt_logprobs=True))
    read = of_prompt(model, 2)[len(prompt) :]
    assert [one.token for one in read] == said
    for one, other in zip(read, written, strict=True):
        assert other is not None
        assert one.logprob == pytest.approx(other.logprob, abs=0.02)


def test_many_prompts_are_told_side_by_side(load: Open) -> None:
    """Several of them, beside sequences that decode and guess, ask for no more logits than a step has."""
    model = load(slots=6)
    prompts = [model.text(TEXT)[:length] for length in (90, 70, 41)]
    for seq, prompt in enumerate(prompts):
        model.backend.add(SeqSpec(seq, prompt, 3, GREEDY, logprobs=1, prompt_logprobs=True))
    for seq in range(3, 6):
        model.backend.add(SeqSpec(seq, model.text("one two one two one two one"), 40, GREEDY))
    said = model.run()
    assert [[one.token for one in of_prompt(model, seq)] for seq in range(3)] == prompts
    assert [len(said[seq]) for seq in range(6)] == [3, 3, 3, 40, 40, 40]


def test_logprobs_are_the_models_own(load: Open) -> None:
    """Penalties, bias and filters change what is chosen, and not what is told of it."""
    model = load()
    prompt = model.text(TEXT)[:20]
    usual = Sampling(temperature=0)
    first = model.run(SeqSpec(1, prompt, 1, usual, logprobs=1))[1][0]
    model.run(SeqSpec(2, prompt, 1, Sampling(temperature=0, logit_bias={first: -100.0}), logprobs=1))
    told = [event.logprob for event in model.events if isinstance(event, Token)]
    assert told[0] is not None
    assert told[1] is not None
    assert told[1].token != first
    assert told[1].top == told[0].top
