"""Guessed tokens on llama.cpp: they change speed, never text."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from lmx.backends.base import LoadError, Reuse, SeqSpec, Token
from lmx.machines.types import Sampling
from tests.support import guide, models
from tests.support.gguf_driver import GREEDY, Driven, Open, opening

TEXT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
QUESTIONS = ("What is lmx?", "How do I stop the server?", "Who are you?")
"""The model knows the answers by heart, so that nothing hangs on the rounding of larger batches."""


@pytest.fixture
def load() -> Iterator[Open]:
    with opening() as open_model:
        yield open_model


def asked_again(model: Driven, question: str) -> list[int]:
    """A chat in which the question was asked and answered before."""
    prompt = model.text(TEXT.format(question))
    answer = model.run(SeqSpec(1, prompt, 80, GREEDY, model.info.eos))[1]
    return prompt + answer + prompt


def repeating(model: Driven) -> list[int]:
    """A prompt after which the model repeats itself."""
    return model.text("one two three four one two three four one two three four one two")


@pytest.mark.parametrize("settings", [{"speculation": "lookup"}, {"draft": str(guide.GGUF)}])
def test_guesses_change_no_words(load: Open, settings: dict[str, object]) -> None:
    """Greedy or with a seed, alone or three at once: the same tokens as without guesses, which were really made."""
    plain, guessing = load(speculation="off"), load(**settings)
    prompts = [asked_again(plain, question) for question in QUESTIONS]
    for sampling in (GREEDY, Sampling(temperature=0.5, seed=3), Sampling(temperature=0, presence_penalty=0.01)):
        specs = [SeqSpec(seq, one, 80, sampling, plain.info.eos) for seq, one in enumerate(prompts)]
        expected = [plain.run(spec)[spec.id] for spec in specs]
        assert [guessing.run(spec)[spec.id] for spec in specs] == expected
        assert list(guessing.run(*specs).values()) == expected
    stats = guessing.backend.stats()
    assert 0 < stats.accepted <= stats.drafted
    assert plain.backend.stats().drafted == 0


def test_what_is_kept_after_guesses_is_right(load: Open) -> None:
    """Wrong guesses leave nothing in a kept sequence."""
    model = load(speculation="lookup")
    prompt = repeating(model)
    said = model.run(SeqSpec(1, prompt, 50, GREEDY))[1]
    assert model.backend.stats().drafted > 0
    handle = model.kept[1]
    longer = (prompt + said)[: handle.tokens] + model.text(" And why?")
    assert handle.tokens == len(prompt) + 49
    assert model.says(longer, reuse=Reuse(handle, handle.tokens)) == model.says(longer)


def test_the_end_of_a_sequence_amid_guesses(load: Open) -> None:
    """Nothing comes after a stop token or beyond max_tokens, though more was guessed."""
    model = load(speculation="lookup")
    spec = SeqSpec(1, repeating(model), 60, GREEDY)
    usual = model.run(spec)[1]
    for stop in set(usual[-20:]):
        said = model.run(replace(spec, stop_ids=frozenset({stop})))[1]
        assert said == usual[: usual.index(stop) + 1]
    for count in (1, 2, 25, 26, 27, 31):
        assert model.run(replace(spec, max_tokens=count))[1] == usual[:count]
    reasons = [event.reason for event in model.events if isinstance(event, Token) and event.reason]
    assert len(reasons) == 1 + len(set(usual[-20:])) + 6


def test_the_context_can_be_filled_with_guesses(load: Open) -> None:
    """Guesses never reach beyond the context."""
    model = load(speculation="lookup", context=256)
    prompt = (repeating(model) * 20)[:200]
    assert len(model.run(SeqSpec(1, prompt, 56, GREEDY))[1]) == 56


def test_an_audit_takes_no_guesses(load: Open) -> None:
    """The canary's tokens come one by one."""
    model = load(speculation="lookup")
    model.run(SeqSpec(1, repeating(model), 60, GREEDY, audit=True))
    assert model.backend.stats().drafted == 0


def test_what_was_agreed_on(load: Open) -> None:
    """Info says whether and how tokens are guessed, or why not."""
    assert load().info.speculation == "lookup"
    assert load(draft=str(guide.GGUF)).info.speculation == "draft"
    assert load(draft=str(guide.GGUF), speculation="lookup").info.speculation == "lookup"
    assert load(speculation="off").info.speculation == "off: switched off"
    assert load(models.gguf_file("lfm2")).info.speculation == "off: this kind of model cannot take tokens back"


def test_a_draft_model_is_counted(load: Open) -> None:
    """Its weights and KV are part of the memory that is told."""
    alone, both = load().backend.stats().memory, load(draft=str(guide.GGUF)).backend.stats().memory
    assert both.weights == 2 * alone.weights
    assert both.kv == 2 * alone.kv


def test_draft_models_that_do_not_fit(load: Open, tmp_path: Path) -> None:
    """None at all, a missing file, another vocabulary, a recurrent one: LoadErrors in plain words."""
    with pytest.raises(LoadError, match="set draft to its path"):
        load(speculation="draft")
    with pytest.raises(LoadError, match="does not exist"):
        load(draft=str(tmp_path / "none.gguf"))
    with pytest.raises(LoadError, match="has another vocabulary"):
        load(draft=str(models.gguf_file()))
    with pytest.raises(LoadError, match="cannot take a guess back"):
        load(models.gguf_file(), draft=str(models.gguf_file("mamba")))
