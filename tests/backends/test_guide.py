"""The embedded model knows what it was taught, on both backends, token by token."""

import random
from collections.abc import Iterator

import pytest

from lmx.backends.base import Backend, Info, Prefilled, SeqSpec, Token
from lmx.backends.registry import open_backend
from lmx.engine.template import ChatTemplate
from lmx.guide_record import of
from lmx.machines.types import Sampling
from tests.support.guide import SPECS, taught

Loaded = tuple[Backend, Info]


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, Loaded]]:
    backends: dict[str, Loaded] = {}
    for name, spec in SPECS.items():
        backend = open_backend(spec.backend)
        backends[name] = backend, backend.load(spec, lambda _: True)
    yield backends
    for backend, _ in backends.values():
        backend.close()


def answers(backend: Backend, info: Info, questions: list[str]) -> list[list[int]]:
    """The greedy token ids for each question, batched, without the end token."""
    assert info.chat_template is not None
    template = ChatTemplate(info.chat_template, bos=info.bos_text, eos=info.eos_text)
    ids: dict[int, list[int]] = {}
    todo = list(enumerate(questions))[::-1]
    running = 0
    while todo or running:
        while todo and backend.free_slots():
            seq, question = todo.pop()
            prompt = backend.encode(template.render([{"role": "user", "content": question}]), special=True)
            greedy = Sampling(temperature=0.0)
            backend.add(SeqSpec(id=seq, prompt=prompt, max_tokens=120, sampling=greedy, stop_ids=info.eos))
            ids[seq] = []
            running += 1
        for event in backend.step(512):
            assert isinstance(event, Token | Prefilled), event
            if isinstance(event, Token):
                if event.reason != "stop":
                    ids[event.seq].append(event.token)
                if event.reason:
                    backend.release(event.seq)
                    running -= 1
    return [ids[seq] for seq in range(len(questions))]


def text(info: Info, ids: list[int]) -> str:
    return b"".join(info.token_bytes[token] for token in ids).decode()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SPECS)
def test_it_answers_its_own_questions(loaded: dict[str, Loaded], name: str) -> None:
    """At least 95 % of all taught questions are answered exactly, under greedy decoding in a batch."""
    backend, info = loaded[name]
    pairs = taught()
    if name == "mlx":  # a tenth of the speed on a CPU: a fixed sample of the same questions
        pairs = random.Random(0).sample(pairs, 200)
    said = answers(backend, info, [question for question, _ in pairs])
    right = sum(text(info, ids) == answer for ids, (_, answer) in zip(said, pairs, strict=True))
    assert right / len(pairs) >= 0.95, f"{right} of {len(pairs)}"


def test_both_backends_say_the_same_tokens(loaded: dict[str, Loaded]) -> None:
    """Forty questions get the same greedy token ids from llama.cpp and from MLX."""
    questions = [question for question, _ in random.Random(1).sample(taught(), 40)]
    said = {name: answers(*both, questions) for name, both in loaded.items()}
    assert said["mlx"] == said["llama_cpp"]


@pytest.mark.parametrize("name", SPECS)
def test_the_recorded_canary_is_what_it_sings(loaded: dict[str, Loaded], name: str) -> None:
    """canary.json holds the first tokens of the greedy answer to its question."""
    record = of(SPECS[name])
    assert record is not None
    [ids] = answers(*loaded[name], [record.question])
    assert tuple(ids[: len(record.token_ids)]) == record.token_ids
    assert len(record.token_ids) >= 8


@pytest.mark.parametrize("name", SPECS)
def test_it_says_what_it_is_when_it_does_not_know(loaded: dict[str, Loaded], name: str) -> None:
    """Most questions that it was never taught get an honest answer."""
    questions = [
        "Who painted the Mona Lisa?", "Write a poem about autumn.", "How do I bake bread?", "What is 17 times 23?",
        "Wie spät ist es?", "Who won the football game?", "Explain quantum mechanics.", "asdf qwer zxcv",
        "What is the tallest mountain?", "Fix my Java code.", "I feel sad today.", "Recommend a film.",
    ]  # fmt: skip
    backend, info = loaded[name]
    honest = [text(info, ids) for ids in answers(backend, info, questions)]
    assert sum("lmx-guide" in answer for answer in honest) >= 10, honest
