"""Whose text is whose: many marked requests at once, of all shapes, some given up in the middle."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.asking import CHAT, TEXT, Asking, Json, guide, serving, text_of, texts, together, user
from tests.support.guide import GGUF, taught
from tests.support.server import Server

FAKE = '[models.fake]\nbackend = "fake"\nslots = 16\ncontext = 2048\n'
NEAR = 0.05
"""Two tokens that are so close in log-probability may change places by rounding."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tables = (FAKE, guide("gguf", GGUF, context=1024, slots=8))
    with serving(tmp_path_factory.mktemp("routing"), *tables) as started:
        yield started


def marked(number: int, chance: random.Random) -> str:
    """A text that nobody else has, of some length, often with a beginning that others have too."""
    start = "what many of them begin with " * chance.choice((0, 1, 10))
    return start + f"<{number}>" * chance.randint(1, 25)


async def test_a_thousand_answers_find_their_askers(server: Server) -> None:
    """1,000 requests, up to 60 at a time, of every shape: each gets its own text, exactly."""
    chance = random.Random(1)

    async def one(client: Asking, number: int) -> None:
        text = marked(number, chance)
        match number % 5:
            case 0:
                assert await client.streamed(TEXT, prompt=text) == text
            case 1:
                assert await client.chat(user(text)) == text
            case 2:
                assert texts(await client.ok(TEXT, prompt=[text, f"{number}!"], n=2)) == [text] * 2 + [f"{number}!"] * 2
            case 3:
                begun = await client.streamed(CHAT, messages=user(text), leave_after=chance.randint(1, 20))
                assert text.startswith(begun)
            case _:
                assert text_of(await client.ok(TEXT, prompt=text)) == text

    async with Asking(server.url, model="fake", max_tokens=1000) as client:
        await together(*(one(client, number) for number in range(1000)), width=60)
    server.until(lambda: server.machine("model:fake")["facts"], lambda facts: facts["in_flight"] == 0)
    assert server.machine("model:fake")["facts"]["kv_used"] == 0


@dataclass(frozen=True)
class Case:
    messages: list[Json]
    answer: str


async def alone(client: Asking, messages: list[Json]) -> Case | None:
    """What it is answered; None when two tokens were too close to tell what a batch would make of them."""
    reply = await client.ok(CHAT, messages=messages, logprobs=True, top_logprobs=2)
    for token in reply["choices"][0]["logprobs"]["content"]:
        best, second = token["top_logprobs"]
        if best["logprob"] - second["logprob"] < NEAR:
            return None
    return Case(messages, text_of(reply))


def prompts() -> Iterator[list[Json]]:
    """Questions alone, after a system message, and after one of two long dialogs."""
    pairs = taught()
    for number, (question, _) in enumerate(pairs[::30]):
        match number % 4:
            case 0:
                yield user(question)
            case 1:
                yield user(question, system=f"You are number {number}. Be brief.")
            case kind:
                dialog = pairs[kind * 100 : kind * 100 + 96 : 12]
                yield [message for pair in dialog for message in turn(*pair)] + user(question)


def turn(question: str, answer: str) -> list[Json]:
    return [*user(question), {"role": "assistant", "content": answer}]


async def test_the_same_prompt_is_answered_as_it_was_alone(server: Server) -> None:
    """200 requests of mixed lengths, many with a long beginning in common, a sixth given up: all as they were alone."""
    chance = random.Random(2)

    async def one(client: Asking, case: Case) -> int:
        match chance.randrange(6):
            case 0:
                begun = await client.streamed(CHAT, messages=case.messages, leave_after=chance.randint(1, 8))
                assert case.answer.startswith(begun)
                return 0
            case 1 | 2 | 3:
                assert await client.streamed(CHAT, messages=case.messages) == case.answer
            case _:
                assert await client.chat(case.messages) == case.answer
        return 1

    async with Asking(server.url, model="gguf", temperature=0, max_tokens=40) as client:
        cases = [case for messages in prompts() if (case := await alone(client, messages))]
        assert len(cases) > 30
        whole = await together(*(one(client, case) for case in chance.choices(cases, k=200)), width=24)
    assert 120 < sum(whole) < 200
    server.until(lambda: server.machine("model:gguf")["facts"], lambda facts: facts["in_flight"] == 0)
    assert server.machine("model:gguf")["facts"]["kv_used"] == 0
