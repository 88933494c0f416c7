"""Log-probabilities and the echo of a prompt, in the shapes that OpenAI's clients read."""

import copy
import math
from typing import Any

import pytest

from lmx.actors.messages.client import Accepted, Delta, Finished, Prefilled
from lmx.machines.types import Likely, TokenLogprob, Usage
from tests.http.conftest import Served
from tests.http.test_openai_schema import SPEC, chunks, validate
from tests.support.dummies import tells

HI: Any = [{"role": "user", "content": "Hi"}]
END = Finished("stop", Usage(3, 3))
# "né!": é is split over two tokens, and the rivals of the last one have the same text as each other.
FIRST = TokenLogprob(1, b"n", -0.5, (Likely(1, b"n", -0.5), Likely(9, b"m", -1.0)))
SPLIT = (TokenLogprob(2, b"\xc3", -0.25, (Likely(2, b"\xc3", -0.25),)), TokenLogprob(3, b"\xa9", -math.inf))
LAST = TokenLogprob(4, b"!", -3.0, (Likely(5, b"\xff", -0.1), Likely(6, b"\xfe", -0.2)))
# The prompt "ab": its first token has no probability.
PROMPT = (TokenLogprob(7, b"a", None), TokenLogprob(8, b"b", -2.0, (Likely(7, b"a", -1.0),)))

WRITES = tells(Accepted(2), Prefilled(2), Delta("n", (FIRST,)), Delta("é", SPLIT), Delta("!", (LAST,)), END)
ECHOES = tells(
    *(Accepted(2, "ab"), Prefilled(1, PROMPT[:1]), Prefilled(2, PROMPT[1:])),
    *(Delta("n", (FIRST,)), Delta("é", SPLIT), END),
)
CHAT_CONTENT = [
    {
        "token": "n",
        "logprob": -0.5,
        "bytes": [110],
        "top_logprobs": [
            {"token": "n", "logprob": -0.5, "bytes": [110]},
            {"token": "m", "logprob": -1.0, "bytes": [109]},
        ],
    },
    {
        "token": "\ufffd",
        "logprob": -0.25,
        "bytes": [0xC3],
        "top_logprobs": [{"token": "\ufffd", "logprob": -0.25, "bytes": [0xC3]}],
    },
    {"token": "\ufffd", "logprob": -9999.0, "bytes": [0xA9], "top_logprobs": []},
    {
        "token": "!",
        "logprob": -3.0,
        "bytes": [33],
        "top_logprobs": [
            {"token": "\ufffd", "logprob": -0.1, "bytes": [0xFF]},
            {"token": "\ufffd", "logprob": -0.2, "bytes": [0xFE]},
        ],
    },
]
TEXT = {
    "tokens": ["n", "\ufffd", "\ufffd", "!"],
    "token_logprobs": [-0.5, -0.25, -9999.0, -3.0],
    "top_logprobs": [{"n": -0.5, "m": -1.0}, {"\ufffd": -0.25}, {"\ufffd": -9999.0}, {"\ufffd": -0.1, "!": -3.0}],
    "text_offset": [0, 1, 1, 2],
}
ECHO = {
    "tokens": ["a", "b", "n", "\ufffd", "\ufffd"],
    "token_logprobs": [None, -2.0, -0.5, -0.25, -9999.0],
    "top_logprobs": [None, {"a": -1.0, "b": -2.0}, {"n": -0.5, "m": -1.0}, {"\ufffd": -0.25}, {"\ufffd": -9999.0}],
    "text_offset": [0, 1, 2, 3, 3],
}


def with_nulls() -> Any:
    """OpenAI's schema forbids the nulls that OpenAI sends: of a prompt's first token, and in chunks."""
    spec = copy.deepcopy(SPEC)
    fields = spec["components"]["schemas"]["CreateCompletionResponse"]["properties"]
    choice = fields["choices"]["items"]["properties"]
    choice["finish_reason"] = {"enum": ["stop", "length", None]}
    fields["usage"] = {"anyOf": [fields["usage"], {"type": "null"}]}
    lists = choice["logprobs"]["anyOf"][0]["properties"]
    for name in ("token_logprobs", "top_logprobs"):
        lists[name]["items"] = {"anyOf": [lists[name]["items"], {"type": "null"}]}
    return spec


def joined(pieces: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    return {name: [item for piece in pieces for item in piece[name]] for name in TEXT}


async def test_a_chat_tells_every_token_with_its_rivals(served: Served) -> None:
    """Token, logprob, bytes and top_logprobs; what is no number in JSON is OpenAI's -9999."""
    served.admission.script = WRITES
    asked = {"model": "m", "messages": HI, "logprobs": True, "top_logprobs": 2}
    _, _, body = await served.post("/v1/chat/completions", asked)
    validate(body, "CreateChatCompletionResponse")
    assert body["choices"][0]["logprobs"] == {"content": CHAT_CONTENT, "refusal": None}
    assert served.admission.generations()[0].logprobs == 2


async def test_a_chats_chunks_have_the_tokens_of_their_text(served: Served) -> None:
    """Together they are those of the whole text; chunks without text have null."""
    served.admission.script = WRITES
    got = await chunks(served, "/v1/chat/completions", {"messages": HI, "logprobs": True})
    for chunk in got:
        validate(chunk, "CreateChatCompletionStreamResponse")
    choices = [choice for chunk in got for choice in chunk["choices"]]
    spoken = [choice for choice in choices if choice["logprobs"] is not None]
    assert [token for choice in spoken for token in choice["logprobs"]["content"]] == CHAT_CONTENT
    assert [choice["delta"].get("content") for choice in choices if choice["logprobs"] is None] == ["", None]
    for choice in spoken:
        told = b"".join(bytes(token["bytes"]) for token in choice["logprobs"]["content"])
        assert told.decode() == choice["delta"]["content"]
    assert served.admission.generations()[0].logprobs == 0


async def test_the_official_client_reads_them(served: Served) -> None:
    """Streamed and whole, on both routes."""
    served.admission.script = WRITES
    chat = await served.openai.chat.completions.create(model="m", messages=HI, logprobs=True, top_logprobs=1)
    assert chat.choices[0].logprobs is not None
    assert chat.choices[0].logprobs.content is not None
    assert [token.token for token in chat.choices[0].logprobs.content] == TEXT["tokens"]
    text = await served.openai.completions.create(model="m", prompt="x", logprobs=1)
    assert text.choices[0].logprobs is not None
    assert text.choices[0].logprobs.text_offset == TEXT["text_offset"]
    offsets: list[int] = []
    async for chunk in await served.openai.completions.create(model="m", prompt="x", logprobs=1, stream=True):
        if chunk.choices[0].logprobs is not None:
            offsets += chunk.choices[0].logprobs.text_offset or []
    assert offsets == TEXT["text_offset"]


async def test_without_asking_there_are_none(served: Served) -> None:
    """`logprobs` is null."""
    _, _, body = await served.post("/v1/chat/completions", {"model": "m", "messages": HI, "logprobs": False})
    assert body["choices"][0]["logprobs"] is None
    assert served.admission.generations()[0].logprobs is None


async def test_a_completion_tells_four_lists(served: Served) -> None:
    """Tokens, their logprobs, the likeliest texts with the token's own, and where each begins in the text."""
    served.admission.script = WRITES
    _, _, body = await served.post("/v1/completions", {"model": "m", "prompt": "x", "logprobs": 2})
    validate(body, "CreateCompletionResponse")
    assert body["choices"][0]["logprobs"] == TEXT
    got = await chunks(served, "/v1/completions", {"prompt": "x", "logprobs": 2})
    for chunk in got:
        validate(chunk, "CreateCompletionResponse", with_nulls())
    told = [choice["logprobs"] for chunk in got for choice in chunk["choices"] if choice["logprobs"]]
    assert joined(told) == TEXT


async def test_an_echo_begins_with_the_prompt(served: Served) -> None:
    """The prompt's tokens come first, null for the very first; offsets count from the prompt's beginning."""
    served.admission.script = ECHOES
    asked = {"model": "m", "prompt": "ab", "logprobs": 1, "echo": True}
    _, _, body = await served.post("/v1/completions", asked)
    validate(body, "CreateCompletionResponse", with_nulls())
    assert body["choices"][0]["text"] == "abné"
    assert body["choices"][0]["logprobs"] == ECHO
    assert served.admission.generations()[0].echo


async def test_a_streamed_echo_comes_with_its_logprobs(served: Served) -> None:
    """The prompt is one chunk, sent when it is read; all chunks together are the whole reply."""
    served.admission.script = ECHOES
    got = await chunks(served, "/v1/completions", {"prompt": "ab", "logprobs": 1, "echo": True})
    for chunk in got:
        validate(chunk, "CreateCompletionResponse", with_nulls())
    choices = [choice for chunk in got for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == "abné"
    told = [choice for choice in choices if choice["logprobs"]]
    assert told[0]["text"] == "ab"
    assert joined([choice["logprobs"] for choice in told]) == ECHO


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_alone_scores_the_prompt(served: Served, stream: bool) -> None:
    """max_tokens 0 with echo: nothing is written, the prompt is told with its logprobs."""
    done = Finished("length", Usage(2, 0))
    served.admission.script = tells(Accepted(2, "ab"), Prefilled(2, PROMPT), done)
    asked = {"model": "m", "prompt": "ab", "logprobs": 1, "echo": True, "max_tokens": 0}
    if stream:
        got = await chunks(served, "/v1/completions", asked)
        choices = [choice for chunk in got for choice in chunk["choices"] if choice["text"]]
        usage = got[-1]["usage"]
    else:
        _, _, body = await served.post("/v1/completions", asked)
        choices, usage = body["choices"], body["usage"]
    assert [choice["text"] for choice in choices] == ["ab"]
    assert choices[0]["logprobs"]["token_logprobs"] == [None, -2.0]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (2, 0)
    assert served.admission.generations()[0].max_tokens == 0


async def test_an_echo_without_logprobs_is_the_first_chunk(served: Served) -> None:
    """Nothing has to be waited for."""
    served.admission.script = ECHOES
    got = await chunks(served, "/v1/completions", {"prompt": "ab", "echo": True})
    texts = [choice["text"] for chunk in got for choice in chunk["choices"]]
    assert (texts[0], "".join(texts)) == ("ab", "abné")
    assert all(choice["logprobs"] is None for chunk in got for choice in chunk["choices"])
