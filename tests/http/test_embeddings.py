"""Embeddings, relevance, tokens and templates over HTTP, with a dummy in place of the model."""

import base64
import struct
from typing import Any

import pytest

from lmx.actors.messages.client import Embedded, Failed, Finished, Rendered
from lmx.machines.tasks import Embedding, Pair, Rendering, Task
from lmx.machines.types import Chat, Failure, FailureKind, RefusalKind, Text, Tokens, Usage
from tests.http.conftest import Serve, Served
from tests.http.test_openai_schema import properties, validate
from tests.support.dummies import Act, refuses, tells

VECTORS = struct.pack("<4f", 0.6, 0.8, 1.0, 0.0)
HI = [{"role": "user", "content": "Hi"}]


def embeds(vectors: bytes = VECTORS, width: int = 2, tokens: tuple[int, ...] = (3, 4)) -> Act:
    return tells(Embedded(vectors, width, tokens), Finished("stop", Usage(sum(tokens), 0)))


def renders(tokens: tuple[int, ...] = (), text: str = "") -> Act:
    return tells(Rendered(tokens, text), Finished("stop", Usage(0, 0)))


async def asked(served: Served, script: Act, path: str, body: Any) -> tuple[Any, Task]:
    """The answer, which must be a 200, and what the model was asked for."""
    served.admission.script = script
    status, _, answer = await served.post(path, {"model": "m", **body})
    assert status == 200, answer
    (submit,) = served.admission.submits()
    return answer, submit.generation


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a", (Text("a"),)),
        (["a", "b"], (Text("a"), Text("b"))),
        ([1, 2], (Tokens((1, 2)),)),
        ([[1, 2], [3]], (Tokens((1, 2)), Tokens((3,)))),
        (["x"] * 2048, (Text("x"),) * 2048),
        ([7] * 2049, (Tokens((7,) * 2049),)),
    ],
    ids=["text", "texts", "ids", "lists of ids", "as many as may be", "one long text"],
)
async def test_inputs_reach_the_model_as_they_are_meant(served: Served, given: Any, inputs: tuple[Any, ...]) -> None:
    """A text, texts, the ids of one text, or those of several; a list of numbers is one text."""
    _, task = await asked(served, embeds(), "/v1/embeddings", {"input": given})
    assert task == Embedding(inputs)


async def test_the_reply_is_openais(served: Served) -> None:
    """An entry for each input, in order, and what they cost; every field is one of OpenAI's."""
    body = {"input": ["a", "b"], "dimensions": 2, "user": "me", "encoding_format": "float"}
    answer, task = await asked(served, embeds(), "/v1/embeddings", body)
    validate(answer, "CreateEmbeddingResponse")
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["data"][0]["embedding"] == pytest.approx([0.6, 0.8])
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert task == Embedding((Text("a"), Text("b")), dimensions=2)
    assert properties("CreateEmbeddingRequest") == {"model", *body}


async def test_base64_is_the_same_numbers(served: Served) -> None:
    """Little-endian float32, bit for bit as the model gave them."""
    answer, _ = await asked(served, embeds(), "/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64"})
    assert b"".join(base64.b64decode(one["embedding"]) for one in answer["data"]) == VECTORS


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
async def test_documents_come_back_by_relevance(served: Served, path: str) -> None:
    """Each with its place in the request; equally relevant ones as they came; texts and objects are the same."""
    body = {"query": "q", "documents": ["a", {"text": "b"}, "c", "d"]}
    scores = struct.pack("<4f", 0.25, -1.5, 4.0, 0.25)
    answer, task = await asked(served, embeds(scores, 1, (1, 2, 3, 4)), path, body)
    assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == [
        (2, 4.0),
        (0, 0.25),
        (3, 0.25),
        (1, -1.5),
    ]
    assert answer["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
    assert "document" not in answer["results"][0]
    assert task == Embedding(tuple(Pair("q", text) for text in "abcd"), score=True)


async def test_the_best_documents_with_their_texts(served: Served) -> None:
    """`top_n` is how many come back, at most; their texts come only when asked for."""
    body = {"query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": True}
    answer, _ = await asked(served, embeds(struct.pack("<2f", 1, 2), 1), "/v1/rerank", body)
    assert answer["results"] == [{"index": 1, "relevance_score": 2.0, "document": {"text": "b"}}]


HELLO = Chat(({"role": "user", "content": "Hi"},))


@pytest.mark.parametrize(
    ("body", "task"),
    [
        ({"content": "a"}, Rendering(Text("a"), "tokens", bos=False)),
        ({"content": "a", "add_special": True}, Rendering(Text("a"), "tokens")),
        ({"content": "", "parse_special": False}, Rendering(Text(""), "tokens", bos=False, control=False)),
        ({"prompt": "a"}, Rendering(Text("a"), "tokens")),
        ({"prompt": "a", "add_special_tokens": False}, Rendering(Text("a"), "tokens", bos=False)),
        ({"messages": HI}, Rendering(HELLO, "tokens")),
    ],
)
async def test_tokenize(served: Served, body: Any, task: Rendering) -> None:
    """`content` as llama-server has it, `prompt` and `messages` as vLLM has them."""
    answer, got = await asked(served, renders(tokens=(5, 6)), "/tokenize", body)
    assert answer == {"tokens": [5, 6], "count": 2}
    assert got == task


async def test_detokenize_and_apply_template(serve: Serve) -> None:
    """Tokens to a text, messages to a prompt."""
    answer, task = await asked(await serve(), renders(text="ab"), "/detokenize", {"tokens": [5, 6]})
    assert (answer, task) == ({"content": "ab"}, Rendering(Tokens((5, 6)), "text"))
    answer, task = await asked(await serve(), renders(text="<hi>"), "/apply-template", {"messages": HI})
    assert (answer, task) == ({"prompt": "<hi>"}, Rendering(HELLO, "text"))


def embedding(**fields: Any) -> Any:
    return {"model": "m", "input": "a", **fields}


def rerank(**fields: Any) -> Any:
    return {"model": "m", "query": "q", "documents": ["a"], **fields}


def tokenize(**fields: Any) -> Any:
    return {"model": "m", **fields}


# Where it is sent, what is sent, then the code, the param and a part of the message of the 400 that it gets.
BAD: list[tuple[str, Any, str | None, str | None, str]] = [
    ("/v1/embeddings", {"input": "a"}, None, None, "you must provide a model parameter"),
    ("/v1/embeddings", {"model": "m"}, "missing_required_parameter", "input", ""),
    ("/v1/embeddings", embedding(input=[]), "empty_array", "input", "minimum length 1"),
    ("/v1/embeddings", embedding(input=""), "empty_string", "input", ""),
    ("/v1/embeddings", embedding(input=[""]), "empty_string", "input", ""),
    ("/v1/embeddings", embedding(input=[[]]), "empty_array", "input", ""),
    ("/v1/embeddings", embedding(input=["x"] * 2049), "array_above_max_length", "input", "2048, but got an array with"),
    ("/v1/embeddings", embedding(input=[[1]] * 2049), "array_above_max_length", "input", "length 2049"),
    ("/v1/embeddings", embedding(input=["x", 1]), "invalid_type", "input", "only strings"),
    ("/v1/embeddings", embedding(input=5), "invalid_type", "input", "one of a string or an array"),
    ("/v1/embeddings", embedding(input=[1.5]), "invalid_type", "input", ""),
    ("/v1/embeddings", embedding(input=[-1]), "integer_below_min_value", "input", ""),
    ("/v1/embeddings", embedding(input=[2**31]), "integer_above_max_value", "input", ""),
    ("/v1/embeddings", embedding(dimensions=0), "integer_below_min_value", "dimensions", ">= 1, but got 0"),
    ("/v1/embeddings", embedding(dimensions="2"), "invalid_type", "dimensions", "an integer"),
    ("/v1/embeddings", embedding(encoding_format="hex"), "invalid_value", "encoding_format", "'float', 'base64'"),
    ("/v1/embeddings", embedding(user=5), "invalid_type", "user", ""),
    ("/v1/embeddings", embedding(foo=5), "unknown_parameter", "foo", ""),
    ("/v1/rerank", rerank(query=""), "empty_string", "query", ""),
    ("/v1/rerank", rerank(query="q" * 20_000, documents=["a"] * 2048), "string_above_max_length", "query", "40960000"),
    ("/v1/rerank", {"model": "m", "query": "q"}, "missing_required_parameter", "documents", ""),
    ("/v1/rerank", rerank(documents=[]), "empty_array", "documents", ""),
    ("/v1/rerank", rerank(documents=["a"] * 2049), "array_above_max_length", "documents", ""),
    ("/v1/rerank", rerank(documents=[{"title": "a"}]), None, "documents", ""),
    ("/v1/rerank", rerank(documents=[5]), "invalid_type", "documents", ""),
    ("/v1/rerank", rerank(top_n=0), "integer_below_min_value", "top_n", ""),
    ("/v1/rerank", rerank(rank_fields=["a"]), "unsupported_parameter", "rank_fields", "not supported"),
    ("/rerank", rerank(foo=1), "unknown_parameter", "foo", ""),
    ("/tokenize", tokenize(), "missing_required_parameter", "content", "Exactly one of"),
    ("/tokenize", tokenize(content="a", prompt="b"), "invalid_parameter_combination", "prompt", "not 2 of them"),
    ("/tokenize", tokenize(content=5), "invalid_type", "content", ""),
    ("/tokenize", tokenize(content="a", with_pieces=True), "unsupported_parameter", "with_pieces", ""),
    ("/tokenize", tokenize(messages=HI, add_special=True), "unsupported_parameter", "add_special", "'messages'"),
    ("/tokenize", tokenize(messages=[{"role": "robot", "content": ""}]), "invalid_value", "messages[0].role", "system"),
    ("/detokenize", tokenize(tokens="a"), "invalid_type", "tokens", ""),
    ("/detokenize", tokenize(tokens=[-1]), "integer_below_min_value", "tokens", ""),
    ("/detokenize", tokenize(), "missing_required_parameter", "tokens", ""),
    ("/apply-template", tokenize(messages=[]), "empty_array", "messages", ""),
    ("/apply-template", tokenize(messages=HI, tools=[]), "unsupported_parameter", "tools", ""),
]


@pytest.mark.parametrize(("path", "body", "code", "param", "text"), BAD)
async def test_bad_inputs(served: Served, path: str, body: Any, code: str | None, param: str | None, text: str) -> None:
    """B79, B80: a 400 in OpenAI's envelope that names the field, and nothing reaches an actor."""
    status, _, answer = await served.post(path, body)
    assert status == 400
    validate(answer, "ErrorResponse")
    error = answer["error"]
    assert code is None or error["code"] == code
    assert (error["param"] or "").partition("[")[0] == (param or "").partition("[")[0]
    assert text in error["message"]
    assert served.admission.submits() == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", embedding(), "input"),
        ("/v1/rerank", rerank(), "documents"),
        ("/tokenize", tokenize(prompt="a"), "prompt"),
        ("/detokenize", tokenize(tokens=[1]), "tokens"),
        ("/apply-template", tokenize(messages=HI), "messages"),
    ],
)
async def test_refusals_and_failures(served: Served, path: str, body: Any, param: str) -> None:
    """What the model does not take is a 400 that names the field; what breaks is a 500; each is settled once."""
    served.admission.script = refuses(RefusalKind.INVALID_PROMPT, "Not this one.")
    status, _, answer = await served.post(path, body)
    assert (status, answer["error"]["param"]) == (400, param)
    served.admission.script = tells(Failed(Failure(FailureKind.ENGINE_ERROR, "It broke.")))
    status, _, answer = await served.post(path, body)
    assert (status, answer["error"]["code"]) == (500, "engine_error")
    assert (await served.post(path, {**body, "model": "nope"}))[0] == 404
    assert len(await served.admission.ends(2)) == 2


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/embeddings", {"input": "a"}, Embedded(struct.pack("<f", 1.0), 1, (1,), "second")),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}, Embedded(struct.pack("<f", 0.5), 1, (1,), "second")),
        ("/tokenize", {"content": "a"}, Rendered((1,), "", "second")),
        ("/apply-template", {"messages": HI}, Rendered((), "Hi", "second")),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
async def test_it_is_told_who_made_them(served: Served, path: str, body: Any, told: Any) -> None:
    """`x-lmx-model`: behind a name with fallbacks it may be another model, whose vectors have nothing in common."""
    served.admission.script = tells(told, Finished("stop", Usage(1, 0)))
    status, headers, answer = await served.post(path, {"model": "m", **body})
    assert (status, headers["x-lmx-model"]) == (200, "second"), answer
