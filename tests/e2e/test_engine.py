"""What the engine promises, asked of a served model on both backends: a batch, choices, seeds and guesses."""

import math
from collections.abc import Iterator

import pytest

from tests.support.asking import CHAT, FILES, TEXT, Asking, Json, guide, serving, text_of, texts, together, user
from tests.support.guide import GGUF, taught
from tests.support.server import Server

BACKENDS = tuple(FILES)
PAIRS = taught()[::61][:24]
LONG = " ".join(f"{question} {answer}" for question, answer in taught()[:400:40])
"""Some 300 tokens."""
MOVED = 1
"""Of eight drawn texts; more depend on others than the rounding of a batch size explains."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tables = [guide(name, file, context=1024, slots=8) for name, file in FILES.items()]
    plain = guide("plain", GGUF, context=1024, slots=8, speculation="off")
    lookup = guide("lookup", GGUF, context=1024, slots=8, speculation="lookup")
    with serving(tmp_path_factory.mktemp("engine"), *tables, plain, lookup) as started:
        yield started


@pytest.mark.parametrize("model", BACKENDS)
async def test_greedy_answers_do_not_depend_on_the_batch(server: Server, model: str) -> None:
    """24 questions asked one after the other, and eight at a time: the same texts, and nearly all as taught."""
    async with Asking(server.url, model=model, temperature=0, max_tokens=80) as client:
        alone = [await client.chat(user(question)) for question, _ in PAIRS]
        beside = await together(*(client.chat(user(question)) for question, _ in PAIRS))
    assert beside == alone
    assert sum(text == answer for text, (_, answer) in zip(alone, PAIRS, strict=True)) >= 22


async def test_both_backends_answer_alike(server: Server) -> None:
    """The two formats of one model say the same."""
    async with Asking(server.url, temperature=0, max_tokens=80) as client:
        asked = {name: [client.chat(user(question), model=name) for question, _ in PAIRS[:8]] for name in BACKENDS}
        gguf, mlx = [await together(*coroutines) for coroutines in asked.values()]
    assert gguf == mlx


async def test_guessing_changes_no_text(server: Server) -> None:
    """Prompt lookup on or off: the same answers to taught questions, also to one that quotes what is to be said."""
    questions = [user(question) for question, _ in PAIRS]
    questions += [user(question, system=f"{answer} {answer}") for question, answer in PAIRS[:8]]
    async with Asking(server.url, temperature=0, max_tokens=80) as client:
        plain = await together(*(client.chat(asked, model="plain") for asked in questions), width=1)
        lookup = await together(*(client.chat(asked, model="lookup") for asked in questions), width=1)
    assert lookup == plain
    assert counted(server, "speculation", "drafted", "plain") == 0
    server.until(lambda: counted(server, "speculation", "accepted", "lookup"), lambda count: count > 0, seconds=10.0)


# --- choices and seeds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", BACKENDS)
async def test_choices_share_their_prompt(server: Server, model: str) -> None:
    """n = 8: eight choices in order; the prompt is counted once, and read once however many choices there are."""
    asked = user("Tell me a story", system=f"Choices of {model}. {LONG}")
    async with Asking(server.url, model=model, temperature=2.0, max_tokens=12) as client:
        before = read_tokens(server, model)
        reply = await client.ok(CHAT, messages=asked, n=8, lmx_cache=True)
    prompt = reply["usage"]["prompt_tokens"]
    assert prompt > 250
    assert [choice["index"] for choice in reply["choices"]] == list(range(8))
    assert len(set(texts(reply))) > 1
    assert reply["usage"]["completion_tokens"] <= 8 * 12
    assert reply["lmx_cache"]["prompt_tokens"] == prompt
    after = server.until(
        lambda: read_tokens(server, model), lambda now: sum(now) - sum(before) == 8 * prompt, seconds=10.0
    )
    assert after[0] - before[0] >= 7 * (prompt - 1)


def read_tokens(server: Server, model: str) -> tuple[float, float]:
    """Prompt tokens that were reused and computed."""
    return counted(server, "prefix", "reused", model), counted(server, "prefix", "computed", model)


def counted(server: Server, what: str, kind: str, model: str) -> float:
    """As /metrics tells; 0 before the first one."""
    name = f'lmx_{what}_tokens_total{{kind="{kind}",model="{model}"}} '
    lines = server.get("/metrics")[1].splitlines()
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


@pytest.mark.parametrize("model", BACKENDS)
async def test_an_idle_server_takes_as_many_choices_as_may_be_asked_for(server: Server, model: str) -> None:
    """n = 128 is answered whole."""
    async with Asking(server.url, model=model, temperature=1.0, max_tokens=4) as client:
        reply = await client.ok(CHAT, messages=user("What is lmx?"), n=128)
    assert [choice["index"] for choice in reply["choices"]] == list(range(128))
    assert all(texts(reply))


@pytest.mark.parametrize("model", BACKENDS)
async def test_a_seed_gives_the_same_texts(server: Server, model: str) -> None:
    """Seed after seed alone, beside seven others, and as eight choices, of which each has the seed after the last's."""
    drawn = {"prompt": "Once upon", "temperature": 0.8, "top_p": 0.9, "max_tokens": 24}
    seeds = range(40, 48)
    async with Asking(server.url, model=model, **drawn) as client:
        alone = [text_of(await client.ok(TEXT, seed=seed)) for seed in seeds]
        beside = await together(*(client.streamed(TEXT, seed=seed) for seed in seeds))
        choices, again = [texts(await client.ok(TEXT, seed=40, n=8)) for _ in range(2)]
    assert len(set(alone)) > 4
    for other in (beside, choices, again):
        assert differing(alone, other) <= MOVED, (alone, other)


def differing(some: list[str], others: list[str]) -> int:
    return sum(one != other for one, other in zip(some, others, strict=True))


# --- log-probabilities -----------------------------------------------------------------------------------------------


def total(numbers: list[float | None]) -> float:
    return math.fsum(number for number in numbers if number is not None)


@pytest.mark.parametrize("model", BACKENDS)
async def test_a_text_is_scored_as_its_parts_are(server: Server, model: str) -> None:
    """As lm-eval asks: echo and no new tokens. The whole is the sum of its first half, scored alone, and of its second.

    The second half was written greedily before, so that its log-probabilities are known from there.
    """
    start = "I am lmx-guide, the tiny"
    async with Asking(server.url, model=model, temperature=0, logprobs=1) as client:
        written = (await client.ok(TEXT, prompt=start, max_tokens=24))["choices"][0]
        half, whole = [
            (await client.ok(TEXT, prompt=prompt, echo=True, max_tokens=0))["choices"][0]
            for prompt in (start, start + written["text"])
        ]
    assert whole["text"] == start + written["text"]
    known = half["logprobs"]["token_logprobs"]
    scored = whole["logprobs"]["token_logprobs"]
    assert scored[0] is None
    assert whole["logprobs"]["top_logprobs"][0] is None
    assert None not in scored[1:]
    assert whole["logprobs"]["tokens"] == half["logprobs"]["tokens"] + written["logprobs"]["tokens"][: len(scored)]
    assert len(known) + len(written["logprobs"]["tokens"]) == len(scored)
    assert total(scored[: len(known)]) == pytest.approx(total(known), abs=1e-3)
    assert total(scored) == pytest.approx(total(known) + total(written["logprobs"]["token_logprobs"]), abs=1e-3)
    assert whole["logprobs"]["text_offset"][len(known)] == len(start)


@pytest.mark.parametrize("model", BACKENDS)
async def test_a_text_that_is_only_repeated(server: Server, model: str) -> None:
    """echo and no new tokens without log-probabilities: the prompt comes back, and no worker dies."""
    worker = server.worker(model)
    async with Asking(server.url, model=model, echo=True, max_tokens=0) as client:
        for fields in ({}, {}, {"logprobs": 0}, {"regex": "a+"}, {"temperature": 2.0, "dry_multiplier": 1.0}):
            for text in (LONG, "a"):
                reply = await client.ok(TEXT, prompt=text, **fields)
                assert text_of(reply) == text
                assert reply["choices"][0]["finish_reason"] == "length"
                assert reply["usage"]["completion_tokens"] == 0
    assert server.worker(model) == worker


@pytest.mark.parametrize("model", BACKENDS)
async def test_chats_tell_log_probabilities(server: Server, model: str) -> None:
    """Each token with its own and the likeliest ones, best first; greedy text is made of the likeliest."""
    async with Asking(server.url, model=model, temperature=0) as client:
        asked = {"messages": user("Who trained you?"), "logprobs": True, "top_logprobs": 3}
        reply = await client.ok(CHAT, **asked)
        streamed = [
            token
            async for chunk in client.chunks(CHAT, **asked)
            for choice in chunk["choices"]
            for token in (choice.get("logprobs") or {"content": []})["content"]
        ]
    tokens: list[Json] = reply["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == text_of(reply)
    assert len(tokens) == reply["usage"]["completion_tokens"] - 1  # the end of the turn is no text
    assert [token["token"] for token in streamed] == [token["token"] for token in tokens]
    for token in tokens:
        numbers = [rival["logprob"] for rival in token["top_logprobs"]]
        assert len(numbers) == 3
        assert numbers == sorted(numbers, reverse=True)
        assert token["logprob"] == pytest.approx(numbers[0])
        assert sum(map(math.exp, numbers)) <= 1.001


# --- prompts that are too long ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", BACKENDS)
async def test_a_prompt_that_is_too_long(server: Server, model: str) -> None:
    """400 with OpenAI's code; with `truncate` the oldest turns are left out, and the reply says how much."""
    turns = [
        {"role": role, "content": text}
        for pair in taught()[:60]
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    question, answer = PAIRS[0]
    asked = [{"role": "system", "content": "Be brief."}, *turns, *user(question)]
    async with Asking(server.url, model=model, temperature=0, max_tokens=60) as client:
        error = await client.refused(CHAT, messages=asked)
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert "maximum context length is 1024 tokens" in error["message"]
        reply = await client.ok(CHAT, messages=asked, truncate="oldest")
        short = await client.ok(CHAT, messages=user(question), truncate="oldest")
        (first, *_) = [chunk async for chunk in client.chunks(CHAT, messages=asked, truncate="oldest")]
        error = await client.refused(TEXT, prompt="word " * 2000)
        assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
        text = await client.ok(TEXT, prompt="word " * 2000, truncate="oldest")
    cut = reply["lmx_truncated"]
    assert 0 < cut["messages"] < len(turns)
    assert cut["messages"] % 2 == 0
    assert 0 < reply["usage"]["prompt_tokens"] <= 1024 - 60
    assert first["lmx_truncated"] == cut
    assert "lmx_truncated" not in short
    assert text_of(short) == answer
    assert text["usage"]["prompt_tokens"] == 1024 - 60
    assert text["lmx_truncated"]["tokens"] > 0
